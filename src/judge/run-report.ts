/**
 * Owns the making of the final report from the facts of a run. Must never ask for one that it is not given.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import { ExitCode, type Finding } from '../base/errors.ts';
import { totalOf } from '../base/outcome.ts';
import { counted, formatCount } from '../base/units.ts';
import { type AgentRecord, isLive } from '../run/agent-record.ts';
import { isChanging } from '../run/run-spec.ts';
import type { RunState } from '../run/run-transition.ts';
import type { Balance } from '../stats/balance.ts';
import { latencySummary, type SparseHistogram } from '../stats/histogram.ts';
import { encodeHistogram } from '../stats/histogram-encoding.ts';
import type { Incident } from '../stats/incident-log.ts';
import type { OverTime } from '../stats/over-time.ts';
import { protocolErrorNotes } from '../stats/protocol-errors.ts';
import { mergeAllStats, rampRatePerSec, type Stats } from '../stats/stats.ts';
import { diagnose } from './diagnosis.ts';
import type { DiagnosisFacts } from './evidence-shape.ts';
import { blindHolder } from './generator-health.ts';
import {
  type Latency,
  REPORT_SCHEMA_VERSION,
  type RunAbout,
  type RunReport,
  type TargetReport,
} from './report.ts';
import {
  agentReportOf,
  generatorOf,
  type HoldCpu,
  heldOf,
  kernelMismatches,
  kernelOf,
  loadReportOf,
  lossesOf,
  messagesOf,
  metricFactsOf,
  notTakenOf,
  proofOf,
  statsOnRunTime,
  type Timeline,
  tlsNotes,
  tlsReportOf,
} from './report-parts.ts';
import { judgeRequirement, type Requirement } from './requirement.ts';
import { provableOf } from './stage-metrics.ts';
import { judgeRun, type TargetProof, type Verdict } from './verdict.ts';

/** Everything that a finished run knows of itself. */
export interface RunFacts {
  /** what was asked, and the record of each agent */
  readonly state: RunState;
  readonly targetText: readonly string[];
  readonly toolVersion: string;
  /** null: not known */
  readonly about: RunAbout | null;
  /** null: the ramp has not begun */
  readonly overTime: OverTime | null;
  readonly timeline: Timeline;
  /** milliseconds since the epoch */
  readonly startedWallMs: number;
  /** when this report is made */
  readonly endedWallMs: number;
  /** null where the phase was never reached */
  readonly holdStartedMs: number | null;
  readonly holdEndedMs: number | null;
  readonly holdCpu: HoldCpu | null;
  /** the default one included */
  readonly requirements: readonly Requirement[];
  /** what the target said; null: it was not asked, or never answered */
  readonly target: TargetReport | null;
  /** what the target reported during the hold, where the user asked for that proof (`--target-stats`); null: not asked for */
  readonly targetProof: TargetProof | null;
  /** the most losses within one second; null: an agent of an earlier version does not report it */
  readonly lossBurstMax: number | null;
  /** null: nothing was looked for */
  readonly balance: Balance | null;
  /** null: an agent of an earlier version does not report what they are made from */
  readonly incidents: readonly Incident[] | null;
  /** losses with a line in the events file; null: there is no such file */
  readonly ledgerEntries: number | null;
  /** the run still goes on: these are the numbers so far */
  readonly isPartial: boolean;
  /** why the run never started, in one sentence; null: it did */
  readonly neverRan: string | null;
  readonly notes: readonly string[];
}

/** Names of agents in one note at most. */
const NAMES_SHOWN_MAX = 10;

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

