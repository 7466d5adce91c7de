/**
 * Owns the ranges of the numbers that a run is made of: what the command line takes, and what an agent takes from its
 * coordinator. Must never hold a default.
 */
import { DURATION_MS_MAX, RATE_PER_SEC_MAX } from '../base/units.ts';

const SEC_MS = 1_000;
const HOUR_MS = 3_600 * SEC_MS;
const DAY_MS = 24 * HOUR_MS;

/** The largest that are taken; both ends are included. Times in milliseconds. */
export const RunBound = {
  /** above this no kernel has the sockets; it also keeps every sum a safe integer */
  connections: 100_000_000,
  ratePerSec: RATE_PER_SEC_MAX,
  /** one connect in 31 years: less is a slip, and as a part of a rate it is not split off */
  ratePerSecMin: 1e-9,
  holdMs: DURATION_MS_MAX,
  /** a SYN is given up by the kernel itself after minutes (tcp_syn_retries); an answer that takes an hour is none */
  answerMs: HOUR_MS,
  answerMsMin: 1,
  /** shorter, and probes are all that a host does */
  probeEveryMsMin: 100,
  probeEveryMs: 7 * DAY_MS,
  /** how long an agent may act without contact */
  leaseMs: 600 * SEC_MS,
  /** an agent reports five times in it, and a turn of a busy event loop takes tens of milliseconds */
  quietMsMin: 50,
  endpoints: 65_536,
} as const;
