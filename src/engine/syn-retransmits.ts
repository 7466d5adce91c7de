/**
 * Owns counting the SYNs that had to be sent again, connect by connect. Must never decide what becomes of a connect.
 */
import { type ConnectionTable, SlotState } from './connection-table.ts';
import type { Tally } from './tally.ts';
import type { TcpInfo } from './tcp-info.ts';

/**
 * Connects faster than this had no SYN retransmit, so TCP_INFO need not be read: the first SYN is sent again after
 * TCP_TIMEOUT_INIT, 1 s (include/net/tcp.h, RFC 6298 section 2); the margin covers a coarse kernel timer.
 */
const RETRANSMIT_POSSIBLE_MS = 900;

/** The SYN retransmits of one engine. No method allocates. */
export class SynRetransmits {
  readonly #table: ConnectionTable;
  readonly #tally: Tally;
  readonly #info: TcpInfo;

  constructor(table: ConnectionTable, tally: Tally, info: TcpInfo) {
    this.#table = table;
    this.#tally = tally;
    this.#info = info;
  }

  /**
   * Must be called when a connect is about to be decided, before its state changes; a slot that is not connecting is
   * left alone. Asks the kernel only where it took long enough to have any.
   * @param nowMs since the engine's start
   */
  decided(slot: number, nowMs: number): void {
    if (this.#table.state[slot] !== SlotState.connecting) return;
    const calledAtMs = this.#table.intendedAtMs[slot]! + this.#table.calledLateMs[slot]!;
    if (nowMs - calledAtMs < RETRANSMIT_POSSIBLE_MS) return;
    const retransmits = this.#info.retransmits(this.#table.fd[slot]!);
    if (retransmits === 0) return;
    this.#tally.synRetransmits += retransmits;
    this.#tally.retransmittedConnects++;
  }
}
