/**
 * Owns which tuple of a slice is tried next: first each once in order, then those that came back, the oldest first.
 * Must never forget a tuple, know why one came back, or touch a socket.
 *
 * A tuple that is in use on this host (a port of another program, or a socket of this one that rests in TIME_WAIT after its
 * FIN) gets another try after all others, and after that one each time it has rested: shortly at first, because a
 * closing handshake may take only a round trip, then for long, so that thousands that rest cost little.
 *
 *   fresh --take--> in use --freed--> free --take--> in use
 *                      '--skipped--> again --take, skipped--> resting (short) --take, skipped--> resting (long) ...
 */
import assert from 'node:assert/strict';
import type { Slice } from '../base/tuple-space.ts';
import { TIME_WAIT_REST_MS } from '../run/schedule.ts';

/** How long a tuple rests that was in use twice in a row. */
const REST_SHORT_MS = 1_000;
/** How long one rests that was in use more often; TIME_WAIT takes 60 s (TCP_TIMEWAIT_LEN in include/net/tcp.h). */
const REST_LONG_MS = 15_000;

/** The tuples of one slice; every one is always fresh, waiting, resting or in use. */
export class TupleSupply {
  readonly #to: number;
  /** the first tuple of the slice */
  readonly from: number;
  #next: number;
  readonly #free = new TupleQueue();
  readonly #again = new TupleQueue();
  readonly #closed = new TupleQueue();
  readonly #restShort = new TupleQueue();
  readonly #restLong = new TupleQueue();
  #skips = 0;

  /** @param slice `from` at most `to` */
  constructor(slice: Slice) {
    assert(slice.from >= 0 && slice.from <= slice.to, `slice ${slice.from} to ${slice.to}`);
    this.from = slice.from;
    this.#next = slice.from;
    this.#to = slice.to;
  }

  /** Tuples that were handed out at least once. */
  get used(): number {
    return this.#next - this.from;
  }

  /** All tuples of the slice. */
  get size(): number {
    return this.#to - this.from;
  }

  /** Tuples that were in use when they were tried, and rest until they are tried again. */
  get resting(): number {
    return this.#restShort.size + this.#restLong.size;
  }

  /** How often in a row the tuple last handed out had been in use: 0, 1, or 2 for more. */
  get skips(): number {
    return this.#skips;
  }

  /**
   * The next tuple to try, or -1 when there is none: every one of the slice is in use, or rests.
   * @param nowMs never goes back
   */
  take(nowMs: number): number {
    this.#skips = 0;
    if (this.#next < this.#to) return this.#next++;
    if (this.#free.size > 0) return this.#free.take();
    if (this.#closed.oldestAtMs + TIME_WAIT_REST_MS <= nowMs) return this.#closed.take();
    this.#skips = 1;
    if (this.#again.size > 0) return this.#again.take();
    this.#skips = 2;
    if (this.#restShort.oldestAtMs + REST_SHORT_MS <= nowMs) return this.#restShort.take();
    if (this.#restLong.oldestAtMs + REST_LONG_MS <= nowMs) return this.#restLong.take();
    return -1;
  }

  /**
   * A tuple is in use on this host: it is tried again later.
   * @param skips what `skips` was when it was handed out
   */
  skipped(tuple: number, skips: number, nowMs: number): void {
    if (skips === 0) this.#again.put(tuple, nowMs);
    else if (skips === 1) this.#restShort.put(tuple, nowMs);
    else this.#restLong.put(tuple, nowMs);
  }

  /** The tuple's socket was closed by our FIN: it is used again when TIME_WAIT is over. */
  closedByUs(tuple: number, nowMs: number): void {
    this.#closed.put(tuple, nowMs);
  }

  /** The tuple's socket is closed and it may be used again. */
  freed(tuple: number, nowMs: number): void {
    this.#free.put(tuple, nowMs);
  }
}

/** Tuples of one block (64 KiB). No bound: a full block is followed by another. */
const BLOCK_TUPLES = 4_096;

class Block {
  readonly tuple = new Float64Array(BLOCK_TUPLES);
  readonly atMs = new Float64Array(BLOCK_TUPLES);
  next: Block | null = null;
}

/** A queue of tuples. */
class TupleQueue {
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
