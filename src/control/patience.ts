/**
 * Owns how long the other side may take, in time in which this process ran: a process that stood still (stopped, or
 * starved of CPU) must not blame the other side for what it did not read. Must never know what is waited for.
 */

import { after } from '../time/timer.ts';

const LOOK_EVERY_MS = 500;

/**
 * Calls `late` once after so long; a pause of this process counts as one look of 500 ms at most.
 * @param ms rounded up to whole looks
 * @returns gives up waiting; harmless afterwards
 */
export function lateAfter(ms: number, late: () => void): () => void {
  let looksLeft = Math.ceil(ms / LOOK_EVERY_MS);
  let timer = after(LOOK_EVERY_MS, look);
  function look(): void {
    looksLeft--;
    if (looksLeft <= 0) late();
    else timer = after(LOOK_EVERY_MS, look);
  }
  return () => timer.cancel();
}
