/**
 * Owns which direct descriptor belongs to which slot, and what is remembered of each, as a struct of arrays by index.
 * Must never know a ring or a request.
 *
 * An index is taken by an open and given back when nothing of its chain of requests is on the way, which may be after the
 * slot was closed: so there are more indices than slots. With an index goes a generation, because a completion may be read
 * after the index was given back: what carries an old generation is ignored.
 *
 *   free -> opening -> open -> ended -> free        a close leads to free from each, from `opening` through `abandoned`
 *              |-> doubtful -^
 *              '------'----> broken ----^
 */

/** Where an index is in its life. */
export const IndexState = {
  free: 0,
  /** the chain of its open is on the way */
  opening: 1,
  open: 2,
  /** `ended` was said */
  ended: 3,
  /** `failed` was said */
  broken: 4,
  /** closed while it was opening */
  abandoned: 5,
  /** its SYN was rejected while it was sent and is sent again, or it was over before it was seen open */
  doubtful: 6,
} as const;

/** Bits of `flags`. */
export const IndexFlag = {
  /** there is a socket in the kernel's table */
  socket: 1,
  watched: 2,
  watchedWritable: 4,
  /** a chunk is on its way or its rest is kept: the socket takes no other */
  sending: 8,
  /** the engine was reported that it was too much: `writable` follows */
  wantsWritable: 16,
  /** the end of the stream was announced, which only a further receive tells */
  ending: 32,
  /** a receive is on its way: there is never a second one */
  receiving: 64,
  /** it was asked for when an error was known already: what it does not find is not there */
  isLast: 128,
} as const;

/** In `indexOf`: the slot has none. In `slotOf` and `chunkOf` likewise. */
export const NONE = -1;
/** In `indexOf`: the slot's socket was given away. */
export const DETACHED = -2;

/** All indices of one driver. Only the constructor allocates. */
export class IndexTable {
  /** by slot */
  readonly indexOf: Int32Array;
  /** by index, as everything below */
  readonly slotOf: Int32Array;
  /** a value of IndexState */
  readonly state: Uint8Array;
  /** IndexFlag bits */
  readonly flags: Uint8Array;
  readonly generation: Uint16Array;
  /** errno that a send has reported; the receive after it only knows the end */
  readonly endErrno: Uint8Array;
  /** the chunk that still grows */
  readonly chunkOf: Int16Array;
  /** those that were given back; the others are above `#fresh`, in order, so that a ramp fills one ring after the other */
  readonly #free: Int32Array;
  #freeCount = 0;
  #fresh = 0;

  constructor(slots: number, indices: number) {
    this.indexOf = new Int32Array(slots).fill(NONE);
    this.slotOf = new Int32Array(indices).fill(NONE);
    this.state = new Uint8Array(indices);
    this.flags = new Uint8Array(indices);
    this.generation = new Uint16Array(indices);
    this.endErrno = new Uint8Array(indices);
    this.chunkOf = new Int16Array(indices).fill(NONE);
    this.#free = new Int32Array(indices);
  }

  get size(): number {
    return this.#free.length;
  }

  /** Indices that are not free. */
  get used(): number {
    return this.#fresh - this.#freeCount;
  }

  /** Takes an index for a slot that opens: the index, or -1 when none is free. */
  take(slot: number): number {
    if (this.#freeCount === 0 && this.#fresh === this.#free.length) return NONE;
    const index = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : this.#fresh++;
    this.indexOf[slot] = index;
    this.slotOf[index] = slot;
    this.state[index] = IndexState.opening;
    this.flags[index] = 0;
    this.endErrno[index] = 0;
    return index;
  }

  /** Gives an index back: nothing that was asked for it until now has a meaning any more. */
  give(index: number): void {
    this.slotOf[index] = NONE;
    this.chunkOf[index] = NONE;
    this.state[index] = IndexState.free;
    this.flags[index] = 0;
    this.generation[index]!++;
    this.#free[this.#freeCount++] = index;
  }
}
