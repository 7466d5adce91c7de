/**
 * Owns one call at one moment of a clock, so that what is due ends then and not at the next tick.
 * Must never call early: who is called looks at the same clock again.
 */
import type { Clock } from '../base/clock.ts';

/** The longest wait that setTimeout takes: a signed number of 32 bits; a longer one would end at once. */
const WAIT_MS_MAX = 2 ** 31 - 1;

/** A timer for one moment at a time. */
export class DueTimer {
  readonly #clock: Clock;
  #timer: NodeJS.Timeout | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Calls once, when the clock has reached the moment; instead of what it was armed for before.
   * @param dueMs on the monotonic clock; may be Infinity, which never comes
   */
  arm(dueMs: number, onDue: () => void): void {
    this.cancel();
    const waitMs = Math.ceil(dueMs - this.#clock.monotonicMs());
    if (waitMs <= 0) {
      // Never from within the call that arms it.
      this.#timer = setTimeout(onDue, 0);
      return;
    }
    // Node's timers count whole milliseconds and may fire up to one early by a finer clock: then it waits again.
    this.#timer = setTimeout(() => this.#look(dueMs, onDue), Math.min(waitMs, WAIT_MS_MAX));
  }

  #look(dueMs: number, onDue: () => void): void {
    if (this.#clock.monotonicMs() >= dueMs) onDue();
    else this.arm(dueMs, onDue);
  }

  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
