/**
 * Owns the metrics that a requirement may name: what each is when a run has ended, and while it goes on the least and the
 * most that it can still become. Must never compare with a threshold (requirement.ts).
 */

import { totalOf } from '../base/outcome.ts';
import { histogramCount, latencySummary, type SparseHistogram, valueUsAtRank } from '../stats/histogram.ts';
import { firstOpened, rampRatePerSec, type Stats } from '../stats/stats.ts';

/** How a metric is written and compared. */
export type MetricKind = 'connections' | 'count' | 'latency' | 'rate' | 'seconds';

/** What the metrics are taken from. */
export interface MetricFacts {
  readonly asked: number;
  readonly phase: 'ramping' | 'holding' | 'ended';
  /** merged over all agents */
  readonly stats: Stats;
  /** the lowest number open (and verified, where probes run) since the hold began; 0 before it */
  readonly held: number;
  /** since the barrier, or of the whole ramp once it is over */
  readonly rampSeconds: number;
  readonly holdSeconds: number;
  /** lost connections are opened again (`--on-drop reopen`) */
  readonly canReopen: boolean;
}

/** What a metric can still become; both ends are equal once it is settled. */
export interface MetricRange {
  readonly low: number;
  readonly high: number;
}

const LATENCY_PARTS = ['p50', 'p90', 'p99', 'p999', 'max'] as const;
type LatencyPart = (typeof LATENCY_PARTS)[number];
const PER_MILLE: Readonly<Record<LatencyPart, number>> = {
  p50: 500,
  p90: 900,
  p99: 990,
  p999: 999,
  max: 1_000,
};
const LATENCY_OF = {
  connect: (stats: Stats) => stats.connectUs,
  intended: (stats: Stats) => stats.connectFromIntendedUs,
  probe: (stats: Stats) => stats.probeUs,
} as const;

const PLAIN_METRICS = {
  held: 'connections',
  verified: 'connections',
  open: 'connections',
  established: 'connections',
  failed: 'connections',
  dropped: 'connections',
  reopened: 'connections',
  unattempted: 'connections',
  retransmits: 'count',
  rate: 'rate',
  ramp_seconds: 'seconds',
  hold_seconds: 'seconds',
} as const satisfies Readonly<Record<string, MetricKind>>;
type PlainMetric = keyof typeof PLAIN_METRICS;

/** Every metric with its kind, in the order in which the manual lists them. */
export const METRICS: Readonly<Record<string, MetricKind>> = {
  ...PLAIN_METRICS,
  ...Object.fromEntries(
    Object.keys(LATENCY_OF).flatMap((name) =>
      LATENCY_PARTS.map((part) => [`${name}_${part}`, 'latency' as const]),
    ),
  ),
};

/** Whether only probes can measure it. */
export function needsProbes(metric: string): boolean {
  return metric.startsWith('probe_');
}

/**
 * What a metric is now.
 * @param metric a key of `METRICS`
 * @returns connections, counts, microseconds, connections per second or seconds; null: nothing was measured
 */
export function metricValue(metric: string, facts: MetricFacts): number | null {
  const latency = latencyOf(metric);
  if (latency !== null) return latencySummary(latency.pick(facts.stats))[latency.part];
  return plainValue(metric as PlainMetric, facts);
}

function plainValue(metric: PlainMetric, facts: MetricFacts): number {
  const { stats } = facts;
  switch (metric) {
    case 'held':
      return facts.held;
    case 'verified':
      return stats.verified;
    case 'open':
      return stats.open;
    case 'established':
      return stats.established;
    case 'failed':
      return totalOf(stats.failed);
    case 'dropped':
      return totalOf(stats.dropped);
    case 'reopened':
      return stats.reopened;
    case 'unattempted':
      return stats.unattempted;
    case 'retransmits':
      return stats.synRetransmits;
    case 'rate':
      return rampRatePerSec(stats);
    case 'ramp_seconds':
      return stats.rampMs / 1_000;
    case 'hold_seconds':
      return facts.holdSeconds;
  }
}

