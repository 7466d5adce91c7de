/**
 * Owns the one rule by which a total is split over parts (connections, rate and pending, over agents and over holders), and which
 * quotas agents get by it: at first, and of one that is lost. Must never send one.
 */
import assert from 'node:assert/strict';
import type { Finding } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import { type AgentRecord, withHandedOver } from './agent-record.ts';
import type { AgentCommand } from './run-event.ts';
import { needsShares, type RunSpec } from './run-spec.ts';
import { cutShares, type LoadShare } from './schedule.ts';

function sumOf(numbers: readonly number[]): number {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}

function assertCounts(name: string, counts: readonly number[]): void {
  for (const count of counts) {
    assert(Number.isSafeInteger(count) && count >= 0, `${name}: ${count} is no count`);
  }
}

/**
 * The highest even level: the largest whole number so that all parts taking `min(level, capacity)` stay within the
 * total, together with what is left over then (less than the number of parts that could take one more).
 */
function levelOf(total: number, capacities: readonly number[]): { level: number; left: number } {
  const ascending = [...capacities].sort((a, b) => a - b);
  let left = total;
  let level = 0;
  for (const [index, capacity] of ascending.entries()) {
    const parts = ascending.length - index;
    const step = Math.min(capacity - level, Math.floor(left / parts));
    level += step;
    left -= step * parts;
    if (level < capacity) break;
  }
  return { level, left };
}

/**
 * Splits a total over parts: as even as possible, never above a part's capacity, the remainder one each to the first
 * parts that have room. What exceeds the sum of the capacities is not handed out.
 * @param total a count, at least 0
 * @param capacities counts, at least 0; their sum must be a safe integer
 * @returns one share per capacity, in the same order; they sum to `min(total, sum of capacities)`
 */
function splitQuota(total: number, capacities: readonly number[]): number[] {
  assertCounts('total', [total]);
  assertCounts('capacities', capacities);
  const handedOut = Math.min(total, sumOf(capacities));
  const { level, left } = levelOf(handedOut, capacities);
  let remainder = left;
  const shares = capacities.map((capacity) => {
    if (capacity <= level) return capacity;
    if (remainder === 0) return level;
    remainder -= 1;
    return level + 1;
  });
  assert(remainder === 0, 'the remainder was not handed out');
  return shares;
}

/** One part's share: a split has one for each part. */
function shareAt<Share>(shares: readonly Share[], index: number): Share {
  const share = shares[index];
  assert(share !== undefined, 'a split has a share for each part');
  return share;
}

/**
 * Splits a total over equal parts; the first ones take the remainder.
 * @param total a count, at least 0
 * @param parts at least 1
 * @returns `parts` shares that sum to `total` and differ by at most 1
 */
export function splitEvenly(total: number, parts: number): number[] {
  assertCounts('total', [total]);
  assert(Number.isSafeInteger(parts) && parts >= 1, `${parts} parts`);
  const share = Math.floor(total / parts);
  const remainder = total - share * parts;
  return Array.from({ length: parts }, (_, index) => (index < remainder ? share + 1 : share));
}

/**
 * Splits a rate in proportion to quotas, so that all parts end their ramps together.
 * @param ratePerSec above 0; null is no limit, and then no part has one
 * @param quotas counts, at least 0
 * @returns per second, with fraction; they sum to the rate (within rounding) unless every quota is 0
 */
export function splitRate(ratePerSec: number | null, quotas: readonly number[]): (number | null)[] {
  assertCounts('quotas', quotas);
  if (ratePerSec === null) return quotas.map(() => null);
  assert(ratePerSec > 0, `a rate of ${ratePerSec}`);
  const total = sumOf(quotas);
  return quotas.map((quota) => (total === 0 ? 0 : ratePerSec * (quota / total)));
}

/**
 * Splits a limit of connects in flight: one for each part that has a quota, the rest in proportion to the quotas.
 * @param pendingMax at least 1
 * @param quotas counts, at least 0
 * @returns 0 for a quota of 0, else at least 1; they sum to `max(pendingMax, number of quotas above 0)`
 */
export function splitPending(pendingMax: number, quotas: readonly number[]): number[] {
  assertCounts('pendingMax', [pendingMax]);
  assert(pendingMax >= 1, 'a pending limit of 0 opens nothing');
  assertCounts('quotas', quotas);
  const total = sumOf(quotas);
  const spare = Math.max(0, pendingMax - quotas.filter((quota) => quota > 0).length);
  let quotaSoFar = 0;
  let spareSoFar = 0;
  return quotas.map((quota) => {
    if (quota === 0) return 0;
    quotaSoFar += quota;
    // Rounding the running total, not each share, makes the shares sum to the whole.
    const spareTo = quotaSoFar === total ? spare : Math.min(spare, Math.floor(spare * (quotaSoFar / total)));
    const share = 1 + spareTo - spareSoFar;
    spareSoFar = spareTo;
    return share;
  });
}

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
  return all.flatMap((agent, index): AgentCommand[] => {
    if (!isPicked(agent)) return [];
    const [ratePerSec, pendingMax] = [shareAt(rates, index), shareAt(pendings, index)];
    const shares = needsShares(spec) ? { shares: agent.shares } : {};
    return [
      { type: 'send-quota', agent: agent.id, connections: agent.quota, ratePerSec, pendingMax, ...shares },
    ];
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
 * Which connections of the run each quota is, one after the other.
 * @param quotas counts, at least 0
 */
export function firstShares(quotas: readonly number[]): readonly (readonly LoadShare[])[] {
  return cutShares([{ from: 0, to: sumOf(quotas) }], quotas);
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
  return new Map(agents.map(({ id }, index) => [id, shareAt(quotas, index)]));
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
  const parts = cutShares(due.shares, [...extras, due.quota - given]);
  const grown = agents.flatMap((agent, index): AgentRecord[] => {
    const extra = shareAt(extras, index);
    if (extra === 0) return [];
    const stage = agent.stage === 'offered' ? 'quoted' : agent.stage;
    const shares = [...agent.shares, ...shareAt(parts, index)];
    return [{ ...agent, stage, quota: agent.quota + extra, shares, settled: false }];
  });
  return [withHandedOver(due, given), ...grown];
}
