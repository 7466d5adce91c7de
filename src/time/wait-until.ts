/**
 * Owns waiting for something that must be asked for again and again: until it is so, or until a moment of the clock.
 * Must never count its pauses: what it asks takes time too, and a pause on a busy machine is longer than it should be.
 */
import { pause } from './timer.ts';

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
