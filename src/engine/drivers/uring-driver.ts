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
import { Cells } from './cells.ts';
import { type CloseHow, type Driver, DriverEvent, type DriverOptions, OpenStep } from './driver.ts';
import { IndexQueue } from './index-queue.ts';
import { IndexFlag as Bit, DETACHED, IndexTable, NONE, IndexState as State } from './index-table.ts';
import { RingSet, ringsFor, type UringSizes } from './ring-set.ts';
import { CHUNK_BYTES, CHUNKS, SendChunks } from './send-chunks.ts';
import { CQE_MORE, Cqe, type MappedMemory, type UringKernel, uringKernel } from './uring-binding.ts';
import { INPUT_EVENTS, isUnplaced, Kind, kindOf, tagOf, UringRequests } from './uring-requests.ts';
import { type Ring, RingError } from './uring-ring.ts';
import { UringSends, WRITABLE } from './uring-sends.ts';

/** Connections that are received from in one turn (at most 256: they are numbered by a byte), and bytes from each: a target that floods must not starve others. */
const CELLS = 256;
const CELL_BYTES = 4_096;

/**
 * Opens that are submitted together. The kernel does one step of all their chains before the next step of any: of many sockets at a time,
 * what a step needs of each has left the cache since the last one.
 */
const OPENS_TOGETHER = 8;

const ENDING = libc.EPOLLRDHUP | libc.EPOLLERR | libc.EPOLLHUP;

/** The driver. Only its constructor allocates, `park`, and `detach`. */
export class UringDriver implements Driver {
  readonly name = 'uring';
  readonly capacity: number;
  slot = NONE;
  value = 0;
  step: OpenStep = OpenStep.socket;
  bytes: Uint8Array;

  readonly #kernel: UringKernel;
  readonly #set: RingSet;
  readonly #requests: UringRequests;
  readonly #sends: UringSends;
  readonly #memory: MappedMemory[] = [];
  readonly #table: IndexTable;
  readonly #readable: IndexQueue;
  /** opens that were given up, and of which nothing was found when it was to be cancelled */
  readonly #uncancelled: IndexQueue;
  /** a receive brings its bytes there; a completion may come a turn later, when they overflow */
  readonly #cells: Cells;
  readonly #cellGeneration = new Uint16Array(CELLS);
  readonly #detached = new Map<number, number>();

  #cursor = 0; // the ring whose completions next() reads
  #hasReceived = false;
  #opensQueued = 0;
  #isEnded = false;
  #canHear = true;

  /** @throws RingError when the kernel refuses */
  constructor(options: DriverOptions, sizes: UringSizes & { readonly kernel?: UringKernel } = {}) {
    const { capacity, sources, endpoints } = options;
    assert(capacity >= 1, `capacity ${capacity}`);
    this.capacity = capacity;
    this.#kernel = sizes.kernel ?? uringKernel;
    this.#set = new RingSet(this.#kernel, ringsFor(capacity, sizes));
    const { indices } = this.#set;
    let chunks: SendChunks;
    try {
      this.#requests = new UringRequests(this.#kernel, this.#set, sources, endpoints);
      this.#memory.push(this.#requests.memory);
      chunks = new SendChunks(this.#map(CHUNKS * CHUNK_BYTES));
      this.#cells = new Cells(this.#kernel, CELLS, CELL_BYTES);
    } catch (error) {
      this.end();
      throw error;
    }
    this.bytes = this.#cells.bytes(0);
    this.#table = new IndexTable(capacity, indices);
    this.#readable = new IndexQueue(indices);
    this.#sends = new UringSends(this.#table, this.#requests, chunks, indices);
    this.#uncancelled = new IndexQueue(indices);
  }

  #map(bytes: number): MappedMemory {
    const memory = this.#kernel.map(bytes, -1, 0);
    if (typeof memory === 'number') throw new RingError('map', -memory);
    this.#memory.push(memory);
    return memory;
  }

