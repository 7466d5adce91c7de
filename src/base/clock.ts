/**
 * Owns what a clock answers, and how long this process itself stood still: a process that was stopped for seconds
 * (SIGSTOP, a frozen container, a suspended machine) must neither hide it nor blame others for it. Must never read a clock:
 * who ticks gives the moment.
 *
 * Node runs timers before it reads what has come meanwhile, so the first look after a stand-still finds every other process
 * silent. The age of what others said is therefore counted in time that was attended: it grows by two periods at most from
 * one look to the next.
 */

export interface Clock {
  /** milliseconds with fraction, never goes back, not affected by clock steps, the same for all processes of one host */
  monotonicMs(): number;
  /** milliseconds since the epoch, for people only */
  wallMs(): number;
}

/** A look that is late by less belongs to a busy machine, not to a stopped process. Milliseconds. */
export const STAND_STILL_MS_MIN = 2_000;

/** Fed by something that ticks. */
export class StandStill {
  readonly #periodMs: number;
  #lookedAtMs: number;
  #attendedMs = 0;
  #times = 0;
  #longestMs = 0;

  /**
   * @param periodMs how often `look` is going to be called
   * @param nowMs monotonic
   */
  constructor(periodMs: number, nowMs: number) {
    this.#periodMs = periodMs;
    this.#lookedAtMs = nowMs;
  }

  /**
   * A tick. @param nowMs monotonic
   * @returns by how much it was late, when that is a stand-still, otherwise 0
   */
  look(nowMs: number): number {
    const gapMs = Math.max(0, nowMs - this.#lookedAtMs);
    this.#lookedAtMs = nowMs;
    this.#attendedMs += Math.min(gapMs, 2 * this.#periodMs);
    const lateMs = gapMs - this.#periodMs;
    if (lateMs < STAND_STILL_MS_MIN) return 0;
    this.#times += 1;
    this.#longestMs = Math.max(this.#longestMs, lateMs);
    return lateMs;
  }

  /** Time since the start in which this process looked, milliseconds. */
  get attendedMs(): number {
    return this.#attendedMs;
  }

  /** How often it stood still. */
  get times(): number {
    return this.#times;
  }

  /** The longest time that it stood still for, milliseconds. */
  get longestMs(): number {
    return this.#longestMs;
  }

  /** One line for a report; null: it never stood still. @param who `agent a1` */
  note(who: string): string | null {
    if (this.#times === 0) return null;
    const longest = formatSeconds(this.#longestMs);
    const often =
      this.#times === 1
        ? `stood still for ${longest}`
        : `stood still ${this.#times} times, for up to ${longest}`;
    return `${who} ${often}: it was stopped, or had no core`;
  }
}

/** A stand-still for a person: `4.1 s`. */
export function formatSeconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
