/**
 * Owns the parts of a report that are worked out from the agents' records: what was held, what proves it, what the kernels,
 * the generator and TLS sessions show, the timeline in bounded memory, each agent's row. Must never change a record.
 */

import { addBounded } from '../base/outcome.ts';
import { formatCount, formatDuration, formatRate } from '../base/units.ts';
import type { KernelCount } from '../host/kernel-evidence.ts';
import type { AgentRecord } from '../run/agent-record.ts';
import { type Churn, isChanging, type RunSpec } from '../run/run-spec.ts';
import { type StageSpan, spansOf, targetAt } from '../run/schedule.ts';
import { latencySummary, type SparseHistogram } from '../stats/histogram.ts';
import type { LoadCounts, StageCounts } from '../stats/load-counts.ts';
import { lossCounts } from '../stats/loss.ts';
import type { HolderHealth, Stats, TlsCounts } from '../stats/stats.ts';
import { laterSeries } from '../stats/time-series.ts';
import { judgeGenerator } from './generator-health.ts';
import type { MetricFacts } from './metric.ts';
import type {
  AgentReport,
  Latency,
  LoadReport,
  MessageReport,
  ProofName,
  RunReport,
  StageReport,
  TimelinePoint,
  TlsReport,
} from './report.ts';
import { heldByStages } from './stage-metrics.ts';

/** Names of kernel counters that a report tells apart. */
const COUNTERS_MAX = 256;
/** Different losses that a report lists; the rest is in their sum. */
const LOSS_COUNTS_MAX = 10_000;

/**
 * The lowest number open since the hold began; where probes run, also no more than have answered. An overdue probe drops
 * its connection, so one that has answered once and is still open was never overdue.
 */
export function heldOf(spec: RunSpec, stats: Stats, hasHold: boolean, hasEnded = true): number {
  if (!hasHold) return 0;
  if (spec.stages !== undefined) return heldByStages(spec, stats, hasEnded);
  return spec.probeEveryMs === null ? stats.openMin : Math.min(stats.openMin, stats.verified);
}

/**
 * What held connections have proven. Probes prove a hold only where as many as are held have answered since it began: a
 * hold that is shorter than the time between two probes may end before each was asked again.
 */
export function proofOf(spec: RunSpec, stats: Stats, held: number): ProofName {
  if (spec.probeEveryMs !== null && stats.verifiedInHold >= held) return 'probes';
  return stats.verified > 0 ? 'since-ramp' : 'kernel-only';
}

/** What the agents counted, each on the run's own time: one that came later has begun later. */
export function statsOnRunTime(agents: readonly AgentRecord[]): Stats[] {
  const starts = agents.flatMap(({ startedMs }) => (startedMs === null ? [] : [startedMs]));
  const startMs = Math.min(...starts);
  return agents.map(({ stats, startedMs }) => {
    const { evidence } = stats;
    const laterMs = startedMs === null ? 0 : startedMs - startMs;
    if (evidence === undefined || laterMs === 0) return stats;
    const connectsAt = laterSeries(evidence.connectsAt, laterMs);
    return {
      ...stats,
      evidence: { ...evidence, connectsAt, lossesAt: laterSeries(evidence.lossesAt, laterMs) },
    };
  });
}

/**
 * Connections that are open here and that the target's application has not taken, where its kernel is an agent's too: they wait in the
 * accept queue, or its accept is deferred. Where probes run, each that is held has been answered.
 */
export function notTakenOf(spec: RunSpec, agents: readonly AgentRecord[]): number {
  if (spec.probeEveryMs !== null) return 0;
  let waiting = 0;
  for (const { evidence } of agents) {
    for (const { waitingLast, halfOpenLast = 0 } of Object.values(evidence?.farSide ?? {}))
      waiting += waitingLast + halfOpenLast;
  }
  return waiting;
}

