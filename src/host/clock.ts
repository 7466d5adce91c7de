/**
 * Owns reading the clock: the only file that may.
 * Must never be imported by pure code: that takes a `Clock` as an argument (core/clock.ts).
 */
import { performance } from 'node:perf_hooks';
import type { Clock } from '../core/clock.ts';

/** This host's clock. `monotonicMs` counts from the start of this process and ignores clock steps. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};
