/**
 * Owns one ring of a worker: which places of its table hold a connection, how it accepts, and how each thing that is wanted of a
 * connection is written as a request. Must never read a completion.
 *
 * Every request carries two words: what it is with the number of a cell (low), and the place of the connection (high). A
 * connection has one request on the way at a time, beside the question for its name, so that no completion can be about an
 * earlier one.
 */
import { IndexQueue } from '../engine/drivers/index-queue.ts';
import {
  ACCEPT_MULTISHOT,
  CMD_GETSOCKOPT,
  FILE_INDEX_ALLOC,
  Op,
  Sqe,
  SqeFlag,
  type UringKernel,
} from '../engine/drivers/uring-binding.ts';
import { Ring } from '../engine/drivers/uring-ring.ts';
import * as libc from '../engine/libc.ts';

/** What a completion answers: the low bits of its low word; the rest is the number of a cell. */
export const Answer = {
  /** no answer is waited for */
  none: 0,
  /** one of many connections */
  accept: 1,
  /** the one connection that was asked for */
  acceptOne: 2,
  name: 3,
  readable: 4,
  writable: 5,
  received: 6,
  sent: 7,
  /** the line of whoami was sent */
  said: 8,
} as const;

const ANSWER_BITS = 4;
const ANSWER_MASK = (1 << ANSWER_BITS) - 1;

/** What a low word says that a completion answers. */
export function answerOf(low: number): number {
  return low & ANSWER_MASK;
}

/** The cell of a low word. */
export function cellOf(low: number): number {
  return low >>> ANSWER_BITS;
}

/** In `sourceOf`: the place is empty; the connection is to be asked for its name; it was asked, and has not answered. */
export const EMPTY = -1;
export const UNGREETED = -2;
export const UNNAMED = -3;

/** include/uapi/asm-generic/socket.h */
const SO_PEERNAME = 28;
const IPV4_BYTES = 16;
const IPV6_BYTES = 28;

/** Requests between two calls; 64 KB. */
const SUBMISSIONS_MAX = 1_024;
/** Completions between two calls, and with them the connections that one call accepts; 32 KB. */
const COMPLETIONS_MAX = 2_048;
const COMPLETIONS_MIN = 64;
/** Places of one ring, also where descriptors are plenty. */
const FILES_MAX = 65_536;
/** Connections that are asked for one by one at a time, where a ring is nearly full. */
const ACCEPTS_MAX = 128;
/** What a message is received and sent with: never waits, never ends the process. */
const MESSAGE_FLAGS = libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL;

/** How a ring is made. */
interface HeldRingOptions {
  readonly kernel: UringKernel;
  readonly listenerFd: number;
  /** of the listener: how long a peer's name is */
  readonly isIpv6: boolean;
  readonly eventFd: number;
  /** places at most; RLIMIT_NOFILE cuts it, because the kernel does */
  readonly filesMax?: number;
}

/** One ring and the connections in it. Only the constructor allocates. */
export class HeldRing {
  readonly ring: Ring;
  /** places */
  readonly files: number;
  /** source entry by place, or EMPTY, UNGREETED, UNNAMED */
  readonly sourceOf: Int32Array;
  /** those that wait for a free cell */
  readonly waiting: IndexQueue;
  used = 0;
  /** connections that were asked for one by one and are not here yet */
  #acceptsOne = 0;
  #isAcceptingMany = false;
  #isCancelled = false;
  readonly #margin: number;
  readonly #listenerFd: number;
  readonly #nameBytes: number;

  /** @throws RingError */
  constructor({ kernel, listenerFd, isIpv6, eventFd, filesMax = FILES_MAX }: HeldRingOptions) {
    this.files = Math.min(libc.descriptorsMax(), filesMax, FILES_MAX);
    const completions = Math.max(
      COMPLETIONS_MIN,
      Math.min(COMPLETIONS_MAX, 2 ** Math.floor(Math.log2(this.files / 4))),
    );
    const submissions = Math.min(SUBMISSIONS_MAX, completions / 2);
    // One call accepts until no completion is free, and one more: a place for each must be free, or the kernel closes what it has
    // accepted (io_accept() and io_fixed_fd_install() in io_uring).
    this.#margin = completions + submissions;
    this.#listenerFd = listenerFd;
    this.#nameBytes = isIpv6 ? IPV6_BYTES : IPV4_BYTES;
    this.ring = new Ring(kernel, { submissions, completions, files: this.files, eventFd });
    this.sourceOf = new Int32Array(this.files).fill(EMPTY);
    this.waiting = new IndexQueue(this.files);
  }