  get bytesSent(): number {
    return this.#sends.bytesSent;
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
    if (++this.#opensQueued >= OPENS_TOGETHER) {
      this.#opensQueued = 0;
      this.#set.submitOf(index);
    }
    return true;
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const index = this.#table.indexOf[slot]!;
    if (index < 0 || this.#table.state[index] !== State.open || this.#isEnded) return 0;
    return this.#sends.send(index, buffer, length);
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
      this.#requests.cancelOpen(index, this.#table.generation[index]!);
      return;
    }
    // A goodbye goes out first, whichever way it is closed.
    if (this.#table.chunkOf[index]! >= 0) this.#sends.flush();
    this.#letGo(index, how === 'rst' && this.#table.state[index] !== State.broken);
  }

  get isDrained(): boolean {
    // Work that is left may be the end of a watch, and with it of its socket.
    return this.#table.used === 0 && this.#sends.isIdle && this.#set.queued === 0 && !this.#set.hasAny;
  }

  /** Closes the socket of an index whose chain is done, and gives the index back. */
  #letGo(index: number, isReset: boolean): void {
    const flags = this.#table.flags[index]!;
    if ((flags & Bit.socket) !== 0) {
      const isWatched = (flags & Bit.watched) !== 0;
      const isWatchedWritable = (flags & Bit.watchedWritable) !== 0;
      this.#requests.close(index, this.#table.generation[index]!, isReset, isWatched, isWatchedWritable);
    }
    this.#sends.drop(index);
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
    if (!this.#isEnded) this.#requests.setKeepalive(this.#table.indexOf[slot]!, isOn);
  }

  probeWindow(slot: number): void {
    if (!this.#isEnded) this.#requests.probeWindow(this.#table.indexOf[slot]!);
  }

  beginHearing(slot: number): void {
    if (!this.#isEnded) this.#requests.beginHearing(this.#table.indexOf[slot]!);
  }

  hasHeard(slots: Int32Array, count: number, isHeard: Uint8Array): boolean {
    if (!this.#canHear || this.#isEnded) return false;
    return this.#requests.hasHeard(this.#table.indexOf, slots, count, isHeard);
  }

  readonly hasMore = (): boolean => this.#readable.size > 0 || this.#sends.canOffer || this.#set.hasAny;

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
    if (waitMs > 0 && !this.hasMore()) this.#set.wait(waitMs);
    this.#set.sample();
    this.#cursor = 0;
    this.#hasReceived = false;
    this.#sends.turn();
    return this.hasMore();
  }

  #submit(): void {
    this.#sends.flush();
    this.#cancelAgain();
    this.#set.submit();
  }

  flush(): void {
    if (this.#isEnded) return;
    this.#sends.flush();
    this.#set.submitQueued();
  }

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
      const writable = this.#sends.nextWritable();
      if (writable >= 0) return this.#say(DriverEvent.writable, writable, 0);
      if (this.#hasReceived || this.#readable.size === 0) return DriverEvent.none;
      this.#hasReceived = true;
      this.#receiveAll();
    }
  }

  /** Asks for what all readable connections have, as many as there are cells. */
  #receiveAll(): void {
    for (let left = this.#readable.size; left > 0 && this.#cells.hasFree; left--) {
      const index = this.#readable.shift();
      const flags = this.#table.flags[index]!;
      const state = this.#table.state[index];
      if (state !== State.open && state !== State.doubtful) continue;
      if ((flags & Bit.receiving) !== 0) {
        this.#readable.push(index);
        continue;
      }
      this.#table.flags[index] = flags | Bit.receiving | (this.#table.endErrno[index] === 0 ? 0 : Bit.isLast);
      const cell = this.#cells.take();
      this.#cellGeneration[cell] = this.#table.generation[index]!;
      this.#requests.receive(index, cell, this.#cells.address(cell), CELL_BYTES, state === State.doubtful);
    }
    this.#set.submitQueued();
    this.#set.sample();
    this.#cursor = 0;
  }

  #cancelAgain(): void {
    for (let left = this.#uncancelled.size; left > 0; left--) {
      const index = this.#uncancelled.shift();
      if (this.#table.state[index] !== State.abandoned) continue;
      this.#requests.cancelOpen(index, this.#table.generation[index]!);
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
        return this.#written(index, this.#sends.sent(index, tag, result));
      case Kind.install:
        if (result >= 0) libc.close(result);
        return DriverEvent.none;
      case Kind.hear:
        this.#canHear = false;
        return DriverEvent.none;
    }
    if (tag !== this.#table.generation[index]) return DriverEvent.none;
    switch (kind) {
      case Kind.poll:
        return this.#polled(index, result, (flags & CQE_MORE) !== 0);
      case Kind.writePoll:
        return this.#written(index, this.#sends.roomCame(index, result));
      case Kind.cancel:
        if (this.#table.state[index] === State.abandoned) this.#uncancelled.push(index);
        return DriverEvent.none;
      default:
        return result < 0 ? this.#chainFailed(index, kind as OpenStep, -result) : DriverEvent.none;
    }
  }

  #say(event: DriverEvent, index: number, value: number): DriverEvent {
    this.slot = this.#table.slotOf[index]!;
    this.value = value;
    return event;
  }

  /** The chain of an open has ended before its watch was set. */
  #chainFailed(index: number, step: OpenStep, errno: number): DriverEvent {
    const state = this.#table.state[index];
    // A chain that the kernel would not begin tells of each of its steps; the first counts.
    if (state !== State.opening && state !== State.abandoned) return DriverEvent.none;
    // Perhaps its place is empty: then the close answers EBADF, which is ignored.
    if (step !== OpenStep.socket) this.#table.flags[index]! |= Bit.socket;
    if (state === State.abandoned) {
      // A watch that was cancelled may have been one of a connection.
      this.#letGo(index, step === OpenStep.connect);
      return DriverEvent.none;
    }
    return this.#openFailed(index, step, errno);
  }

  #openFailed(index: number, step: OpenStep, errno: number): DriverEvent {
    if (!isUnplaced(step, -errno)) return this.#failed(index, step, errno);
    // The rest of a chain that was cut behind its CONNECT fails likewise, while that is on its way (Ring.submit).
    if (step === OpenStep.connect) this.#requests.cancelOpen(index, this.#table.generation[index]!);
    return this.#failed(index, OpenStep.socket, libc.Errno.ENOMEM);
  }

