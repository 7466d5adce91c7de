/**
 * Owns what is noted of a run while it goes on, and is in no agent's record: when its phases began, the timeline, the CPU
 * while holding, notes, refused connections at the control port. Must never read a clock: moments are arguments, monotonic milliseconds.
 */

import type { StandStill } from '../base/clock.ts';
import { totalOf } from '../base/outcome.ts';
import type { RefusalReason } from '../control/server.ts';
import type { MetricFacts } from '../judge/metric.ts';
import type { TimelinePoint } from '../judge/report.ts';
import { EMPTY_TIMELINE, metricFactsOf, withPoint } from '../judge/report-parts.ts';
import type { RunFacts } from '../judge/run-report.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { BurstMeter, type RecentLosses } from '../stats/loss.ts';
import type { Phase, Stats } from '../stats/stats.ts';

const HOLD_SAMPLE_MS_MIN = 500;

/** What the log adds to the facts that a report is made from. */
type LogFacts = Pick<
  RunFacts,
  'timeline' | 'holdStartedMs' | 'holdEndedMs' | 'holdCpu' | 'notes' | 'lossBurstMax'
>;

/** One run's log. */
export class RunLog {
  readonly #spec: RunSpec;
  readonly #refused = new Map<RefusalReason, number>();
  readonly #notes: string[] = [];
  readonly #burst = new BurstMeter();
  #isBurstKnown = true;
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
   * @param startedMs when it was started, monotonic
   */
  recentLosses(agent: string, recent: RecentLosses | null, startedMs: number, atMs: number): void {
    if (recent === null) this.#isBurstKnown = false;
    else this.#burst.take(agent, recent, startedMs - this.#rampStartedMs, atMs - this.#rampStartedMs);
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
    this.#timeline = withPoint(this.#timeline, { atSec, ...point }, isLandmark);
  }

  /** The metrics' facts at some moment of the ramp or the hold phase. */
  metricFacts(stats: Stats, phase: MetricFacts['phase'], atMs: number): MetricFacts {
    return metricFactsOf(this.#spec, stats, {
      phase,
      hasHold: this.#holdStartedMs !== null,
      rampSeconds: ((this.#holdStartedMs ?? atMs) - this.#rampStartedMs) / 1000,
      holdSeconds: this.#holdStartedMs === null ? 0 : (atMs - this.#holdStartedMs) / 1000,
    });
  }

  /** Its part of the report. @param still of this process; absent: not reported */
  facts(still: StandStill | null = null): LogFacts {
    const cpu = this.#holdCpu;
    const stood = still?.note('this process, the coordinator,') ?? null;
    const refused = this.#refused.size === 0 ? [] : [refusedNote(this.#refused)];
    return {
      timeline: this.#timeline,
      lossBurstMax: this.#isBurstKnown ? this.#burst.max : null,
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
  return `${total} connections at the control port were refused (${parts.join(', ')})`;
}
