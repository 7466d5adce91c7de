/**
 * Owns a queue of tuples, each with the moment at which it was put there: first in, first out, of any length.
 * Must never know why a tuple waits.
 *
 * It grows by blocks of BLOCK_TUPLES, so that memory follows the number that waits and not the size of the slice (a
 * slice of a /16 has hundreds of millions of tuples). One emptied block is kept, so that a queue whose length stays
 * about the same allocates nothing.
 */
import assert from 'node:assert/strict';

/** Tuples of one block (64 KiB). No bound: a full block is followed by another. */
const BLOCK_TUPLES = 4_096;

class Block {
  readonly tuple = new Float64Array(BLOCK_TUPLES);
  readonly atMs = new Float64Array(BLOCK_TUPLES);
  next: Block | null = null;
}

/** A queue of tuples. */
export class TupleQueue {
  /** null until something is put: most queues of a run stay empty */
  #first: Block | null = null;
  #last: Block | null = null;
  #spare: Block | null = null;
  /** where the oldest stands in `#first`, and where the next one goes in `#last` */
  #from = 0;
  #to = 0;
  #size = 0;

  /** Tuples that wait. */
  get size(): number {
    return this.#size;
  }

  /** When the oldest was put here; Infinity: nothing waits. */
  get oldestAtMs(): number {
    const first = this.#first;
    return this.#size === 0 || first === null ? Number.POSITIVE_INFINITY : first.atMs[this.#from]!;
  }

  /** @param tuple any number that a double holds exactly */
  put(tuple: number, atMs: number): void {
    const last = this.#last === null || this.#to === BLOCK_TUPLES ? this.#append() : this.#last;
    last.tuple[this.#to] = tuple;
    last.atMs[this.#to] = atMs;
    this.#to++;
    this.#size++;
  }

  #append(): Block {
    const block = this.#spare ?? new Block();
    this.#spare = null;
    if (this.#last === null) this.#first = block;
    else this.#last.next = block;
    this.#last = block;
    this.#to = 0;
    return block;
  }

  /** Takes the oldest; at least one must wait. */
  take(): number {
    const first = this.#first;
    assert(first !== null && this.#size > 0, 'nothing waits');
    const tuple = first.tuple[this.#from]!;
    this.#from++;
    this.#size--;
    if (this.#size === 0) {
      this.#from = 0;
      this.#to = 0;
    } else if (this.#from === BLOCK_TUPLES) {
      this.#first = first.next;
      first.next = null;
      this.#spare = first;
      this.#from = 0;
    }
    return tuple;
  }
}
