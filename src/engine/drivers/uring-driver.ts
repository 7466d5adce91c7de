/**
 * Owns connections through io_uring: direct descriptors, which take no number of RLIMIT_NOFILE, in as many rings as its
 * value asks for. Must never say anything of a connection after its close().
 *
 * A connection has an index over all rings: index / perRing is its ring, the rest its place in that ring's table. An
 * index is taken by open() and given back when nothing of its chain of requests is on the way, which may be after
 * close(): so there are more indices than slots. With an index goes a generation, because a completion may be read after
 * the index was given back: what carries an old generation is nobody's.
 *
 *   free -> opening -> open -> ended -> free        close() leads to free from each, from `opening` through `abandoned`
 *              '----> broken -------------^
 *
 * One turn: what was begun is submitted and what has happened is made completions in one call for each ring that has
 * something to do; then, as next() comes to it, all that is readable is received in a second call.
 */
import assert from 'node:assert/strict';
import * as libc from '../libc.ts';
import { Poller } from '../poller.ts';
import { type CloseHow, type Driver, DriverEvent, type DriverOptions, OpenStep } from './driver.ts';
import { IndexQueue } from './index-queue.ts';
import { CHUNK_BYTES, CHUNKS, SendChunks } from './send-chunks.ts';
import { CQE_MORE, Cqe, type MappedMemory, type UringKernel, uringKernel } from './uring-binding.ts';
import { CLOSE_REQUESTS, Kind, kindOf, tagOf, UringRequests } from './uring-requests.ts';
import { Ring, RingError } from './uring-ring.ts';

/** Requests of one ring between two calls; 64 KB. */
const SUBMISSIONS = 1_024;
/** From 8,192 on the kernel's table of watches is as large as it gets (hash_bits in io_uring.c); 128 KB. */
const COMPLETIONS = 8_192;
/** Indices beyond the slots, for opens that are given up: as many as may be on the way at once. */
const SPARE_INDICES = 1_024;
/** IORING_MAX_FIXED_FILES in io_uring/rsrc.c */
const FILES_PER_RING_MAX = 1 << 20;
/** Calls for one ring in one turn: enough to keep up in a ramp, few enough to yield to Node's loop often. */
const CALLS_PER_TURN = 32;
const WAITED = Number(process.env.WAITED ?? 0);
/** Connections that are received from in one turn, and bytes from each: a target that floods must not starve others. */
const CELLS = 256;
const CELL_BYTES = 4_096;
/** The eventfd of the rings, in the poller; never a connection. */
const RINGS_TOKEN = 1;

/** Where an index is in its life. */
const State = {
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
} as const;

/** Bits of `#flags`. */
const Bit = {
  /** there is a socket in the table */
  socket: 1,
  watched: 2,
  watchedWritable: 4,
  /** a chunk is on its way or its rest is kept: the socket takes no other */
  sending: 8,
  /** the engine was told that it was too much: `writable` follows */
  wantsWritable: 16,
  /** the end of the stream was announced, which only a further receive tells */
  ending: 32,
} as const;

const ENDING = libc.EPOLLRDHUP | libc.EPOLLERR | libc.EPOLLHUP;
const NONE = -1;
const DETACHED = -2;

