/**
 * Owns who gets which quota: the first hand-out by capacity, and the hand-over of what a lost agent had.
 * Must never decide what the run does next (run-state.ts), or split a total itself (quota.ts).
 */
import assert from 'node:assert/strict';
import type { Finding } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import { type AgentRecord, withHandedOver } from './agent-record.ts';
import { splitPending, splitQuota, splitRate } from './quota.ts';
import type { AgentCommand } from './run-event.ts';
import type { RunSpec } from './run-spec.ts';

/** The whole quota of each agent that is picked, with its share of the rate and of the pending cap. */
export function quotaCommands(
  spec: RunSpec,
  agents: Iterable<AgentRecord>,
  isPicked: (agent: AgentRecord) => boolean,
): AgentCommand[] {
  const all = [...agents];
  const quotas = all.map((each) => each.quota);
  const rates = splitRate(spec.ratePerSec, quotas);
  const pendings = splitPending(spec.pendingMax, quotas);
  return all.flatMap(({ id, quota }, index) => {
    const share = { connections: quota, ratePerSec: rates[index]!, pendingMax: pendings[index]! };
    return isPicked(all[index]!) ? [{ type: 'send-quota' as const, agent: id, ...share }] : [];
  });
}

/**
 * Why the agents together cannot take the total; empty when they can.
 * @param agents all have offered; at least one
 */
export function refusalsOf(connections: number, agents: readonly AgentRecord[]): readonly Finding[] {
  const capacity = agents.reduce((sum, agent) => sum + agent.capacity, 0);
  const alone = agents.length === 1;
  const refusals = agents.flatMap((agent) => agent.findings.filter((each) => each.severity === 'refuse'));
  // With several agents a finding about the whole total says nothing about a share of it: the agent judges its
  // own quota when it gets it.
  if (alone && refusals.length > 0) return refusals;
  return capacity < connections ? [capacityFinding(connections, agents), ...refusals] : [];
}

/** What a refusal rests on: one that names no reason is a refusal all the same. */
export function refusalFindings(id: string, findings: readonly Finding[]): readonly Finding[] {
  if (findings.some(({ severity }) => severity === 'refuse')) return findings;
  const finding: Finding = {
    what: 'agent-refused',
    severity: 'refuse',
    needed: null,
    available: null,
    unit: 'agents',
    message: `agent ${id} refuses to take part, and does not say why`,
    fix: 'see what it says on its own stderr',
  };
  return [finding, ...findings];
}

/** Asked against offered, agent by agent. */
function capacityFinding(connections: number, agents: readonly AgentRecord[]): Finding {
  const capacity = agents.reduce((sum, agent) => sum + agent.capacity, 0);
  const offers = agents.map(
    (agent) => `${agent.id} ${formatCount(agent.capacity)} (bound by ${agent.boundBy})`,
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
 * The quotas that the agents get first, by id.
 * @throws AssertionError when these do not sum to the total, which would be a bug
 */
export function firstQuotas(
  connections: number,
  agents: readonly AgentRecord[],
): ReadonlyMap<string, number> {
  const quotas = splitQuota(
    connections,
    agents.map((agent) => agent.capacity),
  );
  assert.equal(
    quotas.reduce((sum, quota) => sum + quota, 0),
    connections,
    'quotas must sum to the total',
  );
  return new Map(agents.map(({ id }, index) => [id, quotas[index]!]));
}

function spareOf({ stage, capacity, quota }: AgentRecord): number {
  return stage === 'running' || stage === 'offered' ? Math.max(0, capacity - quota) : 0;
}

/**
 * Hands one lost quota to agents with spare capacity: only when the lease of the lost one and a margin are over, so that
 * it has closed everything, whatever became of it. What no agent could take is offered again to an agent that comes later.
 * @param leaseMs with its margin
 * @returns the records that change: the lost one, and those whose quota grows; null when no lost quota is due
 */
export function handedOver(
  agents: readonly AgentRecord[],
  leaseMs: number,
  atMs: number,
): readonly AgentRecord[] | null {
  const hasSpare = agents.some((agent) => spareOf(agent) > 0);
  const due = agents.find(
    (agent) =>
      agent.stage === 'lost' &&
      agent.quota > 0 &&
      (!agent.isReplaced || hasSpare) &&
      atMs - agent.lastSeenMs >= leaseMs,
  );
  if (due === undefined) return null;
  const extras = splitQuota(due.quota, agents.map(spareOf));
  const given = extras.reduce((sum, extra) => sum + extra, 0);
  const grown = agents.flatMap((agent, index): AgentRecord[] => {
    const extra = extras[index]!;
    if (extra === 0) return [];
    const stage = agent.stage === 'offered' ? 'quoted' : agent.stage;
    return [{ ...agent, stage, quota: agent.quota + extra, settled: false }];
  });
  return [withHandedOver(due, given), ...grown];
}
