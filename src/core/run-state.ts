/**
 * Owns the run as a reducer: which phase it is in, who has which quota, when it ends and why.
 * `step(state, event)` is pure; the coordinator feeds events and carries out the commands.
 * Must never read a clock, send, or print.
 *
 *   gathering -> preparing -> ramping -> holding -> draining -> ended
 */
import assert from 'node:assert/strict';
import type { Finding } from './finding.ts';
import type { Phase } from './progress.ts';
import { splitPending, splitQuota, splitRate } from './quota.ts';
import { formatCount } from './units.ts';

/** What the run is to do, fixed at its start; times in milliseconds. */
export interface RunPlan {
  readonly connections: number;
  readonly ratePerSec: number | null;
  readonly pendingMax: number;
  readonly holdMs: number;
  readonly agentsExpected: number;
  /** how long to wait for agents to join and to offer */
  readonly gatherMs: number;
  /** how long agents may take to get ready */
  readonly prepareMs: number;
  /** the ramp stops opening when nothing new was established for so long */
  readonly stallMs: number;
  /** how long closing may take */
  readonly drainMs: number;
  /** an agent that was silent for so long is lost */
  readonly leaseMs: number;
}

export type AgentStage = 'joined' | 'offered' | 'quoted' | 'ready' | 'running' | 'done' | 'lost';

export interface AgentState {
  readonly name: string;
  readonly stage: AgentStage;
  readonly lastSeenMs: number;
  readonly capacity: number;
  readonly boundBy: string;
  readonly findings: readonly Finding[];
  readonly quota: number;
  readonly settled: boolean;
  readonly open: number;
  readonly established: number;
}

/** Why a run ended. */
export type EndReason =
  | { readonly type: 'held' }
  | { readonly type: 'nothing-open' }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' }
  | { readonly type: 'refused'; readonly agent: string | null; readonly findings: readonly Finding[] }
  | { readonly type: 'agents-missing'; readonly joined: readonly string[]; readonly expected: number }
  | { readonly type: 'agents-not-ready'; readonly missing: readonly string[] }
  | { readonly type: 'agents-lost'; readonly lost: readonly string[] };

export interface RunState {
  readonly plan: RunPlan;
  readonly phase: Phase;
  readonly phaseSinceMs: number;
  readonly agents: readonly AgentState[];
  /** highest sum of established so far, and when it was reached */
  readonly establishedMax: number;
  readonly grewAtMs: number;
  readonly stalled: boolean;
  readonly interrupted: 'SIGINT' | 'SIGTERM' | null;
  /** set from the moment that the end is decided; always set when the phase is `ended` */
  readonly endReason: EndReason | null;
}

/** Everything that can happen to a run. Each carries the monotonic time. */
export type RunEvent = { readonly atMs: number } & (
  | { readonly type: 'agent-joined'; readonly agent: string }
  | {
      readonly type: 'agent-offered';
      readonly agent: string;
      readonly capacity: number;
      readonly boundBy: string;
      readonly findings: readonly Finding[];
    }
  | { readonly type: 'agent-refused'; readonly agent: string; readonly findings: readonly Finding[] }
  | { readonly type: 'agent-ready'; readonly agent: string }
  | {
      readonly type: 'agent-reported';
      readonly agent: string;
      readonly settled: boolean;
      readonly open: number;
      readonly established: number;
    }
  | { readonly type: 'agent-done'; readonly agent: string }
  | { readonly type: 'agent-left'; readonly agent: string }
  | { readonly type: 'ticked' }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' }
);

/** What the coordinator must now do, in order. */
export type RunCommand =
  | { readonly type: 'send-spec'; readonly agent: string }
  | {
      readonly type: 'send-quota';
      readonly agent: string;
      readonly connections: number;
      readonly ratePerSec: number | null;
      readonly pendingMax: number;
    }
  | { readonly type: 'send-start'; readonly agent: string }
  | { readonly type: 'send-stop-opening'; readonly agent: string }
  | { readonly type: 'send-hold'; readonly agent: string }
  | { readonly type: 'send-stop'; readonly agent: string; readonly reason: string }
  | { readonly type: 'finish'; readonly reason: EndReason };