/** The metrics' facts of a run at some moment. */
export function metricFactsOf(
  spec: RunSpec,
  stats: Stats,
  at: {
    readonly phase: MetricFacts['phase'];
    readonly hasHold: boolean;
    readonly rampSeconds: number;
    readonly holdSeconds: number;
    readonly incidents: MetricFacts['incidents'];
    /** connections that no application has taken; absent: none is known of */
    readonly notTaken?: number;
  },
): MetricFacts {
  const { phase, hasHold, rampSeconds, holdSeconds, incidents, notTaken = 0 } = at;
  return {
    asked: spec.connections,
    phase,
    stats,
    held: Math.max(0, heldOf(spec, stats, hasHold, phase === 'ended') - notTaken),
    isChanging: isChanging(spec),
    stages: spansOf(spec.stages ?? []),
    rampSeconds,
    holdSeconds,
    canReopen: spec.onDrop === 'reopen',
    incidents,
  };
}

/** What was sent and answered; null: no message was asked for. */
export function messagesOf(spec: RunSpec, stats: Stats, holdSeconds: number): MessageReport | null {
  const send = spec.protocolOptions?.traffic?.send ?? null;
  if (send === null) return null;
  const { sent = 0, sentInHold = 0, wrong = 0, late = 0, missing = 0 } = stats.messages ?? {};
  return {
    everyMs: send.everyMs,
    areAnswered: spec.probeEveryMs !== null,
    sent,
    ratePerSec: holdSeconds > 0 ? sentInHold / holdSeconds : 0,
    answered: stats.probesAnswered,
    wrong,
    late,
    missing,
  };
}

/** An agent's row in the report. */
export function agentReportOf(spec: RunSpec, { id, stage, stats, ...agent }: AgentRecord): AgentReport {
  return {
    name: id,
    quota: agent.quota,
    established: stats.established,
    open: stats.open,
    held: spec.stages === undefined ? stats.openMin : heldOfShare(spec, stats, agent),
    verified: stats.verified,
    failed: stats.failed,
    dropped: stats.dropped,
    capacity: agent.capacity,
    boundBy: agent.boundBy,
    sources: agent.sources,
    lost: stage === 'lost',
    engine: agent.engine,
    holders: agent.holders,
  };
}

/** What an agent has held of a schedule: its quota, less what was missing of its share of a flat stage where most was. */
function heldOfShare(
  { stages = [] }: RunSpec,
  { load }: Stats,
  { shares, quota }: Pick<AgentRecord, 'shares' | 'quota'>,
): number {
  const missing = spansOf(stages).map(({ isFlat, fromMs }, index) =>
    isFlat ? targetAt(stages, shares, fromMs) - (load?.stages[index]?.openMin ?? 0) : 0,
  );
  return Math.max(0, quota - Math.max(0, ...missing));
}

/** CPU of all holders together, in milliseconds. */
export function holdersCpuMs(agents: readonly AgentRecord[]): number {
  return agents
    .flatMap((agent) => agent.holders)
    .reduce((sum, holder) => sum + holder.cpuUserMs + holder.cpuSystemMs, 0);
}

/** CPU of all holders between the first and the last report of the hold phase. */
export interface HoldCpu {
  readonly cpuMs: number;
  readonly elapsedMs: number;
}