  /**
   * CONNECT answers 0 also where the SYN was rejected while it was sent, by this host's own kernel: the error lies in the error queue, and
   * io_connect() finds EPOLLERR and no error (io_uring/net.c, Linux 6.18). Only POLLOUT says that there is a connection.
   */
  #settled(index: number, events: number): DriverEvent {
    this.#table.flags[index]! |= Bit.socket;
    const isOver = (events & libc.EPOLLHUP) !== 0;
    if (!isOver && (events & libc.EPOLLOUT) !== 0) return this.#connected(index, events);
    this.#table.state[index] = State.doubtful;
    if (isOver) this.#readable.push(index);
    return DriverEvent.none;
  }

  #connected(index: number, events: number): DriverEvent {
    this.#table.state[index] = State.open;
    this.#readableFor(index, events);
    return this.#say(DriverEvent.connected, index, 0);
  }

  #readableFor(index: number, events: number): void {
    if ((events & ~libc.EPOLLOUT) === 0) return;
    if ((events & ENDING) !== 0) this.#table.flags[index]! |= Bit.ending;
    this.#readable.push(index);
  }

  /** Why a socket is over that was not seen open: what brings bytes, a FIN or a RST was; a RST to a SYN is ECONNREFUSED (tcp_reset()). */
  #over(index: number, result: number): DriverEvent {
    const { EINTR, EAGAIN, ECONNRESET, EPIPE } = libc.Errno;
    if (result === -EINTR) this.#readable.push(index);
    if (result === -EINTR || result === -EAGAIN) return DriverEvent.none;
    const isReset = result === -ECONNRESET || result === -EPIPE;
    if (result < 0 && !isReset) return this.#failed(index, OpenStep.connect, -result);
    // The look has taken the error from the socket.
    if (isReset) this.#table.endErrno[index] = -result;
    return this.#connected(index, libc.EPOLLHUP);
  }

  #failed(index: number, step: OpenStep, errno: number): DriverEvent {
    this.#table.state[index] = State.broken;
    this.step = step;
    return this.#say(DriverEvent.failed, index, errno);
  }

  #watch(index: number): void {
    this.#table.flags[index]! |= Bit.watched;
    // Of an open socket it would be reported again each time, and fill the completions again.
    const isOpen = this.#table.state[index] === State.open;
    this.#requests.watch(
      index,
      this.#table.generation[index]!,
      isOpen ? INPUT_EVENTS : INPUT_EVENTS | libc.EPOLLOUT,
    );
  }

  #polled(index: number, result: number, goesOn: boolean): DriverEvent {
    const { flags } = this.#table;
    const state = this.#table.state[index];
    const isOpening = state === State.opening || state === State.abandoned;
    if (isOpening && result < 0) return this.#chainFailed(index, OpenStep.connect, -result);
    flags[index] = goesOn ? flags[index]! | Bit.watched : flags[index]! & ~Bit.watched;
    if (state === State.abandoned) {
      flags[index]! |= Bit.socket;
      this.#letGo(index, true);
      return DriverEvent.none;
    }
    if (state !== State.open && state !== State.opening && state !== State.doubtful) return DriverEvent.none;
    if (result < 0)
      return state === State.open
        ? this.#broken(index, -result)
        : this.#openFailed(index, OpenStep.connect, -result);
    let event: DriverEvent = DriverEvent.none;
    if (state === State.open) this.#readableFor(index, result);
    else event = this.#settled(index, result);
    // The kernel ends a watch whose event it has to keep because the completions are full (io_poll_check_events).
    if (!goesOn) this.#watch(index);
    return event;
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
    this.#cells.release(cell);
    if (this.#cellGeneration[cell] !== this.#table.generation[index]) return DriverEvent.none;
    const state = this.#table.state[index];
    const flags = this.#table.flags[index]!;
    this.#table.flags[index] = flags & ~(Bit.receiving | Bit.isLast);
    if (state === State.doubtful) return this.#over(index, result);
    if (state !== State.open) return DriverEvent.none;
    if (result > 0) {
      if (result === CELL_BYTES || (flags & Bit.ending) !== 0) this.#readable.push(index);
      this.bytes = this.#cells.bytes(cell);
      return this.#say(DriverEvent.bytes, index, result);
    }
    const isEmpty = result === -libc.Errno.EAGAIN;
    if (result === -libc.Errno.EINTR) this.#readable.push(index);
    if (result === -libc.Errno.EINTR || (isEmpty && (flags & Bit.isLast) === 0)) return DriverEvent.none;
    return this.#ended(index, this.#table.endErrno[index]! || 0 - result);
  }

  #written(index: number, outcome: number): DriverEvent {
    if (outcome === WRITABLE) return this.#say(DriverEvent.writable, index, 0);
    return outcome < 0 ? this.#broken(index, -outcome) : DriverEvent.none;
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

  // ---- waiting ----

  park(waitMs: number, done: () => void): void {
    this.#submit();
    this.#set.park(waitMs, this.hasMore, () => {
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
    this.#cells?.end();
    for (const memory of this.#memory.splice(0)) this.#kernel.unmap(memory);
  }
}
