/**
 * Owns timers: at most one per slot, in a hashed wheel of one-millisecond ticks with intrusive links. Must never read a clock:
 * ticks are arguments.
 *
 * A bucket holds the timers of all ticks that share its index, so each is compared with its own deadline. Adding and
 * cancelling cost the same at any number of timers, and nothing is allocated after the constructor.
 */
import assert from 'node:assert/strict';

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
    assert(Number.isSafeInteger(deadline), 'a deadline is a whole tick');
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
