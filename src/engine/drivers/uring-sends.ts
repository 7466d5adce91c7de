/**
 * Owns what the io_uring driver does with bytes that are to be sent: which chunk they wait in, what a socket did not take, and who
 * waits for a chunk. Must never speak to the engine (uring-driver.ts).
 */
import * as libc from '../libc.ts';
import { IndexQueue } from './index-queue.ts';
import { IndexFlag as Bit, type IndexTable, NONE, IndexState as State } from './index-table.ts';
import type { SendChunks } from './send-chunks.ts';
import type { UringRequests } from './uring-requests.ts';

/** What came of a completion: this, nothing (0), or -errno by which the connection is no good any more. */
export const WRITABLE = 1;

/** The sends of one driver. Only the constructor allocates. */
export class UringSends {
  readonly #table: IndexTable;
  readonly #requests: UringRequests;
  readonly #chunks: SendChunks;
  /** those that wait for a free chunk */
  readonly #chunkless: IndexQueue;
  /** how many of them are looked at in this turn */
  #chunklessLeft = 0;
  /** bytes that the kernel has taken, of all connections so far */
  bytesSent = 0;

  constructor(table: IndexTable, requests: UringRequests, chunks: SendChunks, indices: number) {
    this.#table = table;
    this.#requests = requests;
    this.#chunks = chunks;
    this.#chunkless = new IndexQueue(indices);
  }

  /** Whether nothing waits or is on its way. */
  get isIdle(): boolean {
    return this.#chunks.isIdle;
  }

  /** Whether one that waits for a chunk can have it. */
  get canOffer(): boolean {
    return this.#chunkless.size > 0 && this.#chunks.hasFree;
  }

  /** @returns bytes taken, to be sent by the next `flush`; fewer than `length`: WRITABLE follows */
  send(index: number, buffer: Uint8Array, length: number): number {
    const table = this.#table;
    let taken = 0;
    if ((table.flags[index]! & Bit.sending) === 0) {
      let chunk = table.chunkOf[index]!;
      if (chunk < 0 && this.#chunks.hasFree) {
        chunk = this.#chunks.take(index, table.generation[index]!);
        table.chunkOf[index] = chunk;
      }
      if (chunk < 0) this.#chunkless.push(index);
      else taken = this.#chunks.append(chunk, buffer, length);
    }
    if (taken < length) table.flags[index]! |= Bit.wantsWritable;
    return taken;
  }

  /** Asks for all that waits to be sent. */
  flush(): void {
    for (let chunk = this.#chunks.nextWaiting(); chunk >= 0; chunk = this.#chunks.nextWaiting()) {
      const index = this.#chunks.owner(chunk);
      this.#table.chunkOf[index] = NONE;
      this.#table.flags[index]! |= Bit.sending;
      this.#requests.send(index, chunk, this.#chunks.address(chunk), this.#chunks.length(chunk));
    }
  }

  /** The index is given back. */
  drop(index: number): void {
    this.#chunks.drop(index);
  }

  /** A send is done. @returns WRITABLE, 0 or -errno */
  sent(index: number, chunk: number, result: number): number {
    const isOurs =
      this.#chunks.generation(chunk) === this.#table.generation[index] &&
      this.#table.state[index] === State.open;
    if (result > 0) this.bytesSent += result;
    const isTaken = result === this.#chunks.length(chunk);
    const short = isOurs && !isTaken ? this.#sentShort(index, chunk, result) : 0;
    this.#chunks.release(chunk);
    if (!isOurs || !isTaken) return short;
    const flags = this.#table.flags[index]!;
    this.#table.flags[index] = flags & ~(Bit.sending | Bit.wantsWritable);
    return (flags & Bit.wantsWritable) === 0 ? 0 : WRITABLE;
  }

  #sentShort(index: number, chunk: number, result: number): number {
    if (result < 0 && result !== -libc.Errno.EAGAIN && result !== -libc.Errno.EINTR) return result;
    this.#chunks.keep(chunk, Math.max(0, result));
    this.#watchWritable(index);
    return 0;
  }

  #watchWritable(index: number): void {
    this.#table.flags[index]! |= Bit.watchedWritable;
    this.#requests.watchWritable(index, this.#table.generation[index]!);
  }

  /** A socket that was full takes bytes again. @returns 0 or -errno */
  roomCame(index: number, result: number): number {
    this.#table.flags[index]! &= ~Bit.watchedWritable;
    if (this.#table.state[index] !== State.open) return 0;
    if (result < 0) return result;
    // Remembered like one that still grows, so that a close finds it; `sending` keeps it from growing.
    if (this.#chunks.hasFree)
      this.#table.chunkOf[index] = this.#chunks.again(index, this.#table.generation[index]!);
    else this.#watchWritable(index);
    return 0;
  }

  /** A turn begins: each that waits for a chunk is looked at once. */
  turn(): void {
    this.#chunklessLeft = this.#chunkless.size;
  }

  /** One that found no free chunk and is to try again; or -1. */
  nextWritable(): number {
    while (this.#chunklessLeft > 0) {
      this.#chunklessLeft--;
      const index = this.#chunkless.shift();
      const flags = this.#table.flags[index]!;
      if (this.#table.state[index] !== State.open || (flags & Bit.wantsWritable) === 0) continue;
      if (!this.#chunks.hasFree) {
        this.#chunkless.push(index);
        continue;
      }
      this.#table.flags[index] = flags & ~Bit.wantsWritable;
      return index;
    }
    return NONE;
  }
}
