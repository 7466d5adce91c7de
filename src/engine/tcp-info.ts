/**
 * Owns what the kernel's TCP_INFO says of one connection, and the count of SYNs that were sent again. Must never judge a
 * connection, or decide what becomes of a connect.
 */

import { type ConnectionTable, SlotState } from './connection-table.ts';
import type { Driver } from './drivers/driver.ts';
import type { Tally } from './tally.ts';

/** Room for struct tcp_info of later kernels too; a kernel writes no more than it is given room for. */
const TCP_INFO_BYTES_MAX = 256;
/** `tcpi_unacked` in struct tcp_info (linux/tcp.h): segments that the far kernel has not acknowledged. */
const UNACKED_OFFSET = 24;
/** `tcpi_last_ack_recv`: milliseconds since any segment came. */
const LAST_ACK_RECV_OFFSET = 56;
/** `tcpi_notsent_bytes` (since Linux 4.6): bytes that have never left our own queue. */
const NOTSENT_BYTES_OFFSET = 144;
/** `tcpi_total_retrans` in struct tcp_info (linux/tcp.h). */
const TOTAL_RETRANS_OFFSET = 100;

/**
 * How far what we sent has come. `tcpi_unacked` alone does not tell: it is 0 too where our own link, route, address or
 * firewall keeps everything in our queue.
 */
export const Delivery = { notSent: 0, notAcknowledged: 1, acknowledged: 2 } as const;
export type Delivery = (typeof Delivery)[keyof typeof Delivery];

/** One buffer for all connections: each question overwrites the last answer. Only the constructor allocates. */
export class TcpInfo {
  readonly #driver: Pick<Driver, 'tcpInfo'>;
  readonly #info = new Uint8Array(TCP_INFO_BYTES_MAX);
  readonly #view = new DataView(this.#info.buffer);

  constructor(driver: Pick<Driver, 'tcpInfo'>) {
    this.#driver = driver;
  }

  /** Segments that were sent again so far, SYNs included; 0 when the kernel does not say. */
  retransmits(slot: number): number {
    if (this.#driver.tcpInfo(slot, this.#info) < TOTAL_RETRANS_OFFSET + 4) return 0;
    return this.#view.getUint32(TOTAL_RETRANS_OFFSET, true);
  }

  /** Milliseconds since anything came from the far kernel; -1: not known. */
  idleMs(slot: number): number {
    if (this.#driver.tcpInfo(slot, this.#info) < LAST_ACK_RECV_OFFSET + 4) return -1;
    return this.#view.getUint32(LAST_ACK_RECV_OFFSET, true);
  }

  /** How far what was sent has come: where it is acknowledged, the far kernel is there, and its application is silent. */
  delivery(slot: number): Delivery {
    const length = this.#driver.tcpInfo(slot, this.#info);
    if (length < UNACKED_OFFSET + 4) return Delivery.notAcknowledged;
    if (length >= NOTSENT_BYTES_OFFSET + 4 && this.#view.getUint32(NOTSENT_BYTES_OFFSET, true) > 0) {
      // Behind what the far kernel has not acknowledged, our queue waits for its window and not for our own network.
      const isBehind = this.#view.getUint32(UNACKED_OFFSET, true) > 0;
      return isBehind ? Delivery.notAcknowledged : Delivery.notSent;
    }
    return this.#view.getUint32(UNACKED_OFFSET, true) === 0
      ? Delivery.acknowledged
      : Delivery.notAcknowledged;
  }
}

/**
 * Connects faster than this had no SYN retransmit, so TCP_INFO need not be read: the first SYN is sent again after
 * TCP_TIMEOUT_INIT, 1 s (include/net/tcp.h, RFC 6298 section 2). Far below it, as the moment of a turn is as old as the turn: where
 * the holder waits for a core in mid-turn, the answer to a SYN that was sent again comes at a moment before 1 s (seen: 74 of 448).
 */
const RETRANSMIT_POSSIBLE_MS = 250;

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
    const retransmits = this.#info.retransmits(slot);
    if (retransmits === 0) return;
    this.#tally.synRetransmits += retransmits;
    this.#tally.retransmittedConnects++;
  }
}
