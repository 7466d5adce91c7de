/**
 * Owns the state of every connection as a struct of arrays indexed by slot, and the list of free slots.
 * Must never touch a socket, a timer or a count: it only remembers. What the kernel calls a connection is the driver's.
 */
import assert from 'node:assert/strict';

/** Where a slot is in its life: free -> connecting -> (handshaking ->) open -> free; or free -> waiting -> free. */
export const SlotState = {
  free: 0,
  /** connect(2) was called, the kernel has not answered */
  connecting: 1,
  /** the kernel has connected, the protocol still has to agree */
  handshaking: 2,
  /** counted as open */
  open: 3,
  /** no connection: one that was lost waits here to be opened again */
  waiting: 4,
} as const;
export type SlotState = (typeof SlotState)[keyof typeof SlotState];

/** Bits of `flags`. */
export const SlotFlag = {
  /** the far application has answered at least once */
  verified: 1,
  /** a probe was sent and is not answered yet */
  probing: 2,
  /** it stands in for a connection that was lost */
  reopening: 4,
  /** the far application has answered since the hold began */
  verifiedInHold: 8,
} as const;

/** Every driver can name so many. */
const SLOTS_MAX = 1 << 24;

/** All connections of one process. Every method but the constructor allocates nothing. */
export class ConnectionTable {
  readonly capacity: number;
  readonly state: Uint8Array;
  /** SlotFlag bits */
  readonly flags: Uint8Array;
  /** tuple index; a double because a tuple space may have more than 2^32 tuples */
  readonly tuple: Float64Array;
  /** the moment that the current exchange (connect, then probe) was meant to begin; ms since the engine's start */
  readonly intendedAtMs: Float64Array;
  /** how much later than intended the connect was called, ms */
  readonly calledLateMs: Float32Array;
  /** when it became open; ms since the engine's start */
  readonly openedAtMs: Float64Array;
  /** number of the last probe sent; 0: none yet */
  readonly probeSequence: Uint32Array;

  readonly #nextFree: Int32Array;
  /** -1: none that was used before; the others are from `#fresh` on */
  #firstFree = -1;
  #fresh = 0;
  #used = 0;

  /** @param capacity slots, 1 to SLOTS_MAX; never grows */
  constructor(capacity: number) {
    assert(Number.isInteger(capacity) && capacity >= 1 && capacity <= SLOTS_MAX, `capacity ${capacity}`);
    this.capacity = capacity;
    this.state = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.tuple = new Float64Array(capacity);
    this.intendedAtMs = new Float64Array(capacity);
    this.calledLateMs = new Float32Array(capacity);
    this.openedAtMs = new Float64Array(capacity);
    this.probeSequence = new Uint32Array(capacity);
    this.#nextFree = new Int32Array(capacity);
  }

  /** Slots that are not free. */
  get used(): number {
    return this.#used;
  }

  /** User memory of one slot over all columns, in bytes. */
  get bytesPerSlot(): number {
    const columns = [
      this.state,
      this.flags,
      this.tuple,
      this.intendedAtMs,
      this.calledLateMs,
      this.openedAtMs,
      this.probeSequence,
      this.#nextFree,
    ];
    return columns.reduce((bytes, column) => bytes + column.BYTES_PER_ELEMENT, 0);
  }

  /** Takes a free slot and marks it connecting: the slot, or -1 when none is free. */
  take(tuple: number): number {
    let slot = this.#firstFree;
    if (slot >= 0) this.#firstFree = this.#nextFree[slot]!;
    else if (this.#fresh < this.capacity) slot = this.#fresh++;
    else return -1;
    this.#used++;
    this.state[slot] = SlotState.connecting;
    this.flags[slot] = 0;
    this.tuple[slot] = tuple;
    this.probeSequence[slot] = 0;
    return slot;
  }

  /** Gives a slot back. */
  free(slot: number): void {
    assert(this.state[slot] !== SlotState.free, 'a slot is freed once');
    this.state[slot] = SlotState.free;
    this.#nextFree[slot] = this.#firstFree;
    this.#firstFree = slot;
    this.#used--;
  }
}
