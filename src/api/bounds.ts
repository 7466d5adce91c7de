/**
 * Owns the range of every flag that takes a number: one list, so that no number reaches a timer, an array or a loop that
 * cannot bear it. Must never hold a default (flags.ts).
 */
import { DURATION_MS_MAX, parseCount, parseDurationMs, parseRate } from '../base/units.ts';
import { HOLDERS_MAX } from '../plan/cost.ts';
import { ALIAS_LEASE_MAX_MS, ALIAS_LEASE_MIN_MS } from '../run/alias.ts';
import { RunBound } from '../run/run-bound.ts';
import { WORKERS_MAX } from '../serve/worker-count.ts';
import type { FlagValues } from './flags/flag-values.ts';

/** Both ends are included. */
export type Bounds =
  | { readonly kind: 'count'; readonly min: number; readonly max: number }
  | { readonly kind: 'duration'; readonly minMs: number; readonly maxMs: number }
  /** above 0, at most `RATE_PER_SEC_MAX` */
  | { readonly kind: 'rate' };

const AGENTS_MAX = 10_000;
const SAMPLES_MAX = 10_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Waiting for others is a week at most: what takes longer is not waited for by a process. */
const WAIT_MS_MAX = 7 * DAY_MS;

const count = (min: number, max: number): Bounds => ({ kind: 'count', min, max });
const duration = (minMs: number, maxMs: number): Bounds => ({ kind: 'duration', minMs, maxMs });
const rate: Bounds = { kind: 'rate' };

/** The range of each flag that is a count, a duration or a rate. */
export const FLAG_BOUNDS = {
  conns: count(1, RunBound.connections),
  rate,
  duration: duration(1, RunBound.holdMs),
  'connect-timeout': duration(RunBound.answerMsMin, RunBound.answerMs),
  'max-pending': count(1, RunBound.connections),
  'probe-every': duration(RunBound.probeEveryMsMin, RunBound.probeEveryMs),
  'probe-timeout': duration(RunBound.answerMsMin, RunBound.answerMs),
  'http-status': count(200, 599),
  'alias-lease': duration(ALIAS_LEASE_MIN_MS, ALIAS_LEASE_MAX_MS),
  holders: count(1, HOLDERS_MAX),
  'expect-agents': count(1, AGENTS_MAX),
  'wait-agents': duration(1, WAIT_MS_MAX),
  'progress-every': duration(100, DAY_MS),
  samples: count(1, SAMPLES_MAX),
  'idle-max': duration(1_000, DAY_MS),
  port: count(0, 65_535),
  workers: count(1, WORKERS_MAX),
  'max-conns': count(1, Number.MAX_SAFE_INTEGER),
  'max-rate': rate,
  'max-duration': duration(1, DURATION_MS_MAX),
  'wait-coordinator': duration(0, WAIT_MS_MAX),
  expires: duration(1_000, 10 * DURATION_MS_MAX),
  'wait-pods': duration(1_000, WAIT_MS_MAX),
} as const satisfies Readonly<Record<string, Bounds>>;

/** A flag that takes a number. */
export type NumberFlag = keyof typeof FLAG_BOUNDS;

/**
 * Reads the number of a flag.
 * @returns a count, milliseconds, or a rate per second; null: not given and without a default
 * @throws BenchError `bad-number`, `bad-duration` or `bad-rate`, exit 2
 */
export function readNumber(values: FlagValues, name: NumberFlag): number | null {
  const text = values.one(name);
  return text === null ? null : numberOf(text, values.origin(name), FLAG_BOUNDS[name]);
}

/** The number of a flag that has a default. */
export function needNumber(values: FlagValues, name: NumberFlag): number {
  const value = readNumber(values, name);
  if (value === null) throw new Error(`the flag ${name} has no default`);
  return value;
}

function numberOf(text: string, flag: string, bounds: Bounds): number {
  switch (bounds.kind) {
    case 'count':
      return parseCount(text, flag, bounds);
    case 'duration':
      return parseDurationMs(text, flag, bounds);
    case 'rate':
      return parseRate(text, flag);
  }
}
