/**
 * Owns reading the clock: the only file that may.
 * Must never be imported by pure code: that takes a `Clock` as an argument (base/clock.ts).
 */
import { performance } from 'node:perf_hooks';
import type { Clock } from '../base/clock.ts';

/**
 * What `performance.now()` of this process is behind the host's CLOCK_MONOTONIC (clock_gettime(2)), which
 * `process.hrtime` reads. Reading it once keeps the clock free of allocations.
 */
const ORIGIN_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/**
 * This host's clock. `monotonicMs` ignores clock steps and counts from one moment for all processes of the host, so
 * that a time which an agent names means the same to its holders.
 */
export const systemClock: Clock = {
  monotonicMs: () => ORIGIN_MS + performance.now(),
  wallMs: () => Date.now(),
};
