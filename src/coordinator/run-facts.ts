/**
 * Owns what is noted of a run while it goes on and is in no agent's record (when its phases began, the timeline, the CPU
 * while holding, notes, refused connections at the control port), and handing the facts of a run
 * to the report (judge/run-report.ts), also of one that was refused or interrupted before its first process.
 * Must never judge one, and in the log never read a clock: moments are arguments, monotonic milliseconds.
 */

import type { StandStill } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import { totalOf } from '../base/outcome.ts';
import type { RefusalReason } from '../control/server.ts';
import type { MetricFacts } from '../judge/metric.ts';
import type { RunReport, TimelinePoint } from '../judge/report.ts';
import { EMPTY_TIMELINE, metricFactsOf, withPoint } from '../judge/report-parts.ts';
import { makeReport, type RunFacts } from '../judge/run-report.ts';
import type { EndReason } from '../run/run-event.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { initialRunState, type RunState } from '../run/run-transition.ts';
import { BalanceLog } from '../stats/balance.ts';
import { type Incident, IncidentLog } from '../stats/incident-log.ts';
import { BurstMeter, type Loss, type RecentLosses } from '../stats/loss.ts';
import { OverTimeLog } from '../stats/over-time.ts';
import type { RecentReturns } from '../stats/returns.ts';
import type { Phase, Stats, StatsDelta } from '../stats/stats.ts';
import { type RunOptions, termsOf } from './run-settings.ts';
import { RunWatch, UNWATCHED } from './run-watch.ts';

/** Where the facts of one run are. */
interface FactSources {
  readonly options: RunOptions;
  readonly state: RunState;
  readonly log: RunLog;
  readonly watch: RunWatch;
  readonly startedWallMs: number;
  /** of this process; null: not reported */
  readonly still: StandStill | null;
}

/** The facts of a run as they are now. @param change those that only its caller knows */
export function runFacts(
  { options, state, log, watch, startedWallMs, still }: FactSources,
  change: Partial<Pick<RunFacts, 'isPartial' | 'neverRan'>> = {},
): RunFacts {
  const watching = options.watch ?? UNWATCHED;
  return {
    state,
    targetText: options.targetText,
    toolVersion: options.toolVersion,
    about: options.about ?? null,
    startedWallMs,
    endedWallMs: options.clock.wallMs(),
    ...log.facts(still),
    requirements: watching.requirements,
    target: watch.target,
    targetProof: watch.targetProof,
    ledgerEntries: watching.onLosses === null ? null : watch.ledgerEntries,
    isPartial: false,
    neverRan: null,
    ...change,
  };
}

/** Why nothing was started. */
export type NotStarted =
  | { readonly type: 'refused'; readonly findings: readonly Finding[] }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' };

/** The report of a run that was not started. */
export function unstartedReport(options: RunOptions, why: NotStarted): RunReport {
  const { spec, clock, watch = UNWATCHED } = options;
  const endReason: EndReason = why.type === 'refused' ? { ...why, agent: null } : why;
  const state: RunState = {
    ...initialRunState(spec, termsOf(options), clock.monotonicMs()),
    phase: 'ended',
    interrupted: why.type === 'interrupted' ? why.signal : null,
    endReason,
  };
  const log = new RunLog(spec);
  // The target was not asked, so it has given no proof and is none that is missing.
  const unasked = new RunWatch({ ...watch, targetWitness: null });
  const startedWallMs = clock.wallMs();
  return makeReport(runFacts({ options, state, log, watch: unasked, startedWallMs, still: null }));
}

const HOLD_SAMPLE_MS_MIN = 500;

/** What the log adds to the facts that a report is made from. */
type LogFacts = Pick<
  RunFacts,
  | 'timeline'
  | 'holdStartedMs'
  | 'holdEndedMs'
  | 'holdCpu'
  | 'notes'
  | 'lossBurstMax'
  | 'overTime'
  | 'incidents'
  | 'balance'
>;

/** One run's log. */
export class RunLog {
  readonly #spec: RunSpec;
  readonly #refused = new Map<RefusalReason, number>();
  readonly #notes: string[] = [];
  readonly #burst = new BurstMeter();
  readonly #overTime = new OverTimeLog();
  readonly #incidents = new IncidentLog();
  readonly #balance = new BalanceLog();
  #isBurstKnown = true;
  #areReturnsKnown = true;
  #timeline = EMPTY_TIMELINE;
  #rampStartedMs = 0;
  #holdStartedMs: number | null = null;
  #holdEndedMs: number | null = null;
  #holdCpu: { fromMs: number; fromCpuMs: number; toMs: number; toCpuMs: number } | null = null;

  constructor(spec: RunSpec) {
    this.#spec = spec;
  }

  /** When the ramp began; 0: not yet. */
  get rampStartedMs(): number {
    return this.#rampStartedMs;
  }

  /** One line for a person, which the report keeps. */
  note(line: string): void {
    this.#notes.push(line);
  }