/** Sizes, and a kernel, other than the usual ones: for tests. */
export interface UringSizes {
  readonly kernel?: UringKernel;
  readonly submissions?: number;
  readonly completions?: number;
  /** direct descriptors of one ring; RLIMIT_NOFILE otherwise */
  readonly filesPerRing?: number;
}

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
  readonly #rings: Ring[] = [];
  readonly #requests: UringRequests;
  readonly #chunks: SendChunks;
  readonly #memory: MappedMemory[] = [];
  readonly #poller = new Poller();
  readonly #eventFd: number;
  readonly #perRing: number;
  /** chains on the way, by ring */
  readonly #openings: Int32Array;

  readonly #indexOf: Int32Array;
  readonly #slotOf: Int32Array;
  readonly #state: Uint8Array;
  readonly #flags: Uint8Array;
  readonly #generation: Uint16Array;
  /** errno that a send has told; the receive after it only knows the end */
  readonly #endErrno: Uint8Array;
  /** the chunk that still grows */
  readonly #chunkOf: Int16Array;
  readonly #freeIndices: Int32Array;
  #freeCount = 0;

  readonly #readable: IndexQueue;
  /** those that wait for a free chunk */
  readonly #chunkless: IndexQueue;
  /** those whose CONNECT was not found when it was to be cancelled */
  readonly #uncancelled: IndexQueue;
  readonly #cells: readonly Uint8Array[];
  readonly #cellsAddress: number;
  readonly #cellGeneration = new Uint16Array(CELLS);
  readonly #detached = new Map<number, number>();

  /** the ring whose completions next() reads */
  #cursor = 0;
  #hasReceived = false;
  #chunklessLeft = 0;
  #isEnded = false;

  /** @throws RingError when the kernel refuses */
  constructor(options: DriverOptions, sizes: UringSizes = {}) {
    const { capacity, sources, endpoints } = options;
    assert(capacity >= 1, `capacity ${capacity}`);
    this.capacity = capacity;
    this.#kernel = sizes.kernel ?? uringKernel;
    const submissions = sizes.submissions ?? SUBMISSIONS;
    const limit = sizes.filesPerRing ?? Math.min(libc.descriptorsMax(), FILES_PER_RING_MAX);
    const rings = Math.ceil((capacity + SPARE_INDICES) / limit);
    this.#perRing = Math.ceil((capacity + SPARE_INDICES) / rings);
    const indices = rings * this.#perRing;
    this.#eventFd = libc.eventfd();
    assert(this.#eventFd >= 0, `eventfd failed with errno ${-this.#eventFd}`);
    try {
      for (let ring = 0; ring < rings; ring++) {
        const completions = sizes.completions ?? COMPLETIONS;
        const files = this.#perRing;
        this.#rings.push(new Ring(this.#kernel, { submissions, completions, files, eventFd: this.#eventFd }));
      }
      this.#requests = new UringRequests(this.#kernel, submissions, sources, endpoints, rings);
      this.#memory.push(this.#requests.memory);
      this.#chunks = new SendChunks(this.#map(CHUNKS * CHUNK_BYTES));
      const cells = this.#map(CELLS * CELL_BYTES);
      this.#cellsAddress = cells.address;
      this.#cells = Array.from(
        { length: CELLS },
        (_, cell) => new Uint8Array(cells.buffer, cell * CELL_BYTES, CELL_BYTES),
      );
      const edges = libc.EPOLLIN | libc.EPOLLET;
      assert(this.#poller.add(this.#eventFd, edges, RINGS_TOKEN) === 0, 'the rings must be watchable');
    } catch (error) {
      this.end();
      throw error;
    }
    this.bytes = this.#cells[0]!;
    this.#openings = new Int32Array(rings);
    this.#indexOf = new Int32Array(capacity).fill(NONE);
    this.#slotOf = new Int32Array(indices).fill(NONE);
    this.#state = new Uint8Array(indices);
    this.#flags = new Uint8Array(indices);
    this.#generation = new Uint16Array(indices);
    this.#endErrno = new Uint8Array(indices);
    this.#chunkOf = new Int16Array(indices).fill(NONE);
    this.#freeIndices = new Int32Array(indices);
    // The lowest is taken first, so that a ramp fills one ring after the other.
    for (let index = indices - 1; index >= 0; index--) this.#freeIndices[this.#freeCount++] = index;
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

  /** Rings, for those who want to know. */
  get rings(): number {
    return this.#rings.length;
  }

  /** Indices that are not free: connections, and opens that were given up and are not gone yet. */
  get indicesUsed(): number {
    return this.#slotOf.length - this.#freeCount;
  }

  #ringOf(index: number): Ring {
    return this.#rings[(index / this.#perRing) | 0]!;
  }

  #fileOf(index: number): number {
    return index % this.#perRing;
  }

  // ---- what the engine wants ----

  open(slot: number, source: number, port: number, endpoint: number): boolean {
    assert(this.#indexOf[slot] === NONE, 'a slot is opened once');
    if (this.#freeCount === 0 || this.#isEnded) return false;
    const index = this.#freeIndices[--this.#freeCount]!;
    this.#indexOf[slot] = index;
    this.#slotOf[index] = slot;
    this.#state[index] = State.opening;
    this.#flags[index] = 0;
    this.#endErrno[index] = 0;
    const ring = this.#ringOf(index);
    this.#requests.open(ring, this.#fileOf(index), index, this.#generation[index]!, source, port, endpoint);
    this.#openings[(index / this.#perRing) | 0]!++;
    return true;
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const index = this.#indexOf[slot]!;
    if (index < 0 || this.#state[index] !== State.open || this.#isEnded) return 0;
    let taken = 0;
    if ((this.#flags[index]! & Bit.sending) === 0) {
      let chunk = this.#chunkOf[index]!;
      if (chunk < 0 && this.#chunks.hasFree) {
        chunk = this.#chunks.take(index, this.#generation[index]!);
        this.#chunkOf[index] = chunk;
      }
      if (chunk < 0) this.#chunkless.push(index);
      else taken = this.#chunks.append(chunk, buffer, length);
    }
    if (taken < length) this.#flags[index]! |= Bit.wantsWritable;
    return taken;
  }

  close(slot: number, how: CloseHow): void {
    const index = this.#indexOf[slot]!;
    assert(index !== NONE, 'a slot is closed once');
    this.#indexOf[slot] = NONE;
    if (index === DETACHED) {
      this.#detached.delete(slot);
      return;
    }
    this.#slotOf[index] = NONE;
    if (this.#isEnded) return;
    if (this.#state[index] === State.opening) {
      this.#state[index] = State.abandoned;
      this.#requests.cancelConnect(this.#ringOf(index), index, this.#generation[index]!);
      return;
    }
    const chunk = this.#chunkOf[index]!;
    if (chunk >= 0 && how === 'fin') this.#flushSends();
    else if (chunk >= 0) this.#chunks.forget(chunk);
    this.#letGo(index, how === 'rst' && this.#state[index] !== State.broken);
  }

  /** Closes the socket of an index whose chain is done, and gives the index back. */
  #letGo(index: number, isReset: boolean): void {
    const flags = this.#flags[index]!;
    if ((flags & Bit.socket) !== 0) {
      const ring = this.#ringOf(index);
      const file = this.#fileOf(index);
      const generation = this.#generation[index]!;
      ring.reserve(CLOSE_REQUESTS);
      if (isReset) this.#requests.reset(ring, file, index);
      this.#requests.close(ring, file, index);
      if ((flags & Bit.watched) !== 0) this.#requests.unwatch(ring, Kind.poll, index, generation);
      if ((flags & Bit.watchedWritable) !== 0)
        this.#requests.unwatch(ring, Kind.writePoll, index, generation);
    }
    this.#chunks.drop(index);
    this.#chunkOf[index] = NONE;
    this.#state[index] = State.free;
    this.#flags[index] = 0;
    this.#slotOf[index] = NONE;
    this.#generation[index]!++;
    this.#freeIndices[this.#freeCount++] = index;
  }

  /** A common descriptor of the slot's socket, or -errno; in one call, whatever else is on the way. */
  #install(index: number): number {
    if (index < 0 || this.#isEnded) return -libc.Errno.EBADF;
    const ring = this.#ringOf(index);
    this.#requests.install(ring, this.#fileOf(index), index);
    ring.submit(0, 0);
    // Not found: the completions overflow. When it comes, #complete closes what it brings.
    return ring.takeOutOfTurn(Kind.install, index) ?? -libc.Errno.EBUSY;
  }

  tcpInfo(slot: number, info: Uint8Array): number {
    const detached = this.#indexOf[slot] === DETACHED ? this.#detached.get(slot) : undefined;
    if (detached !== undefined) return libc.tcpInfo(detached, info);
    const fd = this.#install(this.#indexOf[slot]!);
    if (fd < 0) return fd;
    const bytes = libc.tcpInfo(fd, info);
    libc.close(fd);
    return bytes;
  }

  detach(slot: number): number {
    const index = this.#indexOf[slot]!;
    const fd = this.#install(index);
    if (fd < 0) return fd;
    this.#kernel.setNonBlocking(fd);
    this.#letGo(index, false);
    this.#ringOf(index).submit(0, 0);
    this.#indexOf[slot] = DETACHED;
    this.#detached.set(slot, fd);
    return fd;
  }

  // ---- turns ----

  turn(waitMs: number): boolean {
    if (this.#isEnded) return false;
    this.#flushSends();
    this.#cancelAgain();
    this.#submitAll();
    if (!this.#isReady() && waitMs > 0) {
      if (this.#rings.length === 1) this.#rings[0]!.submit(1, waitMs);
      else if (this.#poller.wait(waitMs) > 0) this.#submitAll();
    }
    for (const ring of this.#rings) ring.sample();
    this.#cursor = 0;
    this.#hasReceived = false;
    this.#chunklessLeft = this.#chunkless.size;
    return this.#isReady();
  }

  /** Gives each ring what it is to do, and takes what it has done. */
  #submitAll(): void {
    for (let number = 0; number < this.#rings.length; number++) {
      const ring = this.#rings[number]!;
      // One call does some 20 pieces of work, and each link of a chain is one (IO_LOCAL_TW_DEFAULT_MAX in io_uring/tw.h).
      for (let calls = 0; calls < CALLS_PER_TURN && (ring.queued > 0 || ring.hasWork); calls++)
        ring.submit(WAITED, 0);
    }
  }

  #isReady(): boolean {
    if (this.#readable.size > 0) return true;
    if (this.#chunkless.size > 0 && this.#chunks.hasFree) return true;
    for (const ring of this.#rings) if (ring.hasCompletions || ring.hasWork) return true;
    return false;
  }

  next(): DriverEvent {
    for (;;) {
      while (this.#cursor < this.#rings.length) {
        const ring = this.#rings[this.#cursor]!;
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
    for (let cell = 0; cell < CELLS; cell++) {
      const index = this.#readable.shift();
      if (index < 0) break;
      if (this.#state[index] !== State.open) continue;
      this.#cellGeneration[cell] = this.#generation[index]!;
      const address = this.#cellsAddress + cell * CELL_BYTES;
      this.#requests.receive(this.#ringOf(index), this.#fileOf(index), index, cell, address, CELL_BYTES);
    }
    for (const ring of this.#rings) {
      if (ring.queued > 0) ring.submit(0, 0);
      ring.sample();
    }
    this.#cursor = 0;
  }

  #flushSends(): void {
    for (let chunk = this.#chunks.nextWaiting(); chunk >= 0; chunk = this.#chunks.nextWaiting()) {
      const index = this.#chunks.owner(chunk);
      this.#chunkOf[index] = NONE;
      this.#flags[index]! |= Bit.sending;
      this.#requests.send(
        this.#ringOf(index),
        this.#fileOf(index),
        index,
        chunk,
        this.#chunks.address(chunk),
        this.#chunks.length(chunk),
      );
    }
  }

  #cancelAgain(): void {
    for (let left = this.#uncancelled.size; left > 0; left--) {
      const index = this.#uncancelled.shift();
      if (this.#state[index] !== State.abandoned) continue;
      this.#requests.cancelConnect(this.#ringOf(index), index, this.#generation[index]!);
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
    if (tag !== this.#generation[index]) return DriverEvent.none;
    switch (kind) {
      case Kind.connect:
        return this.#chainDone(index, OpenStep.connect, result);
      case Kind.poll:
        return this.#polled(index, result, (flags & CQE_MORE) !== 0);
      case Kind.writePoll:
        return this.#writePolled(index, result);
      case Kind.cancel:
        if (this.#state[index] === State.abandoned) this.#uncancelled.push(index);
        return DriverEvent.none;
      default:
        return result < 0 ? this.#chainDone(index, kind as OpenStep, result) : DriverEvent.none;
    }
  }

  #say(event: DriverEvent, index: number, value: number): DriverEvent {
    this.slot = this.#slotOf[index]!;
    this.value = value;
    return event;
  }

  /** The chain of an open has ended, at its last step or before. */
  #chainDone(index: number, step: OpenStep, result: number): DriverEvent {
    const state = this.#state[index];
    // A chain that the kernel would not begin tells of each of its steps; the first counts.
    if (state !== State.opening && state !== State.abandoned) return DriverEvent.none;
    this.#openings[(index / this.#perRing) | 0]!--;
    if (step !== OpenStep.socket) this.#flags[index]! |= Bit.socket;
    if (state === State.abandoned) {
      this.#letGo(index, result === 0);
      return DriverEvent.none;
    }
    if (result < 0) {
      this.#state[index] = State.broken;
      this.step = step;
      return this.#say(DriverEvent.failed, index, -result);
    }
    this.#state[index] = State.open;
    this.#watch(index);
    return this.#say(DriverEvent.connected, index, 0);
  }

  #watch(index: number): void {
    this.#flags[index]! |= Bit.watched;
    this.#requests.watch(this.#ringOf(index), this.#fileOf(index), index, this.#generation[index]!);
  }

  #polled(index: number, result: number, goesOn: boolean): DriverEvent {
    if (!goesOn) this.#flags[index]! &= ~Bit.watched;
    if (this.#state[index] !== State.open) return DriverEvent.none;
    if (result < 0) return this.#ended(index, -result);
    if ((result & ENDING) !== 0) this.#flags[index]! |= Bit.ending;
    this.#readable.push(index);
    // The kernel ends a watch whose event it has to keep because the completions are full (io_poll_check_events).
    if (!goesOn) this.#watch(index);
    return DriverEvent.none;
  }

  #ended(index: number, errno: number): DriverEvent {
    this.#state[index] = State.ended;
    return this.#say(DriverEvent.ended, index, errno);
  }

  /**
   * A receive that leaves room has emptied the socket, as with epoll (epoll(7)), unless the end was announced: then only
   * one that brings the end is the last.
   */
  #received(index: number, cell: number, result: number): DriverEvent {
    if (this.#cellGeneration[cell] !== this.#generation[index]) return DriverEvent.none;
    if (this.#state[index] !== State.open) return DriverEvent.none;
    if (result > 0) {
      if (result === CELL_BYTES || (this.#flags[index]! & Bit.ending) !== 0) this.#readable.push(index);
      this.bytes = this.#cells[cell]!;
      return this.#say(DriverEvent.bytes, index, result);
    }
    if (result === -libc.Errno.EINTR) this.#readable.push(index);
    const errno = this.#endErrno[index]!;
    const isOver = result === 0 || errno !== 0;
    if (isOver) return this.#ended(index, errno);
    if (result === -libc.Errno.EAGAIN || result === -libc.Errno.EINTR) return DriverEvent.none;
    return this.#ended(index, -result);
  }

  #sent(index: number, chunk: number, result: number): DriverEvent {
    const isOurs =
      this.#chunks.generation(chunk) === this.#generation[index] && this.#state[index] === State.open;
    if (result > 0) this.bytesSent += result;
    const isTaken = result === this.#chunks.length(chunk);
    if (isOurs && !isTaken) this.#sentShort(index, chunk, result);
    this.#chunks.release(chunk);
    return isOurs && isTaken ? this.#sendDone(index) : DriverEvent.none;
  }

  #sendDone(index: number): DriverEvent {
    const flags = this.#flags[index]!;
    this.#flags[index] = flags & ~(Bit.sending | Bit.wantsWritable);
    return (flags & Bit.wantsWritable) === 0 ? DriverEvent.none : this.#say(DriverEvent.writable, index, 0);
  }

  #sentShort(index: number, chunk: number, result: number): void {
    if (result >= 0 || result === -libc.Errno.EAGAIN || result === -libc.Errno.EINTR) {
      this.#chunks.keep(chunk, Math.max(0, result));
      this.#watchWritable(index);
      return;
    }
    // The error is gone from the socket with the send that told it; what came before it is still to be read.
    this.#endErrno[index] = -result;
    this.#readable.push(index);
  }

  #watchWritable(index: number): void {
    this.#flags[index]! |= Bit.watchedWritable;
    this.#requests.watchWritable(this.#ringOf(index), this.#fileOf(index), index, this.#generation[index]!);
  }

  #writePolled(index: number, result: number): DriverEvent {
    this.#flags[index]! &= ~Bit.watchedWritable;
    if (this.#state[index] !== State.open) return DriverEvent.none;
    if (result < 0) return this.#ended(index, -result);
    if (this.#chunks.hasFree) this.#chunks.again(index, this.#generation[index]!);
    else this.#watchWritable(index);
    return DriverEvent.none;
  }

  /** Whether one that found no free chunk is to try again. */
  #offerChunk(index: number): boolean {
    if (this.#state[index] !== State.open || (this.#flags[index]! & Bit.wantsWritable) === 0) return false;
    if (!this.#chunks.hasFree) {
      this.#chunkless.push(index);
      return false;
    }
    this.#flags[index]! &= ~Bit.wantsWritable;
    this.#say(DriverEvent.writable, index, 0);
    return true;
  }

  // ---- waiting ----

  park(waitMs: number, done: () => void): void {
    this.#flushSends();
    this.#cancelAgain();
    this.#submitAll();
    // Signals of the rings so far are taken first, so that none after the look at the rings is missed.
    this.#poller.wait(0);
    const isReady = this.#isReady();
    this.#poller.waitAsync(isReady ? 0 : waitMs, () => {
      if (!this.#isEnded) done();
    });
  }

  wake(): void {
    this.#poller.wake();
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const ring of this.#rings.splice(0)) ring.end();
    for (const memory of this.#memory.splice(0)) this.#kernel.unmap(memory);
    this.#poller.close();
    libc.close(this.#eventFd);
  }
}