export interface Stepped {
  readonly state: RunState;
  readonly commands: readonly RunCommand[];
}

/** The state before anybody has joined. */
export function initialRunState(plan: RunPlan, atMs: number): RunState {
  return {
    plan,
    phase: 'gathering',
    phaseSinceMs: atMs,
    agents: [],
    establishedMax: 0,
    grewAtMs: atMs,
    stalled: false,
    interrupted: null,
    endReason: null,
  };
}

const isLive = (agent: AgentState): boolean => agent.stage !== 'lost' && agent.stage !== 'done';
const stay = (state: RunState): Stepped => ({ state, commands: [] });

function updateAgent(state: RunState, name: string, change: Partial<AgentState>): RunState {
  const agents = state.agents.map((agent) => (agent.name === name ? { ...agent, ...change } : agent));
  return { ...state, agents };
}

function enter(state: RunState, phase: Phase, atMs: number): RunState {
  return { ...state, phase, phaseSinceMs: atMs };
}

/** Ends the run now. */
function finish(state: RunState, reason: EndReason, atMs: number): Stepped {
  const endReason = state.endReason ?? reason;
  return {
    state: { ...enter(state, 'ended', atMs), endReason },
    commands: [{ type: 'finish', reason: endReason }],
  };
}

/** Tells every live agent to close, and ends at once when there is none. */
function drain(state: RunState, reason: EndReason, atMs: number): Stepped {
  const endReason = state.endReason ?? reason;
  const live = state.agents.filter(isLive);
  const next = { ...enter(state, 'draining', atMs), endReason };
  if (live.length === 0) return finish(next, endReason, atMs);
  return {
    state: next,
    commands: live.map((agent) => ({ type: 'send-stop', agent: agent.name, reason: endReason.type })),
  };
}

/**
 * The next state and what to do about it.
 * @param event must not be older than the ones before it
 * @throws AssertionError when the run has ended without a reason, which would be a bug
 */
export function step(state: RunState, event: RunEvent): Stepped {
  if (state.phase === 'ended') {
    assert(state.endReason !== null, 'a run must not end without a reason');
    return stay(state);
  }
  switch (event.type) {
    case 'agent-joined':
      return joined(state, event.agent, event.atMs);
    case 'agent-offered':
      return offered(state, event);
    case 'agent-refused':
      return drain(
        seen(state, event.agent, event.atMs),
        { type: 'refused', agent: event.agent, findings: event.findings },
        event.atMs,
      );
    case 'agent-ready':
      return ready(state, event.agent, event.atMs);
    case 'agent-reported':
      return reported(state, event);
    case 'agent-done':
      return settleDrain(
        updateAgent(state, event.agent, { stage: 'done', lastSeenMs: event.atMs }),
        event.atMs,
      );
    case 'agent-left':
      return left(state, event.agent, event.atMs);
    case 'ticked':
      return ticked(state, event.atMs);
    case 'interrupted':
      return interrupted(state, event.signal, event.atMs);
  }
}

function seen(state: RunState, name: string, atMs: number): RunState {
  return updateAgent(state, name, { lastSeenMs: atMs });
}

function joined(state: RunState, name: string, atMs: number): Stepped {
  const known = state.agents.some((agent) => agent.name === name);
  // A late or surplus agent gets no spec: it is not part of this run.
  if (known || state.phase !== 'gathering' || state.agents.length >= state.plan.agentsExpected)
    return stay(state);
  const agent: AgentState = {
    name,
    stage: 'joined',
    lastSeenMs: atMs,
    capacity: 0,
    boundBy: 'none',
    findings: [],
    quota: 0,
    settled: false,
    open: 0,
    established: 0,
  };
  return {
    state: { ...state, agents: [...state.agents, agent] },
    commands: [{ type: 'send-spec', agent: name }],
  };
}

