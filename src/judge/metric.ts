/**
 * Owns the metrics that a requirement may name: what each is when a run has ended, and while it goes on the least and the
 * most that it can still become. Must never compare with a threshold (requirement.ts).
 */

import { type Counts, DropReason, FailReason, totalOf } from '../base/outcome.ts';
import type { StageSpan } from '../run/schedule.ts';
import { balanceRatio } from '../stats/balance.ts';
import { histogramCount, latencySummary, type SparseHistogram, valueUsAtRank } from '../stats/histogram.ts';
import { type Incident, RECOVERY_PARTS, type RecoveryPart } from '../stats/incident-log.ts';
import { OTHER_PLACES, type PlaceOutcomes, type PlaceTable } from '../stats/place-outcomes.ts';
import { firstOpened, rampRatePerSec, type Stats } from '../stats/stats.ts';

import { STAGE_METRICS, stageCounts, stageSpan, stageValue } from './stage-metrics.ts';

/** How a metric is written and compared. */
export type MetricKind = 'connections' | 'count' | 'latency' | 'rate' | 'seconds' | 'ratio';

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
  /** null: not known */
  readonly incidents: readonly Incident[] | null;
  /** connections are closed and opened while the run goes on (`--stage`, `--churn`, `--lifetime`) */
  readonly isChanging: boolean;
  /** of a schedule */
  readonly stages: readonly StageSpan[];
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
  message: (stats: Stats) => stats.probeUs,
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
  messages_sent: 'count',
  messages_answered: 'count',
  messages_wrong: 'count',
  messages_late: 'count',
  messages_missing: 'count',
  rate: 'rate',
  messages_rate: 'rate',
  ramp_seconds: 'seconds',
  hold_seconds: 'seconds',
  balance: 'ratio',
} as const satisfies Readonly<Record<string, MetricKind>>;
type PlainMetric = keyof typeof PLAIN_METRICS;

const RECOVERY = 'recovery_';

/** Every metric with its kind, in the order in which the manual lists them. */
export const METRICS: Readonly<Record<string, MetricKind>> = {
  ...PLAIN_METRICS,
  ...Object.fromEntries(
    Object.keys(LATENCY_OF).flatMap((name) =>
      LATENCY_PARTS.map((part) => [`${name}_${part}`, 'latency' as const]),
    ),
  ),
  ...Object.fromEntries(
    Object.keys(RECOVERY_PARTS).map((part) => [`${RECOVERY}${part}`, 'seconds' as const]),
  ),
};

/** What of an incident a metric names; null: it names none. */
export function recoveryPart(metric: string): RecoveryPart | null {
  if (!metric.startsWith(RECOVERY)) return null;
  const part = metric.slice(RECOVERY.length);
  return part in RECOVERY_PARTS ? (part as RecoveryPart) : null;
}

/**
 * How long the slowest of all incidents took for its return, in seconds.
 * @returns Infinity: one of them has not; null: there was no incident, or it is not known
 */
export function recoverySec(incidents: readonly Incident[] | null, part: RecoveryPart): number | null {
  if (incidents === null || incidents.length === 0) return null;
  return Math.max(...incidents.map(({ backSec }) => backSec[part] ?? Number.POSITIVE_INFINITY));
}

/** Metrics that one endpoint, or one source, has too. */
export const PLACE_METRICS = ['held', 'established', 'failed', 'dropped'] as const;
type PlaceMetric = (typeof PLACE_METRICS)[number];

/** Reasons by which these are counted. */
export const REASONS_OF: Readonly<Record<string, readonly string[]>> = {
  failed: Object.values(FailReason),
  dropped: Object.values(DropReason),
};

/** A metric that is narrowed to a place, to a reason, or to both. */
interface Narrowed {
  /** null: the whole run */
  readonly place: { readonly kind: 'endpoint' | 'source' | 'stage'; readonly name: string } | null;
  readonly name: string;
  /** null: all reasons */
  readonly reason: string | null;
}

/**
 * Takes a metric apart: `endpoint[10.0.0.1:80].failed[refused]`, `source[10.0.0.2].held`, `dropped[rst]`, `held`.
 * @returns what is written there, whether or not there is such a thing; null: it is no metric at all
 */
export function narrowedMetric(metric: string): Narrowed | null {
  const match = /^(?:(endpoint|source|stage)\[(.+)\]\.)?([a-z][a-z0-9_.]*)(?:\[([^[\]]*)\])?$/.exec(metric);
  if (match === null) return null;
  const [, kind, at = '', name = '', reason = null] = match;
  const isPlace = kind === 'endpoint' || kind === 'source' || kind === 'stage';
  const place: Narrowed['place'] = isPlace ? { kind, name: at } : null;
  return { place, name, reason };
}

