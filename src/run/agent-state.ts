/**
 * Owns what a run knows of one agent, and what its stage means. Must never change an agent in place: each step of the
 * reducer (run-state.ts) makes a new one.
 */
import type { Finding } from '../base/errors.ts';

export type AgentStage = 'joined' | 'offered' | 'quoted' | 'ready' | 'running' | 'done' | 'lost';

export interface AgentState {
  /** unique within the run: one that comes back after its lease has a new name */
  readonly name: string;
  readonly stage: AgentStage;
  readonly lastSeenMs: number;
  /** its channel is gone, and it has not come back */
  readonly isCut: boolean;
  readonly capacity: number;
  readonly boundBy: string;
  readonly findings: readonly Finding[];
  readonly quota: number;
  /** what others could take of its quota was handed to them; what is left waits for an agent that comes */
  readonly isReplaced: boolean;
  readonly settled: boolean;
  readonly open: number;
  readonly established: number;
}

/** One that has just joined: it has said nothing yet. @param atMs monotonic */
export function newAgent(name: string, atMs: number): AgentState {
  return {
    name,
    stage: 'joined',
    lastSeenMs: atMs,
    isCut: false,
    capacity: 0,
    boundBy: 'none',
    findings: [],
    quota: 0,
    isReplaced: false,
    settled: false,
    open: 0,
    established: 0,
  };
}

/** Whether the run still has to do with it. */
export function isLive(agent: AgentState): boolean {
  return agent.stage !== 'lost' && agent.stage !== 'done';
}

/** Live and with a quota: neither a spare nor one that is still offering. */
export function isCarrying(agent: AgentState): boolean {
  return agent.stage === 'running' || agent.stage === 'quoted' || agent.stage === 'ready';
}
