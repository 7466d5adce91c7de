/**
 * Owns how the engine's thread waits from one turn to the next. Must never know what a turn does.
 *
 * Between turns Node's own loop runs (setImmediate), so messages and signals are never late by more than a turn. A
 * short wait blocks this thread; a long one is left to a worker thread, because it costs more to begin.
 */
import type { Poller } from './poller.ts';

/** Turns, one after the other, until the end. No method allocates but `wait` where it takes the worker thread. */
export class TurnLoop {
  readonly #poller: Poller;
  readonly #turn: (count: number) => void;
  #sleepMs = 0;
  #isWaitingAsync = false;
  #hasEnded = false;

  /** @param turn called with the number of events that the poller has; it ends with a call of `wait`, or is the last */
  constructor(poller: Poller, turn: (count: number) => void) {
    this.#poller = poller;
    this.#turn = turn;
  }

  readonly #poll = (): void => {
    if (this.#hasEnded) return;
    this.#turn(this.#poller.wait(this.#sleepMs));
  };

  readonly #waited = (count: number): void => {
    this.#isWaitingAsync = false;
    if (!this.#hasEnded) this.#turn(count);
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
      setImmediate(this.#poll);
      return;
    }
    this.#isWaitingAsync = true;
    this.#poller.waitAsync(sleepMs, this.#waited);
  }

  /** Ends the wait in the worker thread, if there is one. */
  wake(): void {
    if (this.#isWaitingAsync) this.#poller.wake();
  }

  /** The next turn comes without any sleep. */
  interrupt(): void {
    if (this.#isWaitingAsync) this.#poller.wake();
    else this.#sleepMs = 0;
  }

  /** There is no further turn; epoll is let go of. */
  end(): void {
    this.#hasEnded = true;
    this.#poller.close();
  }
}
