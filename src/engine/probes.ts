/**
 * Owns when each connection is probed and which ones have proven themselves: an answer of the far application, ever and since the
 * hold began. Must never send a probe or judge one that is overdue. The moment that a probe is meant for stands in the table
 * (`intendedAtMs`), so that its latency counts from there.
 */
import { FIRST_PROBE_WITHIN_MS } from '../run/run-spec.ts';
import { type ConnectionTable, SlotFlag } from './connection-table.ts';
import type { Tally } from './tally.ts';
import type { TimerWheel } from './timer-wheel.ts';

/** What the probes of one engine share. */
interface ProbesOf {
  readonly table: ConnectionTable;
  readonly wheel: TimerWheel;
  readonly tally: Tally;
  /** milliseconds from the sending of a probe until it is overdue */
  readonly timeoutMs: number;
  /** false: what is sent is not answered, and proves nothing */
  readonly areAnswered: boolean;
}

/** The probes of one engine. No method allocates. Moments are milliseconds since the engine's start. */
export class Probes {
  #everyMs: number;
  /** whether they prove anything */
  readonly areProof: boolean;
  readonly #table: ConnectionTable;
  readonly #wheel: TimerWheel;
  readonly #tally: Tally;
  readonly #timeoutMs: number;

  /** @param everyMs between two probes of one connection; 0: none is ever due, and `first` may not be called */
  constructor(everyMs: number, { table, wheel, tally, timeoutMs, areAnswered }: ProbesOf) {
    this.#everyMs = everyMs;
    this.areProof = everyMs > 0 && areAnswered;
    this.#table = table;
    this.#wheel = wheel;
    this.#tally = tally;
    this.#timeoutMs = timeoutMs;
  }

  /** Milliseconds between two probes of one connection; 0: none is ever due. */
  get everyMs(): number {
    return this.#everyMs;
  }

  /** Probes come at least so often from now on; those that wait for their moment keep it. @param ms above 0 */
  atLeastEvery(ms: number): void {
    if (this.#everyMs > 0) this.#everyMs = Math.min(this.#everyMs, ms);
  }

  /**
   * The first probe comes within FIRST_PROBE_WITHIN_MS, then one each period at the slot's own phase, so that all
   * slots together probe evenly: slots are as evenly spread over the period as they are over the table.
   */
  first(slot: number, nowMs: number): void {
    // Where the period is that short, the first is one of its own phase already: no second one follows too soon.
    if (this.everyMs <= FIRST_PROBE_WITHIN_MS) {
      const phaseMs = this.#phaseMs(slot);
      this.#set(slot, Math.ceil((nowMs - phaseMs) / this.everyMs) * this.everyMs + phaseMs);
      return;
    }
    const spreadMs = FIRST_PROBE_WITHIN_MS;
    // Multiples of the golden ratio spread any run of neighbouring slots evenly (equidistribution).
    const share = (slot * 0.618_033_988_749_894_9) % 1;
    this.#set(slot, nowMs + share * spreadMs);
  }

  /** Whether a probe is on its way. */
  isWaiting(slot: number): boolean {
    return (this.#table.flags[slot]! & SlotFlag.probing) !== 0;
  }

  /** A probe is sent now; its timer begins. @returns its number, 32 bits */
  begin(slot: number, nowMs: number): number {
    const sequence = this.#number(slot);
    this.#table.flags[slot]! |= SlotFlag.probing;
    this.#tally.probesSent++;
    // The timeout runs from the real sending: our own lateness must not use up the target's time.
    this.#wheel.set(slot, Math.ceil(nowMs + this.#timeoutMs));
    return sequence;
  }

  #number(slot: number): number {
    const sequence = (this.#table.probeSequence[slot]! + 1) >>> 0;
    this.#table.probeSequence[slot] = sequence;
    return sequence;
  }

  /** What is not answered is sent now. @returns its number, 32 bits; `sent` comes next */
  beginUnanswered(slot: number): number {
    return this.#number(slot);
  }

  /** It was sent: the next one is due at its own phase. */
  sent(slot: number, nowMs: number): void {
    this.#next(slot, nowMs);
  }

  /** The probe on its way was answered, and wrongly: that proves nothing, and the next one is due at its own phase. */
  answeredWrongly(slot: number, nowMs: number): void {
    this.#table.flags[slot]! &= ~SlotFlag.probing;
    this.#next(slot, nowMs);
  }

  /** The next probe is due now, or as soon as the one on its way is answered. */
  soon(slot: number, nowMs: number): void {
    if (!this.isWaiting(slot)) this.#set(slot, nowMs);
  }

  /** The probe on its way was answered: the connection is proven, and the next one is due at its own phase. */
  answered(slot: number, nowMs: number): void {
    this.#table.flags[slot]! &= ~SlotFlag.probing;
    this.#tally.probesAnswered++;
    this.#tally.probeUs.record((nowMs - this.#table.intendedAtMs[slot]!) * 1_000);
    this.verified(slot);
    this.#next(slot, nowMs);
  }

  /** The far application has said what only it can say. */
  verified(slot: number): void {
    const flags = this.#table.flags[slot]!;
    if (this.#tally.isHolding && (flags & SlotFlag.verifiedInHold) === 0) {
      this.#table.flags[slot]! |= SlotFlag.verifiedInHold;
      this.#tally.verifiedInHold++;
    }
    if ((flags & SlotFlag.verified) !== 0) return;
    this.#table.flags[slot]! |= SlotFlag.verified;
    this.#tally.proved();
  }

  /** Whether the connection has ever proven itself. */
  isVerified(slot: number): boolean {
    return (this.#table.flags[slot]! & SlotFlag.verified) !== 0;
  }

  /** The connection is closed or lost: it no longer counts as proven in the hold. */
  left(slot: number): void {
    if ((this.#table.flags[slot]! & SlotFlag.verifiedInHold) !== 0) this.#tally.verifiedInHold--;
  }

  /** The probe after the one that was just answered. */
  #next(slot: number, nowMs: number): void {
    const { everyMs } = this;
    const phaseMs = this.#phaseMs(slot);
    const lastMs = this.#table.intendedAtMs[slot]!;
    let dueMs = Math.floor((lastMs - phaseMs) / everyMs + 1) * everyMs + phaseMs;
    // An answer that took longer than a period has skipped probes; they are not sent in a burst afterwards.
    if (dueMs < nowMs - everyMs) {
      dueMs += Math.ceil((nowMs - everyMs - dueMs) / everyMs) * everyMs;
    }
    this.#set(slot, dueMs);
  }

  #phaseMs(slot: number): number {
    return (slot / this.#table.capacity) * this.everyMs;
  }

  #set(slot: number, dueMs: number): void {
    const tick = Math.ceil(dueMs);
    this.#table.intendedAtMs[slot] = tick;
    this.#wheel.set(slot, tick);
  }
}
