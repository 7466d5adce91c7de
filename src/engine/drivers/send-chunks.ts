/**
 * Owns the bytes that wait for the kernel to take them: a pool of chunks in memory that the kernel can read, and the list
 * of those that are to be sent in the next call. Must never know a ring or a state of a connection.
 *
 * A chunk is the kernel's from the call until its completion, which comes within the same call (MSG_DONTWAIT). What a
 * socket does not take then is moved to `stuck`, so that targets that do not read cannot use the pool up.
 */
import assert from 'node:assert/strict';
import type { MappedMemory } from './uring-binding.ts';

/** A probe or a request mostly fits into one. */
export const CHUNK_BYTES = 2_048;
/** Sends between two calls. */
export const CHUNKS = 1_024;

const NONE = -1;

/** The chunks of one driver; owners are direct descriptors, each with at most one chunk that can still grow. */
export class SendChunks {
  readonly #bytes: Uint8Array;
  readonly #address: number;
  readonly #free = new Int32Array(CHUNKS);
  #freeCount = CHUNKS;
  readonly #waiting = new Int32Array(CHUNKS);
  #waitingCount = 0;
  readonly #owner = new Int32Array(CHUNKS);
  readonly #generation = new Uint16Array(CHUNKS);
  readonly #length = new Uint16Array(CHUNKS);
  readonly #stuck = new Map<number, Uint8Array>();

  /** @param memory CHUNKS times CHUNK_BYTES, or more */
  constructor(memory: MappedMemory) {
    assert(memory.buffer.byteLength >= CHUNKS * CHUNK_BYTES, 'room for all chunks');
    this.#bytes = new Uint8Array(memory.buffer);
    this.#address = memory.address;
    for (let chunk = 0; chunk < CHUNKS; chunk++) this.#free[chunk] = CHUNKS - 1 - chunk;
  }

  get hasFree(): boolean {
    return this.#freeCount > 0;
  }

  /** Whether nothing waits or is on its way. */
  get isIdle(): boolean {
    return this.#freeCount === CHUNKS;
  }

  /** Whether something waits for the next call. */
  get hasWaiting(): boolean {
    return this.#waitingCount > 0;
  }

  /** A new chunk that waits to be sent; there must be a free one. */
  take(owner: number, generation: number): number {
    assert(this.#freeCount > 0, 'a free chunk');
    const chunk = this.#free[--this.#freeCount]!;
    this.#owner[chunk] = owner;
    this.#generation[chunk] = generation;
    this.#length[chunk] = 0;
    this.#waiting[this.#waitingCount++] = chunk;
    return chunk;
  }

  /** Copies in what fits. @returns bytes taken */
  append(chunk: number, buffer: Uint8Array, length: number): number {
    const from = this.#length[chunk]!;
    const count = Math.min(length, CHUNK_BYTES - from);
    const at = chunk * CHUNK_BYTES + from;
    // set() with a part of a buffer would allocate a view.
    for (let index = 0; index < count; index++) this.#bytes[at + index] = buffer[index]!;
    this.#length[chunk] = from + count;
    return count;
  }

  /** The next chunk that waits, which no longer does: or -1. */
  nextWaiting(): number {
    return this.#waitingCount > 0 ? this.#waiting[--this.#waitingCount]! : NONE;
  }

  /** The kernel is done with the chunk. */
  release(chunk: number): void {
    this.#free[this.#freeCount++] = chunk;
  }

  owner(chunk: number): number {
    return this.#owner[chunk]!;
  }

  generation(chunk: number): number {
    return this.#generation[chunk]!;
  }

  length(chunk: number): number {
    return this.#length[chunk]!;
  }

  /** Where the chunk is for the kernel. */
  address(chunk: number): number {
    return this.#address + chunk * CHUNK_BYTES;
  }

  // ---- what sockets did not take ----

  /** Keeps what is left of a chunk from `taken` on. */
  keep(chunk: number, taken: number): void {
    const at = chunk * CHUNK_BYTES;
    this.#stuck.set(this.#owner[chunk]!, this.#bytes.slice(at + taken, at + this.#length[chunk]!));
  }

  /** Moves what was kept for `owner` into a new chunk that waits; there must be a free one. @returns the chunk, or -1 */
  again(owner: number, generation: number): number {
    const kept = this.#stuck.get(owner);
    if (kept === undefined) return NONE;
    this.#stuck.delete(owner);
    const chunk = this.take(owner, generation);
    this.append(chunk, kept, kept.length);
    return chunk;
  }

  /** The owner is gone. */
  drop(owner: number): void {
    this.#stuck.delete(owner);
  }
}
