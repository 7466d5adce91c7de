/**
 * Owns asking each open connection once more at the end of a phase: by a probe that is sent after the phase was over, or, where nothing is
 * sent, by one TCP keepalive, to which the far kernel answers without a byte of payload. Must never close or count a connection itself: what
 * does not answer is handed to `lost`.
 *
 * A keepalive goes out when the socket has been idle for TCP_KEEPIDLE, immediately where it was idle for longer (tcp_sock_set_keepidle_locked()
 * in net/ipv4/tcp.c). Any segment that comes makes `tcpi_last_ack_recv` young again; a kernel that does not have the connection answers RST,
 * which comes as an event of its own.
 */
import { DropReason } from '../base/outcome.ts';
import type { FinalCheck as Counts } from '../stats/evidence.ts';
import { type ConnectionTable, SlotState } from './connection-table.ts';

/**
 * Connections that are asked or looked at within a millisecond; up to twice as many where a pass over all would take longer than
 * PASS_MS. More are lost on loopback: timers of one clock tick (4 ms) send together, and the kernel queues 1,000 packets
 * (net.core.netdev_max_backlog). Measured with 260 a millisecond: 1,361 of 130,000 answered neither of two keepalives.
 */
const PER_MS = 50;
const PER_MS_MAX = 100;
const PASS_MS = 500;
/**
 * Keepalives within a millisecond where the table is small: its holder has neighbours that ask at the same time. With 50 of each of
 * seven holders 104 of 130,000 answered neither of two.
 */
const KEEPALIVES_PER_MS = 20;
/** The few that have not answered are asked again slowly: what has lost their packets was a queue. */
const FEW_PER_MS = 5;
/** They are few when they are no more than one in so many. */
const FEW_OF = 20;
/** What a turn that comes late makes up for: not more, for the same reason. */
const CATCH_UP_MS = 4;
/** After so long it is looked whether a keepalive was answered; then those that were not are asked again, after the second look already. */
const LOOKS_MS = [50, 400, 2_000] as const;
const LOOKS_BEFORE_NEXT = 2;
/** How often a silent connection is asked: one lost packet is no lost connection. And where only few are silent, which a path that is cut does not look like. */
const ROUNDS = 2;
const ROUNDS_OF_FEW = 6;
/** An answer is younger than what came last by as much as the socket must have been idle, less the kernel's clock tick. */
const YOUNGER_MS = 500;

/** What has become of a slot in this check. */
const Asked = { no: 0, due: 1, yes: 2, answered: 3 } as const;

/** What a check does to sockets. No method may allocate. */
interface CheckedSockets {
  /** a probe is to be sent as soon as none is out */
  probeSoon(slot: number): void;
  /** a keepalive is to be sent now, or once the socket was idle for a second; false: none any more */
  keepalive(slot: number, isOn: boolean): void;
  /** milliseconds since anything came from the far kernel; -1: not known */
  idleMs(slot: number): number;
  /** the far side has not answered: the connection is lost */
  silent(slot: number): void;
}

/** The checks of one engine, one after the other. Moments are milliseconds since the engine's start. */
export class FinalChecker {
  readonly #table: ConnectionTable;
  readonly #sockets: CheckedSockets;
  readonly #byProbe: boolean;
  readonly #asked: Uint8Array;
  /** when anything came last, as it was when the slot was asked; only where keepalives are sent */
  readonly #cameAtMs: Float64Array;
  #counts: Counting | null = null;
  #onDone: (() => void) | null = null;
  readonly #perMs: number;
  #cursor = 0;
  /** asked or looked at in this pass; the others cost nothing */
  #worked = 0;
  #passAtMs = 0;
  #turnedAtMs = 0;
  /** -1: the pass asks; else the index of the look */
  #look = -1;
  #round = 0;
  #left = 0;
  /** how many were asked in all */
  #asks = 0;

  constructor(table: ConnectionTable, sockets: CheckedSockets, byProbe: boolean) {
    this.#table = table;
    this.#sockets = sockets;
    this.#byProbe = byProbe;
    this.#perMs = Math.min(PER_MS_MAX, Math.max(PER_MS, Math.ceil(table.capacity / PASS_MS)));
    this.#asked = new Uint8Array(table.capacity);
    this.#cameAtMs = new Float64Array(byProbe ? 0 : table.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return this.#byProbe ? 1 : 9;
  }

  get isRunning(): boolean {
    return this.#counts !== null;
  }

  /**
   * Begins a check; one that still runs is over, with what it has found.
   * @param counts what is counted into
   * @param done when each connection has answered or is lost
   */
  begin(counts: Counting, nowMs: number, done: () => void): void {
    if (this.isRunning) this.#end();
    this.#asked.fill(Asked.no);
    this.#counts = counts;
    this.#onDone = done;
    this.#round = 0;
    this.#left = 0;
    this.#asks = 0;
    this.#beginPass(-1, nowMs);
  }