  /**
   * What an agent reports of the losses of the last half minute.
   * @param recent null: its version does not report them
   * @param returns of lost connections; absent: there are none, or its version does not report them
   * @param startedMs when it was started, monotonic
   */
  recentLosses(
    agent: string,
    recent: RecentLosses | null,
    returns: RecentReturns | undefined,
    startedMs: number,
    atMs: number,
  ): void {
    // Before its holders have reported an agent knows of neither.
    if (returns === undefined && this.#spec.onDrop === 'reopen' && (recent ?? []).length > 0)
      this.#areReturnsKnown = false;
    if (recent === null) {
      this.#isBurstKnown = false;
      return;
    }
    const [laterMs, nowMs] = [startedMs - this.#rampStartedMs, atMs - this.#rampStartedMs];
    this.#burst.take(agent, recent, laterMs, nowMs);
    this.#incidents.take(agent, recent, returns, laterMs, nowMs);
  }

  /** null: an agent of an earlier version does not report what they are made from. */
  get #knownIncidents(): readonly Incident[] | null {
    return this.#isBurstKnown && this.#areReturnsKnown ? this.#incidents.incidents() : null;
  }

  /** Losses with their details, times since the start of the ramp. @param atMs now, monotonic: none is of a later time */
  lossDetails(losses: readonly Loss[], atMs: number): void {
    const latest = Math.max(0, atMs - this.#rampStartedMs);
    this.#overTime.losses(losses.map((loss) => ({ ...loss, atMs: Math.min(loss.atMs, latest) })));
  }

  /** What an agent has reported, and what it had reported before. @param grown what came to its histograms, where it has said that */
  reported(before: Stats | null, now: Stats | null, atMs: number, grown?: StatsDelta['grown']): void {
    if (before === null || now === null || this.#rampStartedMs === 0) return;
    this.#overTime.latencies(before, now, atMs - this.#rampStartedMs, grown);
  }

  /** A connection at the control port that is no agent's of this run. */
  connectionRefused(reason: RefusalReason): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }

  /** The run goes from one phase to another. */
  phaseChanged(from: Phase, to: Phase, atMs: number): void {
    if (to === 'ramping') this.#rampStartedMs = atMs;
    if (to === 'holding') this.#holdStartedMs = atMs;
    if (from === 'holding') this.#holdEndedMs = atMs;
  }

  /**
   * From the first report of the hold phase, not from its start: the ramp's last second is not holding. At most a few
   * times a second, because it adds up all holders and each of thousands of agents reports.
   * @param cpuMs of all holders together, asked only when it is time
   */
  sampleHoldCpu(toMs: number, cpuMs: () => number): void {
    if (this.#holdCpu !== null && toMs - this.#holdCpu.toMs < HOLD_SAMPLE_MS_MIN) return;
    const toCpuMs = cpuMs();
    this.#holdCpu ??= { fromMs: toMs, fromCpuMs: toCpuMs, toMs, toCpuMs };
    this.#holdCpu = { ...this.#holdCpu, toMs, toCpuMs };
  }

  /** Adds to the timeline, which begins with the ramp. @param isLandmark a change of phase */
  addPoint(atMs: number, point: Omit<TimelinePoint, 'atSec'>, isLandmark: boolean): void {
    const atSec = Math.round(atMs - this.#rampStartedMs) / 1000;
    // What is closed at the end is not missing.
    if (point.phase === 'ramping' || point.phase === 'holding')
      this.#incidents.level(point.open, atMs - this.#rampStartedMs);
    this.#timeline = withPoint(this.#timeline, { atSec, ...point }, isLandmark);
  }

  /** How connections are spread over back ends now; absent: nothing is looked for. */
  backends(backends: Stats['backends'], phase: Phase, atMs: number): void {
    if (backends === undefined || (phase !== 'ramping' && phase !== 'holding')) return;
    this.#balance.add(backends, atMs - this.#rampStartedMs, phase === 'holding');
  }

  /** The metrics' facts at some moment of the ramp or the hold phase. */
  metricFacts(stats: Stats, phase: MetricFacts['phase'], atMs: number): MetricFacts {
    return metricFactsOf(this.#spec, stats, {
      phase,
      hasHold: this.#holdStartedMs !== null,
      rampSeconds: ((this.#holdStartedMs ?? atMs) - this.#rampStartedMs) / 1000,
      holdSeconds: this.#holdStartedMs === null ? 0 : (atMs - this.#holdStartedMs) / 1000,
      incidents: this.#knownIncidents,
    });
  }

  /** Its part of the report. @param still of this process; absent: not reported */
  facts(still: StandStill | null = null): LogFacts {
    const cpu = this.#holdCpu;
    const stood = still?.note('this process, the coordinator,') ?? null;
    const refused = this.#refused.size === 0 ? [] : [refusedNote(this.#refused)];
    return {
      timeline: this.#timeline,
      overTime: this.#rampStartedMs === 0 ? null : this.#overTime.value(),
      balance: this.#balance.value(),
      lossBurstMax: this.#isBurstKnown ? this.#burst.max : null,
      incidents: this.#knownIncidents,
      holdStartedMs: this.#holdStartedMs,
      holdEndedMs: this.#holdEndedMs,
      holdCpu: cpu === null ? null : { cpuMs: cpu.toCpuMs - cpu.fromCpuMs, elapsedMs: cpu.toMs - cpu.fromMs },
      notes: [...this.#notes, ...(stood === null ? [] : [stood]), ...refused],
    };
  }
}

function refusedNote(refused: ReadonlyMap<RefusalReason, number>): string {
  const total = totalOf(Object.fromEntries(refused));
  const parts = [...refused].map(([reason, count]) => `${reason} ${count}`);
  const were = total === 1 ? 'connection at the control port was' : 'connections at the control port were';
  return `${total} ${were} refused (${parts.join(', ')})`;
}
