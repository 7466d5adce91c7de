/**
 * Owns connections through io_uring: direct descriptors, which take no number of RLIMIT_NOFILE, in as many rings as its
 * value asks for. Must never say anything of a connection after its close().
 *
 * A connection has an index over all rings (index-table.ts): index / perRing is its ring, the rest its place in that
 * ring's table of descriptors.
 *
 * One turn: for each ring that has something to do, calls that submit what was begun and bring what has happened; then, as
 * next() comes to it, one more that receives all that is readable.
 */
import assert from 'node:assert/strict';
import * as libc from '../libc.ts';
import { type CloseHow, type Driver, DriverEvent, type DriverOptions, OpenStep } from './driver.ts';
import { IndexQueue } from './index-queue.ts';
import { IndexFlag as Bit, DETACHED, IndexTable, NONE, IndexState as State } from './index-table.ts';
import { RingSet, ringsFor, type UringSizes } from './ring-set.ts';
import { CHUNK_BYTES, CHUNKS, SendChunks } from './send-chunks.ts';
import { CQE_MORE, Cqe, type MappedMemory, type UringKernel, uringKernel } from './uring-binding.ts';
import { isUnplaced, Kind, kindOf, tagOf, UringRequests } from './uring-requests.ts';
import { type Ring, RingError } from './uring-ring.ts';

/** Connections that are received from in one turn (at most 256: they are numbered by a byte), and bytes from each: a target that floods must not starve others. */
const CELLS = 256;
const CELL_BYTES = 4_096;

const ENDING = libc.EPOLLRDHUP | libc.EPOLLERR | libc.EPOLLHUP;

/** The driver. Only its constructor allocates, `park`, and `detach`. */
export class UringDriver implements Driver {
  readonly name = 'uring';
  readonly capacity: number;
  slot = NONE;
  value = 0;
  step: OpenStep = OpenStep.socket;
  bytes: Uint8Array;
  bytesSent = 0;

  readonly #kernel: UringKernel;
  readonly #set: RingSet;
  readonly #requests: UringRequests;
  readonly #chunks: SendChunks;
  readonly #memory: MappedMemory[] = [];
  readonly #table: IndexTable;
  readonly #readable: IndexQueue;
  /** those that wait for a free chunk */
  readonly #chunkless: IndexQueue;
  /** those whose CONNECT was not found when it was to be cancelled */
  readonly #uncancelled: IndexQueue;
  readonly #cells: readonly Uint8Array[];
  readonly #cellsAddress: number;
  readonly #cellGeneration = new Uint16Array(CELLS);
  /** those that no receive is on its way to: a completion may come a turn later, when they overflow */
  readonly #freeCells = Uint8Array.from({ length: CELLS }, (_, cell) => cell);
  #freeCellCount = CELLS;
  readonly #detached = new Map<number, number>();

  /** the ring whose completions next() reads */
  #cursor = 0;
  #hasReceived = false;
  #chunklessLeft = 0;
  #isEnded = false;

