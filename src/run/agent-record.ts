/**
 * Owns the one record of an agent: its stage, its quota, and what it last said. Must never be changed in place: each step
 * of the reducer (run-state.ts) makes a new one, and whoever holds the old one may keep it.
 */
import type { Finding } from '../base/errors.ts';
import { DropReason } from '../base/outcome.ts';
import type { KernelCount, KernelEvidence } from '../host/kernel-evidence.ts';

import {
  emptyStats,
  type HolderHealth,
  type Stats,
  type StatsDelta,
  withAllLost,
  withDelta,
} from '../stats/stats.ts';

export interface AgentRecord {
  /** unique within the run: one that comes back after its lease has a new one */
  readonly id: string;
  readonly stage: 'joined' | 'offered' | 'quoted' | 'ready' | 'running' | 'done' | 'lost';
  /** monotonic milliseconds, as every moment here */
  readonly lastSeenMs: number;
  /** its channel is gone, and it has not come back */
  readonly isCut: boolean;
  /** when it was first sent `start`; null: not yet */
  readonly startedMs: number | null;
  readonly capacity: number;
  readonly boundBy: string;
  readonly sources: readonly string[];
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
  readonly quota: number;
  /** what others could take of its quota was handed to them; what is left waits for an agent that comes */
  readonly isReplaced: boolean;
  /** each connection of its quota is open, failed or given up */
  readonly settled: boolean;
  readonly stats: Stats;
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
  /** null until it is done */
  readonly evidence: KernelEvidence | null;
}

/** What an agent says of its share again and again. */
export interface AgentSnapshot {
  /** histograms that it leaves out have not changed */
  readonly stats: StatsDelta;
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
}

/** What an agent says of its host before it starts. */
export type AgentPreparation = Pick<AgentRecord, 'sources' | 'findings' | 'notes'>;

const NO_STATS = emptyStats();

/** One that has just joined: it has said nothing yet. @param atMs monotonic */
export function newAgent(id: string, atMs: number): AgentRecord {
  return {
    id,
    stage: 'joined',
    lastSeenMs: atMs,
    isCut: false,
    startedMs: null,
    capacity: 0,
    boundBy: 'none',
    sources: [],
    findings: [],
    notes: [],
    quota: 0,
    isReplaced: false,
    settled: false,
    stats: NO_STATS,
    holders: [],
    kernel: [],
    evidence: null,
  };
}

/** Whether the run still has to do with it. */
export function isLive(agent: AgentRecord): boolean {
  return agent.stage !== 'lost' && agent.stage !== 'done';
}

/** Live and with a quota: neither a spare nor one that is still offering. */
export function isCarrying(agent: AgentRecord): boolean {
  return agent.stage === 'running' || agent.stage === 'quoted' || agent.stage === 'ready';
}

/** With its newest numbers. */
export function withSnapshot(agent: AgentRecord, snapshot: AgentSnapshot, atMs: number): AgentRecord {
  const { holders, kernel } = snapshot;
  return { ...agent, lastSeenMs: atMs, stats: withDelta(agent.stats, snapshot.stats), holders, kernel };
}

/** Lost: everything that it held counts as `dropped: agent-lost`. @param agent is not lost yet */
export function withLoss(agent: AgentRecord): AgentRecord {
  return {
    ...agent,
    stage: 'lost',
    stats: withAllLost(agent.stats, DropReason.agentLost, agent.quota),
    holders: agent.holders.map((holder) => ({ ...holder, alive: false })),
  };
}

/** A lost one after others took so much of its quota: they attempt now what it did not. */
export function withHandedOver(agent: AgentRecord, given: number): AgentRecord {
  const quota = agent.quota - given;
  const unattempted = Math.min(agent.stats.unattempted, Math.max(0, quota - agent.stats.attempted));
  return { ...agent, quota, isReplaced: true, stats: { ...agent.stats, unattempted } };
}
