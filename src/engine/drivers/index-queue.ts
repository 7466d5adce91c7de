/**
 * Owns a first-in-first-out queue of small numbers, each in it at most once. Must never allocate after it was made.
 */

/** In `#next`: 0, so that a queue that is never used takes no memory. Others are stored with OFFSET added. */
const ABSENT = 0;
const OFFSET = 2;
const LAST = -1;

/** A queue of numbers from 0 to `capacity` - 1. */
export class IndexQueue {
  readonly #next: Int32Array;
  #first = LAST;
  #last = LAST;
  #size = 0;

  constructor(capacity: number) {
    this.#next = new Int32Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** Puts `index` at the end; one that is in the queue already stays where it is. */
  push(index: number): void {
    if (this.#next[index] !== ABSENT) return;
    this.#next[index] = LAST + OFFSET;
    if (this.#last === LAST) this.#first = index;
    else this.#next[this.#last] = index + OFFSET;
    this.#last = index;
    this.#size++;
  }

  /** Takes the first out: its number, or -1 when there is none. */
  shift(): number {
    const index = this.#first;
    if (index === LAST) return -1;
    this.#first = this.#next[index]! - OFFSET;
    if (this.#first === LAST) this.#last = LAST;
    this.#next[index] = ABSENT;
    this.#size--;
    return index;
  }
}
