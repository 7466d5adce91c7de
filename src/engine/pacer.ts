/**
 * Owns the pace of a ramp: how many connects may have started by now, and when each should have.
 * Must never read a clock or remember anything: time is an argument.
 */
import assert from 'node:assert/strict';

/**
 * How many connects may have been started since the ramp began. The first may start at once; what a late generator
 * missed may be caught up with.
 * @param elapsedMs since the ramp began; below 0 nothing is allowed yet
 * @param ratePerSec at least 0 (0: never any); null is no limit
 * @returns a whole number, at most `rate * elapsed + 1`, never less than for an earlier time; Infinity without a limit
 */
export function connectsAllowed(elapsedMs: number, ratePerSec: number | null): number {
  if (ratePerSec === null) return Number.POSITIVE_INFINITY;
  assert(ratePerSec >= 0, 'a rate below 0');
  if (elapsedMs < 0 || ratePerSec === 0) return 0;
  return Math.floor((elapsedMs * ratePerSec) / 1_000) + 1;
}

/**
 * When a connect should have been started, so that latency can be measured from there and a late generator shows.
 * @param index 0 for the first connect of the ramp
 * @param ratePerSec above 0; null is no limit: then every connect is intended for the moment when it is made
 * @param nowMs since the ramp began, when the connect is made
 * @returns milliseconds since the ramp began, never after `nowMs`
 */
export function intendedAtMs(index: number, ratePerSec: number | null, nowMs: number): number {
  if (ratePerSec === null) return nowMs;
  assert(ratePerSec > 0, 'nothing is intended at a rate of 0');
  return Math.min(nowMs, (index * 1_000) / ratePerSec);
}
