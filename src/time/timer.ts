/**
 * Owns time as Node gives it: every timer that this program starts (one call after a delay, one call per period, a pause,
 * waiting for what must be asked for again and again), and reading the clock. Must never be imported by pure code: that
 * takes a `Clock` as an argument (base/clock.ts).
 *
 * setTimeout and setInterval take a signed number of 32 bits and run a longer delay (24.8 days) after 1 ms, with a
 * warning; here such a delay is waited for in parts.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';

/** The longest delay that setTimeout waits for (TIMEOUT_MAX in Node's lib/internal/timers.js). */
const PART_MS_MAX = 2 ** 31 - 1;

/** A timer that is running. */
export interface Timer {
  /** It does not call any more. Cancelling twice, or after the call, does nothing. */
  cancel(): void;
}

/** What a timer may be given beside its delay. */
interface TimerOptions {
  /** it does not keep the process alive; absent: it does */
  readonly isUnref?: boolean;
}

class Delay implements Timer {
  readonly #call: () => void;
  readonly #isUnref: boolean;
  #leftMs: number;
  #handle: NodeJS.Timeout | null = null;

  constructor(delayMs: number, call: () => void, isUnref: boolean) {
    this.#call = call;
    this.#isUnref = isUnref;
    this.#leftMs = Math.max(0, delayMs);
    this.#wait();
  }

  #wait(): void {
    const partMs = Math.min(this.#leftMs, PART_MS_MAX);
    this.#leftMs -= partMs;
    this.#handle = setTimeout(() => {
      if (this.#leftMs > 0) this.#wait();
      else this.#call();
    }, partMs);
    if (this.#isUnref) this.#handle.unref();
  }

  cancel(): void {
    if (this.#handle !== null) clearTimeout(this.#handle);
    // Whoever keeps a cancelled timer, as a channel of thousands does, keeps nothing of Node's with it.
    this.#handle = null;
  }
}

class Period implements Timer {
  #delay: Timer;

  constructor(periodMs: number, call: () => void, isUnref: boolean) {
    const again = (): void => {
      this.#delay = new Delay(periodMs, again, isUnref);
      call();
    };
    this.#delay = new Delay(periodMs, again, isUnref);
  }

  cancel(): void {
    this.#delay.cancel();
  }
}

/**
 * Calls once, after a delay.
 * @param delayMs milliseconds; 0 and less: as soon as Node's loop comes to it; Infinity: never
 * @throws AssertionError when it is not a number
 */
export function after(delayMs: number, call: () => void, { isUnref = false }: TimerOptions = {}): Timer {
  assert(!Number.isNaN(delayMs), 'a delay is a number');
  return new Delay(delayMs, call, isUnref);
}

/**
 * Calls each time that a period is over.
 * @param periodMs milliseconds, at least 1: a shorter one would do nothing but call
 * @throws AssertionError when it is shorter, or not a number
 */
export function every(periodMs: number, call: () => void, { isUnref = false }: TimerOptions = {}): Timer {
  assert(periodMs >= 1, `a period of ${periodMs} ms`);
  if (periodMs > PART_MS_MAX) return new Period(periodMs, call, isUnref);
  const handle = setInterval(call, periodMs);
  if (isUnref) handle.unref();
  return { cancel: () => clearInterval(handle) };
}

/** What a pause may be given. */
interface PauseOptions extends TimerOptions {
  /** ends the pause at once when it is aborted, or was before */
  readonly signal?: AbortSignal;
}

/** Resolves after a delay. @param delayMs as for `after` */
export function pause(delayMs: number, { signal, ...options }: PauseOptions = {}): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      timer.cancel();
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = after(delayMs, end, options);
    signal?.addEventListener('abort', end);
  });
}

/** The clock and the pauses; a test gives its own. */
export interface Waiting {
  /** monotonic */
  readonly nowMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
}

/** A deadline on the real clock. */
export function realWaiting(nowMs: () => number): Waiting {
  return { nowMs, pause };
}

/**
 * Asks until the answer is yes, at least once.
 * @param ask gets the milliseconds that are left, at least 1, so that what it calls can keep to the deadline too
 * @param deadlineMs on the clock of `waiting`
 * @param everyMs between two questions
 * @returns whether it was so in time
 */
export async function waitUntil(
  ask: (leftMs: number) => boolean | Promise<boolean>,
  deadlineMs: number,
  everyMs: number,
  waiting: Waiting,
): Promise<boolean> {
  for (;;) {
    const leftMs = deadlineMs - waiting.nowMs();
    if (await ask(Math.max(1, leftMs))) return true;
    const restMs = deadlineMs - waiting.nowMs();
    if (restMs <= 0) return false;
    await waiting.pause(Math.min(everyMs, restMs));
  }
}

/** A timer for one moment at a time. */
export class DueTimer {
  readonly #nowMs: () => number;
  #timer: Timer | null = null;

  /** @param nowMs monotonic, with fraction */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /**
   * Calls once, when the clock has reached the moment; instead of what it was armed for before.
   * @param dueMs on the monotonic clock; may be Infinity, which never comes
   */
  arm(dueMs: number, onDue: () => void): void {
    this.cancel();
    const waitMs = Math.ceil(dueMs - this.#nowMs());
    if (waitMs <= 0) {
      // Never from within the call that arms it.
      this.#timer = after(0, onDue);
      return;
    }
    // Node's timers count whole milliseconds and may fire up to one early by a finer clock: then it waits again.
    this.#timer = after(waitMs, () => this.#look(dueMs, onDue));
  }

  #look(dueMs: number, onDue: () => void): void {
    if (this.#nowMs() >= dueMs) onDue();
    else this.arm(dueMs, onDue);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}

/**
 * What `performance.now()` of this process is behind the host's CLOCK_MONOTONIC (clock_gettime(2)), which
 * `process.hrtime` reads. Reading it once keeps the clock free of allocations.
 */
const ORIGIN_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/**
 * This host's clock. `monotonicMs` ignores clock steps and counts from one moment for all processes of the host, so
 * that a time which an agent names means the same to its holders.
 */
export const systemClock = {
  monotonicMs: () => ORIGIN_MS + performance.now(),
  wallMs: () => Date.now(),
};