/** How a metric is written and compared; null: there is none of that name. */
export function metricKind(metric: string): MetricKind | null {
  const narrowed = narrowedMetric(metric);
  if (narrowed === null) return null;
  const { place, name, reason } = narrowed;
  if (reason !== null && REASONS_OF[name]?.includes(reason) !== true) return null;
  if (place === null) return METRICS[name] ?? null;
  if (place.kind === 'stage') return reason === null ? stageMetricKind(place.name, name) : null;
  return PLACE_METRICS.some((one) => one === name) ? 'connections' : null;
}

/** @param number of the stage, from 1 */
function stageMetricKind(number: string, name: string): MetricKind | null {
  if (!/^[1-9]\d{0,2}$/.test(number)) return null;
  if (Object.hasOwn(STAGE_METRICS, name)) return STAGE_METRICS[name as keyof typeof STAGE_METRICS];
  return name.startsWith('connect_') ? (METRICS[name] ?? null) : null;
}

/** The connections that a percentage is of: those asked for, or the connects that one place was asked for; null: not known. */
export function askedOf(metric: string, facts: MetricFacts): number | null {
  const place = narrowedMetric(metric)?.place ?? null;
  if (place === null) return facts.asked;
  if (place.kind === 'stage') return stageSpan(place.name, facts.stages)?.connections ?? null;
  const outcomes = outcomesAt(place, facts.stats);
  if (outcomes === null) return null;
  // What is opened again is asked for again.
  return outcomes.asked - (facts.canReopen ? Math.min(totalOf(outcomes.dropped), facts.stats.reopened) : 0);
}

/** The endpoints or sources that a run has counted, for a person. */
export function placesOf(
  kind: 'endpoint' | 'source' | 'stage',
  { evidence, load }: Stats,
): readonly string[] {
  if (kind === 'stage') return load?.stages.map((_, index) => String(index + 1)) ?? [];
  const table = kind === 'endpoint' ? evidence?.byEndpoint : evidence?.bySourceOutcome;
  return Object.keys(table ?? {}).filter((name) => name !== OTHER_PLACES);
}

function outcomesAt(
  { kind, name }: NonNullable<Narrowed['place']>,
  { evidence }: Stats,
): PlaceOutcomes | null {
  if (kind === 'stage') return null;
  const table: PlaceTable | undefined =
    kind === 'endpoint' ? evidence?.byEndpoint : evidence?.bySourceOutcome;
  return table?.[name] ?? null;
}

/** @param failed and dropped: of the run, or of the place */
function narrowedValue(
  { name, reason }: Narrowed,
  { failed, dropped }: Pick<PlaceOutcomes, 'failed' | 'dropped'>,
): number | null {
  if (name !== 'failed' && name !== 'dropped') return null;
  const counts: Counts<string> = name === 'failed' ? failed : dropped;
  return reason === null ? totalOf(counts) : (counts[reason] ?? 0);
}

/** null: the place is none of the run, nothing was asked of it, or an agent of an earlier version does not tell. */
function placeValue(narrowed: Narrowed, facts: MetricFacts): number | null {
  if (narrowed.place?.kind === 'stage') return valueOfStage(narrowed, facts);
  const outcomes = narrowed.place === null ? null : outcomesAt(narrowed.place, facts.stats);
  if (outcomes === null || outcomes.asked === 0) return null;
  const { established, dropped } = outcomes;
  switch (narrowed.name as PlaceMetric) {
    case 'held':
      // What is open there: without --on-drop reopen that is the lowest number, because it only falls.
      if (facts.phase === 'ramping') return 0;
      return facts.isChanging ? openAt(narrowed.place, facts.stats) : established - totalOf(dropped);
    case 'established':
      return established;
    case 'failed':
    case 'dropped':
      return narrowedValue(narrowed, outcomes);
  }
}

/** What we have closed ourselves is no loss of the place. */
function openAt(place: Narrowed['place'], { openByEndpoint, openBySource }: Stats): number {
  return (place?.kind === 'endpoint' ? openByEndpoint : openBySource)[place?.name ?? ''] ?? 0;
}

function valueOfStage({ place, name }: Narrowed, { stats }: MetricFacts): number | null {
  const counts = stageCounts(place?.name ?? '', stats);
  if (counts === null) return null;
  const part = latencyOf(name)?.part;
  return part === undefined ? stageValue(name, counts) : latencySummary(counts.connectUs)[part];
}

/** Whether only probes can measure it. */
export function needsProbes(metric: string): boolean {
  return metric.startsWith('probe_') || needsAnswers(metric);
}

/** Whether only messages that are sent can be counted in it. */
export function needsMessages(metric: string): boolean {
  return metric.startsWith('messages_') || metric.startsWith('message_');
}

/** Whether only messages that are answered can be counted in it. */
export function needsAnswers(metric: string): boolean {
  return needsMessages(metric) && metric !== 'messages_sent' && metric !== 'messages_rate';
}

/**
 * What a metric is now.
 * @param metric a key of `METRICS`, or one that is narrowed (`narrowedMetric`)
 * @returns connections, counts, microseconds, connections per second or seconds; null: nothing was measured
 */
