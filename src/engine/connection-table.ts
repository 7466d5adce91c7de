/**
 * Owns the state of every connection as a struct of arrays indexed by slot, and the list of free slots.
 * Must never touch a descriptor, a timer or a count: it only remembers.
 *
 * A slot is named to the kernel by a token (slot and generation), because an event may arrive for a slot that was
 * closed, and even taken again, after the kernel had written the event down.
 */
import assert from 'node:assert/strict';

/** Where a slot is in its life: free -> connecting -> (handshaking ->) open -> free. */
export const SlotState = {
  free: 0,
  /** connect(2) was called, the kernel has not answered */
  connecting: 1,
  /** the kernel has connected, the protocol still has to agree */
  handshaking: 2,
  /** counted as open */
  open: 3,
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
  /** the descriptor belongs to the protocol, which closes it */
  handedOver: 8,
  /** the far application has answered since the hold began */
  verifiedInHold: 16,
  /** the last send failed: nothing of it is in the socket */
  sendFailed: 32,
} as const;

const SLOT_BITS = 24;
/** The most slots that a token can name: 16,777,216. */
const SLOTS_MAX = 1 << SLOT_BITS;
const SLOT_MASK = SLOTS_MAX - 1;
/** 7 bits, so that a token is never negative (the poller's own wake-up is). */
const GENERATION_MASK = 0x7f;

/** All connections of one process. Every method but the constructor allocates nothing. */
export class ConnectionTable {
  readonly capacity: number;
  readonly state: Uint8Array;
  /** SlotFlag bits */
  readonly flags: Uint8Array;
  readonly fd: Int32Array;
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

  readonly #generation: Uint8Array;
  readonly #nextFree: Int32Array;
  #firstFree = 0;
  #used = 0;

  /** @param capacity slots, 1 to SLOTS_MAX; never grows */
  constructor(capacity: number) {
    assert(Number.isInteger(capacity) && capacity >= 1 && capacity <= SLOTS_MAX, `capacity ${capacity}`);
    this.capacity = capacity;
    this.state = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.fd = new Int32Array(capacity).fill(-1);
    this.tuple = new Float64Array(capacity);
    this.intendedAtMs = new Float64Array(capacity);
    this.calledLateMs = new Float32Array(capacity);
    this.openedAtMs = new Float64Array(capacity);
    this.probeSequence = new Uint32Array(capacity);
    this.#generation = new Uint8Array(capacity);
    this.#nextFree = new Int32Array(capacity);
    for (let slot = 0; slot < capacity; slot++) this.#nextFree[slot] = slot + 1 < capacity ? slot + 1 : -1;
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
      this.fd,
      this.tuple,
      this.intendedAtMs,
      this.calledLateMs,
      this.openedAtMs,
      this.probeSequence,
      this.#generation,
      this.#nextFree,
    ];
    return columns.reduce((bytes, column) => bytes + column.BYTES_PER_ELEMENT, 0);
  }

  /** Takes a free slot and marks it connecting: the slot, or -1 when none is free. */
  take(fd: number, tuple: number): number {
    const slot = this.#firstFree;
    if (slot < 0) return -1;
    this.#firstFree = this.#nextFree[slot]!;
    this.#used++;
    this.state[slot] = SlotState.connecting;
    this.flags[slot] = 0;
    this.fd[slot] = fd;
    this.tuple[slot] = tuple;
    this.probeSequence[slot] = 0;
    return slot;
  }

  /** Gives a slot back; its tokens are stale from now on. */
  free(slot: number): void {
    assert(this.state[slot] !== SlotState.free, 'a slot is freed once');
    this.state[slot] = SlotState.free;
    this.fd[slot] = -1;
    this.#generation[slot] = (this.#generation[slot]! + 1) & GENERATION_MASK;
    this.#nextFree[slot] = this.#firstFree;
    this.#firstFree = slot;
    this.#used--;
  }

  /** What the kernel gets as this slot's name; 0 or more, below 2^31. */
  tokenOf(slot: number): number {
    return (this.#generation[slot]! << SLOT_BITS) | slot;
  }

  /** The slot that a token names, or -1 when that connection has gone meanwhile. */
  slotOf(token: number): number {
    const slot = token & SLOT_MASK;
    if (token < 0 || slot >= this.capacity || this.state[slot] === SlotState.free) return -1;
    return this.#generation[slot] === token >>> SLOT_BITS ? slot : -1;
  }
}
