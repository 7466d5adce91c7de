/**
 * Owns connections through common descriptors and epoll: the driver that works everywhere, as many connections as
 * RLIMIT_NOFILE allows. Must never say anything of a connection after its close().
 *
 * Every call is made when it is asked for; only what has failed in open() waits until the next turn. The kernel names a
 * connection by a token of slot and generation, because an event may come for a slot that was closed, and even opened
 * again, after the kernel had written the event down.
 */
import assert from 'node:assert/strict';
import * as libc from '../libc.ts';
import { POLLER_CALLS, Poller, WATCHED } from '../poller.ts';
import { type CloseHow, type Driver, DriverEvent, type DriverOptions, OpenStep } from './driver.ts';
import { IndexQueue } from './index-queue.ts';
import { type SockAddr, setPort } from './sockaddr.ts';

const RECEIVE_BUFFER_BYTES = 65_536;
/** Receives from one connection in one event; a target that floods one connection must not starve the others. */
const RECEIVES_PER_EVENT_MAX = 16;
/** Descriptors of a process that are no connections, roughly: Node itself has about 20. */
const OWN_DESCRIPTORS_MAX = 64;
const BROKEN = libc.EPOLLERR | libc.EPOLLHUP;
const ENDING = libc.EPOLLRDHUP | BROKEN;
const READABLE = libc.EPOLLIN | ENDING;

const SLOT_BITS = 24;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
/** 7 bits, so that a token is never negative (the poller's own wake-up is). */
const GENERATION_MASK = 0x7f;

/** Where a slot is in its life. */
const State = { free: 0, connecting: 1, open: 2, ended: 3, failed: 4, detached: 5 } as const;

/** The calls that the driver makes. */
const SOCKET_CALLS = {
  ...POLLER_CALLS,
  tcpSocket: libc.tcpSocket,
  setIntOption: libc.setIntOption,
  bind: libc.bind,
  connect: libc.connect,
  socketError: libc.socketError,
  recv: libc.recv,
  send: libc.send,
  setResetOnClose: libc.setResetOnClose,
  setKeepalive: libc.setKeepalive,
  probeWindow: libc.probeWindow,
  tcpInfo: libc.tcpInfo,
} as const;
type SocketCalls = typeof SOCKET_CALLS;

/** The driver. Only its constructor allocates, and `park`. */
export class EpollDriver implements Driver {
  readonly name = 'epoll';
  readonly capacity: number;
  slot = -1;
  value = 0;
  step: OpenStep = OpenStep.socket;
  readonly bytes = new Uint8Array(RECEIVE_BUFFER_BYTES);
  bytesSent = 0;

  readonly #sources: readonly SockAddr[];
  readonly #endpoints: readonly SockAddr[];
  readonly #calls: SocketCalls;
  readonly #poller: Poller;
  readonly #fd: Int32Array;
  readonly #state: Uint8Array;
  readonly #generation: Uint8Array;
  readonly #wantsWritable: Uint8Array;
  /** while a failed open waits to be reported: step and errno; errno that a send has reported after that */
  readonly #failedStep: Uint8Array;
  readonly #errno: Uint8Array;
  /** failed opens, and connections whose send has failed */
  readonly #unreported: IndexQueue;
  #unreportedLeft = 0;

  #count = 0;
  #index = 0;
  /** what comes from one event besides its first meaning: the token, its events, receives so far */
  #token = -1;
  #tokenEvents = 0;
  #rounds = 0;
  #isParkedBatch = false;

  /**
   * @param calls others than those of libc.ts: for tests
   * @throws AssertionError when the process has no descriptor left for epoll itself
   */
  constructor({ capacity, sources, endpoints }: DriverOptions, calls: SocketCalls = SOCKET_CALLS) {
    assert(capacity >= 1 && capacity <= 1 << SLOT_BITS, `capacity ${capacity}`);
    this.capacity = capacity;
    this.#calls = calls;
    this.#poller = new Poller(calls);
    this.#sources = sources;
    this.#endpoints = endpoints;
    this.#fd = new Int32Array(capacity).fill(-1);
    this.#state = new Uint8Array(capacity);
    this.#generation = new Uint8Array(capacity);
    this.#wantsWritable = new Uint8Array(capacity);
    this.#failedStep = new Uint8Array(capacity);
    this.#errno = new Uint8Array(capacity);
    this.#unreported = new IndexQueue(capacity);
    libc.reserveDescriptors(capacity + OWN_DESCRIPTORS_MAX);
  }

  // ---- what the engine wants ----

