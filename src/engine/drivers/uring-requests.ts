/**
 * Owns how each thing that the driver wants of a socket is written as requests of a ring: one function a purpose.
 * Must never decide when, or read an answer.
 *
 * Every request carries two words: what it is with a tag of up to 28 bits (low), and the index of the direct descriptor (high).
 */

import * as libc from '../libc.ts';
import { HEARD_MAX, OpenStep } from './driver.ts';
import type { RingSet } from './ring-set.ts';
import type { SockAddr } from './sockaddr.ts';
import {
  CMD_GETSOCKOPT,
  CMD_SETSOCKOPT,
  type MappedMemory,
  Op,
  POLL_MULTISHOT,
  Sqe,
  SqeFlag,
  type UringKernel,
} from './uring-binding.ts';
import { type Ring, RingError } from './uring-ring.ts';

/** What a completion answers: the low bits of its low word. */
export const Kind = {
  /** no answer is waited for */
  none: 0,
  socket: 1,
  option: 2,
  bind: 3,
  /** CONNECT that has failed, and the watch of its socket: one name, so that one cancel finds whichever there is. */
  poll: 4,
  /** the tag of the four before, and of `writePoll`, `cancel`: the connection's generation */
  writePoll: 6,
  cancel: 7,
  /** tag: number of the cell */
  receive: 8,
  /** tag: number of the chunk */
  send: 9,
  install: 10,
  /** `beginHearing` was refused: its looks would take what came before for an answer */
  hear: 11,
} as const;

const KIND_BITS = 4;
const KIND_MASK = (1 << KIND_BITS) - 1;

/** What a low word says that a completion answers. */
export function kindOf(low: number): number {
  return low & KIND_MASK;
}

/** The tag of a low word. */
export function tagOf(low: number): number {
  return low >>> KIND_BITS;
}

/** The low word of a request. */
function lowOf(kind: number, tag: number): number {
  return kind | (tag << KIND_BITS);
}

/**
 * Whether the place is empty, which means a lack of memory: for the place, which SOCKET does not say (that failure neither
 * ends the chain nor is it posted: io_socket() in io_uring/net.c sets no REQ_F_FAIL), or for the rest of the chain.
 * @param result of that step
 */
export function isUnplaced(step: OpenStep, result: number): boolean {
  return step !== OpenStep.socket && result === -libc.Errno.EBADF;
}

/** The operations that the driver uses: what a kernel must know. */
export const OPS: Readonly<Record<string, number>> = Op;

/** Requests of one open, and the most of one close, which are submitted in one call. */
const OPEN_REQUESTS = 5;
const CLOSE_REQUESTS = 4;
const KEEPALIVE_REQUESTS = 2;
const WINDOW_PROBE_REQUESTS = 2;

const SOCK_STREAM = 1;
/** struct sockaddr_in6 has 28 bytes */
const ADDRESS_WORDS = 8;
const ADDRESS_BYTES = ADDRESS_WORDS * 4;
/** Memory that requests point at: the int 1 for SO_REUSEADDR, struct linger { 1, 0 }, answers to looks, endpoints, sources. */
const ONE_AT = 0;
const LINGER_AT = 8;
/** no keepalives any more, and TCP_REPAIR_OFF */
const ZERO_AT = 16;
/** the int that says that no segment has come, and what the kernel has answered to each look */
const UNHEARD_AT = 20;
const LOOKS_AT = 64;
const ADDRESSES_AT = LOOKS_AT + HEARD_MAX * 4;
/** No number of a core. */
const UNHEARD = -1;

const RECEIVE_FLAGS = libc.MSG_DONTWAIT;
const SEND_FLAGS = libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL;
/** Bytes, FIN and RST. POLLERR and POLLHUP come unasked (IO_POLL_UNMASK in io_uring/poll.c). */
export const INPUT_EVENTS = libc.EPOLLIN | libc.EPOLLRDHUP;

const LINKED = SqeFlag.FIXED_FILE | SqeFlag.LINK | SqeFlag.SKIP_SUCCESS;
const QUIET = SqeFlag.FIXED_FILE | SqeFlag.SKIP_SUCCESS;

function highOf(address: number): number {
  return Math.floor(address / 0x1_0000_0000) | 0;
}

/** The words of a sockaddr with port 0. */
function wordsOf(address: SockAddr): Int32Array {
  const words = new Int32Array(ADDRESS_WORDS);
  new Uint8Array(words.buffer).set(address.bytes.subarray(0, address.length));
  words[0]! &= 0xffff;
  return words;
}

