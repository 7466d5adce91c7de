/**
 * Owns what the simulated kernel remembers of a connection: the socket, what watches it, and what became of its open.
 * Must never act by itself.
 */
import assert from 'node:assert/strict';
import { CMD_GETSOCKOPT, Op, Sqe } from '../../../src/engine/drivers/uring-binding.ts';
import * as libc from '../../../src/engine/libc.ts';

export const POLLIN = libc.EPOLLIN;
export const POLLOUT = libc.EPOLLOUT;
export const POLLERR = libc.EPOLLERR;
export const POLLHUP = libc.EPOLLHUP;
export const POLLRDHUP = libc.EPOLLRDHUP;

/**
 * What a connect becomes whose SYN is rejected by its own kernel while it is sent: it hangs, as the SYN is sent again; io_uring answers 0
 * all the same.
 */
export const SYN_REJECTED = -2;

/** What a request is for, as far as a fault may choose it. */
export type FaultPoint =
  | 'socket'
  /** a socket was made, and there is no memory for its place in the table; the kernel does not say so */
  | 'place'
  | 'reuse'
  | 'bind'
  | 'connect'
  | 'watch'
  | 'watchWritable'
  | 'receive'
  | 'send'
  | 'linger'
  | 'close'
  | 'cancel'
  | 'install'
  /** setting and getting what `hasHeard` is about, and the two options of a keepalive */
  | 'hear'
  | 'look'
  | 'keepalive'
  /** of epoll alone: the watch is set again, so that the rest of a flood is reported */
  | 'watchAgain';

/** What a test moves sockets with, and looks at, whichever driver is above. */
export interface SimulatedHost {
  /** by source port */
  readonly accounts: ReadonlyMap<number, Account>;
  readonly sockets: readonly SimulatedSocket[];
  /** errno with which a request is to fail, or 0 */
  fault: (point: FaultPoint) => number;
  /** what the call that brings events is to answer before it has done all: -errno, with so many requests taken; null: nothing */
  enterFault: () => { errno: number; taken: number } | null;
  /** what a connect is to become: 0 connected, an errno, -1: it hangs, or SYN_REJECTED */
  connectResult: () => number;
  /** The next open is from this port. */
  willOpen(port: number): void;
  /** Whether nothing is on the way. */
  readonly isIdle: boolean;
  /** sockets that something still refers to, and what refers to them: 0 at the end */
  readonly leftovers: number;
  /** descriptors of the driver itself */
  readonly ownFiles: number;
  /** sockets whose connect hangs */
  readonly hanging: SimulatedSocket[];
  /** Ends a connect that hangs. @param errno 0: it is connected */
  resolve(socket: SimulatedSocket, errno: number): void;
  arrive(socket: SimulatedSocket, bytes: Uint8Array): void;
  fin(socket: SimulatedSocket): void;
  reset(socket: SimulatedSocket, errno: number): void;
  /** The far side reads, which makes room. */
  readSome(socket: SimulatedSocket, bytes: number): void;
}

/** A connection as the kernel sees it. */
export class SimulatedSocket {
  readonly port: number;
  state: 'new' | 'connecting' | 'rejected' | 'connected' = 'new';
  /** its connect was answered with 0, and is not */
  isAnsweredEarly = false;
  /** it was reported that it takes bytes */
  isSeenOpen = false;
  /** all that the far side has sent */
  sentByFar = Buffer.alloc(0);
  /** how much of that was received */
  received = 0;
  /** all that we have sent */
  sentByUs = Buffer.alloc(0);
  room = 1_500;
  hasFin = false;
  isDead = false;
  error = 0;
  isReset = false;
  /** a segment has come since it was last asked to forget that */
  isHeard = false;
  isInTable = true;
  readonly watches = new Set<Watch>();
  connect: Request | null = null;

  constructor(port: number) {
    this.port = port;
  }