  open(slot: number, source: number, port: number, endpoint: number): boolean {
    assert(this.#state[slot] === State.free, 'a slot is opened once');
    this.#state[slot] = State.connecting;
    this.#wantsWritable[slot] = 0;
    this.#errno[slot] = 0;
    const from = this.#sources[source]!;
    const fd = this.#calls.tcpSocket(from.family);
    if (fd < 0) return this.#openFailed(slot, OpenStep.socket, fd);
    this.#fd[slot] = fd;
    // With SO_REUSEADDR one (address, port) serves several endpoints, and one in TIME_WAIT can be bound.
    const set = this.#calls.setIntOption(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
    if (set < 0) return this.#openFailed(slot, OpenStep.option, set);
    setPort(from, port);
    const bound = this.#calls.bind(fd, from.bytes, from.length);
    if (bound < 0) return this.#openFailed(slot, OpenStep.bind, bound);
    const to = this.#endpoints[endpoint]!;
    const connected = this.#calls.connect(fd, to.bytes, to.length);
    if (connected < 0 && connected !== -libc.Errno.EINPROGRESS)
      return this.#openFailed(slot, OpenStep.connect, connected);
    const added = this.#poller.add(fd, WATCHED, this.#tokenOf(slot));
    if (added < 0) return this.#openFailed(slot, OpenStep.watch, added);
    return true;
  }

  #openFailed(slot: number, step: OpenStep, code: number): true {
    this.#failedStep[slot] = step;
    this.#errno[slot] = -code;
    this.#unreported.push(slot);
    return true;
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    if (this.#state[slot] !== State.open || this.#errno[slot] !== 0) return 0;
    const sent = this.#calls.send(this.#fd[slot]!, buffer, length);
    if (sent >= 0) this.bytesSent += sent;
    else if (sent === -libc.Errno.EINTR) this.#watchAgain(slot);
    else if (sent !== -libc.Errno.EAGAIN) {
      // The error is gone from the socket with the send that reported it; what came before it is still to be read.
      this.#broken(slot, sent);
      return 0;
    }
    const taken = Math.max(0, sent);
    if (taken < length) this.#wantsWritable[slot] = 1;
    return taken;
  }

  /** Setting the watch again makes the kernel report what is so now. */
  #watchAgain(slot: number): void {
    const code = this.#poller.modify(this.#fd[slot]!, WATCHED, this.#tokenOf(slot));
    if (code < 0) this.#broken(slot, code);
  }

  /** The connection is no good; its end is reported once what came before is read. */
  #broken(slot: number, code: number): void {
    if (this.#errno[slot] === 0) this.#errno[slot] = -code;
    this.#unreported.push(slot);
  }

  close(slot: number, how: CloseHow): void {
    const state = this.#state[slot];
    assert(state !== State.free, 'a slot is closed once');
    const fd = this.#fd[slot]!;
    if (fd >= 0) {
      if (how === 'rst') this.#calls.setResetOnClose(fd);
      // The kernel takes a closed descriptor out of epoll by itself: nothing else refers to the file (epoll(7)).
      if (state !== State.detached) this.#calls.close(fd);
    }
    this.#fd[slot] = -1;
    this.#state[slot] = State.free;
    this.#generation[slot] = (this.#generation[slot]! + 1) & GENERATION_MASK;
  }

  /** Each call is done when it returns. */
  get isDrained(): boolean {
    return true;
  }

  tcpInfo(slot: number, info: Uint8Array): number {
    return this.#calls.tcpInfo(this.#fd[slot]!, info);
  }

  setKeepalive(slot: number, isOn: boolean): void {
    this.#calls.setKeepalive(this.#fd[slot]!, isOn);
  }

  probeWindow(slot: number): void {
    this.#calls.probeWindow(this.#fd[slot]!);
  }

  beginHearing(): void {}

  /** What waits in the kernel is not known before it is asked. */
  hasMore(): boolean {
    return false;
  }

  /** TCP_INFO is one call here, and needs no mark. */
  hasHeard(): boolean {
    return false;
  }

  detach(slot: number): number {
    const fd = this.#fd[slot]!;
    const removed = this.#poller.remove(fd);
    if (removed < 0) return removed;
    this.#state[slot] = State.detached;
    return fd;
  }

  // ---- turns ----

