/**
 * Owns one call at one moment of a clock, so that what is due ends then and not at the next tick.
 * Must never call early: who is called looks at the same clock again.
 */
import type { Clock } from '../base/clock.ts';
import { after, type Timer } from '../time/timer.ts';

/** A timer for one moment at a time. */
export class DueTimer {
  readonly #clock: Clock;
  #timer: Timer | null = null;

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
      this.#timer = after(0, onDue);
      return;
    }
    // Node's timers count whole milliseconds and may fire up to one early by a finer clock: then it waits again.
    this.#timer = after(waitMs, () => this.#look(dueMs, onDue));
  }

  #look(dueMs: number, onDue: () => void): void {
    if (this.#clock.monotonicMs() >= dueMs) onDue();
    else this.arm(dueMs, onDue);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