  get mask(): number {
    const isOver = this.hasFin || this.isDead;
    if (this.state === 'rejected' && !isOver) return POLLERR;
    return (
      (this.received < this.sentByFar.length || isOver || this.error !== 0 ? POLLIN : 0) |
      (this.room > 0 || this.isDead ? POLLOUT : 0) |
      (isOver ? POLLRDHUP : 0) |
      (this.error !== 0 ? POLLERR : 0) |
      (this.isDead ? POLLHUP : 0)
    );
  }

  /** Whether nothing refers to it any more: the kernel has closed it. */
  get isReleased(): boolean {
    return !this.isInTable && this.watches.size === 0 && this.connect === null;
  }
}

/** What became of one open, by its source port. */
export interface Account {
  readonly port: number;
  /** the step that failed first, by its number in the chain, and its errno */
  failed: { step: number; errno: number } | null;
  socket: SimulatedSocket | null;
  /** results that end a connection, in the order in which they were given */
  readonly ends: { point: FaultPoint; errno: number }[];
}

export interface Request {
  readonly op: number;
  readonly flags: number;
  readonly words: Int32Array;
}

/** The address that two words of a request name. */
export function addressOf(request: Request, at: number): number {
  return (request.words[at]! >>> 0) + (request.words[at + 1]! >>> 0) * 0x1_0000_0000;
}

/** Index and tag: one for all requests of an open. */
export function keyOf(request: Request): string {
  return `${request.words[Sqe.USER_LOW]! >>> 4}/${request.words[Sqe.USER_HIGH]}`;
}

/** What a watch and a connect are found by. */
export function nameOf(request: Request): string {
  return `${request.words[Sqe.USER_LOW]}/${request.words[Sqe.USER_HIGH]}`;
}

export interface Watch {
  readonly socket: SimulatedSocket;
  readonly low: number;
  readonly high: number;
  readonly mask: number;
  readonly isOnce: boolean;
  isCancelled: boolean;
  isQueued: boolean;
}

/** What far sides do to connections, whichever calls our side makes. */
export abstract class FarSides {
  /** @param key what has come about: who watches for something else sleeps on */
  protected abstract wake(socket: SimulatedSocket, key: number): void;

  arrive(socket: SimulatedSocket, bytes: Uint8Array): void {
    socket.sentByFar = Buffer.concat([socket.sentByFar, bytes]);
    socket.isHeard = true;
    this.wake(socket, POLLIN);
  }

  fin(socket: SimulatedSocket): void {
    socket.hasFin = true;
    this.wake(socket, POLLIN | POLLRDHUP);
  }

  reset(socket: SimulatedSocket, errno: number): void {
    socket.error = errno;
    socket.isDead = true;
    this.wake(socket, POLLIN | POLLOUT | POLLERR | POLLHUP);
  }

  readSome(socket: SimulatedSocket, bytes: number): void {
    socket.room += bytes;
    this.wake(socket, POLLOUT);
  }
}

const POINTS: Readonly<Record<number, FaultPoint>> = {
  [Op.SOCKET]: 'socket',
  [Op.BIND]: 'bind',
  [Op.CONNECT]: 'connect',
  [Op.RECV]: 'receive',
  [Op.SEND]: 'send',
  [Op.CLOSE]: 'close',
  [Op.ASYNC_CANCEL]: 'cancel',
  [Op.FIXED_FD_INSTALL]: 'install',
};

const OPTIONS: Readonly<Record<number, FaultPoint>> = {
  [libc.SO_LINGER]: 'linger',
  [libc.SO_KEEPALIVE]: 'keepalive',
  [libc.SO_INCOMING_CPU]: 'hear',
};

/** What a request is for. */
export function pointOf(request: Request): FaultPoint {
  const point = POINTS[request.op];
  if (point !== undefined) return point;
  if (request.op === Op.URING_CMD) {
    if (request.words[Sqe.OFF] === CMD_GETSOCKOPT) return 'look';
    if (request.words[Sqe.ADDR] === libc.IPPROTO_TCP) return 'keepalive';
    return OPTIONS[request.words[Sqe.ADDR_HIGH]!] ?? 'reuse';
  }
  assert.equal(request.op, Op.POLL_ADD);
  return request.words[Sqe.OP_FLAGS] === POLLOUT ? 'watchWritable' : 'watch';
}
