/**
 * Owns the making of the final report from the run's state and books. Must never change either.
 */
import type { Clock } from '../core/clock.ts';
import { formatEndpoint } from '../core/endpoint.ts';
import type { Finding } from '../core/finding.ts';
import { latencySummary, type SparseHistogram } from '../core/histogram.ts';
import { encodeHistogram } from '../core/histogram-encoding.ts';
import { totalOf } from '../core/outcome.ts';
import { type KernelCount, type Latency, REPORT_SCHEMA_VERSION, type RunReport } from '../core/report.ts';
import type { RunSpec } from '../core/run-spec.ts';
import type { RunState } from '../core/run-state.ts';
import { mergeAllStats, type Stats } from '../core/stats.ts';
import type { Timeline } from '../core/timeline.ts';
import { formatCount } from '../core/units.ts';
import { judgeRun } from '../core/verdict.ts';
import type { AgentBooks } from './agent-books.ts';

/** Everything that a finished run knows of itself. */
export interface RunFacts {
  readonly spec: RunSpec;
  readonly targetText: readonly string[];
  readonly toolVersion: string;
  readonly state: RunState;
  readonly books: readonly AgentBooks[];
  readonly timeline: Timeline;
  readonly startedWallMs: number;
  /** null where the phase was never reached */
  readonly holdStartedMs: number | null;
  readonly holdEndedMs: number | null;
  /** CPU of all holders between the first and the last report of the hold phase */
  readonly holdCpu: { readonly cpuMs: number; readonly elapsedMs: number } | null;
  readonly notes: readonly string[];
}

function latencyOf(sparse: SparseHistogram): Latency {
  const { count, p50, p90, p99, p999, max } = latencySummary(sparse);
  const ms = (us: number | null): number | null => (us === null ? null : us / 1000);
  return {
    count,
    p50: ms(p50),
    p90: ms(p90),
    p99: ms(p99),
    p999: ms(p999),
    max: ms(max),
    histogram: count === 0 ? null : encodeHistogram(sparse),
  };
}

/** CPU of all holders together, in milliseconds. */
export function holdersCpuMs(books: readonly AgentBooks[]): number {
  return books
    .flatMap((agent) => agent.holders)
    .reduce((sum, holder) => sum + holder.cpuUserMs + holder.cpuSystemMs, 0);
}

function generatorOf(facts: RunFacts): RunReport['generator'] {
  const holders = facts.books.flatMap((agent) => agent.holders);
  const headrooms = holders.map((holder) => holder.descriptorsMax - holder.descriptorsUsed);
  const tuplesMax = holders.reduce((sum, holder) => sum + holder.tuplesMax, 0);
  const tuplesUsed = holders.reduce((sum, holder) => sum + holder.tuplesUsed, 0);
  return {
    holders: holders.length,
    cpuMs: holdersCpuMs(facts.books),
    cpuPercentOfOneCoreWhileHolding:
      facts.holdCpu === null || facts.holdCpu.elapsedMs < 1_000
        ? null
        : (100 * facts.holdCpu.cpuMs) / facts.holdCpu.elapsedMs,
    loopLagMsMax: Math.max(0, ...holders.map((holder) => holder.loopLagMsMax)),
    residentBytesMax: Math.max(0, ...holders.map((holder) => holder.residentBytes)),
    descriptorHeadroomMin: headrooms.length === 0 ? 0 : Math.min(...headrooms),
    tupleFillRatio: tuplesMax === 0 ? 0 : tuplesUsed / tuplesMax,
  };
}

/** Where a kernel's count differs from our own books, in words. */
function kernelMismatches(counts: readonly KernelCount[]): string[] {
  return counts
    .filter((count) => count.established !== null && count.established !== count.open)
    .map(
      (count) =>
        `${count.agent} at ${count.when}: the kernel counts ${formatCount(count.established!)} established ` +
        `sockets, our books say ${formatCount(count.open)}`,
    );
}

function kernelOf(books: readonly AgentBooks[]): RunReport['kernel'] {
  const counts = books.flatMap((agent) => agent.kernel);
  const last = counts.filter((count) => count.when === 'hold-end' && count.established !== null);
  return {
    established: last.length === 0 ? null : last.reduce((sum, count) => sum + (count.established ?? 0), 0),
    counts,
  };
}