  /** @throws RingError when the kernel refuses */
  constructor(options: DriverOptions, sizes: UringSizes & { readonly kernel?: UringKernel } = {}) {
    const { capacity, sources, endpoints } = options;
    assert(capacity >= 1, `capacity ${capacity}`);
    this.capacity = capacity;
    this.#kernel = sizes.kernel ?? uringKernel;
    this.#set = new RingSet(this.#kernel, ringsFor(capacity, sizes));
    const { indices } = this.#set;
    try {
      this.#requests = new UringRequests(this.#kernel, this.#set, sources, endpoints);
      this.#memory.push(this.#requests.memory);
      this.#chunks = new SendChunks(this.#map(CHUNKS * CHUNK_BYTES));
      const cells = this.#map(CELLS * CELL_BYTES);
      this.#cellsAddress = cells.address;
      this.#cells = Array.from(
        { length: CELLS },
        (_, cell) => new Uint8Array(cells.buffer, cell * CELL_BYTES, CELL_BYTES),
      );
    } catch (error) {
      this.end();
      throw error;
    }
    this.bytes = this.#cells[0]!;
    this.#table = new IndexTable(capacity, indices);
    this.#readable = new IndexQueue(indices);
    this.#chunkless = new IndexQueue(indices);
    this.#uncancelled = new IndexQueue(indices);
  }

  #map(bytes: number): MappedMemory {
    const memory = this.#kernel.map(bytes, -1, 0);
    if (typeof memory === 'number') throw new RingError('map', -memory);
    this.#memory.push(memory);
    return memory;
  }

  /** Indices that are not free: connections, and opens that were given up and are not gone yet. */
  get indicesUsed(): number {
    return this.#table.used;
  }

  // ---- what the engine wants ----

  open(slot: number, source: number, port: number, endpoint: number): boolean {
    assert(this.#table.indexOf[slot] === NONE, 'a slot is opened once');
    if (this.#isEnded) return false;
    const index = this.#table.take(slot);
    if (index < 0) return false;
    this.#requests.open(index, this.#table.generation[index]!, source, port, endpoint);
    return true;
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const index = this.#table.indexOf[slot]!;
    if (index < 0 || this.#table.state[index] !== State.open || this.#isEnded) return 0;
    let taken = 0;
    if ((this.#table.flags[index]! & Bit.sending) === 0) {
      let chunk = this.#table.chunkOf[index]!;
      if (chunk < 0 && this.#chunks.hasFree) {
        chunk = this.#chunks.take(index, this.#table.generation[index]!);
        this.#table.chunkOf[index] = chunk;
      }
      if (chunk < 0) this.#chunkless.push(index);
      else taken = this.#chunks.append(chunk, buffer, length);
    }
    if (taken < length) this.#table.flags[index]! |= Bit.wantsWritable;
    return taken;
  }

  close(slot: number, how: CloseHow): void {
    const index = this.#table.indexOf[slot]!;
    assert(index !== NONE, 'a slot is closed once');
    this.#table.indexOf[slot] = NONE;
    if (index === DETACHED) {
      const fd = this.#detached.get(slot);
      if (how === 'rst' && fd !== undefined) libc.setResetOnClose(fd);
      this.#detached.delete(slot);
      return;
    }
    this.#table.slotOf[index] = NONE;
    if (this.#isEnded) return;
    if (this.#table.state[index] === State.opening) {
      this.#table.state[index] = State.abandoned;
      this.#requests.cancelConnect(index, this.#table.generation[index]!);
      return;
    }
    // A goodbye goes out first, whichever way it is closed.
    if (this.#table.chunkOf[index]! >= 0) this.#flushSends();
    this.#letGo(index, how === 'rst' && this.#table.state[index] !== State.broken);
  }

  get isDrained(): boolean {
    // Work that is left may be the end of a watch, and with it of its socket.
    return this.#table.used === 0 && this.#chunks.isIdle && this.#set.queued === 0 && !this.#set.hasAny;
  }

  /** Closes the socket of an index whose chain is done, and gives the index back. */
  #letGo(index: number, isReset: boolean): void {
    const flags = this.#table.flags[index]!;
    if ((flags & Bit.socket) !== 0) {
      const isWatched = (flags & Bit.watched) !== 0;
      const isWatchedWritable = (flags & Bit.watchedWritable) !== 0;
      this.#requests.close(index, this.#table.generation[index]!, isReset, isWatched, isWatchedWritable);
    }
    this.#chunks.drop(index);
    this.#table.give(index);
  }

  /** A common descriptor of the slot's socket, or -errno; in one call, whatever else is on the way. */
  #install(index: number): number {
    if (index < 0 || this.#isEnded) return -libc.Errno.EBADF;
    this.#requests.install(index);
    this.#set.of(index).submit(0, 0);
    // Not found: the completions overflow. When it comes, #complete closes what it brings.
    return this.#set.of(index).takeOutOfTurn(Kind.install, index) ?? -libc.Errno.EBUSY;
  }

  tcpInfo(slot: number, info: Uint8Array): number {
    const detached = this.#table.indexOf[slot] === DETACHED ? this.#detached.get(slot) : undefined;
    if (detached !== undefined) return libc.tcpInfo(detached, info);
    const fd = this.#install(this.#table.indexOf[slot]!);
    if (fd < 0) return fd;
    const bytes = libc.tcpInfo(fd, info);
    libc.close(fd);
    return bytes;
  }

  setKeepalive(slot: number, isOn: boolean): void {
    const index = this.#table.indexOf[slot]!;
    if (index >= 0 && !this.#isEnded) this.#requests.setKeepalive(index, isOn);
  }

  detach(slot: number): number {
    const index = this.#table.indexOf[slot]!;
    const fd = this.#install(index);
    if (fd < 0) return fd;
    this.#kernel.setNonBlocking(fd);
    this.#letGo(index, false);
    this.#set.of(index).submit(0, 0);
    this.#table.indexOf[slot] = DETACHED;
    this.#detached.set(slot, fd);
    return fd;
  }

  // ---- turns ----

  turn(waitMs: number): boolean {
    if (this.#isEnded) return false;
    this.#submit();
    if (waitMs > 0 && !this.#isReady()) this.#set.wait(waitMs);
    this.#set.sample();
    this.#cursor = 0;
    this.#hasReceived = false;
    this.#chunklessLeft = this.#chunkless.size;
    return this.#isReady();
  }

  #submit(): void {
    this.#flushSends();
    this.#cancelAgain();
    this.#set.submit();
  }

  flush(): void {
    if (this.#isEnded) return;
    this.#flushSends();
    this.#set.submitQueued();
  }

  readonly #isReady = (): boolean => {
    if (this.#readable.size > 0 || (this.#chunkless.size > 0 && this.#chunks.hasFree)) return true;
    return this.#set.hasAny;
  };

  next(): DriverEvent {
    for (;;) {
      while (this.#cursor < this.#set.rings.length) {
        const ring = this.#set.rings[this.#cursor]!;
        const at = ring.take();
        if (at < 0) {
          this.#cursor++;
          continue;
        }
        const event = this.#complete(ring, at);
        if (event !== DriverEvent.none) return event;
      }
      while (this.#chunklessLeft > 0) {
        this.#chunklessLeft--;
        if (this.#offerChunk(this.#chunkless.shift())) return DriverEvent.writable;
      }
      if (this.#hasReceived || this.#readable.size === 0) return DriverEvent.none;
      this.#hasReceived = true;
      this.#receiveAll();
    }
  }

  /** Asks for what all readable connections have, as many as there are cells. */
  #receiveAll(): void {
    for (let left = this.#readable.size; left > 0 && this.#freeCellCount > 0; left--) {
      const index = this.#readable.shift();
      const flags = this.#table.flags[index]!;
      if (this.#table.state[index] !== State.open) continue;
      if ((flags & Bit.receiving) !== 0) {
        this.#readable.push(index);
        continue;
      }
      this.#table.flags[index] = flags | Bit.receiving | (this.#table.endErrno[index] === 0 ? 0 : Bit.isLast);
      const cell = this.#freeCells[--this.#freeCellCount]!;
      this.#cellGeneration[cell] = this.#table.generation[index]!;
      this.#requests.receive(index, cell, this.#cellsAddress + cell * CELL_BYTES, CELL_BYTES);
    }
    this.#set.submitQueued();
    this.#set.sample();
    this.#cursor = 0;
  }

  #flushSends(): void {
    for (let chunk = this.#chunks.nextWaiting(); chunk >= 0; chunk = this.#chunks.nextWaiting()) {
      const index = this.#chunks.owner(chunk);
      this.#table.chunkOf[index] = NONE;
      this.#table.flags[index]! |= Bit.sending;
      this.#requests.send(index, chunk, this.#chunks.address(chunk), this.#chunks.length(chunk));
    }
  }

  #cancelAgain(): void {
    for (let left = this.#uncancelled.size; left > 0; left--) {
      const index = this.#uncancelled.shift();
      if (this.#table.state[index] !== State.abandoned) continue;
      this.#requests.cancelConnect(index, this.#table.generation[index]!);
    }
  }

  // ---- completions ----

  #complete(ring: Ring, at: number): DriverEvent {
    const words = ring.completions;
    const low = words[at + Cqe.USER_LOW]!;
    const index = words[at + Cqe.USER_HIGH]!;
    const result = words[at + Cqe.RES]!;
    const flags = words[at + Cqe.FLAGS]!;
    const kind = kindOf(low);
    const tag = tagOf(low);
    switch (kind) {
      case Kind.none:
        return DriverEvent.none;
      case Kind.receive:
        return this.#received(index, tag, result);
      case Kind.send:
        return this.#sent(index, tag, result);
      case Kind.install:
        if (result >= 0) libc.close(result);
        return DriverEvent.none;
    }
    if (tag !== this.#table.generation[index]) return DriverEvent.none;
    switch (kind) {
      case Kind.connect:
        return this.#chainDone(index, OpenStep.connect, result);
      case Kind.poll:
        return this.#polled(index, result, (flags & CQE_MORE) !== 0);
      case Kind.writePoll:
        return this.#writePolled(index, result);
      case Kind.cancel:
        if (this.#table.state[index] === State.abandoned) this.#uncancelled.push(index);
        return DriverEvent.none;
      default:
        return result < 0 ? this.#chainDone(index, kind as OpenStep, result) : DriverEvent.none;
    }
  }

  #say(event: DriverEvent, index: number, value: number): DriverEvent {
    this.slot = this.#table.slotOf[index]!;
    this.value = value;
    return event;
  }

  /** The chain of an open has ended, at its last step or before. */
  #chainDone(index: number, step: OpenStep, result: number): DriverEvent {
    const state = this.#table.state[index];
    // A chain that the kernel would not begin tells of each of its steps; the first counts.
    if (state !== State.opening && state !== State.abandoned) return DriverEvent.none;
    // Perhaps its place is empty: then the close answers EBADF, which is ignored.
    if (step !== OpenStep.socket) this.#table.flags[index]! |= Bit.socket;
    if (state === State.abandoned) {
      this.#letGo(index, result === 0);
      return DriverEvent.none;
    }
    if (result < 0) return this.#openFailed(index, step, -result);
    this.#table.state[index] = State.open;
    this.#watch(index);
    return this.#say(DriverEvent.connected, index, 0);
  }

  #openFailed(index: number, step: OpenStep, errno: number): DriverEvent {
    const isOfSocket = isUnplaced(step, -errno);
    this.#table.state[index] = State.broken;
    this.step = isOfSocket ? OpenStep.socket : step;
    return this.#say(DriverEvent.failed, index, isOfSocket ? libc.Errno.ENOMEM : errno);
  }

  #watch(index: number): void {
    this.#table.flags[index]! |= Bit.watched;
    this.#requests.watch(index, this.#table.generation[index]!);
  }

  #polled(index: number, result: number, goesOn: boolean): DriverEvent {
    if (!goesOn) this.#table.flags[index]! &= ~Bit.watched;
    if (this.#table.state[index] !== State.open) return DriverEvent.none;
    if (result < 0) return this.#broken(index, -result);
    if ((result & ENDING) !== 0) this.#table.flags[index]! |= Bit.ending;
    this.#readable.push(index);
    // The kernel ends a watch whose event it has to keep because the completions are full (io_poll_check_events).
    if (!goesOn) this.#watch(index);
    return DriverEvent.none;
  }

  #ended(index: number, errno: number): DriverEvent {
    this.#table.state[index] = State.ended;
    return this.#say(DriverEvent.ended, index, errno);
  }

  /**
   * A receive that leaves room has emptied the socket, as with epoll (epoll(7)), unless the end was announced: then only
   * one that brings the end is the last.
   */
  #received(index: number, cell: number, result: number): DriverEvent {
    // Its bytes are looked at before the next receive is asked for.
    this.#freeCells[this.#freeCellCount++] = cell;
    if (this.#cellGeneration[cell] !== this.#table.generation[index]) return DriverEvent.none;
    if (this.#table.state[index] !== State.open) return DriverEvent.none;
    const flags = this.#table.flags[index]!;
    this.#table.flags[index] = flags & ~(Bit.receiving | Bit.isLast);
    if (result > 0) {
      if (result === CELL_BYTES || (flags & Bit.ending) !== 0) this.#readable.push(index);
      this.bytes = this.#cells[cell]!;
      return this.#say(DriverEvent.bytes, index, result);
    }
    const isEmpty = result === -libc.Errno.EAGAIN;
    if (result === -libc.Errno.EINTR) this.#readable.push(index);
    if (result === -libc.Errno.EINTR || (isEmpty && (flags & Bit.isLast) === 0)) return DriverEvent.none;
    return this.#ended(index, this.#table.endErrno[index]! || 0 - result);
  }

  #sent(index: number, chunk: number, result: number): DriverEvent {
    const isOurs =
      this.#chunks.generation(chunk) === this.#table.generation[index] &&
      this.#table.state[index] === State.open;
    if (result > 0) this.bytesSent += result;
    const isTaken = result === this.#chunks.length(chunk);
    if (isOurs && !isTaken) this.#sentShort(index, chunk, result);
    this.#chunks.release(chunk);
    return isOurs && isTaken ? this.#sendDone(index) : DriverEvent.none;
  }

  #sendDone(index: number): DriverEvent {
    const flags = this.#table.flags[index]!;
    this.#table.flags[index] = flags & ~(Bit.sending | Bit.wantsWritable);
    return (flags & Bit.wantsWritable) === 0 ? DriverEvent.none : this.#say(DriverEvent.writable, index, 0);
  }

  #sentShort(index: number, chunk: number, result: number): void {
    if (result >= 0 || result === -libc.Errno.EAGAIN || result === -libc.Errno.EINTR) {
      this.#chunks.keep(chunk, Math.max(0, result));
      this.#watchWritable(index);
      return;
    }
    this.#broken(index, -result);
  }

  /**
   * The connection is no good, but what came before is still to be read. A receive would not tell why: the error is gone
   * from the socket with the send that met it.
   */
  #broken(index: number, errno: number): DriverEvent {
    if (this.#table.endErrno[index] === 0) this.#table.endErrno[index] = errno;
    this.#table.flags[index]! |= Bit.ending;
    this.#readable.push(index);
    return DriverEvent.none;
  }

  #watchWritable(index: number): void {
    this.#table.flags[index]! |= Bit.watchedWritable;
    this.#requests.watchWritable(index, this.#table.generation[index]!);
  }

  #writePolled(index: number, result: number): DriverEvent {
    this.#table.flags[index]! &= ~Bit.watchedWritable;
    if (this.#table.state[index] !== State.open) return DriverEvent.none;
    if (result < 0) return this.#broken(index, -result);
    // Remembered like one that still grows, so that a close finds it; `sending` keeps it from growing.
    if (this.#chunks.hasFree)
      this.#table.chunkOf[index] = this.#chunks.again(index, this.#table.generation[index]!);
    else this.#watchWritable(index);
    return DriverEvent.none;
  }

  /** Whether one that found no free chunk is to try again. */
  #offerChunk(index: number): boolean {
    if (this.#table.state[index] !== State.open || (this.#table.flags[index]! & Bit.wantsWritable) === 0)
      return false;
    if (!this.#chunks.hasFree) {
      this.#chunkless.push(index);
      return false;
    }
    this.#table.flags[index]! &= ~Bit.wantsWritable;
    this.#say(DriverEvent.writable, index, 0);
    return true;
  }

  // ---- waiting ----

  park(waitMs: number, done: () => void): void {
    this.#submit();
    this.#set.park(waitMs, this.#isReady, () => {
      if (!this.#isEnded) done();
    });
  }

  wake(): void {
    this.#set.wake();
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#set.end();
    for (const memory of this.#memory.splice(0)) this.#kernel.unmap(memory);
  }
}
