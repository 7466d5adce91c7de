/**
 * Owns what has changed between groups of reports: medians, change, whether it is beyond noise, and which named metric got
 * worse by more than it may. Must never read a file or make a text.
 */
import { totalOf } from '../base/outcome.ts';
import { METRICS, type MetricKind, recoveryPart, recoverySec } from './metric.ts';
import { beyondNoise, ERROR_RATE, RUNS_MIN, type TestedMetric } from './rank-test.ts';
import type { Latency, RunReport } from './report.ts';

/** Reports of one label. */
export interface ReportGroup {
  readonly label: string;
  readonly reports: readonly RunReport[];
}

/** A metric that may get worse by so much. */
export interface Tolerance {
  readonly text: string;
  /** a key of `METRICS` */
  readonly metric: string;
  /** in percent of the median before, or in the metric's own unit (latencies: milliseconds) */
  readonly limit: number;
  readonly isPercent: boolean;
}

/** How a metric stands in one pair of groups. */
export interface MetricChange {
  readonly metric: string;
  readonly kind: MetricKind;
  /** medians; null: not measured in any run */
  readonly base: number | null;
  readonly other: number | null;
  /** runs in which it was measured */
  readonly baseRuns: number;
  readonly otherRuns: number;
  /** percent of `base`; null: one is not measured, or `base` is 0 and `other` is not */
  readonly changePercent: number | null;
  readonly direction: 'better' | 'worse' | 'same' | 'other';
  /** null: too few runs to say */
  readonly isBeyondNoise: boolean | null;
}

/** A tolerance and what became of it. */
interface ToleranceResult {
  readonly text: string;
  readonly metric: string;
  readonly failed: boolean;
  readonly why: string;
}

/** One group against the base. */
export interface PairComparison {
  readonly base: string;
  readonly other: string;
  readonly baseRuns: number;
  readonly otherRuns: number;
  readonly changes: readonly MetricChange[];
  readonly tolerances: readonly ToleranceResult[];
  /** one line each: what makes the runs hard to compare */
  readonly notes: readonly string[];
}

/** All groups against the first. */
export interface Comparison {
  readonly errorRate: number;
  readonly runsMin: number;
  readonly pairs: readonly PairComparison[];
  readonly failed: boolean;
}

/** What is looked at when nothing is named: maxima and the last percentiles of single runs are mostly noise. */
const HEADLINES: readonly string[] = [
  'held',
  'failed',
  'dropped',
  'retransmits',
  'rate',
  'connect_p50',
  'connect_p99',
  'probe_p50',
  'probe_p99',
  'recovery_p50',
  'recovery_p99',
  'recovery_all',
  'balance',
];
/** More of these is better; less of all others, but for those that are neither. */
const MORE_IS_BETTER = new Set([
  'held',
  'verified',
  'open',
  'established',
  'rate',
  'messages_rate',
  'messages_answered',
]);
const NEITHER = new Set(['reopened', 'hold_seconds', 'messages_sent']);
const LATENCIES: Readonly<Record<string, (report: RunReport) => Latency>> = {
  connect: (report) => report.connectMs,
  intended: (report) => report.connectFromIntendedMs,
  probe: (report) => report.echoMs,
  message: (report) => report.echoMs,
};

/** What a report says of a metric: connections, counts, milliseconds, per second, seconds; null: not measured. */
function reportedValue(report: RunReport, metric: string): number | null {
  const [name = '', part = ''] = metric.split('_');
  const latency = LATENCIES[name];
  if (latency !== undefined) {
    const value = latency(report)[part as 'p50' | 'p90' | 'p99' | 'p999' | 'max'];
    return value ?? null;
  }
  const returned = recoveryPart(metric);
  if (returned !== null) {
    const seconds = recoverySec(report.incidents ?? null, returned);
    return seconds === Number.POSITIVE_INFINITY ? null : seconds;
  }
  const { connections: c, ramp, hold, messages } = report;
  const plain: Readonly<Record<string, number | null | undefined>> = {
    messages_sent: messages?.sent,
    messages_answered: messages?.answered,
    messages_wrong: messages?.wrong,
    messages_late: messages?.late,
    messages_missing: messages?.missing,
    messages_rate: messages?.ratePerSec,
    balance: report.balance?.ratioAtEnd,
    held: c.held,
    verified: c.verified,
    open: c.open,
    established: c.established,
    failed: totalOf(c.failed),
    dropped: totalOf(c.dropped),
    reopened: c.reopened,
    unattempted: c.unattempted,
    retransmits: ramp.synRetransmits,
    rate: ramp.ratePerSec,
    ramp_seconds: ramp.seconds,
    hold_seconds: hold.seconds,
  };
  return plain[metric] ?? null;
}