function rampOf(stats: Stats): RunReport['ramp'] {
  const seconds = stats.rampMs / 1000;
  return {
    seconds,
    ratePerSec: seconds === 0 ? stats.established : stats.established / seconds,
    synRetransmits: stats.synRetransmits,
    retransmittedConnects: stats.retransmittedConnects,
  };
}

function refusalsOf(state: RunState): readonly Finding[] {
  return state.endReason?.type === 'refused' ? state.endReason.findings : [];
}

function uniqueFindings(findings: readonly Finding[]): Finding[] {
  const byText = new Map(findings.map((finding) => [`${finding.what}\n${finding.message}`, finding]));
  return [...byText.values()];
}

/**
 * The report of a run that has ended.
 * @param clock for the time of its end
 */
export function makeReport(facts: RunFacts, clock: Clock): RunReport {
  const { spec, state, books } = facts;
  const stats = mergeAllStats(books.map((agent) => agent.stats));
  const held = facts.holdStartedMs === null ? 0 : stats.openMin;
  const kernel = kernelOf(books);
  const mismatches = kernelMismatches(kernel.counts);
  const refusals = refusalsOf(state);
  const judged = judgeRun({
    connections: spec.connections,
    stats,
    held,
    interrupted: state.interrupted,
    refusals,
    agentsLost: books.filter((agent) => agent.lost).length,
    kernelMismatch: mismatches.length > 0,
    endedBeforeHold: facts.holdStartedMs === null,
  });
  return {
    schemaVersion: REPORT_SCHEMA_VERSION,
    toolVersion: facts.toolVersion,
    startedAt: new Date(facts.startedWallMs).toISOString(),
    endedAt: new Date(clock.wallMs()).toISOString(),
    ...judged,
    asked: {
      connections: spec.connections,
      target: [...facts.targetText],
      protocol: spec.protocol,
      endpoints: spec.endpoints.map(formatEndpoint),
      ratePerSec: spec.ratePerSec,
      pendingMax: spec.pendingMax,
      connectTimeoutMs: spec.connectTimeoutMs,
      holdMs: spec.holdMs,
      close: spec.close,
      probeEveryMs: spec.probeEveryMs,
      probeTimeoutMs: spec.probeTimeoutMs,
    },
    connections: {
      attempted: stats.attempted,
      established: stats.established,
      open: stats.open,
      verified: stats.verified,
      held,
      closed: stats.closed,
      unattempted: stats.unattempted,
      failed: stats.failed,
      dropped: stats.dropped,
      localSkips: stats.localSkips,
    },
    connectMs: latencyOf(stats.connectUs),
    connectFromIntendedMs: latencyOf(stats.connectFromIntendedUs),
    echoMs: latencyOf(stats.probeUs),
    ramp: rampOf(stats),
    hold: {
      seconds:
        facts.holdStartedMs === null || facts.holdEndedMs === null
          ? 0
          : (facts.holdEndedMs - facts.holdStartedMs) / 1000,
    },
    bySource: stats.openBySource,
    byEndpoint: stats.openByEndpoint,
    agents: books.map((agent) => agent.report()),
    kernel,
    generator: generatorOf(facts),
    findings: uniqueFindings([...refusals, ...books.flatMap((agent) => agent.findings)]),
    timeline: facts.timeline.points,
    notes: notesOf(facts, stats, mismatches),
  };
}

function notesOf(facts: RunFacts, stats: Stats, mismatches: readonly string[]): string[] {
  const notes = [...mismatches, ...facts.notes];
  if (facts.state.stalled) {
    notes.push(
      `nothing new was established for ${Math.round(facts.state.plan.stallMs / 1000)} s, so the ramp was ended; ` +
        `${formatCount(stats.unattempted)} connections were not attempted`,
    );
  }
  const skipped = totalOf(stats.localSkips);
  if (skipped > 0) notes.push(`${formatCount(skipped)} local ports were taken and skipped`);
  for (const agent of facts.books) notes.push(...agent.notes);
  return [...new Set(notes)];
}
