/**
 * Owns how late the engine's loop can have been through its own fault.
 * Must never read a clock: the moments of a turn are arguments, in milliseconds since the engine's start.
 */
import { LatencyRecorder } from '../stats/histogram.ts';

/** A turn's lag: what it took, and what the wait after it lasted beyond the sleep that it asked for. */
export class LoopLag {
  readonly #lagUs = new LatencyRecorder();
  #beganAtMs = 0;
  #endedAtMs = 0;
  #msMax = 0;
  #holdMsMax = 0;
  #isHolding = false;

  /**
   * A turn begins, and with it the lag of the one before is known.
   * @param sleptMs what the wait between them was asked to last at most
   * @param isBusy whether anything had happened: only then it was late for something
   * @returns the lag, milliseconds
   */
  turnBegins(nowMs: number, sleptMs: number, isBusy: boolean): number {
    let lag = 0;
    if (this.#endedAtMs > 0) {
      const overslept = Math.max(0, nowMs - this.#endedAtMs - sleptMs);
      const lagMs = this.#endedAtMs - this.#beganAtMs + overslept;
      lag = lagMs;
      if (lagMs > this.#msMax) this.#msMax = lagMs;
      if (this.#isHolding && lagMs > this.#holdMsMax) this.#holdMsMax = lagMs;
      if (isBusy) this.#lagUs.record(lagMs * 1_000);
    }
    this.#beganAtMs = nowMs;
    return lag;
  }

  /** The hold phase begins: `holdMsMax` is counted from now. */
  markHold(): void {
    this.#isHolding = true;
  }

  /** The largest lag since the hold began, milliseconds. */
  get holdMsMax(): number {
    return this.#holdMsMax;
  }

  /** The turn's work is done: the wait begins. */
  turnEnds(nowMs: number): void {
    this.#endedAtMs = nowMs;
  }

  /** The most by which an event or a timer can have been late, milliseconds. */
  get msMax(): number {
    return this.#msMax;
  }

  /** 99 % of the turns in which something happened were no later than this, milliseconds. */
  get msP99(): number {
    return this.#lagUs.percentileUs(99) / 1_000;
  }
}
