/**
 * Owns one epoll instance: what is watched, and the batch of events that the last wait brought. Must never know what a slot
 * means.
 */

import assert from 'node:assert/strict';
import { succeeded } from './drivers/call-error.ts';
import * as libc from './libc.ts';

/** Events per wait: large enough to keep up in a ramp, small enough to yield to Node's loop often. */
const EVENTS_MAX = 1024;

/** What a connection is watched for: all that can happen to it, each change reported once. */
export const WATCHED = libc.EPOLLIN | libc.EPOLLOUT | libc.EPOLLRDHUP | libc.EPOLLET;

/** The slot under which the wake-up eventfd reports; never a connection. */
const WAKE_SLOT = -1;

/** The calls that one epoll instance makes. */
export const POLLER_CALLS = {
  epollCreate: libc.epollCreate,
  epollCtl: libc.epollCtl,
  epollWait: libc.epollWait,
  epollWaitAsync: libc.epollWaitAsync,
  eventfd: libc.eventfd,
  read: libc.read,
  write: libc.write,
  close: libc.close,
} as const;
type PollerCalls = typeof POLLER_CALLS;

/** One epoll instance. All methods but the constructor and `close` allocate nothing. */
export class Poller {
  readonly #calls: PollerCalls;
  readonly #fd: number;
  readonly #wakeFd: number;
  readonly #control = new Uint8Array(libc.EPOLL_EVENT_BYTES);
  readonly #controlView = new DataView(this.#control.buffer);
  readonly #events = new Uint8Array(EVENTS_MAX * libc.EPOLL_EVENT_BYTES);
  readonly #words = new Int32Array(this.#events.buffer);
  readonly #stride = libc.EPOLL_EVENT_BYTES / 4;
  readonly #dataWord = libc.EPOLL_DATA_OFFSET / 4;
  readonly #eight = new Uint8Array(8);
  #waiting = false;
  #closed = false;

  /**
   * @param calls others than those of libc.ts: for tests
   * @throws CallError when the process has no descriptor or no memory left for epoll itself
   */
  constructor(calls: PollerCalls = POLLER_CALLS) {
    this.#calls = calls;
    this.#fd = succeeded('epoll_create1', calls.epollCreate());
    this.#wakeFd = calls.eventfd();
    try {
      succeeded('eventfd', this.#wakeFd);
      succeeded('epoll_ctl', this.add(this.#wakeFd, libc.EPOLLIN, WAKE_SLOT));
    } catch (error) {
      if (this.#wakeFd >= 0) calls.close(this.#wakeFd);
      calls.close(this.#fd);
      throw error;
    }
  }

  /** Watches `fd`; its events come back with `slot`. 0, or -errno. */
  add(fd: number, events: number, slot: number): number {
    return this.#ctl(libc.EPOLL_CTL_ADD, fd, events, slot);
  }

  /** Changes what is watched of `fd`. 0, or -errno. */
  modify(fd: number, events: number, slot: number): number {
    return this.#ctl(libc.EPOLL_CTL_MOD, fd, events, slot);
  }

  /** Stops watching `fd`. Not needed before close(2): the kernel drops a closed descriptor by itself. */
  remove(fd: number): number {
    return this.#calls.epollCtl(this.#fd, libc.EPOLL_CTL_DEL, fd, null);
  }

  #ctl(operation: number, fd: number, events: number, slot: number): number {
    this.#controlView.setInt32(0, events, true);
    this.#controlView.setInt32(libc.EPOLL_DATA_OFFSET, slot, true);
    return this.#calls.epollCtl(this.#fd, operation, fd, this.#control);
  }

  /** Waits in this thread for at most `timeoutMs` (0: only looks). The number of events. */
  wait(timeoutMs: number): number {
    assert(!this.#waiting, 'wait() while waitAsync() owns the event buffer');
    const count = this.#calls.epollWait(this.#fd, this.#events, EVENTS_MAX, timeoutMs);
    return this.#drainWake(Math.max(0, count));
  }

  /**
   * Waits in a worker thread, so that Node's loop goes on; `wake()` ends it early.
   * @param done called with the number of events; one shared function, not a closure per call
   */
  waitAsync(timeoutMs: number, done: (count: number) => void): void {
    assert(!this.#waiting, 'only one wait at a time');
    this.#waiting = true;
    this.#calls.epollWaitAsync(this.#fd, this.#events, EVENTS_MAX, timeoutMs, (count) => {
      this.#waiting = false;
      if (this.#closed) this.#release();
      else done(this.#drainWake(count));
    });
  }

  /** Ends a running waitAsync soon. */
  wake(): void {
    this.#eight[0] = 1;
    this.#calls.write(this.#wakeFd, this.#eight, 8);
  }

  /** The slot of event `index` of the last batch. */
  slotAt(index: number): number {
    return this.#words[index * this.#stride + this.#dataWord]!;
  }

  /** The event bits of event `index` of the last batch. */
  eventsAt(index: number): number {
    return this.#words[index * this.#stride]!;
  }

  /** Takes the wake-up event out of the batch, so that callers see connections only. */
  #drainWake(count: number): number {
    for (let index = 0; index < count; index++) {
      if (this.slotAt(index) !== WAKE_SLOT) continue;
      this.#calls.read(this.#wakeFd, this.#eight, 8);
      const last = count - 1;
      this.#words.copyWithin(index * this.#stride, last * this.#stride, (last + 1) * this.#stride);
      return last;
    }
    return count;
  }

  /** Gives the descriptors back, after a running waitAsync has returned. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#waiting) this.wake();
    else this.#release();
  }

  #release(): void {
    this.#calls.close(this.#wakeFd);
    this.#calls.close(this.#fd);
  }
}
