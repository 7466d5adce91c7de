/**
 * Owns how long the other side may take, in time in which this process ran: a process that stood still (stopped, or
 * starved of CPU) must not blame the other side for what it did not read. Must never know what is waited for.
 */
import { StandStill } from '../base/clock.ts';
import { after } from '../time/timer.ts';

const LOOK_EVERY_MS = 500;

/**
 * Calls `late` once so much time has passed while this process looked. A pause of this process counts as two looks
 * (1 s) at most, and looks that come late count as long as they took.
 * @param ms at least 1
 * @param nowMs monotonic
 * @returns gives up waiting; harmless afterwards
 */
export function lateAfter(ms: number, late: () => void, nowMs: () => number): () => void {
  const attention = new StandStill(LOOK_EVERY_MS, nowMs());
  let timer = after(Math.min(ms, LOOK_EVERY_MS), look);
  function look(): void {
    attention.look(nowMs());
    const leftMs = ms - attention.attendedMs;
    if (leftMs <= 0) late();
    else timer = after(Math.min(leftMs, LOOK_EVERY_MS), look);
  }
  return () => timer.cancel();
}