/** The generator's own health. */
export function generatorOf(agents: readonly AgentRecord[], holdCpu: HoldCpu | null): RunReport['generator'] {
  const holders = agents.flatMap((agent) => agent.holders);
  const most = (pick: (holder: HolderHealth) => number): number => Math.max(0, ...holders.map(pick));
  const headrooms = holders.map((holder) => holder.descriptorsMax - holder.descriptorsUsed);
  const tuplesMax = holders.reduce((sum, holder) => sum + holder.tuplesMax, 0);
  const tuplesUsed = holders.reduce((sum, holder) => sum + holder.tuplesUsed, 0);
  return {
    holders: holders.length,
    cpuMs: holdersCpuMs(agents),
    cpuPercentOfOneCoreWhileHolding:
      holdCpu === null || holdCpu.elapsedMs < 1_000 ? null : (100 * holdCpu.cpuMs) / holdCpu.elapsedMs,
    loopLagMsMax: most((holder) => holder.loopLagMsMax),
    loopLagMsP99: most((holder) => holder.loopLagMsP99),
    scheduleLagMsP99: most((holder) => holder.scheduleLagMsP99),
    scheduleShiftMs: most((holder) => holder.scheduleShiftMs),
    gcMs: holders.reduce((sum, holder) => sum + holder.gcMs, 0),
    rampCpuWaitRatioMax: most(({ ramp }) => (ramp.wallMs === 0 ? 0 : ramp.waitMs / ramp.wallMs)),
    limits: judgeGenerator(holders).limits,
    residentBytesMax: most((holder) => holder.residentBytes),
    descriptorHeadroomMin: headrooms.length === 0 ? 0 : Math.min(...headrooms),
    tupleFillRatio: tuplesMax === 0 ? 0 : tuplesUsed / tuplesMax,
  };
}

/** Whether a kernel has as many as our own count before or after it was asked. */
function isMatch({ established, openBefore, open }: KernelCount): boolean {
  // More of them are not of this run: another run, or another program's pool, may use the same addresses.
  return established === null || established >= Math.min(openBefore, open);
}

/** Where a kernel has fewer than our own count, in words. */
export function kernelMismatches(counts: readonly KernelCount[]): string[] {
  return counts
    .filter((count) => !isMatch(count))
    .map(
      ({ agent, when, established, openBefore, open }) =>
        `${agent} at ${when}: the kernel counts ${formatCount(established ?? 0)} established sockets, our count is ` +
        (openBefore === open
          ? formatCount(open)
          : `${formatCount(openBefore)} before and ${formatCount(open)} after`),
    );
}

/** What all kernels said. */
export function kernelOf(agents: readonly AgentRecord[]): RunReport['kernel'] {
  const counts = agents.flatMap((agent) => agent.kernel);
  const last = counts.filter((count) => count.when === 'hold-end' && count.established !== null);
  const hosts = agents.flatMap(({ id, evidence }) => (evidence === null ? [] : [{ agent: id, ...evidence }]));
  let counters: Record<string, number> = {};
  for (const host of hosts) counters = addBounded(counters, host.counters, COUNTERS_MAX, 'other');
  return {
    established: last.length === 0 ? null : last.reduce((sum, count) => sum + (count.established ?? 0), 0),
    counts,
    counters,
    hosts,
  };
}

/** The ledger's counts. @param ledgerEntries losses with a line in the events file; null: there is no such file */
export function lossesOf(
  stats: Stats,
  lost: number,
  ledgerEntries: number | null,
  burstMax: number | null,
): RunReport['losses'] {
  return {
    counts: lossCounts(stats.droppedBy).slice(0, LOSS_COUNTS_MAX),
    young: stats.youngDrops,
    resetsOnProbe: stats.resetsOnProbe,
    burstMax,
    detailsCut: ledgerEntries === null ? 0 : Math.max(0, lost - ledgerEntries),
  };
}

/** The report's object. @param latencyOf how this report writes a latency */
export function tlsReportOf(
  { handshakeUs, ...counts }: TlsCounts,
  latencyOf: (sparse: SparseHistogram) => Latency,
): TlsReport {
  return { ...counts, handshakeMs: latencyOf(handshakeUs) };
}