  #begin(head: number, fd: number, answer: number, cell: number, place: number): number {
    this.ring.reserve(1);
    return this.ring.begin(head, fd, answer | (cell << ANSWER_BITS), place);
  }

  #pointTo(at: number, address: number): void {
    this.ring.entries[at] = address | 0;
    this.ring.entries[at + 1] = Math.floor(address / 0x1_0000_0000) | 0;
  }

  // ---- accepting ----

  /** Whether a further connection has a place. */
  get hasRoom(): boolean {
    return this.used < this.files;
  }

  get isAccepting(): boolean {
    return this.#isAcceptingMany || this.#acceptsOne > 0;
  }

  /**
   * Accepts as fast as its room allows: many with one request while any number that one call can bring has a place, from then on
   * no more than there are places.
   */
  accept(): void {
    const hasPlenty = this.files - this.used > this.#margin;
    if (hasPlenty) {
      if (this.#isAcceptingMany) return;
      this.#isAcceptingMany = true;
      this.#isCancelled = false;
      this.#acceptInto(ACCEPT_MULTISHOT, Answer.accept);
      return;
    }
    if (this.#isAcceptingMany) {
      this.#cancelMany();
      return;
    }
    const wanted = Math.min(ACCEPTS_MAX, this.files - this.used);
    while (this.#acceptsOne < wanted) {
      this.#acceptsOne++;
      this.#acceptInto(0, Answer.acceptOne);
    }
  }

  #acceptInto(flags: number, answer: number): void {
    const at = this.#begin(Op.ACCEPT | flags, this.#listenerFd, answer, 0, 0);
    this.ring.entries[at + Sqe.FILE_INDEX] = FILE_INDEX_ALLOC;
  }

  #cancelMany(): void {
    if (this.#isCancelled) return;
    this.#isCancelled = true;
    this.#cancel(Answer.accept, 0);
  }

  #cancel(answer: number, place: number): void {
    const at = this.#begin(Op.ASYNC_CANCEL | SqeFlag.SKIP_SUCCESS, -1, Answer.none, 0, place);
    this.ring.entries[at + Sqe.ADDR] = answer;
    this.ring.entries[at + Sqe.ADDR_HIGH] = place;
  }

  /** Ends all that accepts; what was accepted meanwhile still comes. */
  stopAccepting(): void {
    if (this.#isAcceptingMany) this.#cancelMany();
    for (let count = 0; count < this.#acceptsOne; count++) this.#cancel(Answer.acceptOne, 0);
  }

  /** An accept was answered. @param goesOn more will come of the same request */
  accepted(answer: number, goesOn: boolean): void {
    if (answer === Answer.acceptOne) this.#acceptsOne--;
    else if (!goesOn) this.#isAcceptingMany = false;
  }

  // ---- connections ----

  /** Asks for the peer's address, 16 or 28 bytes. */
  askName(place: number, cell: number, address: number): void {
    const at = this.#begin(Op.URING_CMD | SqeFlag.FIXED_FILE, place, Answer.name, cell, place);
    const { entries } = this.ring;
    entries[at + Sqe.OFF] = CMD_GETSOCKOPT;
    entries[at + Sqe.ADDR] = libc.SOL_SOCKET;
    entries[at + Sqe.ADDR_HIGH] = SO_PEERNAME;
    entries[at + Sqe.FILE_INDEX] = this.#nameBytes;
    this.#pointTo(at + Sqe.ADDR3, address);
  }

  /** Reports once that there are bytes or an end, or that bytes are taken; what is so already is reported too. */
  watch(place: number, answer: typeof Answer.readable | typeof Answer.writable): void {
    const at = this.#begin(Op.POLL_ADD | SqeFlag.FIXED_FILE, place, answer, 0, place);
    this.ring.entries[at + Sqe.OP_FLAGS] = answer === Answer.readable ? libc.EPOLLIN : libc.EPOLLOUT;
  }

  receive(place: number, cell: number, address: number, bytes: number): void {
    this.#message(Op.RECV, Answer.received, place, cell, address, bytes);
  }

  send(place: number, cell: number, address: number, bytes: number): void {
    this.#message(Op.SEND, Answer.sent, place, cell, address, bytes);
  }

  say(place: number, cell: number, address: number, bytes: number): void {
    this.#message(Op.SEND, Answer.said, place, cell, address, bytes);
  }

  #message(op: number, answer: number, place: number, cell: number, address: number, bytes: number): void {
    const at = this.#begin(op | SqeFlag.FIXED_FILE, place, answer, cell, place);
    this.#pointTo(at + Sqe.ADDR, address);
    this.ring.entries[at + Sqe.LEN] = bytes;
    this.ring.entries[at + Sqe.OP_FLAGS] = MESSAGE_FLAGS;
  }

  /** Closes a connection for which no request is on the way; its place may be used by any request after it. */
  close(place: number): void {
    const at = this.#begin(Op.CLOSE | SqeFlag.SKIP_SUCCESS, 0, Answer.none, 0, place);
    this.ring.entries[at + Sqe.FILE_INDEX] = place + 1;
  }

  /**
   * Closes a connection whatever is on the way for it.
   * @param hasUnsent it may be watched for room
   */
  closeWatched(place: number, hasUnsent: boolean): void {
    this.close(place);
    this.#cancel(Answer.readable, place);
    // A search for what is not there looks at all there is.
    if (hasUnsent) this.#cancel(Answer.writable, place);
  }
}
