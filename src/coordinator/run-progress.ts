/**
 * Owns what is shown of a run in motion: a snapshot of its state, with what follows from several of them (rates, CPU, what is left).
 * Must never judge a run or read a clock: moments are arguments, monotonic milliseconds.
 */
import { addCounts, type Counts, type DropReason, type FailReason, totalOf } from '../base/outcome.ts';
import type { TimelinePoint } from '../judge/report.ts';
import { holdersCpuMs } from '../judge/report-parts.ts';
import type { AgentRecord } from '../run/agent-record.ts';
import { phaseEndsMs, type RunState } from '../run/run-transition.ts';
import { emptyHistogram, latencySummary, mergeHistograms, type SparseHistogram } from '../stats/histogram.ts';
import type { Phase } from '../stats/stats.ts';

export interface AgentProgress {
  readonly name: string;
  readonly quota: number;
  readonly open: number;
  readonly established: number;
  readonly pending: number;
  readonly failed: number;
  readonly dropped: number;
  /** connections established per second since the last snapshot */
  readonly ratePerSec: number;
  readonly lost: boolean;
  /** the phase waits for it: it has joined and not offered, or its holders do not stand by yet */
  readonly isAwaited: boolean;
}

/** One snapshot, each second and at each change of phase. */
export interface Progress {
  readonly phase: Phase;
  /** milliseconds since the run began */
  readonly elapsedMs: number;
  /** milliseconds since the phase began */
  readonly phaseMs: number;
  /** what is left of the hold phase; null outside it, and of one that a signal ends */
  readonly holdLeftMs: number | null;
  /** of a ramp, milliseconds at its mean rate so far; of gathering, how long it may still take; null: not known */
  readonly leftMs: number | null;
  readonly asked: number;
  /** the sum over agents; its name is `total` */
  readonly total: AgentProgress;
  readonly agents: readonly AgentProgress[];
  /** connections whose application has answered; null: no probe asks it */
  readonly verified: number | null;
  /** what the target counts, `open` null where its last answer is missing; null: it is not asked */
  readonly target: { readonly open: number | null } | null;
  readonly failedBy: Counts<FailReason>;
  readonly droppedBy: Counts<DropReason>;
  /** of all probes answered so far, milliseconds; null: none was */
  readonly probeP99Ms: number | null;
  /** processor cores that all holders use together, over the last few seconds; null: not known yet */
  readonly cpuCores: number | null;
  /** a line for a person, such as who is missing; null: nothing to say */
  readonly note: string | null;
}

/** A rate is taken over at least so long: a burst between two looks says nothing. */
const RATE_MS_MIN = 500;

interface Look {
  readonly atMs: number;
  readonly established: number;
  readonly ratePerSec: number;
}

const FIRST_LOOK: Look = { atMs: 0, established: 0, ratePerSec: 0 };

/** CPU is taken over so many snapshots: holders report once a second, and not at the moment of a snapshot. */
const CPU_LOOKS = 4;
/** All histograms are added up for a percentile: with thousands of agents not each second. */
const PROBE_MS_PER_AGENT = 10;
/** A ramp that is younger says nothing of its length. */
const ESTIMATE_MS_MIN = 1_000;

/** What a snapshot shows that is not in the run's state. */
interface Beside {
  /** a line for a person, such as who is missing */
  readonly note: string | null;
  /** null: it is not asked */
  readonly target: Progress['target'];
}

/** The progress of one run. */
export class RunProgress {
  readonly #startedMs: number;
  /** when each agent was looked at last, and what it had established then */
  #looks: ReadonlyMap<string, Look> = new Map();
  #cpu: readonly { readonly atMs: number; readonly cpuMs: number }[] = [];
  #probe: { readonly dueMs: number; readonly p99Ms: number | null } = { dueMs: 0, p99Ms: null };

  /** @param startedMs monotonic */
  constructor(startedMs: number) {
    this.#startedMs = startedMs;
  }