function latencyOf(
  metric: string,
): { readonly pick: (stats: Stats) => SparseHistogram; readonly part: LatencyPart } | null {
  const [name = '', part = ''] = metric.split('_');
  const pick = LATENCY_OF[name as keyof typeof LATENCY_OF];
  const known = LATENCY_PARTS.find((one) => one === part);
  return pick === undefined || known === undefined ? null : { pick, part: known };
}

/**
 * What a metric can still become, whatever happens from now on.
 * @param metric a key of `METRICS`
 * @returns null where nothing was measured in a run that has ended
 */
export function metricRange(metric: string, facts: MetricFacts): MetricRange | null {
  const value = metricValue(metric, facts);
  if (facts.phase === 'ended') return value === null ? null : { low: value, high: value };
  const latency = latencyOf(metric);
  if (latency !== null) return latencyRange(metric, latency.pick(facts.stats), latency.part, facts);
  return plainRange(metric as PlainMetric, value ?? 0, facts);
}

const ANYTHING: MetricRange = { low: 0, high: Number.POSITIVE_INFINITY };

function plainRange(metric: PlainMetric, now: number, facts: MetricFacts): MetricRange {
  const { asked, stats, canReopen } = facts;
  const gone = totalOf(stats.failed) + stats.unattempted;
  const openable = asked - gone - (canReopen ? 0 : totalOf(stats.dropped));
  const isRamping = facts.phase === 'ramping';
  switch (metric) {
    case 'held':
      return { low: 0, high: heldMax(facts) };
    case 'verified':
    case 'open':
      return { low: 0, high: openable };
    case 'established':
      return { low: now, high: canReopen ? Number.POSITIVE_INFINITY : asked - gone };
    case 'failed':
    case 'dropped':
    case 'reopened':
    case 'unattempted':
    case 'retransmits':
      return { low: now, high: Number.POSITIVE_INFINITY };
    case 'rate':
      // What is left of a ramp whose connections are all open or gone is waiting for proof.
      if (!isRamping || firstOpened(stats) + gone >= asked) return { low: now, high: now };
      return { low: 0, high: facts.rampSeconds > 0 ? asked / facts.rampSeconds : Number.POSITIVE_INFINITY };
    case 'ramp_seconds':
      return isRamping
        ? { low: stats.rampMs / 1_000, high: Number.POSITIVE_INFINITY }
        : { low: now, high: now };
    case 'hold_seconds':
      return { low: now, high: Number.POSITIVE_INFINITY };
  }
}

/** The most that can still be held to the end. */
function heldMax({ asked, stats, phase, canReopen }: MetricFacts): number {
  const openable = asked - totalOf(stats.failed) - stats.unattempted;
  // A connection that is lost in the ramp is not opened again, so it can never be held.
  if (phase === 'ramping' || !canReopen) return openable - totalOf(stats.dropped);
  // What is opened again in the hold does not bring `openMin` back. By itself `openMin` is no bound: holders begin to
  // count it one after the other, and until then say 0.
  return openable - (stats.openAtHold - stats.openMin);
}

/** A percentile of connects is bounded by what is still to come: at best all further ones take no time at all. */
function latencyRange(
  metric: string,
  histogram: SparseHistogram,
  part: LatencyPart,
  facts: MetricFacts,
): MetricRange {
  const count = histogramCount(histogram);
  if (count === 0) return ANYTHING;
  if (part === 'max') return { low: valueUsAtRank(histogram, count), high: Number.POSITIVE_INFINITY };
  if (needsProbes(metric) || facts.canReopen) return ANYTHING;
  const total = Math.max(count, facts.asked);
  const rank = Math.ceil((PER_MILLE[part] * total) / 1_000) - (total - count);
  return { low: rank < 1 ? 0 : valueUsAtRank(histogram, rank), high: Number.POSITIVE_INFINITY };
}
