/**
 * Owns the system calls of the epoll driver as they are without a kernel: sockets that the test moves, an epoll instance that
 * reports each change once, and a rule that says which call fails with what. It keeps its own account of every connection.
 * Must never use anything of the driver but the numbers of libc.ts.
 *
 * Taken from the kernel, because the driver rests on it: a socket that connects is neither readable nor writable; an event
 * carries all that is so when it is taken, and is queued by what changes (ep_poll_callback in fs/eventpoll.c); a closed
 * descriptor is in no instance any more, and its number is given out again first.
 */
import assert from 'node:assert/strict';
import * as libc from '../../../src/engine/libc.ts';
import {
  type Account,
  FarSides,
  type FaultPoint,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  type SimulatedHost,
  SimulatedSocket,
} from './simulated-socket.ts';

const { Errno } = libc;
const STEPS: Partial<Record<FaultPoint, number>> = { socket: 1, reuse: 2, bind: 3, connect: 4, watch: 5 };
const FIRST_FD = 1_000_000;

interface Registered {
  readonly socket: SimulatedSocket;
  mask: number;
  slot: number;
}

/** The calls of one driver. */
export class SimulatedCalls extends FarSides implements SimulatedHost {
  readonly accounts = new Map<number, Account>();
  readonly sockets: SimulatedSocket[] = [];
  fault: (point: FaultPoint) => number = () => 0;
  /** what epoll_wait() is to answer instead: -errno; null: nothing */
  enterFault: () => { errno: number; taken: number } | null = () => null;
  connectResult: () => number = () => 0;
  /** events that one wait brings at most */
  eventsMax = 1_024;
  /** the connection that is opened next */
  #opening: Account | null = null;
  readonly #files = new Map<number, SimulatedSocket | null>();
  readonly #accountOf = new Map<SimulatedSocket, Account>();
  readonly #connecting = new Set<SimulatedSocket>();
  readonly #registered = new Map<number, Registered>();
  /** by descriptor, in the order in which something has changed */
  readonly #ready = new Set<number>();

  willOpen(port: number): void {
    this.#opening = { port, failed: null, socket: null, ends: [] };
    this.accounts.set(port, this.#opening);
  }

  get isIdle(): boolean {
    return this.#ready.size === 0;
  }

  get leftovers(): number {
    const open = [...this.#files.values()].filter((socket) => socket !== null).length;
    return open + this.sockets.filter((socket) => !socket.isReleased).length;
  }

  get ownFiles(): number {
    return [...this.#files.values()].filter((socket) => socket === null).length;
  }

  get hanging(): SimulatedSocket[] {
    return [...this.#connecting];
  }

  // ---- descriptors ----

  #give(socket: SimulatedSocket | null): number {
    let fd = FIRST_FD;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, socket);
    return fd;
  }

  #socket(fd: number): SimulatedSocket {
    const socket = this.#files.get(fd);
    assert(socket, `descriptor ${fd} is a socket`);
    return socket;
  }

  #step(point: FaultPoint, account: Account): number {
    const errno = this.fault(point);
    if (errno !== 0) account.failed ??= { step: STEPS[point]!, errno };
    return -errno;
  }

  tcpSocket = (): number => {
    const account = this.#opening!;
    const code = this.#step('socket', account);
    if (code < 0) return code;
    const socket = new SimulatedSocket(account.port);
    this.sockets.push(socket);
    this.#accountOf.set(socket, account);
    account.socket = socket;
    return this.#give(socket);
  };

  epollCreate = (): number => this.#give(null);

  eventfd = (): number => this.#give(null);

  close = (fd: number): number => {
    const socket = this.#files.get(fd);
    assert(socket !== undefined, `descriptor ${fd} is open`);
    this.#files.delete(fd);
    this.#registered.delete(fd);
    this.#ready.delete(fd);
    if (socket === null) return 0;
    socket.isInTable = false;
    this.#connecting.delete(socket);
    // Whatever it answers, the descriptor is gone (close(2)).
    return -this.fault('close');
  };

  setIntOption = (fd: number): number => this.#step('reuse', this.#accountOf.get(this.#socket(fd))!);

  setResetOnClose = (fd: number): number => {
    const errno = this.fault('linger');
    if (errno === 0) this.#socket(fd).isReset = true;
    return -errno;
  };

  setKeepalive = (fd: number): number => {
    this.#socket(fd);
    return 0;
  };

  probeWindow = this.setKeepalive;

