/**
 * Owns how the engine's thread waits from one turn to the next, and how late its loop was through its own fault.
 * Must never know what a turn does.
 */
import { LatencyRecorder } from '../stats/histogram.ts';
import type { Driver } from './drivers/driver.ts';

/** Turns, one after the other, until the end. No method allocates but `wait` where it takes the worker thread. */
export class TurnLoop {
  readonly #driver: Driver;
  readonly #turn: (hasEvents: boolean) => void;
  #sleepMs = 0;
  #isParked = false;
  #hasEnded = false;

  /** @param turn is given whether the driver has events; it ends with a call of `wait`, or is the last */
  constructor(driver: Driver, turn: (hasEvents: boolean) => void) {
    this.#driver = driver;
    this.#turn = turn;
  }

  readonly #poll = (): void => {
    if (!this.#hasEnded) this.#turn(this.#driver.turn(this.#sleepMs));
  };

  readonly #parked = (): void => {
    this.#isParked = false;
    if (!this.#hasEnded) this.#turn(this.#driver.turn(0));
  };

  /** What the wait before this turn was asked to last at most, milliseconds. */
  get sleptMs(): number {
    return this.#sleepMs;
  }

  /** The first turn comes as soon as Node's loop lets it. */
  begin(): void {
    setImmediate(this.#poll);
  }

  /**
   * Waits for events, and then begins the next turn.
   * @param sleepMs at most so long, whole milliseconds
   * @param blockMsMax up to this the wait blocks this thread
   */
  wait(sleepMs: number, blockMsMax: number): void {
    this.#sleepMs = sleepMs;
    if (sleepMs <= blockMsMax) {
      // Node's loop comes first: what was begun must not wait for it.
      this.#driver.flush();
      setImmediate(this.#poll);
      return;
    }
    this.#isParked = true;
    this.#driver.park(sleepMs, this.#parked);
  }

  /** Ends the wait in the worker thread, if there is one. */
  wake(): void {
    if (this.#isParked) this.#driver.wake();
  }

  /** The next turn comes without any sleep. */
  interrupt(): void {
    if (this.#isParked) this.#driver.wake();
    else this.#sleepMs = 0;
  }

  /** There is no further turn; the driver gives back what it has. */
  end(): void {
    this.#hasEnded = true;
    this.#driver.end();
  }
}

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