function medianOf(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

interface Measured {
  readonly metric: string;
  readonly base: readonly number[];
  readonly other: readonly number[];
}

/** Counts vary at least as those of rare events do; times are known to a thousandth. */
function testedOf({ metric, base, other }: Measured, asked: number): TestedMetric {
  const kind = METRICS[metric];
  if (kind !== 'connections' && kind !== 'count')
    return { base, other, floor: (mean) => (mean / 1_000) ** 2 };
  // Of nearly all, what is missing is what is rare.
  const missing = (values: readonly number[]): readonly number[] =>
    MORE_IS_BETTER.has(metric) ? values.map((value) => Math.max(0, asked - value)) : values;
  return { base: missing(base), other: missing(other), floor: (mean) => Math.max(mean, 1 / 4) };
}

function isTestable({ base, other }: Measured): boolean {
  return base.length >= RUNS_MIN && other.length >= RUNS_MIN;
}

/** Which of these are beyond noise, taken together; what has too few runs is absent. */
function noiseOf(measured: readonly Measured[], asked: number): ReadonlyMap<string, boolean> {
  const tested = measured.filter(isTestable);
  const found = beyondNoise(tested.map((one) => testedOf(one, asked)));
  return new Map(tested.map(({ metric }, at) => [metric, found[at] ?? false]));
}

function directionOf(metric: string, base: number, other: number): MetricChange['direction'] {
  if (base === other) return 'same';
  if (NEITHER.has(metric)) return 'other';
  return other > base === MORE_IS_BETTER.has(metric) ? 'better' : 'worse';
}

function changeOf(one: Measured, isBeyondNoise: boolean | null): MetricChange {
  const [base, other] = [medianOf(one.base), medianOf(one.other)];
  const isKnown = base !== null && other !== null;
  return {
    metric: one.metric,
    kind: METRICS[one.metric] ?? 'count',
    base,
    other,
    baseRuns: one.base.length,
    otherRuns: one.other.length,
    changePercent: !isKnown ? null : base === other ? 0 : base === 0 ? null : (100 * (other - base)) / base,
    direction: isKnown ? directionOf(one.metric, base, other) : 'other',
    isBeyondNoise,
  };
}

function judgeTolerance(
  { text, metric, limit, isPercent }: Tolerance,
  change: MetricChange,
): ToleranceResult {
  const { base, other, direction, isBeyondNoise } = change;
  const result = (failed: boolean, why: string): ToleranceResult => ({ text, metric, failed, why });
  if (base === null || other === null) return result(true, 'not measured on both sides');
  if (direction === 'same' || direction === 'better') return result(false, `it is ${direction}`);
  const by = Math.abs(other - base);
  const allowed = isPercent ? (Math.abs(base) * limit) / 100 : limit;
  if (by <= allowed) return result(false, 'within its tolerance');
  if (isBeyondNoise === false) return result(false, 'beyond its tolerance, but not beyond noise');
  const noise = isBeyondNoise === null ? `; fewer than ${RUNS_MIN} runs a side, so noise is not known` : '';
  return result(true, `worse by more than its tolerance${noise}`);
}

function notesOf(base: ReportGroup, other: ReportGroup): string[] {
  const notes: string[] = [];
  const asked = (group: ReportGroup): string =>
    [...new Set(group.reports.map((report) => `${report.asked.connections} ${report.asked.protocol}`))].join(
      ', ',
    );
  if (asked(base) !== asked(other))
    notes.push(`what was asked differs: ${asked(base)} against ${asked(other)} connections`);
  for (const { label, reports } of [base, other]) {
    const without = reports.filter(({ verdict }) => verdict === 'incomplete' || verdict === 'refused').length;
    if (without > 0)
      notes.push(`${without} of ${reports.length} runs of ${label} were incomplete or refused`);
    const limited = reports.filter(({ latencyTrustworthy }) => !latencyTrustworthy).length;
    if (limited > 0)
      notes.push(
        `in ${limited} of ${reports.length} runs of ${label} the generator was limited: latencies may be its own`,
      );
  }
  if (base.reports.length < RUNS_MIN || other.reports.length < RUNS_MIN)
    notes.push(`fewer than ${RUNS_MIN} runs a side: whether a change is beyond noise cannot be said`);
  return notes;
}

function comparePair(
  base: ReportGroup,
  other: ReportGroup,
  tolerances: readonly Tolerance[],
): PairComparison {
  const named = [...new Set(tolerances.map(({ metric }) => metric))];
  const valuesOf = ({ reports }: ReportGroup, metric: string): number[] =>
    reports.map((report) => reportedValue(report, metric)).filter((value) => value !== null);
  const measured = [...new Set([...HEADLINES, ...named])].map((metric) => ({
    metric,
    base: valuesOf(base, metric),
    other: valuesOf(other, metric),
  }));
  const asked = Math.max(...[...base.reports, ...other.reports].map((report) => report.asked.connections));
  // Who names a metric looks at that one, whatever else is shown.
  const ofAll = noiseOf(measured, asked);
  const ofNamed = noiseOf(
    measured.filter(({ metric }) => named.includes(metric)),
    asked,
  );
  const shown = measured.filter(
    (one) => one.base.length + one.other.length > 0 || named.includes(one.metric),
  );
  const changes = shown.map((one) => changeOf(one, ofNamed.get(one.metric) ?? ofAll.get(one.metric) ?? null));
  return {
    base: base.label,
    other: other.label,
    baseRuns: base.reports.length,
    otherRuns: other.reports.length,
    changes,
    tolerances: tolerances.flatMap((tolerance) => {
      const change = changes.find(({ metric }) => metric === tolerance.metric);
      return change === undefined ? [] : [judgeTolerance(tolerance, change)];
    }),
    notes: notesOf(base, other),
  };
}

/**
 * Compares each group with the first.
 * @param groups two or more, none empty
 */
export function compareReports(groups: readonly ReportGroup[], tolerances: readonly Tolerance[]): Comparison {
  const [base, ...others] = groups;
  const pairs = base === undefined ? [] : others.map((other) => comparePair(base, other, tolerances));
  const failed = pairs.some((pair) => pair.tolerances.some((result) => result.failed));
  return { errorRate: ERROR_RATE, runsMin: RUNS_MIN, pairs, failed };
}