  /**
   * A snapshot.
   * @param atMs monotonic
   */
  at(state: RunState, atMs: number, { note, target }: Beside): Progress {
    const { phase, phaseSinceMs, spec } = state;
    const endsMs = phaseEndsMs(state);
    const looks = new Map<string, Look>();
    const records = [...state.agents.values()];
    const agents = records.map((agent): AgentProgress => {
      const look = lookAt(agent, this.#looks.get(agent.id) ?? FIRST_LOOK, atMs);
      looks.set(agent.id, look);
      return agentProgress(agent, look.ratePerSec);
    });
    this.#looks = looks;
    const total = totalProgress(agents);
    return {
      phase,
      elapsedMs: atMs - this.#startedMs,
      phaseMs: atMs - phaseSinceMs,
      holdLeftMs: phase === 'holding' && endsMs !== null ? Math.max(0, endsMs - atMs) : null,
      leftMs: leftMs(state, total, atMs - phaseSinceMs),
      asked: spec.connections,
      total,
      agents,
      verified:
        spec.probeEveryMs === null ? null : records.reduce((sum, { stats }) => sum + stats.verified, 0),
      target,
      failedBy: sumOf(records.map(({ stats }) => stats.failed)),
      droppedBy: sumOf(records.map(({ stats }) => stats.dropped)),
      probeP99Ms: this.#probeP99Ms(records, atMs),
      cpuCores: this.#cpuCores(records, atMs),
      note,
    };
  }

  #probeP99Ms(records: readonly AgentRecord[], atMs: number): number | null {
    if (atMs < this.#probe.dueMs) return this.#probe.p99Ms;
    const { p99 } = latencySummary(mergedProbes(records.map(({ stats }) => stats.probeUs)));
    const p99Ms = p99 === null ? null : p99 / 1_000;
    this.#probe = { dueMs: atMs + records.length * PROBE_MS_PER_AGENT, p99Ms };
    return p99Ms;
  }

  #cpuCores(records: readonly AgentRecord[], atMs: number): number | null {
    const last = this.#cpu.at(-1);
    if (last === undefined || atMs - last.atMs >= RATE_MS_MIN)
      this.#cpu = [...this.#cpu.slice(1 - CPU_LOOKS), { atMs, cpuMs: holdersCpuMs(records) }];
    const [first, newest] = [this.#cpu[0], this.#cpu.at(-1)];
    if (first === undefined || newest === undefined || newest.atMs === first.atMs) return null;
    return Math.max(0, newest.cpuMs - first.cpuMs) / (newest.atMs - first.atMs);
  }
}

/** By halves, as in the addition of stats: one after the other, the sum would be copied for each agent. */
function mergedProbes(list: readonly SparseHistogram[]): SparseHistogram {
  if (list.length <= 1) return list[0] ?? emptyHistogram();
  const middle = Math.ceil(list.length / 2);
  return mergeHistograms(mergedProbes(list.slice(0, middle)), mergedProbes(list.slice(middle)));
}

function sumOf<Key extends string>(list: readonly Counts<Key>[]): Counts<Key> {
  // Most of thousands of agents have none, and each addition makes a table.
  const some = list.filter((counts) => Object.keys(counts).length > 0);
  return some.reduce<Counts<Key>>((sum, counts) => addCounts(sum, counts), {});
}

/** What is left of a phase whose end is not fixed; null: not known. */
function leftMs({ phase, terms, spec }: RunState, total: AgentProgress, phaseMs: number): number | null {
  if (phase === 'gathering') return Math.max(0, terms.gatherMs - phaseMs);
  if (phase !== 'ramping' || phaseMs < ESTIMATE_MS_MIN) return null;
  const settled = total.established + total.failed;
  if (settled === 0) return null;
  return (Math.max(0, spec.connections - settled) * phaseMs) / settled;
}

/** A point of the timeline, without its time. @param seenByTarget null: not known */
export function timelinePoint(
  { phase, total }: Progress,
  agents: Iterable<AgentRecord>,
  seenByTarget: number | null,
): Omit<TimelinePoint, 'atSec'> {
  const { open, established, pending, failed, dropped } = total;
  let verified = 0;
  for (const { stats } of agents) verified += stats.verified;
  return { phase, open, established, pending, failed, dropped, verified, seenByTarget };
}

function lookAt({ stats }: AgentRecord, before: Look, atMs: number): Look {
  const elapsedMs = atMs - before.atMs;
  if (elapsedMs < RATE_MS_MIN) return before;
  const ratePerSec = ((stats.established - before.established) * 1000) / elapsedMs;
  return { atMs, established: stats.established, ratePerSec: Math.max(0, ratePerSec) };
}

function agentProgress({ id, stage, quota, stats }: AgentRecord, ratePerSec: number): AgentProgress {
  return {
    name: id,
    quota,
    open: stats.open,
    established: stats.established,
    pending: stats.pending,
    failed: totalOf(stats.failed),
    dropped: totalOf(stats.dropped),
    ratePerSec,
    lost: stage === 'lost',
    isAwaited: stage === 'joined' || stage === 'quoted',
  };
}

/** The sum over agents, named `total`. */
function totalProgress(agents: readonly AgentProgress[]): AgentProgress {
  const sum = (pick: (agent: AgentProgress) => number): number =>
    agents.reduce((total, agent) => total + pick(agent), 0);
  return {
    name: 'total',
    quota: sum((agent) => agent.quota),
    open: sum((agent) => agent.open),
    established: sum((agent) => agent.established),
    pending: sum((agent) => agent.pending),
    failed: sum((agent) => agent.failed),
    dropped: sum((agent) => agent.dropped),
    ratePerSec: sum((agent) => agent.ratePerSec),
    lost: agents.length > 0 && agents.every((agent) => agent.lost),
    isAwaited: agents.some((agent) => agent.isAwaited),
  };
}
