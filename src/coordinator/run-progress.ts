/**
 * Owns what is shown of a run in motion: numbers of each agent and their sum. Must never keep what a report needs.
 */
import { totalOf } from '../base/outcome.ts';
import type { TimelinePoint } from '../judge/report.ts';
import type { AgentRecord } from '../run/agent-record.ts';
import type { RunState } from '../run/run-state.ts';
import type { AgentProgress, Progress } from '../stats/stats.ts';

/** A rate is taken over at least so long: a burst between two looks says nothing. */
const RATE_MS_MIN = 500;

interface Look {
  readonly atMs: number;
  readonly established: number;
  readonly ratePerSec: number;
}

const FIRST_LOOK: Look = { atMs: 0, established: 0, ratePerSec: 0 };

/** The progress of one run. */
export class RunProgress {
  readonly #startedMs: number;
  /** when each agent was looked at last, and what it had established then */
  #looks: ReadonlyMap<string, Look> = new Map();

  /** @param startedMs monotonic */
  constructor(startedMs: number) {
    this.#startedMs = startedMs;
  }

  /**
   * A snapshot.
   * @param atMs monotonic
   * @param note a line for a person, such as who is missing
   */
  at(state: RunState, atMs: number, note: string | null): Progress {
    const { phase, phaseSinceMs, spec } = state;
    const looks = new Map<string, Look>();
    const agents: AgentProgress[] = [];
    for (const agent of state.agents.values()) {
      const look = lookAt(agent, this.#looks.get(agent.id) ?? FIRST_LOOK, atMs);
      looks.set(agent.id, look);
      agents.push(agentProgress(agent, look.ratePerSec));
    }
    this.#looks = looks;
    return {
      phase,
      elapsedMs: atMs - this.#startedMs,
      holdLeftMs: phase === 'holding' ? Math.max(0, spec.holdMs - (atMs - phaseSinceMs)) : null,
      asked: spec.connections,
      total: totalProgress(agents),
      agents,
      note,
    };
  }
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
  };
}
