/**
 * Owns who gets which quota: the first hand-out by capacity, and the hand-over of what a lost agent had.
 * Must never decide what the run does next (run-state.ts), or split a total itself (quota.ts).
 */
import assert from 'node:assert/strict';
import type { Finding } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import type { AgentState } from './agent-state.ts';
import { splitPending, splitQuota, splitRate } from './quota.ts';
import type { RunCommand } from './run-event.ts';
import type { RunPlan } from './run-plan.ts';

/** The whole quota of each agent that is picked, with its share of the rate and of the pending cap. */
export function quotaCommands(
  plan: RunPlan,
  agents: readonly AgentState[],
  isPicked: (agent: AgentState) => boolean,
): RunCommand[] {
  const quotas = agents.map((each) => each.quota);
  const rates = splitRate(plan.ratePerSec, quotas);
  const pendings = splitPending(plan.pendingMax, quotas);
  return agents.flatMap((agent, index) =>
    isPicked(agent)
      ? [
          {
            type: 'send-quota' as const,
            agent: agent.name,
            connections: agent.quota,
            ratePerSec: rates[index]!,
            pendingMax: pendings[index]!,
          },
        ]
      : [],
  );
}

/**
 * Why the agents together cannot take the total; empty when they can.
 * @param agents all have offered; at least one
 */
export function refusalsOf(connections: number, agents: readonly AgentState[]): readonly Finding[] {
  const capacity = agents.reduce((sum, agent) => sum + agent.capacity, 0);
  const alone = agents.length === 1;
  const refusals = agents.flatMap((agent) => agent.findings.filter((each) => each.severity === 'refuse'));
  // With several agents a finding about the whole total says nothing about a share of it: the agent judges its
  // own quota when it gets it.
  if (alone && refusals.length > 0) return refusals;
  return capacity < connections ? [capacityFinding(connections, agents), ...refusals] : [];
}

/** Asked against offered, agent by agent. */
function capacityFinding(connections: number, agents: readonly AgentState[]): Finding {
  const capacity = agents.reduce((sum, agent) => sum + agent.capacity, 0);
  const offers = agents.map(
    (agent) => `${agent.name} ${formatCount(agent.capacity)} (bound by ${agent.boundBy})`,
  );
  return {
    what: 'capacity',
    severity: 'refuse',
    needed: connections,
    available: capacity,
    unit: 'connections',
    message:
      `asked for ${formatCount(connections)} connections, all agents together offer ` +
      `${formatCount(capacity)}: ${offers.join(', ')}`,
    fix: `add agents, or ask for less: --conns ${capacity}`,
  };
}

/**
 * The agents with the quotas that they get first.
 * @throws AssertionError when these do not sum to the total, which would be a bug
 */
export function withQuotas(connections: number, agents: readonly AgentState[]): AgentState[] {
  const quotas = splitQuota(
    connections,
    agents.map((agent) => agent.capacity),
  );
  assert.equal(
    quotas.reduce((sum, quota) => sum + quota, 0),
    connections,
    'quotas must sum to the total',
  );
  return agents.map((agent, index) => ({ ...agent, stage: 'quoted', quota: quotas[index]! }));
}

/** The agents after a hand-over, and those of them whose quota has grown. */
export interface HandOver {
  readonly agents: readonly AgentState[];
  readonly grown: ReadonlySet<AgentState>;
}

/**
 * Hands one lost quota to agents with spare capacity: only when the lease of the lost one and a margin are over, so that
 * it has closed everything, whatever became of it. What nobody could take is offered again to an agent that comes later.
 * @param leaseMs with its margin
 * @returns null when no lost quota is due
 */
export function handedOver(agents: readonly AgentState[], leaseMs: number, atMs: number): HandOver | null {
  const spares = agents.map((agent) =>
    agent.stage === 'running' || agent.stage === 'offered' ? Math.max(0, agent.capacity - agent.quota) : 0,
  );
  const hasSpare = spares.some((spare) => spare > 0);
  const due = agents.find(
    (agent) =>
      agent.stage === 'lost' &&
      agent.quota > 0 &&
      (!agent.isReplaced || hasSpare) &&
      atMs - agent.lastSeenMs >= leaseMs,
  );
  if (due === undefined) return null;
  const extras = splitQuota(due.quota, spares);
  const given = extras.reduce((sum, extra) => sum + extra, 0);
  const after = agents.map((agent, index) => {
    if (agent.name === due.name) return { ...agent, quota: agent.quota - given, isReplaced: true };
    if (extras[index] === 0) return agent;
    const stage = agent.stage === 'offered' ? ('quoted' as const) : agent.stage;
    return { ...agent, stage, quota: agent.quota + extras[index]!, settled: false };
  });
  return { agents: after, grown: new Set(after.filter((_, index) => extras[index]! > 0)) };
}