function rampOf(stats: Stats): RunReport['ramp'] {
  return {
    seconds: stats.rampMs / 1000,
    ratePerSec: rampRatePerSec(stats),
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

/** What connections showed beside their counts. */
function shownBy(
  stats: Stats,
): Pick<RunReport, 'connectMs' | 'echoMs' | 'ramp' | 'seen' | 'troubles' | 'evidence'> {
  return {
    ramp: rampOf(stats),
    connectMs: latencyOf(stats.connectUs),
    echoMs: latencyOf(stats.probeUs),
    seen: stats.seen ?? null,
    troubles: stats.troubles ?? {},
    evidence: stats.evidence ?? null,
  };
}

/** @param notTaken connections that no application has taken */
function heldIn({ state, holdStartedMs, isPartial }: RunFacts, stats: Stats, notTaken: number): number {
  return Math.max(0, heldOf(state.spec, stats, holdStartedMs !== null, !isPartial) - notTaken);
}

/** How many agents were lost. */
function lostOf(records: readonly AgentRecord[]): number {
  return records.filter((agent) => agent.stage === 'lost').length;
}

/** Which holder could not see what it had to. */
function blindOf(records: readonly AgentRecord[], spec: RunState['spec']): ReturnType<typeof blindHolder> {
  return blindHolder(
    records.flatMap((agent) => agent.holders),
    spec.probeEveryMs === null ? null : spec.probeTimeoutMs,
  );
}

/** @param known all of it: a fact that is not handed over is missed by its rules alone */
function diagnoseAll(known: Required<DiagnosisFacts>): RunReport['diagnoses'] {
  return diagnose(known);
}

/** The report of a run that has ended, or so far. */
export function makeReport(facts: RunFacts): RunReport {
  const { state } = facts;
  const { spec } = state;
  const records = [...state.agents.values()];
  const stats = mergeAllStats(statsOnRunTime(records));
  const notTaken = notTakenOf(spec, records);
  const held = heldIn(facts, stats, notTaken);
  const kernel = kernelOf(records);
  const mismatches = kernelMismatches(kernel.counts);
  const refusals = refusalsOf(state);
  const generator = generatorOf(records, facts.holdCpu);
  const numbers = numbersOf(facts, stats, held);
  const agents = records.map((record) => agentReportOf(spec, record));
  const requirements = requirementsOf(facts, stats, notTaken);
  const shown = shownBy(stats);
  const { points } = facts.timeline;
  const diagnoses = diagnoseAll({ ...numbers, ...shown, agents, kernel, generator, timeline: points });
  const judged =
    judgedWithoutRun(facts) ??
    judgeRun({
      connections: spec.connections,
      stats,
      held,
      provable: provableOf(spec, held),
      isChanging: isChanging(spec),
      interrupted: state.interrupted,
      refusals,
      agentsLost: lostOf(records),
      withoutFinalCounts: withoutFinalReport(records),
      kernelMismatch: mismatches.length > 0,
      blindHolder: blindOf(records, spec),
      targetProof: facts.targetProof,
      targetAddresses: new Set(spec.endpoints.map(({ address }) => address)).size,
      endedBeforeHold: facts.holdStartedMs === null,
      requirements,
      abortedFor: state.endReason?.type === 'requirement-broken' ? state.endReason.requirement : null,
      generatorLimits: generator.limits,
      diagnoses,
    });
  return {
    schemaVersion: REPORT_SCHEMA_VERSION,
    toolVersion: facts.toolVersion,
    startedAt: new Date(facts.startedWallMs).toISOString(),
    endedAt: new Date(facts.endedWallMs).toISOString(),
    ...judged,
    isPartial: facts.isPartial,
    requirements,
    diagnoses: judged.verdict === 'pass' ? [] : diagnoses,
    latencyTrustworthy: generator.limits.length === 0,
    ...numbers,
    ...shown,
    connectFromIntendedMs: latencyOf(stats.connectFromIntendedUs),
    bySource: stats.openBySource,
    byEndpoint: stats.openByEndpoint,
    tls: stats.tls === undefined ? null : tlsReportOf(stats.tls, latencyOf),
    load: loadReportOf(spec, stats.load, latencyOf),
    agents,
    kernel,
    generator,
    findings: uniqueFindings([...refusals, ...records.flatMap((agent) => agent.findings)]),
    timeline: facts.timeline.points,
    balance: facts.balance,
    incidents: facts.incidents,
    overTime: facts.overTime,
    about: facts.about,
    notes: notesOf(facts, records, stats, mismatches),
  };
}

/** The numbers that a diagnosis rests on, beside kernel and generator. */
function numbersOf(
  facts: RunFacts,
  stats: Stats,
  held: number,
): Pick<RunReport, 'asked' | 'connections' | 'probes' | 'messages' | 'losses' | 'hold' | 'target'> {
  const { spec } = facts.state;
  return {
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
      onDrop: spec.onDrop,
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
      reopened: stats.reopened,
    },
    probes: {
      sent: stats.probesSent,
      answered: stats.probesAnswered,
      timedOutAcknowledged: stats.probeTimeoutsAcked,
    },
    messages: messagesOf(spec, stats, holdSecondsOf(facts)),
    losses: lossesOf(stats, totalOf(stats.dropped), facts.ledgerEntries, facts.lossBurstMax),
    hold: { seconds: holdSecondsOf(facts), proof: proofOf(spec, stats, held) },
    target: facts.target,
  };
}

function holdSecondsOf({ holdStartedMs, holdEndedMs }: RunFacts): number {
  return holdStartedMs === null || holdEndedMs === null ? 0 : (holdEndedMs - holdStartedMs) / 1000;
}

function requirementsOf(facts: RunFacts, stats: Stats, notTaken: number): RunReport['requirements'] {
  if (facts.state.endReason?.type === 'refused') return [];
  const metrics = metricFactsOf(facts.state.spec, stats, {
    phase: 'ended',
    hasHold: facts.holdStartedMs !== null,
    rampSeconds: stats.rampMs / 1000,
    holdSeconds: holdSecondsOf(facts),
    incidents: facts.incidents,
    notTaken,
  });
  return facts.requirements.map((requirement) => judgeRequirement(requirement, metrics));
}

/** The verdict of a report that no finished run stands behind; null: one does. */
function judgedWithoutRun({ isPartial, neverRan, state }: RunFacts): Verdict | null {
  if (isPartial) return judgedSoFar(state);
  if (neverRan === null) return null;
  return {
    verdict: 'incomplete',
    exitCode: ExitCode.incomplete,
    reason: `the run never started: ${neverRan}`,
    whoRanOut: 'generator',
  };
}

/** What a report says that is written while the run goes on: when it is the last one, the run never ended. */
function judgedSoFar(state: RunState): Verdict {
  return {
    verdict: 'incomplete',
    exitCode: ExitCode.incomplete,
    reason: `the run still goes on (${state.phase}): these are the numbers so far`,
    whoRanOut: null,
  };
}

/** Who had a quota and has not given its final report: without it nothing that it says it held is proven. */
function withoutFinalReport(agents: readonly AgentRecord[]): string[] {
  return agents.filter((agent) => isLive(agent) && agent.quota > 0).map((agent) => agent.id);
}

/** Whether the target took connections and did not like what it was sent, as far as counts say. */
function isAnsweredWithNo({ failed, dropped }: Stats): boolean {
  const refusing = [
    failed.handshake,
    failed.tls,
    dropped.protocol,
    dropped['probe-mismatch'],
    dropped.fin,
    dropped.rst,
  ];
  return refusing.some((count = 0) => count > 0);
}

function notesOf(
  facts: RunFacts,
  agents: readonly AgentRecord[],
  stats: Stats,
  mismatches: readonly string[],
): string[] {
  const notes = [...mismatches, ...facts.notes];
  const waiting = notTakenOf(facts.state.spec, agents);
  if (waiting > 0) {
    notes.push(
      `${formatCount(waiting)} connections are open here and not taken by the target's application: they wait in its accept queue, or are half open there`,
    );
  }
  const silent = facts.isPartial ? [] : withoutFinalReport(agents);
  if (silent.length > 0) {
    const shown = silent.slice(0, NAMES_SHOWN_MAX).join(', ');
    const more = silent.length > NAMES_SHOWN_MAX ? ` and ${silent.length - NAMES_SHOWN_MAX} more` : '';
    notes.push(`no final counts came from ${shown}${more}: what they held at the end is not proven`);
  }
  if (facts.state.stalled) {
    notes.push(
      `nothing new was established for ${Math.round(facts.state.terms.stallMs / 1000)} s, so the ramp was ended; ` +
        `${counted(stats.unattempted, 'connection was', 'connections were')} not attempted`,
    );
  }
  const cut = facts.ledgerEntries === null ? 0 : totalOf(stats.dropped) - facts.ledgerEntries;
  if (cut > 0) {
    notes.push(
      `the events file is truncated: ${formatCount(cut)} losses came too fast to be written one by one; the counts of ` +
        'the report are complete',
    );
  }
  if (stats.reopenFailed > 0) {
    notes.push(
      `${formatCount(stats.reopenFailed)} tries to open a lost connection again failed and were repeated`,
    );
  }
  const skipped = totalOf(stats.localSkips);
  if (skipped > 0) notes.push(`${formatCount(skipped)} local ports were taken and skipped`);
  const { proxyHeader } = facts.state.spec;
  if (proxyHeader !== undefined && isAnsweredWithNo(stats)) {
    notes.push(
      `each connection began with a PROXY header (${proxyHeader.version}): a target that does not expect one takes it for the begin of its protocol and ends the connection`,
    );
  }
  notes.push(...protocolErrorNotes(stats.troubles ?? {}), ...tlsNotes(stats.tls));
  for (const agent of agents) notes.push(...agent.notes);
  return [...new Set(notes)];
}
