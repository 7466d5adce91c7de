/**
 * Owns the record of a run, and the few ways in which a step changes it: a record of an agent, a phase, the end, what agents are sent
 * because of it. Must never know what an event means (run-state.ts).
 */
import assert from 'node:assert/strict';
import type { Phase } from '../stats/stats.ts';
import { type AgentRecord, AgentTable, isLive } from './agent-record.ts';
import type { AgentCommand, EndReason, RunChange } from './run-event.ts';
import { isEndless, type RunSpec, type RunTerms } from './run-spec.ts';
import { holdFromMsOf, lengthMsOf } from './schedule.ts';

export interface RunState {
  readonly spec: RunSpec;
  readonly terms: RunTerms;
  readonly phase: Phase;
  readonly phaseSinceMs: number;
  /** when all were started; null: not yet */
  readonly begunMs: number | null;
  /** by id, in the order in which they joined */
  readonly agents: AgentTable;
  /** connections that were ever established, over all agents; the highest of it so far, and when that was reached */
  readonly established: number;
  readonly establishedMax: number;
  /** also when a holder of an agent that gets ready was started */
  readonly grewAtMs: number;
  readonly stalled: boolean;
  /** the hold phase has begun */
  readonly hasHeld: boolean;
  readonly interrupted: 'SIGINT' | 'SIGTERM' | null;
  /** a signal has ended a hold that lasts until one comes: the next one is an interruption */
  readonly wasEnded: boolean;
  /** set from the moment that the end is decided; always set when the phase is `ended` */
  readonly endReason: EndReason | null;
}

/** What one step gives. */
export interface Stepped {
  readonly state: RunState;
  /** what is different now, in order */
  readonly changes: readonly RunChange[];
  /** what agents are sent because of it, in order */
  readonly commands: readonly AgentCommand[];
}

/** The state before an agent has joined. */
export function initialRunState(spec: RunSpec, terms: RunTerms, atMs: number): RunState {
  return {
    spec,
    terms,
    phase: 'gathering',
    phaseSinceMs: atMs,
    begunMs: null,
    agents: AgentTable.empty(),
    established: 0,
    establishedMax: 0,
    grewAtMs: atMs,
    stalled: false,
    hasHeld: false,
    interrupted: null,
    wasEnded: false,
    endReason: null,
  };
}

/** Nothing but the state itself. */
export const stay = (state: RunState): Stepped => ({ state, changes: [], commands: [] });
export const idsOf = (agents: readonly AgentRecord[]): string[] => agents.map((agent) => agent.id);

/** One step after another. */
export function andThen(first: Stepped, next: (state: RunState) => Stepped): Stepped {
  const second = next(first.state);
  return {
    state: second.state,
    changes: [...first.changes, ...second.changes],
    commands: [...first.commands, ...second.commands],
  };
}

/** The records that are meant, in the order in which their agents joined. */
export function agentsWhere(state: RunState, isMeant: (agent: AgentRecord) => boolean): AgentRecord[] {
  return [...state.agents.values()].filter(isMeant);
}

/** With this record in place of the one of its id. */
export function put(state: RunState, agent: AgentRecord): RunState {
  const before = state.agents.get(agent.id)?.stats.established ?? 0;
  const established = state.established + agent.stats.established - before;
  return { ...state, agents: state.agents.with(agent), established };
}

/** With a record changed; one that is not there stays so. */
export function update(state: RunState, id: string, change: Partial<AgentRecord>): RunState {
  const agent = state.agents.get(id);
  return agent === undefined ? state : put(state, { ...agent, ...change });
}

/** From one phase into another. */
export function enter(state: RunState, phase: Phase, atMs: number): Stepped {
  const changes: RunChange[] = [{ type: 'phase-changed', from: state.phase, to: phase }];
  return { state: { ...state, phase, phaseSinceMs: atMs }, changes, commands: [] };
}

/** Ends the run now. @param reason null: it was decided when draining began */
export function finish(state: RunState, reason: EndReason | null, atMs: number): Stepped {
  const endReason = state.endReason ?? reason;
  assert(endReason !== null, 'a run must not end without a reason');
  return andThen(enter({ ...state, endReason }, 'ended', atMs), (ended) => ({
    ...stay(ended),
    changes: [{ type: 'run-ended', reason: endReason }],
  }));
}

/** Orders every live agent to close, and ends immediately when there is none. */
export function drain(state: RunState, reason: EndReason, atMs: number): Stepped {
  const endReason = state.endReason ?? reason;
  const live = agentsWhere(state, isLive);
  if (live.length === 0) return finish({ ...state, endReason }, endReason, atMs);
  return {
    ...enter({ ...state, endReason }, 'draining', atMs),
    commands: live.map(({ id }) => ({ type: 'send-stop', agent: id, reason: endReason.type })),
  };
}

/** When time alone ends the phase: the hold where it has an end, and the ramp of a schedule. @returns null: it does not */
export function phaseEndsMs({ phase, phaseSinceMs, begunMs, spec }: RunState): number | null {
  if (spec.stages !== undefined && begunMs !== null) {
    if (phase === 'ramping') return begunMs + holdFromMsOf(spec.stages);
    return phase === 'holding' ? begunMs + lengthMsOf(spec.stages) : null;
  }
  return phase === 'holding' && !isEndless(spec) ? phaseSinceMs + spec.holdMs : null;
}
