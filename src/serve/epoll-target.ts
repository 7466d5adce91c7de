/**
 * Owns a worker's connections through epoll: one listener, its connections, and what they count. State per connection lies in
 * typed arrays indexed by descriptor, so a held connection costs a few bytes here and its kernel memory.
 * Must never speak to the parent (worker.ts), fork or log.
 */

import assert from 'node:assert/strict';
import { succeeded } from '../engine/drivers/call-error.ts';
import { SOCKADDR_BYTES_MAX } from '../engine/drivers/sockaddr.ts';
import * as libc from '../engine/libc.ts';
import { Poller } from '../engine/poller.ts';
import { after, type Timer } from '../time/timer.ts';
import type { ServeMode, SourceCount, WorkerTotals } from './serve-counts.ts';
import { SourceTable } from './source-table.ts';
import { isOutOfRoom, isTransient, SOURCES_LISTED_MAX, type Target, whoamiText } from './target.ts';

const DESCRIPTORS_AT_FIRST = 1024;
/** Accepts per turn: a backlog of 65,535 must not keep the loop from its open connections. */
const ACCEPTS_PER_TURN_MAX = 512;
const BUFFER_BYTES = 65_536;
/**
 * While something happened lately the loop waits in this thread: 1 us a call, where a wait in another thread costs
 * 40. It holds up IPC and timers for as long, so it is short.
 */
const BUSY_WAIT_MS = 2;
/** empty waits of BUSY_WAIT_MS after which the loop waits in another thread */
const BUSY_WAITS_MAX = 25;
const IDLE_WAIT_MS = 1_000;
/** After ENFILE, ENOBUFS or ENOMEM another process may free what is missing, and no event says so. */
const RETRY_ACCEPT_MS = 1_000;
/** the source entry of a descriptor that is no connection */
const NOT_OURS = -1;

/** One worker's connections. */
export class EpollTarget implements Target {
  readonly #listenerFd: number;
  readonly #mode: ServeMode;
  readonly #name: string;
  readonly #changed: () => void;
  readonly #poller = new Poller();
  readonly #sources = new SourceTable();
  /** source entry by descriptor */
  #sourceOf = new Int32Array(DESCRIPTORS_AT_FIRST).fill(NOT_OURS);
  /** echo: what a slow reader has not taken yet, by descriptor; empty unless a send was partial */
  readonly #unsent = new Map<number, Uint8Array>();
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #peer = new Uint8Array(SOCKADDR_BYTES_MAX);
  readonly #peerLength = new Int32Array(1);
  #open = 0;
  #accepted = 0;
  #closedByPeer = 0;
  #reset = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  #full = 0;
  #isListening = true;
  #isClosed = false;
  #emptyWaits = 0;
  #retryTimer: Timer | undefined;

