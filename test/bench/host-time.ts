/**
 * Owns a clock that every process of this host reads the same: CLOCK_MONOTONIC, which `performance.now` shifts to the
 * start of each process. Must never be compared with one of another host.
 */

/** Milliseconds since some moment before this host's first process; never goes back. */
export function hostMonotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
