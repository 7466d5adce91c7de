/**
 * Owns which tuple of a slice is tried next: first each once in order, then those that came back.
 * Must never know why a tuple came back, or touch a socket.
 */
import assert from 'node:assert/strict';
import type { Slice } from '../base/tuple-space.ts';

/** The most tuples that wait for another try; further ones are forgotten (128 KiB). */
const RETURNED_MAX = 16_384;

/** The tuples of one slice. No method but the constructor allocates. */
export class TupleSupply {
  readonly #to: number;
  readonly #from: number;
  #next: number;
  /** a ring; a tuple that was skipped is kept as -(tuple + 1), because it gets one more try only */
  readonly #returned: Float64Array;
  #returnedAt = 0;
  #returnedCount = 0;
  #isRetry = false;

  /** @param slice `from` at most `to` */
  constructor(slice: Slice) {
    assert(slice.from >= 0 && slice.from <= slice.to, `slice ${slice.from} to ${slice.to}`);
    this.#from = slice.from;
    this.#next = slice.from;
    this.#to = slice.to;
    this.#returned = new Float64Array(Math.min(RETURNED_MAX, slice.to - slice.from));
  }

  /** Tuples that were handed out at least once. */
  get used(): number {
    return this.#next - this.#from;
  }

  /** All tuples of the slice. */
  get size(): number {
    return this.#to - this.#from;
  }

  /** Whether the tuple last handed out had been skipped before. */
  get isRetry(): boolean {
    return this.#isRetry;
  }

  /** The next tuple to try, or -1 when the slice is used up. */
  take(): number {
    this.#isRetry = false;
    if (this.#next < this.#to) return this.#next++;
    if (this.#returnedCount === 0) return -1;
    const kept = this.#returned[this.#returnedAt]!;
    this.#returnedAt = (this.#returnedAt + 1) % this.#returned.length;
    this.#returnedCount--;
    this.#isRetry = kept < 0;
    return kept < 0 ? -kept - 1 : kept;
  }

  /** The tuple last handed out was in somebody's use: it gets one more try after all others. */
  skipped(tuple: number): void {
    if (!this.#isRetry) this.#giveBack(-tuple - 1);
  }

  /** The tuple's socket is closed and it may be used again. */
  freed(tuple: number): void {
    this.#giveBack(tuple);
  }

  #giveBack(kept: number): void {
    if (this.#returnedCount === this.#returned.length) return;
    this.#returned[(this.#returnedAt + this.#returnedCount) % this.#returned.length] = kept;
    this.#returnedCount++;
  }
}