  /** When there is something to do again; Infinity: not by itself. */
  nextAtMs(nowMs: number): number {
    if (!this.isRunning) return Number.POSITIVE_INFINITY;
    if (this.#byProbe && this.#cursor >= this.#table.capacity) return Number.POSITIVE_INFINITY;
    return Math.max(nowMs, this.#passAtMs) + 1;
  }

  /** One turn's worth of asking and looking. */
  turn(nowMs: number): void {
    if (!this.isRunning || nowMs < this.#passAtMs) return;
    const sinceMs = Math.min(CATCH_UP_MS, nowMs - this.#turnedAtMs);
    this.#turnedAtMs = nowMs;
    const end = this.#worked + Math.ceil(sinceMs * this.#pacePerMs);
    for (; this.#cursor < this.#table.capacity && this.#worked < end; this.#cursor++) {
      const isWork = this.#look < 0 ? this.#ask(this.#cursor, nowMs) : this.#lookAt(this.#cursor, nowMs);
      if (isWork) this.#worked++;
    }
    if (this.#cursor < this.#table.capacity) return;
    if (this.#left === 0) this.#end();
    else if (!this.#byProbe) this.#nextPass(nowMs);
  }

  get #pacePerMs(): number {
    if (this.#byProbe || this.#look >= 0) return this.#perMs;
    if (this.#round > 0 && this.#areFewLeft) return FEW_PER_MS;
    return Math.max(KEEPALIVES_PER_MS, Math.min(PER_MS_MAX, Math.ceil(this.#table.capacity / PASS_MS / 2)));
  }

  get #areFewLeft(): boolean {
    return this.#left * FEW_OF <= this.#asks;
  }

  #beginPass(look: number, atMs: number): void {
    this.#look = look;
    this.#cursor = 0;
    this.#worked = 0;
    this.#passAtMs = atMs;
    // The first turn of a pass is worth a millisecond.
    this.#turnedAtMs = atMs - 1;
  }

  #nextPass(nowMs: number): void {
    const isLast = this.#round + 1 >= (this.#areFewLeft ? ROUNDS_OF_FEW : ROUNDS);
    const look = this.#look + 1;
    if (look < (isLast ? LOOKS_MS.length : LOOKS_BEFORE_NEXT)) {
      this.#beginPass(look, nowMs + (LOOKS_MS[look] ?? 0) - (LOOKS_MS[look - 1] ?? 0));
      return;
    }
    if (!isLast) {
      this.#round++;
      this.#beginPass(-1, nowMs);
      return;
    }
    for (let slot = 0; slot < this.#table.capacity; slot++) {
      // What cannot be looked at (no descriptor is left for it) has not answered to our knowledge, and is not lost for that.
      if (this.#asked[slot] === Asked.yes && this.#sockets.idleMs(slot) >= 0) this.#sockets.silent(slot);
    }
    this.#end();
  }

  /** @returns whether there was anything to do */
  #ask(slot: number, nowMs: number): boolean {
    if (this.#round > 0) {
      if (this.#asked[slot] !== Asked.yes) return false;
      this.#sockets.keepalive(slot, false);
      this.#sockets.keepalive(slot, true);
      return true;
    }
    if (this.#table.state[slot] !== SlotState.open || this.#counts === null) return false;
    this.#counts.asked++;
    this.#asks++;
    this.#left++;
    if (this.#byProbe) {
      this.#asked[slot] = Asked.due;
      this.#sockets.probeSoon(slot);
      return true;
    }
    const idleMs = this.#sockets.idleMs(slot);
    this.#cameAtMs[slot] = nowMs - Math.max(0, idleMs);
    this.#asked[slot] = Asked.yes;
    this.#sockets.keepalive(slot, true);
    return true;
  }

  /** @returns whether there was anything to do */
  #lookAt(slot: number, nowMs: number): boolean {
    if (this.#asked[slot] !== Asked.yes) return false;
    const idleMs = this.#sockets.idleMs(slot);
    if (idleMs < 0 || nowMs - idleMs < this.#cameAtMs[slot]! + YOUNGER_MS) return true;
    this.#sockets.keepalive(slot, false);
    this.#settle(slot, Asked.answered);
    if (this.#counts !== null) this.#counts.answered++;
    return true;
  }

  #settle(slot: number, asked: number): void {
    this.#asked[slot] = asked;
    this.#left--;
  }

  /** The slot's next probe is sent now: it is the one that counts. */
  probed(slot: number): void {
    if (this.#asked[slot] === Asked.due) this.#asked[slot] = Asked.yes;
  }

  /** The slot's probe was answered. */
  answered(slot: number): void {
    if (this.#counts === null) return;
    if (this.#asked[slot] === Asked.due) this.#sockets.probeSoon(slot);
    if (this.#asked[slot] !== Asked.yes) return;
    this.#settle(slot, Asked.answered);
    this.#counts.answered++;
    this.#endWhenAllAre();
  }

  /** The slot's open connection is lost. */
  lost(slot: number, reason: DropReason): void {
    const asked = this.#asked[slot];
    if (this.#counts === null || (asked !== Asked.due && asked !== Asked.yes)) return;
    if (reason === DropReason.rst) this.#counts.reset++;
    if (reason === DropReason.probeTimeout || reason === DropReason.timeout) this.#counts.silent++;
    this.#settle(slot, Asked.no);
    if (this.#byProbe) this.#endWhenAllAre();
  }

  #endWhenAllAre(): void {
    if (this.#left === 0 && this.#cursor >= this.#table.capacity) this.#end();
  }

  #end(): void {
    const done = this.#onDone;
    this.#counts = null;
    this.#onDone = null;
    done?.();
  }
}

/** Counts that a check adds to. */
type Counting = { -readonly [Field in keyof Counts]: Counts[Field] };
