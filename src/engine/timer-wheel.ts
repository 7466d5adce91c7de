/**
 * Owns timers: at most one per slot, in a hashed wheel of one-millisecond ticks with intrusive links; and when each open
 * connection is probed next. Must never read a clock (ticks are arguments), send a probe or judge an answer.
 *
 * A bucket holds the timers of all ticks that share its index, so each is compared with its own deadline. Adding and
 * cancelling cost the same at any number of timers, and nothing is allocated after the constructor. The moment that a
 * probe is meant for stands in the table (`intendedAtMs`), so that its latency counts from there.
 */
import assert from 'node:assert/strict';
import { FIRST_PROBE_WITHIN_MS } from '../run/run-spec.ts';
import type { ConnectionTable } from './connection-table.ts';

/** Power of two; 8 s in one round, so the usual connect timeout sits in a bucket alone with its tick. */
const BUCKETS = 8192;
const BUCKET_MASK = BUCKETS - 1;
const NONE = -1;
/** in `#previous`: the slot has no timer */
const IDLE = -2;

/** Deadlines are whole ticks, 0 to 2^53 - 1: doubles, because 2^32 milliseconds are 49.7 days and a hold may last a year. */
export class TimerWheel {
  readonly #heads = new Int32Array(BUCKETS).fill(NONE);
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #deadline: Float64Array;
  /** the tick that is being worked on; all timers before it have been handed out */
  #cursor = 0;
  #target = 0;
  #count = 0;

  /** @param capacity number of slots, at least 1 */
  constructor(capacity: number) {
    this.#next = new Int32Array(capacity);
    this.#previous = new Int32Array(capacity).fill(IDLE);
    this.#deadline = new Float64Array(capacity);
  }

  /** Timers that are set. */
  get count(): number {
    return this.#count;
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return this.#next.BYTES_PER_ELEMENT + this.#previous.BYTES_PER_ELEMENT + this.#deadline.BYTES_PER_ELEMENT;
  }

  /** Whether the slot has a timer. */
  has(slot: number): boolean {
    return this.#previous[slot] !== IDLE;
  }

  /** Sets the slot's timer, instead of the one that it may have. A deadline that has passed is due at the next tick. */
  set(slot: number, deadlineTick: number): void {
    if (this.has(slot)) this.cancel(slot);
    const deadline = Math.max(deadlineTick, this.#cursor + 1);
    assert(Number.isSafeInteger(deadline), `deadline ${deadline} is a whole tick`);
    const bucket = deadline & BUCKET_MASK;
    const head = this.#heads[bucket]!;
    this.#deadline[slot] = deadline;
    this.#next[slot] = head;
    this.#previous[slot] = NONE;
    if (head !== NONE) this.#previous[head] = slot;
    this.#heads[bucket] = slot;
    this.#count++;
  }

  /** Removes the slot's timer, if it has one. */
  cancel(slot: number): void {
    const previous = this.#previous[slot]!;
    if (previous === IDLE) return;
    const next = this.#next[slot]!;
    if (previous === NONE) this.#heads[this.#deadline[slot]! & BUCKET_MASK] = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
    this.#previous[slot] = IDLE;
    this.#count--;
  }

  /** Says what tick it is; `nextExpired` then hands out everything due up to it. Never goes back. */
  advanceTo(tick: number): void {
    if (tick > this.#target) this.#target = tick;
  }

  /**
   * Takes one timer that is due: its slot, or -1 when none is left. Timers may be set and cancelled between calls;
   * they come in the order of their ticks, and in no stated order within one.
   */
  nextExpired(): number {
    for (;;) {
      if (this.#count === 0) {
        this.#cursor = this.#target;
        return NONE;
      }
      for (let slot = this.#heads[this.#cursor & BUCKET_MASK]!; slot !== NONE; slot = this.#next[slot]!) {
        if (this.#deadline[slot]! > this.#cursor) continue;
        this.cancel(slot);
        return slot;
      }
      if (this.#cursor >= this.#target) return NONE;
      this.#cursor++;
    }
  }

  /** Ticks from the last `advanceTo` until a timer is due, at most `limit`. */
  ticksUntilDue(limit: number): number {
    if (this.#count === 0) return limit;
    for (let ahead = 0; ahead < limit; ahead++) {
      const tick = this.#target + ahead;
      for (let slot = this.#heads[tick & BUCKET_MASK]!; slot !== NONE; slot = this.#next[slot]!)
        if (this.#deadline[slot]! <= tick) return ahead;
    }
    return limit;
  }
}

/** The probes of one engine. No method allocates. */
export class ProbeSchedule {
  readonly everyMs: number;
  readonly #table: ConnectionTable;
  readonly #wheel: TimerWheel;

  /** @param everyMs between two probes of one connection; 0: none is ever due, and no method below may be called */
  constructor(everyMs: number, table: ConnectionTable, wheel: TimerWheel) {
    this.everyMs = everyMs;
    this.#table = table;
    this.#wheel = wheel;
  }

  /**
   * The first probe comes within FIRST_PROBE_WITHIN_MS, then one each period at the slot's own phase, so that all
   * slots together probe evenly: slots are as evenly spread over the period as they are over the table.
   * @param nowMs since the engine's start
   */
  first(slot: number, nowMs: number): void {
    const spreadMs = Math.min(this.everyMs, FIRST_PROBE_WITHIN_MS);
    // Multiples of the golden ratio spread any run of neighbouring slots evenly (equidistribution).
    const share = (slot * 0.618_033_988_749_894_9) % 1;
    this.#set(slot, nowMs + share * spreadMs);
  }

  /** The probe after the one that was just answered. @param nowMs since the engine's start */
  next(slot: number, nowMs: number): void {
    const { everyMs } = this;
    const phaseMs = (slot / this.#table.capacity) * everyMs;
    const lastMs = this.#table.intendedAtMs[slot]!;
    let dueMs = Math.floor((lastMs - phaseMs) / everyMs + 1) * everyMs + phaseMs;
    // An answer that took longer than a period has skipped probes; they are not sent in a burst afterwards.
    if (dueMs < nowMs - everyMs) {
      dueMs += Math.ceil((nowMs - everyMs - dueMs) / everyMs) * everyMs;
    }
    this.#set(slot, dueMs);
  }

  #set(slot: number, dueMs: number): void {
    const tick = Math.ceil(dueMs);
    this.#table.intendedAtMs[slot] = tick;
    this.#wheel.set(slot, tick);
  }
}