  tcpInfo = (fd: number): number => (this.#files.has(fd) ? 104 : -Errno.EBADF);

  // ---- opening ----

  bind = (fd: number, address: Uint8Array): number => {
    const account = this.#accountOf.get(this.#socket(fd))!;
    const port = new DataView(address.buffer, address.byteOffset).getUint16(2, false);
    assert.equal(port, account.port, 'its own port is bound');
    return this.#step('bind', account);
  };

  connect = (fd: number): number => {
    const socket = this.#socket(fd);
    const code = this.#step('connect', this.#accountOf.get(socket)!);
    if (code < 0) return code;
    socket.state = 'connecting';
    this.#connecting.add(socket);
    const result = this.connectResult();
    if (result >= 0) this.resolve(socket, result);
    return -Errno.EINPROGRESS;
  };

  resolve(socket: SimulatedSocket, errno: number): void {
    if (!this.#connecting.delete(socket)) return;
    socket.state = 'connected';
    socket.error = errno;
    socket.isDead = errno !== 0;
    this.wake(socket, POLLOUT | (errno === 0 ? 0 : POLLIN | POLLERR | POLLHUP));
  }

  /** The driver asks only while it does not know yet that the connect has succeeded. */
  socketError = (fd: number): number => {
    const socket = this.#socket(fd);
    const { error } = socket;
    socket.error = 0;
    if (error !== 0) this.#accountOf.get(socket)!.failed ??= { step: STEPS.connect!, errno: error };
    return error;
  };

  // ---- bytes ----

  #end(socket: SimulatedSocket, point: FaultPoint, errno: number): void {
    this.#accountOf.get(socket)!.ends.push({ point, errno });
  }

  recv = (fd: number, buffer: Uint8Array, length: number): number => {
    const socket = this.#socket(fd);
    const errno = this.fault('receive');
    if (errno === Errno.EINTR) return -errno;
    // Nothing wakes a socket again for what it has had all the time.
    if (errno === Errno.EAGAIN) this.wake(socket, POLLIN);
    else if (errno !== 0) this.#end(socket, 'receive', errno);
    if (errno !== 0) return -errno;
    if (socket.received < socket.sentByFar.length) {
      const bytes = socket.sentByFar.subarray(socket.received, socket.received + length);
      socket.received += bytes.length;
      buffer.set(bytes);
      return bytes.length;
    }
    if (socket.error === 0 && !socket.hasFin && !socket.isDead) return -Errno.EAGAIN;
    const { error } = socket;
    socket.error = 0;
    this.#end(socket, 'receive', error);
    return -error;
  };

  send = (fd: number, buffer: Uint8Array, length: number): number => {
    const socket = this.#socket(fd);
    const errno = this.fault('send');
    if (errno === Errno.EINTR) return -errno;
    if (errno === Errno.EAGAIN) {
      this.wake(socket, POLLOUT);
      return -errno;
    }
    const error = errno !== 0 ? errno : socket.error || (socket.isDead ? Errno.EPIPE : 0);
    if (error !== 0) {
      if (errno === 0) socket.error = 0;
      this.#end(socket, 'send', error);
      return -error;
    }
    const taken = Math.min(socket.room, length);
    if (taken === 0) return -Errno.EAGAIN;
    socket.sentByUs = Buffer.concat([socket.sentByUs, buffer.subarray(0, taken)]);
    socket.room -= taken;
    return taken;
  };

  // ---- epoll ----

  epollCtl = (_epoll: number, operation: number, fd: number, event: Uint8Array | null): number => {
    const socket = this.#files.get(fd);
    // What wakes a parked driver is never written to here.
    if (socket === null) return 0;
    assert(socket !== undefined, `descriptor ${fd} is open`);
    const account = this.#accountOf.get(socket)!;
    if (operation === libc.EPOLL_CTL_ADD) {
      const code = this.#step('watch', account);
      if (code < 0) return code;
    } else {
      const errno = this.fault('watchAgain');
      if (errno !== 0) this.#end(socket, 'watchAgain', errno);
      if (errno !== 0) return -errno;
    }
    assert(event !== null, 'nothing is taken out before it is closed');
    const view = new DataView(event.buffer, event.byteOffset);
    const mask = view.getInt32(0, true);
    assert((mask & libc.EPOLLET) !== 0, 'each change is reported once');
    const slot = view.getInt32(libc.EPOLL_DATA_OFFSET, true);
    this.#registered.set(fd, { socket, mask: mask | POLLERR | POLLHUP, slot });
    if ((this.#maskOf(socket) & mask) !== 0) this.#ready.add(fd);
    return 0;
  };

  #maskOf(socket: SimulatedSocket): number {
    return socket.state === 'connected' ? socket.mask : 0;
  }

  protected override wake(socket: SimulatedSocket, key: number): void {
    for (const [fd, registered] of this.#registered)
      if (registered.socket === socket && (key & registered.mask) !== 0) this.#ready.add(fd);
  }

  epollWait = (_epoll: number, events: Uint8Array, eventsMax: number): number => {
    const fault = this.enterFault();
    if (fault !== null) return -fault.errno;
    const view = new DataView(events.buffer, events.byteOffset);
    let count = 0;
    for (const fd of [...this.#ready].slice(0, Math.min(eventsMax, this.eventsMax))) {
      this.#ready.delete(fd);
      const { socket, mask, slot } = this.#registered.get(fd)!;
      const now = this.#maskOf(socket) & mask;
      if (now === 0) continue;
      view.setInt32(count * libc.EPOLL_EVENT_BYTES, now, true);
      view.setInt32(count * libc.EPOLL_EVENT_BYTES + libc.EPOLL_DATA_OFFSET, slot, true);
      count++;
    }
    return count;
  };

  epollWaitAsync = (): void => assert.fail('nothing parks');

  read = (): number => 8;

  write = (): number => 8;
}