function offered(state: RunState, event: Extract<RunEvent, { type: 'agent-offered' }>): Stepped {
  const { capacity, boundBy, findings, atMs } = event;
  const sender = state.agents.find((agent) => agent.name === event.agent);
  if (state.phase !== 'gathering' || sender?.stage !== 'joined') return stay(seen(state, event.agent, atMs));
  const next = updateAgent(state, event.agent, {
    stage: 'offered',
    lastSeenMs: atMs,
    capacity,
    boundBy,
    findings,
  });
  const complete = next.agents.length === next.plan.agentsExpected;
  if (!complete || next.agents.some((agent) => agent.stage !== 'offered')) return stay(next);
  return assign(next, atMs);
}

/** Everyone has offered: quotas by capacity, or a refusal. */
function assign(state: RunState, atMs: number): Stepped {
  const { connections, ratePerSec, pendingMax } = state.plan;
  const capacities = state.agents.map((agent) => agent.capacity);
  const capacity = capacities.reduce((sum, each) => sum + each, 0);
  const alone = state.agents.length === 1;
  const refusals = state.agents.flatMap((agent) =>
    agent.findings.filter((each) => each.severity === 'refuse'),
  );
  // With several agents a finding about the whole total says nothing about a share of it: the agent judges its
  // own quota when it gets it.
  if (capacity < connections || (alone && refusals.length > 0)) {
    const findings = alone && refusals.length > 0 ? refusals : [capacityFinding(state), ...refusals];
    return drain(state, { type: 'refused', agent: alone ? state.agents[0]!.name : null, findings }, atMs);
  }
  const quotas = splitQuota(connections, capacities);
  const rates = splitRate(ratePerSec, quotas);
  const pendings = splitPending(pendingMax, quotas);
  const agents = state.agents.map((agent, index) => ({
    ...agent,
    stage: 'quoted' as const,
    quota: quotas[index]!,
  }));
  assert.equal(
    agents.reduce((sum, agent) => sum + agent.quota, 0),
    connections,
    'quotas must sum to the total',
  );
  return {
    state: { ...enter(state, 'preparing', atMs), agents },
    commands: agents.map((agent, index) => ({
      type: 'send-quota',
      agent: agent.name,
      connections: agent.quota,
      ratePerSec: rates[index]!,
      pendingMax: pendings[index]!,
    })),
  };
}

