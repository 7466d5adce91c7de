/**
 * Owns a clock that only pauses and the test itself move, for what waits until a deadline. Must never wait.
 */
import type { Waiting } from '../../src/time/timer.ts';

/** A clock whose pauses take what they ask, and `slowMs` more each. */
export class FakeTime implements Waiting {
  now = 10_000;
  readonly pauses: number[] = [];
  readonly #slowMs: number;

  constructor(slowMs = 0) {
    this.#slowMs = slowMs;
  }

  readonly nowMs = (): number => this.now;
  readonly pause = async (ms: number): Promise<void> => {
    this.pauses.push(ms);
    this.now += ms + this.#slowMs;
  };
}