  /**
   * @param listenerFd a non-blocking listening socket; the loop owns it from now on
   * @param mode `hold` drops what comes in, `echo` sends it back, `whoami` says once whom it sees and drops the rest
   * @param name what it calls itself in that mode
   * @param changed called after a batch of events: some count may have changed
   * @throws CallError when the kernel refuses epoll
   */
  constructor(listenerFd: number, mode: ServeMode, name: string, changed: () => void) {
    this.#listenerFd = listenerFd;
    this.#mode = mode;
    this.#name = name;
    this.#changed = changed;
    succeeded('epoll_ctl', this.#poller.add(listenerFd, libc.EPOLLIN, listenerFd));
  }

  /** Runs until `close`. */
  start(): void {
    setImmediate(this.#turn);
  }

  totals(): WorkerTotals {
    return {
      openNow: this.#open,
      acceptedTotal: this.#accepted,
      closedByPeer: this.#closedByPeer,
      reset: this.#reset,
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      descriptorsFull: this.#full,
    };
  }

  /** Source addresses with open connections, at most 65,536. */
  sources(): SourceCount[] {
    return this.#sources.list(SOURCES_LISTED_MAX);
  }

  /** Closes the listener and every connection, and lets the loop end. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#retryTimer?.cancel();
    libc.close(this.#listenerFd);
    for (let fd = 0; fd < this.#sourceOf.length; fd++) {
      if (this.#sourceOf[fd] !== NOT_OURS) libc.close(fd);
    }
    this.#poller.close();
  }

  readonly #turn = (): void => {
    if (this.#isClosed) return;
    const count = this.#poller.wait(BUSY_WAIT_MS);
    this.#handle(count);
    this.#emptyWaits = count > 0 ? 0 : this.#emptyWaits + 1;
    if (this.#emptyWaits < BUSY_WAITS_MAX) setImmediate(this.#turn);
    else this.#poller.waitAsync(IDLE_WAIT_MS, this.#idleDone);
  };

  readonly #idleDone = (count: number): void => {
    if (this.#isClosed) return;
    if (count === 0) {
      this.#poller.waitAsync(IDLE_WAIT_MS, this.#idleDone);
      return;
    }
    this.#handle(count);
    this.#emptyWaits = 0;
    setImmediate(this.#turn);
  };

  #handle(count: number): void {
    for (let index = 0; index < count; index++) {
      const fd = this.#poller.slotAt(index);
      if (fd === this.#listenerFd) this.#acceptSome();
      // A descriptor that was closed and accepted anew within this batch gets a stale event; every call below is
      // non-blocking and finds nothing to do then.
      else if (this.#sourceOf[fd] === NOT_OURS) continue;
      else if (this.#unsent.has(fd)) this.#flush(fd);
      else this.#receive(fd);
    }
    if (count > 0) this.#changed();
  }

  #acceptSome(): void {
    for (let accepts = 0; accepts < ACCEPTS_PER_TURN_MAX; accepts++) {
      this.#peerLength[0] = SOCKADDR_BYTES_MAX;
      const fd = libc.accept(this.#listenerFd, this.#peer, this.#peerLength);
      if (fd === -libc.Errno.EAGAIN) return;
      const code = fd < 0 ? fd : this.#take(fd);
      if (isOutOfRoom(code)) {
        this.#restListener(code);
        return;
      }
      // What is left is about one connection that ended in the queue (accept(2), "Error handling").
    }
  }

  /** Begins to hold an accepted connection: 0, or the -errno for which it had to be closed again. */
  #take(fd: number): number {
    if (fd >= this.#sourceOf.length) this.#grow(fd);
    const code = this.#poller.add(fd, libc.EPOLLIN, fd);
    if (code < 0) {
      // It cannot be served, so it must not look held.
      libc.close(fd);
      return code;
    }
    this.#sourceOf[fd] = this.#sources.add(this.#peer);
    this.#accepted++;
    this.#open++;
    if (this.#mode === 'whoami') this.#tellWhoami(fd);
    return 0;
  }

  /** Two lines, then silence. A new socket takes them; one that does not is about to end, and says so itself. */
  #tellWhoami(fd: number): void {
    const line = Buffer.from(whoamiText(this.#peer, this.#name), 'latin1');
    const sent = libc.send(fd, line, line.byteLength);
    if (sent > 0) this.#bytesOut += sent;
  }

  #grow(fd: number): void {
    let length = this.#sourceOf.length;
    while (length <= fd) length *= 2;
    const grown = new Int32Array(length).fill(NOT_OURS);
    grown.set(this.#sourceOf);
    this.#sourceOf = grown;
  }

  /** Without this the listener would be ready for ever and the loop would spin on a call that must fail. */
  #restListener(code: number): void {
    this.#full++;
    this.#isListening = false;
    this.#poller.remove(this.#listenerFd);
    const ownCloseHelps = code === -libc.Errno.EMFILE && this.#open > 0;
    if (!ownCloseHelps) this.#retryTimer = after(RETRY_ACCEPT_MS, this.#resumeListener);
  }

  readonly #resumeListener = (): void => {
    if (this.#isListening || this.#isClosed) return;
    this.#retryTimer?.cancel();
    const code = this.#poller.add(this.#listenerFd, libc.EPOLLIN, this.#listenerFd);
    this.#isListening = code === 0;
    // ENOMEM, ENOSPC: of the moment.
    if (code < 0) this.#retryTimer = after(RETRY_ACCEPT_MS, this.#resumeListener);
  };

  #receive(fd: number): void {
    const got = libc.recv(fd, this.#buffer, BUFFER_BYTES);
    if (got > 0) {
      this.#bytesIn += got;
      if (this.#mode === 'echo') this.#sendBack(fd, got);
    } else if (got === 0) {
      this.#closedByPeer++;
      this.#drop(fd);
    } else if (!isTransient(got)) {
      this.#reset++;
      this.#drop(fd);
    }
  }

  /** Sends the first `length` bytes of the buffer; what the socket does not take waits, and reading stops. */
  #sendBack(fd: number, length: number): void {
    const sent = this.#send(fd, this.#buffer, length);
    if (sent < 0 || sent === length) return;
    this.#unsent.set(fd, this.#buffer.slice(sent, length));
    this.#watch(fd, libc.EPOLLOUT);
  }

  #flush(fd: number): void {
    const rest = this.#unsent.get(fd);
    if (rest === undefined) return;
    const sent = this.#send(fd, rest, rest.byteLength);
    if (sent < 0) return;
    if (sent < rest.byteLength) {
      this.#unsent.set(fd, rest.subarray(sent));
      return;
    }
    this.#unsent.delete(fd);
    this.#watch(fd, libc.EPOLLIN);
  }

  /** Bytes that the socket took, 0 when it is full, negative when the connection is gone (and dropped). */
  #send(fd: number, bytes: Uint8Array, length: number): number {
    const sent = libc.send(fd, bytes, length);
    if (sent >= 0) {
      this.#bytesOut += sent;
      return sent;
    }
    if (isTransient(sent)) return 0;
    this.#reset++;
    this.#drop(fd);
    return sent;
  }

  #watch(fd: number, events: number): void {
    const code = this.#poller.modify(fd, events, fd);
    assert(code === 0, `an open connection must be watchable, errno ${-code}`);
  }

  #drop(fd: number): void {
    this.#sources.remove(this.#sourceOf[fd]!);
    this.#sourceOf[fd] = NOT_OURS;
    this.#unsent.delete(fd);
    libc.close(fd);
    this.#open--;
    if (!this.#isListening) this.#resumeListener();
  }
}