/** Asked against offered, agent by agent. */
function capacityFinding(state: RunState): Finding {
  const { connections } = state.plan;
  const capacity = state.agents.reduce((sum, agent) => sum + agent.capacity, 0);
  const offers = state.agents.map(
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

function ready(state: RunState, name: string, atMs: number): Stepped {
  const sender = state.agents.find((agent) => agent.name === name);
  if (state.phase !== 'preparing' || sender?.stage !== 'quoted') return stay(seen(state, name, atMs));
  const next = updateAgent(state, name, { stage: 'ready', lastSeenMs: atMs });
  if (next.agents.some((agent) => agent.stage === 'quoted')) return stay(next);
  const agents = next.agents.map((agent) =>
    agent.stage === 'ready' ? { ...agent, stage: 'running' as const } : agent,
  );
  return {
    state: { ...enter(next, 'ramping', atMs), agents, grewAtMs: atMs },
    commands: agents.filter(isLive).map((agent) => ({ type: 'send-start', agent: agent.name })),
  };
}

function reported(state: RunState, event: Extract<RunEvent, { type: 'agent-reported' }>): Stepped {
  const { settled, open, established, atMs } = event;
  const next = updateAgent(state, event.agent, { lastSeenMs: atMs, settled, open, established });
  const sum = next.agents.reduce((total, agent) => total + agent.established, 0);
  const grown = sum > next.establishedMax ? { ...next, establishedMax: sum, grewAtMs: atMs } : next;
  return progressed(grown, atMs);
}

/** Moves on from the ramp when everybody has settled, and from the hold when nothing is left to hold. */
function progressed(state: RunState, atMs: number): Stepped {
  const live = state.agents.filter(isLive);
  const nothingOpen = live.every((agent) => agent.open === 0);
  if (state.phase === 'ramping' && live.every((agent) => agent.settled)) {
    if (nothingOpen) return drain(state, { type: 'nothing-open' }, atMs);
    return {
      state: enter(state, 'holding', atMs),
      commands: live.map((agent) => ({ type: 'send-hold', agent: agent.name })),
    };
  }
  if (state.phase === 'holding' && nothingOpen) return drain(state, { type: 'nothing-open' }, atMs);
  return stay(state);
}

function left(state: RunState, name: string, atMs: number): Stepped {
  const agent = state.agents.find((each) => each.name === name);
  if (agent === undefined || !isLive(agent)) return stay(state);
  if (state.phase === 'gathering') {
    // It has no quota yet, so its place is free for another.
    return stay({ ...state, agents: state.agents.filter((each) => each.name !== name) });
  }
  const next = updateAgent(state, name, { stage: 'lost', open: 0 });
  if (state.phase === 'draining') return settleDrain(next, atMs);
  if (state.phase === 'preparing') return drain(next, { type: 'agents-not-ready', missing: [name] }, atMs);
  if (next.agents.every((each) => !isLive(each))) {
    return finish(next, { type: 'agents-lost', lost: next.agents.map((each) => each.name) }, atMs);
  }
  return progressed(next, atMs);
}

/** Ends the run when nobody is left to wait for. */
function settleDrain(state: RunState, atMs: number): Stepped {
  if (state.phase !== 'draining') {
    // An agent that is done before it was told to stop has ended on its own: it holds nothing any more.
    if (state.agents.some(isLive)) return state.phase === 'gathering' ? stay(state) : progressed(state, atMs);
    return finish(state, { type: 'agents-lost', lost: state.agents.map((agent) => agent.name) }, atMs);
  }
  if (state.agents.some(isLive)) return stay(state);
  assert(state.endReason !== null, 'draining without a reason');
  return finish(state, state.endReason, atMs);
}

function ticked(state: RunState, atMs: number): Stepped {
  const { plan } = state;
  const elapsedMs = atMs - state.phaseSinceMs;
  switch (state.phase) {
    case 'gathering': {
      if (elapsedMs < plan.gatherMs) return stay(state);
      const present = state.agents.map((agent) => agent.name);
      return drain(state, { type: 'agents-missing', joined: present, expected: plan.agentsExpected }, atMs);
    }
    case 'preparing': {
      if (elapsedMs < plan.prepareMs) return stay(state);
      const missing = state.agents.filter((agent) => agent.stage === 'quoted').map((agent) => agent.name);
      return drain(state, { type: 'agents-not-ready', missing }, atMs);
    }
    case 'ramping':
    case 'holding':
      return runningTick(state, atMs);
    case 'draining':
      if (elapsedMs < plan.drainMs) return stay(state);
      assert(state.endReason !== null, 'draining without a reason');
      return finish(state, state.endReason, atMs);
    case 'ended':
      return stay(state);
  }
}

function runningTick(state: RunState, atMs: number): Stepped {
  const { plan } = state;
  const silent = state.agents.find((agent) => isLive(agent) && atMs - agent.lastSeenMs > plan.leaseMs);
  if (silent !== undefined) return left(state, silent.name, atMs);
  if (state.phase === 'holding' && atMs - state.phaseSinceMs >= plan.holdMs) {
    return drain(state, { type: 'held' }, atMs);
  }
  if (state.phase === 'ramping' && !state.stalled && atMs - state.grewAtMs > plan.stallMs) {
    return {
      state: { ...state, stalled: true },
      commands: state.agents
        .filter(isLive)
        .map((agent) => ({ type: 'send-stop-opening', agent: agent.name })),
    };
  }
  return stay(state);
}

function interrupted(state: RunState, signal: 'SIGINT' | 'SIGTERM', atMs: number): Stepped {
  const reason: EndReason = { type: 'interrupted', signal };
  if (state.interrupted !== null) return finish(state, reason, atMs);
  const next = { ...state, interrupted: signal };
  if (state.phase === 'draining') return stay(next);
  return drain(next, reason, atMs);
}
