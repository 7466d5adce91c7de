/**
 * Owns the pace of connects: when the next one may be called, and when it should have been.
 * Must never read a clock: time is an argument, in milliseconds.
 *
 * A rate is a limit over every second, whatever happened before: in any second (a half-open window, wherever it begins)
 * at most `rate + burst` connects are let through, rounded up to a whole one, where `burst` is `burstOf(rate)`. What a
 * late generator has missed beyond the burst is never caught up with; the ramp takes longer instead.
 *
 * Two schedules make both the limit and the latencies true:
 *  - the permitted one, which moves to the present whenever a connect is later than the burst allows, for any reason;
 *  - the planned one, from which latency counts. It moves only by what was our own lateness: the connect that was due in
 *    a pause of this process keeps its moment (its latency shows the whole pause), and those after it are planned that
 *    much later. `shiftMs` says by how much in all. Where the target holds the connects up (the pending cap is
 *    reached) the plan stays, so that its slowness shows in every connect that had to wait for it.
 */
import assert from 'node:assert/strict';

/** The part of a second by which connects may be late and still be made up for. */
const BURST_SHARE = 1 / 100;

/**
 * Connects that may come on top of the rate within one second: what 10 ms give, at least one.
 * @param ratePerSec above 0
 */
function burstOf(ratePerSec: number): number {
  return Math.max(1, ratePerSec * BURST_SHARE);
}

/** The pace of one engine. No method allocates. */
export class Pacer {
  #ratePerSec: number | null = null;
  /** between two connects; 0 without a rate */
  #periodMs = 0;
  /** how late a connect may be and still be made up for */
  #toleranceMs = 0;
  #permittedAtMs = 0;
  #plannedAtMs = 0;
  /** until then the pending cap has held the connects up */
  #heldUpUntilMs = 0;
  #shiftMs = 0;
  #shiftMsMax = 0;

  /** @param ratePerSec at least 0 (0: never any); null: no limit */
  constructor(ratePerSec: number | null) {
    this.setRate(ratePerSec, 0);
  }

  /** null: no limit */
  get ratePerSec(): number | null {
    return this.#ratePerSec;
  }

  /** From now on there is another rate. Nothing that was saved up at the old one is left. */
  setRate(ratePerSec: number | null, nowMs: number): void {
    assert(ratePerSec === null || ratePerSec >= 0, 'a rate below 0');
    this.#ratePerSec = ratePerSec;
    const isPaced = ratePerSec !== null && ratePerSec > 0;
    this.#periodMs = isPaced ? 1_000 / ratePerSec : 0;
    this.#toleranceMs = isPaced ? burstOf(ratePerSec) * this.#periodMs : 0;
    // What the old rate has put off for long, the new one gives after one of its own periods.
    this.#permittedAtMs = Math.min(Math.max(this.#permittedAtMs, nowMs), nowMs + this.#periodMs);
    this.#plannedAtMs = this.#permittedAtMs;
  }

  /** When the next connect may be called, a moment that may have passed; Infinity: never. */
  get nextAtMs(): number {
    if (this.#ratePerSec === null) return 0;
    return this.#ratePerSec === 0 ? Number.POSITIVE_INFINITY : this.#permittedAtMs;
  }

  /** By how much the plan was shifted because this process was late, in all. */
  get shiftMs(): number {
    return this.#shiftMs;
  }

  /** The longest single shift. */
  get shiftMsMax(): number {
    return this.#shiftMsMax;
  }

  /** Whether the next connect may be called now. */
  mayBegin(nowMs: number): boolean {
    return nowMs >= this.nextAtMs;
  }

  /**
   * One connect is called.
   * @param nowMs at least `nextAtMs`, and never less than before
   * @returns the moment for which it was planned, never after `nowMs`
   */
  begin(nowMs: number): number {
    if (this.#ratePerSec === null) return nowMs;
    assert(this.mayBegin(nowMs), 'a connect before its time');
    const planned = this.#plannedAtMs;
    const lateMs = nowMs - this.#permittedAtMs - this.#toleranceMs;
    if (lateMs > 0) {
      this.#countOwnLateness(nowMs);
      this.#permittedAtMs += lateMs;
    }
    this.#permittedAtMs += this.#periodMs;
    this.#plannedAtMs += this.#periodMs;
    return Math.min(planned, nowMs);
  }

  /** What the pending cap has not held up, beyond what is made up for, was our own. */
  #countOwnLateness(nowMs: number): void {
    const ms = nowMs - Math.max(this.#permittedAtMs, this.#heldUpUntilMs) - this.#toleranceMs;
    if (ms <= 0) return;
    this.#plannedAtMs += ms;
    this.#shiftMs += ms;
    if (ms > this.#shiftMsMax) this.#shiftMsMax = ms;
  }

  /** Until now connects were due and could not be called for a reason that is not ours: the pending cap. */
  heldUp(nowMs: number): void {
    this.#heldUpUntilMs = nowMs;
  }

  /** Until now this process stood still, and meanwhile it became forbidden to open: the pause was our own lateness. */
  stoodStill(nowMs: number): void {
    if (this.#periodMs > 0) this.#countOwnLateness(nowMs);
    this.idle(nowMs);
  }

  /** Until now there was nothing to open, or it was forbidden: nothing was missed, and nothing is saved up. */
  idle(nowMs: number): void {
    if (this.#plannedAtMs < nowMs) this.#plannedAtMs = nowMs;
    if (this.#permittedAtMs < nowMs) this.#permittedAtMs = nowMs;
  }
}