  turn(waitMs: number): boolean {
    if (!this.#isParkedBatch) this.#count = this.#poller.wait(this.#unreported.size > 0 ? 0 : waitMs);
    this.#isParkedBatch = false;
    this.#index = 0;
    this.#token = -1;
    this.#unreportedLeft = this.#unreported.size;
    return this.#count > 0 || this.#unreportedLeft > 0;
  }

  flush(): void {}

  next(): DriverEvent {
    for (;;) {
      if (this.#token >= 0) {
        const event = this.#receive();
        if (event !== DriverEvent.none) return event;
        continue;
      }
      if (this.#unreportedLeft > 0) {
        this.#unreportedLeft--;
        const event = this.#report(this.#unreported.shift());
        if (event !== DriverEvent.none) return event;
        continue;
      }
      if (this.#index >= this.#count) return DriverEvent.none;
      const index = this.#index++;
      const event = this.#happened(this.#poller.slotAt(index), this.#poller.eventsAt(index));
      if (event !== DriverEvent.none) return event;
    }
  }

  #say(event: DriverEvent, slot: number, value: number): DriverEvent {
    this.slot = slot;
    this.value = value;
    return event;
  }

  /** What the kernel names this slot; 0 or more, below 2^31. */
  #tokenOf(slot: number): number {
    return (this.#generation[slot]! << SLOT_BITS) | slot;
  }

  /** The slot that a token names, or -1 when that connection has gone meanwhile. */
  #slotOf(token: number): number {
    const slot = token & SLOT_MASK;
    const state = this.#state[slot];
    if (this.#tokenOf(slot) !== token || (state !== State.connecting && state !== State.open)) return -1;
    return slot;
  }

  /** A failed open, or a send that has failed: then what is there to be read, and the end. */
  #report(slot: number): DriverEvent {
    const state = this.#state[slot];
    const errno = this.#errno[slot]!;
    if (errno === 0) return DriverEvent.none;
    if (state === State.connecting) {
      this.#state[slot] = State.failed;
      this.step = this.#failedStep[slot] as OpenStep;
      return this.#say(DriverEvent.failed, slot, errno);
    }
    if (state === State.open) this.#beginReceiving(slot, ENDING);
    return DriverEvent.none;
  }

  #happened(token: number, events: number): DriverEvent {
    const slot = this.#slotOf(token);
    if (slot < 0) return DriverEvent.none;
    if (this.#state[slot] === State.connecting) {
      // Without EPOLLERR or EPOLLHUP there is no error to ask for: one system call less per connect (tcp_poll()).
      const errno = (events & BROKEN) === 0 ? 0 : Math.abs(this.#calls.socketError(this.#fd[slot]!));
      if (errno !== 0) {
        this.#state[slot] = State.failed;
        this.step = OpenStep.connect;
        return this.#say(DriverEvent.failed, slot, errno);
      }
      if ((events & libc.EPOLLOUT) === 0) return DriverEvent.none;
      this.#state[slot] = State.open;
      if ((events & READABLE) !== 0) this.#beginReceiving(slot, events);
      return this.#say(DriverEvent.connected, slot, 0);
    }
    if ((events & READABLE) !== 0) this.#beginReceiving(slot, events);
    if ((events & libc.EPOLLOUT) === 0 || this.#wantsWritable[slot] === 0) return DriverEvent.none;
    this.#wantsWritable[slot] = 0;
    return this.#say(DriverEvent.writable, slot, 0);
  }

  #beginReceiving(slot: number, events: number): void {
    this.#token = this.#tokenOf(slot);
    this.#tokenEvents = events;
    this.#rounds = 0;
  }

  /**
   * Reads once of what there is. Edge-triggered: a read that leaves room in the buffer has emptied the socket (epoll(7)),
   * unless the end of the stream or an error was announced, which only a further read tells.
   */
  #receive(): DriverEvent {
    const slot = this.#slotOf(this.#token);
    if (slot < 0) return this.#doneReceiving();
    const fd = this.#fd[slot]!;
    if (this.#rounds === RECEIVES_PER_EVENT_MAX) {
      // What is left comes after the others had their turn.
      this.#watchAgain(slot);
      return this.#doneReceiving();
    }
    this.#rounds++;
    const got = this.#calls.recv(fd, this.bytes, RECEIVE_BUFFER_BYTES);
    if (got > 0) {
      if (got < RECEIVE_BUFFER_BYTES && (this.#tokenEvents & ENDING) === 0) this.#token = -1;
      return this.#say(DriverEvent.bytes, slot, got);
    }
    // Once more, as one of the receives that this event has.
    if (got === -libc.Errno.EINTR) return DriverEvent.none;
    const errno = this.#errno[slot]!;
    if (got === 0 || errno !== 0) return this.#ended(slot, errno);
    if (got === -libc.Errno.EAGAIN) return this.#doneReceiving();
    return this.#ended(slot, -got);
  }

  #doneReceiving(): DriverEvent {
    this.#token = -1;
    return DriverEvent.none;
  }

  #ended(slot: number, errno: number): DriverEvent {
    this.#token = -1;
    this.#state[slot] = State.ended;
    return this.#say(DriverEvent.ended, slot, errno);
  }

  // ---- waiting ----

  park(waitMs: number, done: () => void): void {
    this.#poller.waitAsync(this.#unreported.size > 0 ? 0 : waitMs, (count) => {
      this.#count = count;
      this.#isParkedBatch = true;
      done();
    });
  }

  wake(): void {
    this.#poller.wake();
  }

  end(): void {
    this.#poller.close();
  }
}