export function metricValue(metric: string, facts: MetricFacts): number | null {
  const latency = latencyOf(metric);
  if (latency !== null) return latencySummary(latency.pick(facts.stats))[latency.part];
  const part = recoveryPart(metric);
  if (part !== null) return recoverySec(facts.incidents, part);
  const narrowed = narrowedMetric(metric);
  if (narrowed !== null && narrowed.place !== null) return placeValue(narrowed, facts);
  if (narrowed !== null && narrowed.reason !== null) return narrowedValue(narrowed, facts.stats);
  return plainValue(metric as PlainMetric, facts);
}

function plainValue(metric: PlainMetric, facts: MetricFacts): number | null {
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
    case 'messages_sent':
      return stats.messages?.sent ?? 0;
    case 'messages_answered':
      return stats.messages === undefined ? 0 : stats.probesAnswered;
    case 'messages_wrong':
      return stats.messages?.wrong ?? 0;
    case 'messages_late':
      return stats.messages?.late ?? 0;
    case 'messages_missing':
      return stats.messages?.missing ?? 0;
    case 'rate':
      return rampRatePerSec(stats);
    case 'messages_rate':
      return facts.holdSeconds > 0 ? (stats.messages?.sentInHold ?? 0) / facts.holdSeconds : 0;
    case 'ramp_seconds':
      return stats.rampMs / 1_000;
    case 'hold_seconds':
      return facts.holdSeconds;
    case 'balance':
      return balanceRatio(stats.backends);
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
  const part = recoveryPart(metric);
  if (part !== null) return recoveryRange(part, facts);
  const narrowed = narrowedMetric(metric);
  if (narrowed !== null && (narrowed.place !== null || narrowed.reason !== null))
    return narrowedRange(narrowed, value ?? 0, facts);
  return plainRange(metric as PlainMetric, value ?? 0, facts);
}

const ANYTHING: MetricRange = { low: 0, high: Number.POSITIVE_INFINITY };

function plainRange(metric: PlainMetric, now: number, facts: MetricFacts): MetricRange {
  const { asked, stats, canReopen } = facts;
  const gone = totalOf(stats.failed) + stats.unattempted;
  // The place of a failure is filled again in its turn.
  const openable = facts.isChanging ? asked : asked - gone - (canReopen ? 0 : totalOf(stats.dropped));
  const isRamping = facts.phase === 'ramping';
  switch (metric) {
    case 'held':
      return { low: 0, high: heldMax(facts) };
    case 'verified':
    case 'open':
      return { low: 0, high: openable };
    case 'established':
      return { low: now, high: canReopen || facts.isChanging ? Number.POSITIVE_INFINITY : asked - gone };
    case 'failed':
    case 'dropped':
    case 'reopened':
    case 'unattempted':
    case 'retransmits':
    case 'messages_sent':
    case 'messages_answered':
    case 'messages_wrong':
    case 'messages_late':
    case 'messages_missing':
      return { low: now, high: Number.POSITIVE_INFINITY };
    case 'messages_rate':
      return ANYTHING;
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
    case 'balance':
      return ANYTHING;
  }
}

/** The slowest so far, one that still lasts included: it only gets slower. */
function recoveryRange(part: RecoveryPart, { incidents, canReopen }: MetricFacts): MetricRange {
  const high = Number.POSITIVE_INFINITY;
  if (!canReopen) return { low: high, high };
  const so = (incidents ?? []).map(({ backSec, lastedSec }) => backSec[part] ?? lastedSec);
  return { low: Math.max(0, ...so), high };
}

/** Counts only grow; what is open at a place only falls once the ramp is over, unless lost ones are opened again. */
function narrowedRange(narrowed: Narrowed, now: number, facts: MetricFacts): MetricRange {
  const { phase, canReopen, isChanging } = facts;
  const { name, place } = narrowed;
  if (place?.kind === 'stage') {
    const isOver = Number(place.name) < (facts.stats.load?.stages.length ?? 0);
    return isOver ? { low: now, high: now } : ANYTHING;
  }
  if (name !== 'held') return { low: now, high: Number.POSITIVE_INFINITY };
  return phase === 'ramping' || canReopen || isChanging ? ANYTHING : { low: 0, high: now };
}

/** The most that can still be held to the end. */
function heldMax({ asked, stats, phase, canReopen, isChanging, stages, held }: MetricFacts): number {
  if (stages.length > 0) return phase === 'ramping' ? asked : held;
  if (isChanging) return asked - (stats.openAtHold - stats.openMin);
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
  if (needsProbes(metric) || facts.canReopen || facts.isChanging) return ANYTHING;
  const total = Math.max(count, facts.asked);
  const rank = Math.ceil((PER_MILLE[part] * total) / 1_000) - (total - count);
  return { low: rank < 1 ? 0 : valueUsAtRank(histogram, rank), high: Number.POSITIVE_INFINITY };
}