/** Writes requests. No method but the constructor allocates. */
export class UringRequests {
  readonly #set: RingSet;
  readonly #memory: MappedMemory;
  readonly #words: Int32Array;
  readonly #sources: readonly SockAddr[];
  readonly #sourceWords: readonly Int32Array[];
  readonly #endpoints: readonly SockAddr[];
  /** places for sources, one for each request that a ring can have queued */
  readonly #placesPerRing: number;

  /**
   * @throws RingError when there is no memory
   */
  constructor(
    kernel: UringKernel,
    set: RingSet,
    sources: readonly SockAddr[],
    endpoints: readonly SockAddr[],
  ) {
    this.#set = set;
    this.#sources = sources;
    this.#sourceWords = sources.map(wordsOf);
    this.#endpoints = endpoints;
    this.#placesPerRing = set.rings[0]!.entriesMax;
    const addresses = endpoints.length + set.rings.length * this.#placesPerRing;
    const bytes = ADDRESSES_AT + addresses * ADDRESS_BYTES;
    const memory = kernel.map(bytes, -1, 0);
    if (typeof memory === 'number') throw new RingError('map', -memory);
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer, 0, bytes >> 2);
    this.#words[ONE_AT >> 2] = 1;
    this.#words[LINGER_AT >> 2] = 1;
    this.#words[UNHEARD_AT >> 2] = UNHEARD;
    for (const [index, { bytes: of, length }] of endpoints.entries()) {
      new Uint8Array(memory.buffer).set(of.subarray(0, length), ADDRESSES_AT + index * ADDRESS_BYTES);
    }
  }

  /** For the end. */
  get memory(): MappedMemory {
    return this.#memory;
  }

  /**
   * SOCKET, SO_REUSEADDR, BIND, CONNECT and a watch, each begun when the one before has succeeded. Only the watch says so; one
   * that fails posts its own completion, and the rest of the chain none.
   * With SO_REUSEADDR one (address, port) serves several endpoints, and one in TIME_WAIT can be bound.
   */
  open(index: number, tag: number, source: number, port: number, endpoint: number): void {
    const ring = this.#set.of(index);
    const file = this.#set.fileOf(index);
    const from = this.#sources[source]!;
    const to = this.#endpoints[endpoint]!;
    ring.reserve(OPEN_REQUESTS);
    const { entries } = ring;
    // Without SOCK_NONBLOCK: with it CONNECT would answer EINPROGRESS (REQ_F_NOWAIT in io_uring.c).
    let at = ring.begin(
      Op.SOCKET | SqeFlag.LINK | SqeFlag.SKIP_SUCCESS,
      from.family,
      lowOf(Kind.socket, tag),
      index,
    );
    entries[at + Sqe.OFF] = SOCK_STREAM;
    entries[at + Sqe.FILE_INDEX] = file + 1;
    at = this.#setOption(ring, LINKED, file, lowOf(Kind.option, tag), index);
    entries[at + Sqe.ADDR_HIGH] = libc.SO_REUSEADDR;
    entries[at + Sqe.FILE_INDEX] = 4;
    this.#pointTo(entries, at + Sqe.ADDR3, this.#memory.address + ONE_AT);
    at = ring.begin(Op.BIND | LINKED, file, lowOf(Kind.bind, tag), index);
    entries[at + Sqe.OFF] = from.length;
    this.#pointTo(entries, at + Sqe.ADDR, this.#writeSource(index, at / Sqe.WORDS, source, port));
    at = ring.begin(Op.CONNECT | LINKED, file, lowOf(Kind.poll, tag), index);
    entries[at + Sqe.OFF] = to.length;
    this.#pointTo(entries, at + Sqe.ADDR, this.#memory.address + ADDRESSES_AT + endpoint * ADDRESS_BYTES);
    this.#beginWatch(ring, index, tag, INPUT_EVENTS | libc.EPOLLOUT);
  }

  /**
   * Writes a source to the place that belongs to its request: the kernel reads it when it takes the request
   * (move_addr_to_kernel in io_bind_prep, io_uring/net.c), and until then no other request has that place.
   */
  #writeSource(index: number, place: number, source: number, port: number): number {
    const words = this.#sourceWords[source]!;
    const number = this.#endpoints.length + this.#set.numberOf(index) * this.#placesPerRing + place;
    const offset = ADDRESSES_AT + number * ADDRESS_BYTES;
    const at = offset >> 2;
    this.#words[at] = words[0]! | ((((port & 255) << 8) | (port >> 8)) << 16);
    for (let word = 1; word < ADDRESS_WORDS; word++) this.#words[at + word] = words[word]!;
    return this.#memory.address + offset;
  }

  #pointTo(entries: Int32Array, at: number, address: number): void {
    entries[at] = address | 0;
    entries[at + 1] = highOf(address);
  }

  #setOption(ring: Ring, flags: number, file: number, low: number, index: number): number {
    const at = ring.begin(Op.URING_CMD | flags, file, low, index);
    ring.entries[at + Sqe.OFF] = CMD_SETSOCKOPT;
    ring.entries[at + Sqe.ADDR] = libc.SOL_SOCKET;
    return at;
  }

  /** Watches for events, each change reported once, until it is cancelled. What is there already is reported too. */
  watch(index: number, tag: number, events: number): void {
    this.#beginWatch(this.#reserve(index, 1), index, tag, events);
  }

  #beginWatch(ring: Ring, index: number, tag: number, events: number): void {
    const at = ring.begin(
      Op.POLL_ADD | SqeFlag.FIXED_FILE,
      this.#set.fileOf(index),
      lowOf(Kind.poll, tag),
      index,
    );
    ring.entries[at + Sqe.LEN] = POLL_MULTISHOT;
    ring.entries[at + Sqe.OP_FLAGS] = events;
  }

  /** Reports once when the socket takes bytes. */
  watchWritable(index: number, tag: number): void {
    const ring = this.#reserve(index, 1);
    const at = ring.begin(
      Op.POLL_ADD | SqeFlag.FIXED_FILE,
      this.#set.fileOf(index),
      lowOf(Kind.writePoll, tag),
      index,
    );
    ring.entries[at + Sqe.OP_FLAGS] = libc.EPOLLOUT;
  }

  /** @param isPeek what is there stays there */
  receive(index: number, cell: number, address: number, bytes: number, isPeek: boolean): void {
    const ring = this.#reserve(index, 1);
    const at = ring.begin(
      Op.RECV | SqeFlag.FIXED_FILE,
      this.#set.fileOf(index),
      lowOf(Kind.receive, cell),
      index,
    );
    this.#pointTo(ring.entries, at + Sqe.ADDR, address);
    ring.entries[at + Sqe.LEN] = bytes;
    ring.entries[at + Sqe.OP_FLAGS] = isPeek ? RECEIVE_FLAGS | libc.MSG_PEEK : RECEIVE_FLAGS;
  }

  send(index: number, chunk: number, address: number, bytes: number): void {
    const ring = this.#reserve(index, 1);
    const at = ring.begin(
      Op.SEND | SqeFlag.FIXED_FILE,
      this.#set.fileOf(index),
      lowOf(Kind.send, chunk),
      index,
    );
    this.#pointTo(ring.entries, at + Sqe.ADDR, address);
    ring.entries[at + Sqe.LEN] = bytes;
    ring.entries[at + Sqe.OP_FLAGS] = SEND_FLAGS;
  }

  /**
   * Empties the place of a direct descriptor. Requests that are not linked are begun in their order and this one is done
   * when it is begun (io_close() in io_uring/openclose.c), so the place may be used by any request after it. The socket
   * itself goes when no watch refers to it any more; a watch says that it has gone by a completion without CQE_MORE.
   * @param isReset RST instead of FIN (SO_LINGER with 0 seconds, socket(7))
   */
  close(index: number, tag: number, isReset: boolean, isWatched: boolean, isWatchedWritable: boolean): void {
    const ring = this.#reserve(index, CLOSE_REQUESTS);
    const file = this.#set.fileOf(index);
    if (isReset) {
      const at = this.#setOption(ring, QUIET, file, Kind.none, index);
      ring.entries[at + Sqe.ADDR_HIGH] = libc.SO_LINGER;
      ring.entries[at + Sqe.FILE_INDEX] = 8;
      this.#pointTo(ring.entries, at + Sqe.ADDR3, this.#memory.address + LINGER_AT);
    }
    const at = ring.begin(Op.CLOSE | SqeFlag.SKIP_SUCCESS, 0, Kind.none, index);
    ring.entries[at + Sqe.FILE_INDEX] = file + 1;
    if (isWatched) this.#unwatch(ring, Kind.poll, index, tag);
    if (isWatchedWritable) this.#unwatch(ring, Kind.writePoll, index, tag);
  }

  /**
   * Not POLL_REMOVE: while an event of the watch is on its way that answers EALREADY and lets the watch go on, and with it a
   * socket that nothing else refers to (io_poll_disarm in io_uring/poll.c). A cancel ends it in any case (io_poll_cancel_req).
   */
  #unwatch(ring: Ring, kind: number, index: number, tag: number): void {
    const at = ring.begin(Op.ASYNC_CANCEL | SqeFlag.SKIP_SUCCESS, -1, Kind.none, index);
    ring.entries[at + Sqe.ADDR] = lowOf(kind, tag);
    ring.entries[at + Sqe.ADDR_HIGH] = index;
  }

  /** Ends a CONNECT that is on its way, or the watch after it. One that is not found yet is reported (ENOENT). */
  cancelOpen(index: number, tag: number): void {
    const ring = this.#reserve(index, 1);
    const at = ring.begin(Op.ASYNC_CANCEL | SqeFlag.SKIP_SUCCESS, -1, lowOf(Kind.cancel, tag), index);
    ring.entries[at + Sqe.ADDR] = lowOf(Kind.poll, tag);
    ring.entries[at + Sqe.ADDR_HIGH] = index;
  }

  /** As setKeepalive() in libc.ts, and in its order; what the kernel answers is ignored. @param index below 0: there is no socket */
  setKeepalive(index: number, isOn: boolean): void {
    if (index < 0) return;
    const ring = this.#reserve(index, KEEPALIVE_REQUESTS);
    this.#setInt(ring, index, libc.SOL_SOCKET, libc.SO_KEEPALIVE, isOn ? ONE_AT : ZERO_AT);
    if (isOn) this.#setInt(ring, index, libc.IPPROTO_TCP, libc.TCP_KEEPIDLE, ONE_AT);
  }

  /** As probeWindow() in libc.ts, and as `setKeepalive`. */
  probeWindow(index: number): void {
    if (index < 0) return;
    const ring = this.#reserve(index, WINDOW_PROBE_REQUESTS);
    this.#setInt(ring, index, libc.IPPROTO_TCP, libc.TCP_REPAIR, ZERO_AT);
    this.#setInt(ring, index, libc.SOL_SOCKET, libc.SO_REUSEADDR, ONE_AT);
  }

  /**
   * Has the kernel forget which core the last segment came on. It writes that down for each one (sk_incoming_cpu_update() in tcp_v4_rcv() and
   * tcp_v6_rcv()), and SO_INCOMING_CPU can be set (Linux 4.4) and is of SOL_SOCKET: so a batch of requests finds out what TCP_INFO, which is
   * not, would tell by three calls for each connection.
   * @param index below 0: there is no socket
   */
  beginHearing(index: number): void {
    if (index < 0) return;
    this.#setInt(
      this.#reserve(index, 1),
      index,
      libc.SOL_SOCKET,
      libc.SO_INCOMING_CPU,
      UNHEARD_AT,
      Kind.hear,
    );
  }

  /**
   * Whether a segment has come since `beginHearing` on each of the slots: the kernel answers while it takes the requests.
   * @param indexOf by slot; below 0: there is no socket to look at
   * @param slots the first `count`, at most HEARD_MAX
   */
  hasHeard(indexOf: Int32Array, slots: Int32Array, count: number, isHeard: Uint8Array): true {
    const looks = LOOKS_AT >> 2;
    this.#words.fill(UNHEARD, looks, looks + count);
    for (let place = 0; place < count; place++) {
      const index = indexOf[slots[place]!]!;
      if (index >= 0) this.#look(index, LOOKS_AT + place * 4);
    }
    this.#set.submitQueued();
    for (let place = 0; place < count; place++)
      isHeard[place] = this.#words[looks + place] === UNHEARD ? 0 : 1;
    return true;
  }

  #look(index: number, offset: number): void {
    const ring = this.#reserve(index, 1);
    const at = ring.begin(Op.URING_CMD | QUIET, this.#set.fileOf(index), Kind.none, index);
    ring.entries[at + Sqe.OFF] = CMD_GETSOCKOPT;
    ring.entries[at + Sqe.ADDR] = libc.SOL_SOCKET;
    ring.entries[at + Sqe.ADDR_HIGH] = libc.SO_INCOMING_CPU;
    ring.entries[at + Sqe.FILE_INDEX] = 4;
    this.#pointTo(ring.entries, at + Sqe.ADDR3, this.#memory.address + offset);
  }

  #setInt(
    ring: Ring,
    index: number,
    level: number,
    name: number,
    valueAt: number,
    kind: number = Kind.none,
  ): void {
    const at = this.#setOption(ring, QUIET, this.#set.fileOf(index), kind, index);
    ring.entries[at + Sqe.ADDR] = level;
    ring.entries[at + Sqe.ADDR_HIGH] = name;
    ring.entries[at + Sqe.FILE_INDEX] = 4;
    this.#pointTo(ring.entries, at + Sqe.ADDR3, this.#memory.address + valueAt);
  }

  /** A common descriptor for the same socket, closed on exec. */
  install(index: number): void {
    const ring = this.#reserve(index, 1);
    ring.begin(Op.FIXED_FD_INSTALL | SqeFlag.FIXED_FILE, this.#set.fileOf(index), Kind.install, index);
  }

  #reserve(index: number, count: number): Ring {
    const ring = this.#set.of(index);
    ring.reserve(count);
    return ring;
  }
}