/** One line for a person; none when no session was agreed on. */
export function tlsNotes(tls: TlsCounts | undefined): string[] {
  if (tls === undefined || tls.sessions === 0) return [];
  const { p50, p99 } = latencySummary(tls.handshakeUs);
  const ms = (us: number | null): string => `${((us ?? 0) / 1_000).toFixed(1)} ms`;
  const ciphers = Object.entries(tls.ciphers).map(([name, count]) => `${formatCount(count)} x ${name}`);
  const unchecked =
    tls.unverified === 0
      ? ''
      : `; ${formatCount(tls.unverified)} certificates would not have passed without --insecure`;
  const chosen = Object.entries(tls.alpn ?? {}).map(([name, count]) => `${formatCount(count)} x ${name}`);
  // Most servers choose nothing, or the one that is offered by default.
  const alpn = Object.keys(tls.alpn ?? {}).every((name) => name === 'none' || name === 'http/1.1')
    ? ''
    : `; by ALPN ${chosen.join(', ')}`;
  return [
    `tls: ${formatCount(tls.sessions)} sessions, ${formatCount(tls.resumed)} resumed, handshake p50 ${ms(p50)} ` +
      `p99 ${ms(p99)}, ${ciphers.join(', ')}${alpn}${unchecked}`,
  ];
}

/** Points kept at most; a day's run then has one every few minutes. */
const TIMELINE_POINTS_MAX = 600;

/** Thinned points and the number of snapshots from one kept point to the next. */
export interface Timeline {
  readonly points: readonly TimelinePoint[];
  readonly every: number;
  readonly seen: number;
}

export const EMPTY_TIMELINE: Timeline = { points: [], every: 1, seen: 0 };

/**
 * Adds a snapshot.
 * @param point not older than the points before it
 * @param isLandmark a change of phase: always kept when it is added
 */
export function withPoint(timeline: Timeline, point: TimelinePoint, isLandmark: boolean): Timeline {
  const seen = timeline.seen + 1;
  if (!isLandmark && timeline.seen % timeline.every !== 0) return { ...timeline, seen };
  const points = [...timeline.points, point];
  if (points.length <= TIMELINE_POINTS_MAX) return { ...timeline, points, seen };
  return { points: points.filter((_, index) => index % 2 === 0), every: timeline.every * 2, seen };
}

/** As `--churn` or `--lifetime` has it. */
function churnWords(churn: Churn): string {
  switch (churn.kind) {
    case 'rate':
      return formatRate(churn.perSec);
    case 'uniform':
      return `uniform:${formatDuration(churn.fromMs)}..${formatDuration(churn.toMs)}`;
    case 'exp':
      return `exp:${formatDuration(churn.ms)}`;
    case 'fixed':
      return formatDuration(churn.ms);
  }
}

/** Its part of the report; null: the load does not change. */
export function loadReportOf(
  { stages = [], closeOrder, churn }: RunSpec,
  load: LoadCounts | undefined,
  latencyOf: (sparse: SparseHistogram) => Latency,
): LoadReport | null {
  if (stages.length === 0 && churn === undefined) return null;
  return {
    churn: churn === undefined ? null : churnWords(churn),
    closeOrder: stages.length === 0 ? null : (closeOrder ?? 'newest'),
    churned: load?.churned ?? 0,
    lowered: load?.lowered ?? 0,
    stages: spansOf(stages).map((span, index) => stageReportOf(span, index, load?.stages[index], latencyOf)),
  };
}

function stageReportOf(
  { durationMs, connections, isFlat }: StageSpan,
  index: number,
  counts: StageCounts | undefined,
  latencyOf: (sparse: SparseHistogram) => Latency,
): StageReport {
  const isReached = isFlat && counts !== undefined && counts.waiting === 0;
  return {
    stage: index + 1,
    durationMs,
    connections,
    isFlat,
    held: isFlat && counts !== undefined ? counts.openMin : null,
    open: counts?.open ?? null,
    reachedSec: isReached ? counts.reachedMs / 1_000 : null,
    established: counts?.established ?? 0,
    failed: counts?.failed ?? 0,
    dropped: counts?.dropped ?? 0,
    lowered: counts?.lowered ?? 0,
    churned: counts?.churned ?? 0,
    connectMs: latencyOf(counts?.connectUs ?? []),
  };
}
