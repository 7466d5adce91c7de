/**
 * Owns the run as a reducer: which phase it is in, who has which quota, when it ends and why.
 * `step(state, event)` is pure; the coordinator feeds events and carries out the commands.
 * Must never read a clock, send, or print.
 *
 *   gathering -> preparing -> ramping -> holding -> draining -> ended
 */
import assert from 'node:assert/strict';
import type { Finding } from '../base/errors.ts';
import type { Phase } from '../stats/stats.ts';
import { type AgentState, isCarrying, isLive, newAgent } from './agent-state.ts';
import { handedOver, quotaCommands, refusalsOf, withQuotas } from './quota-handout.ts';
import type { EndReason, RunCommand, RunEvent } from './run-event.ts';
import type { RunPlan } from './run-plan.ts';

export interface RunState {
  readonly plan: RunPlan;
  readonly phase: Phase;
  readonly phaseSinceMs: number;
  readonly agents: readonly AgentState[];
  /** highest sum of established so far, and when it was reached */
  readonly establishedMax: number;
  readonly grewAtMs: number;
  readonly stalled: boolean;
  /** the hold phase has begun */
  readonly hasHeld: boolean;
  readonly interrupted: 'SIGINT' | 'SIGTERM' | null;
  /** set from the moment that the end is decided; always set when the phase is `ended` */
  readonly endReason: EndReason | null;
}

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
    hasHeld: false,
    interrupted: null,
    endReason: null,
  };
}

/** Agents above those that are expected, gone ones included: they may come while the run goes on. */
const SPARES_MAX = 1_000;

const isRunPhase = (phase: Phase): boolean => phase === 'ramping' || phase === 'holding';
const stay = (state: RunState): Stepped => ({ state, commands: [] });

/** Copies the list but builds one new agent only: thousands of agents report each second. */
function updateAgent(state: RunState, name: string, change: Partial<AgentState>): RunState {
  const index = state.agents.findIndex((agent) => agent.name === name);
  if (index < 0) return state;
  return { ...state, agents: state.agents.with(index, { ...state.agents[index]!, ...change }) };
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
      return refused(state, event.agent, event.findings, event.atMs);
    case 'agent-cut':
      return stay(updateAgent(state, event.agent, { isCut: true }));
    case 'agent-resumed':
      return resumed(state, event.agent, event.atMs);
    case 'agent-ready':
      return ready(state, event.agent, event.atMs);
    case 'agent-reported':
      return reported(state, event);
    case 'agent-done':
      // One that is done before it was told to stop has closed on its own: nothing of it is held any more.
      if (state.phase !== 'draining') return left(state, event.agent, event.atMs);
      return settleDrain(
        updateAgent(state, event.agent, { stage: 'done', lastSeenMs: event.atMs }),
        event.atMs,
      );
    case 'agent-left':
      return left(state, event.agent, event.atMs);
    case 'ticked':
      return ticked(state, event.atMs);
    case 'gathering-hopeless':
      return state.phase === 'gathering' ? agentsMissing(state, event.atMs) : stay(state);
    case 'requirement-broken': {
      if (!isRunPhase(state.phase)) return stay(state);
      const { requirement } = event;
      return drain(state, { type: 'requirement-broken', requirement }, event.atMs);
    }
    case 'interrupted':
      return interrupted(state, event.signal, event.atMs);
  }
}

function seen(state: RunState, name: string, atMs: number): RunState {
  return updateAgent(state, name, { lastSeenMs: atMs });
}

function joined(state: RunState, name: string, atMs: number): Stepped {
  if (state.agents.some((agent) => agent.name === name)) return stay(state);
  const isGathering = state.phase === 'gathering';
  const isFull = state.agents.length >= state.plan.agentsExpected;
  // One that is cut off before the quotas loses its place to one that is here.
  const cut = isGathering && isFull ? state.agents.find((agent) => agent.isCut) : undefined;
  if (cut !== undefined) {
    const { state: without, commands } = turnAway(state, cut.name, 'another agent has taken its place');
    const stepped = joined(without, name, atMs);
    return { state: stepped.state, commands: [...commands, ...stepped.commands] };
  }
  const isExpected = isGathering && !isFull;
  const isRoom = state.agents.length < state.plan.agentsExpected + SPARES_MAX;
  const isSpare = isRunPhase(state.phase) && state.plan.onAgentLoss === 'replace' && isRoom;
  if (!isExpected && !isSpare) {
    const reason =
      state.phase === 'gathering' ? 'all expected agents are here' : 'the run has begun without it';
    return { state, commands: [{ type: 'turn-away', agent: name, reason }] };
  }
  const agent = newAgent(name, atMs);
  return {
    state: { ...state, agents: [...state.agents, agent] },
    commands: [{ type: 'send-spec', agent: name }],
  };
}

/** Lets go of an agent that has no quota. */
function turnAway(state: RunState, name: string, reason: string): Stepped {
  const agents = state.agents.filter((agent) => agent.name !== name);
  return { state: { ...state, agents }, commands: [{ type: 'turn-away', agent: name, reason }] };
}

/** Who refuses without a word of why refuses all the same. */
function refusalFindings(name: string, findings: readonly Finding[]): readonly Finding[] {
  if (findings.some(({ severity }) => severity === 'refuse')) return findings;
  const finding: Finding = {
    what: 'agent-refused',
    severity: 'refuse',
    needed: null,
    available: null,
    unit: 'agents',
    message: `agent ${name} refuses to take part, and does not say why`,
    fix: 'see what it says on its own stderr',
  };
  return [finding, ...findings];
}

/** Before the start a refusal ends the run; a spare's refusal only loses the spare. */
function refused(state: RunState, name: string, findings: readonly Finding[], atMs: number): Stepped {
  const next = seen(state, name, atMs);
  const sender = state.agents.find((agent) => agent.name === name);
  if (sender === undefined || !isLive(sender) || state.phase === 'draining') return stay(next);
  if (!isRunPhase(state.phase)) {
    return drain(next, { type: 'refused', agent: name, findings: refusalFindings(name, findings) }, atMs);
  }
  if (sender.quota === 0) return turnAway(next, name, 'it cannot take part');
  return lose(next, name, atMs);
}

/** An agent is back after a cut, within its lease: it is told again what it may have missed. */
function resumed(state: RunState, name: string, atMs: number): Stepped {
  const next = updateAgent(state, name, { lastSeenMs: atMs, isCut: false });
  const agent = next.agents.find((each) => each.name === name);
  if (agent === undefined || !isLive(agent)) return stay(next);
  const commands: RunCommand[] = [{ type: 'send-resumed', agent: name }];
  if (state.phase === 'draining') {
    // Without `hold` it would not know that what it kept all the time counts.
    if (state.hasHeld && agent.stage === 'running') commands.push({ type: 'send-hold', agent: name });
    return { state: next, commands: [...commands, { type: 'send-stop', agent: name, reason: 'draining' }] };
  }
  if (agent.stage === 'joined') commands.push({ type: 'send-spec', agent: name });
  if (state.phase === 'gathering') {
    const gathered = assignWhenComplete(next, atMs);
    return { state: gathered.state, commands: [...commands, ...gathered.commands] };
  }
  if (isCarrying(agent)) commands.push(...quotaCommands(next.plan, next.agents, (each) => each === agent));
  if (agent.stage === 'running') {
    commands.push({ type: 'send-start', agent: name });
    if (state.stalled) commands.push({ type: 'send-stop-opening', agent: name });
    if (state.phase === 'holding') commands.push({ type: 'send-hold', agent: name });
  }
  return { state: next, commands };
}

function offered(state: RunState, event: Extract<RunEvent, { type: 'agent-offered' }>): Stepped {
  const { capacity, boundBy, findings, atMs } = event;
  const sender = state.agents.find((agent) => agent.name === event.agent);
  if (sender?.stage !== 'joined') return stay(seen(state, event.agent, atMs));
  if (isRunPhase(state.phase)) {
    // A spare: it gets a quota when one is free.
    return handOver(
      updateAgent(state, event.agent, { stage: 'offered', lastSeenMs: atMs, capacity, boundBy, findings }),
      atMs,
    );
  }
  if (state.phase !== 'gathering') return stay(seen(state, event.agent, atMs));
  const next = updateAgent(state, event.agent, {
    stage: 'offered',
    lastSeenMs: atMs,
    capacity,
    boundBy,
    findings,
  });
  return assignWhenComplete(next, atMs);
}

/** Quotas are handed out when all are here, and in contact. */
function assignWhenComplete(state: RunState, atMs: number): Stepped {
  const isComplete = state.agents.length === state.plan.agentsExpected;
  const isWaiting = state.agents.some((agent) => agent.stage !== 'offered' || agent.isCut);
  return !isComplete || isWaiting ? stay(state) : assign(state, atMs);
}

/** Everyone has offered: quotas by capacity, or a refusal. */
function assign(state: RunState, atMs: number): Stepped {
  const refusals = refusalsOf(state.plan.connections, state.agents);
  if (refusals.length > 0) {
    const agent = state.agents.length === 1 ? state.agents[0]!.name : null;
    return drain(state, { type: 'refused', agent, findings: refusals }, atMs);
  }
  const agents = withQuotas(state.plan.connections, state.agents);
  const next = { ...enter(state, 'preparing', atMs), agents };
  return { state: next, commands: quotaCommands(state.plan, agents, () => true) };
}

function ready(state: RunState, name: string, atMs: number): Stepped {
  const sender = state.agents.find((agent) => agent.name === name);
  if (sender?.stage !== 'quoted') return stay(seen(state, name, atMs));
  if (isRunPhase(state.phase)) {
    // The barrier is behind us: a spare starts as soon as it is ready.
    const next = updateAgent(state, name, { stage: 'running', lastSeenMs: atMs });
    const commands: RunCommand[] = [{ type: 'send-start', agent: name }];
    if (state.phase === 'holding') commands.push({ type: 'send-hold', agent: name });
    return { state: next, commands };
  }
  if (state.phase !== 'preparing') return stay(seen(state, name, atMs));
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
  const { open, established, atMs } = event;
  const sender = state.agents.find((agent) => agent.name === event.agent);
  if (sender === undefined || !isLive(sender)) return stay(state);
  if (sender.stage !== 'running') return stay(seen(state, event.agent, atMs));
  const settled = event.settled && event.quota === sender.quota;
  const next = updateAgent(state, event.agent, { lastSeenMs: atMs, settled, open, established });
  const grown = established > sender.established ? withGrowth(next, atMs) : next;
  // Only a report that changes what the phase depends on is worth looking at all agents: with thousands of them that
  // costs more than the report itself. Each tick looks anyway.
  const matters = settled !== sender.settled || (open === 0) !== (sender.open === 0);
  return matters ? progressed(grown, atMs) : stay(grown);
}

/** Notes when the sum of established was highest: a ramp that does not grow has stalled. */
function withGrowth(state: RunState, atMs: number): RunState {
  let sum = 0;
  for (const agent of state.agents) sum += agent.established;
  return sum > state.establishedMax ? { ...state, establishedMax: sum, grewAtMs: atMs } : state;
}

/** Moves on from the ramp when everybody has settled, and from the hold when nothing is left to hold. */
function progressed(state: RunState, atMs: number): Stepped {
  if (!isRunPhase(state.phase) || hasOpenLoss(state)) return stay(state);
  const carrying = state.agents.filter(isCarrying);
  const isSettled = carrying.every((agent) => agent.stage === 'running' && agent.settled);
  if (!isSettled) return stay(state);
  const mayComeBack = state.phase === 'holding' && state.plan.canReopen;
  if (!mayComeBack && carrying.every((agent) => agent.open === 0)) {
    return drain(state, { type: 'nothing-open' }, atMs);
  }
  if (state.phase === 'holding') return stay(state);
  return {
    state: { ...enter(state, 'holding', atMs), hasHeld: true },
    commands: carrying.map((agent) => ({ type: 'send-hold', agent: agent.name })),
  };
}

/** Whether a lost quota still waits to be handed to somebody. */
function hasOpenLoss(state: RunState): boolean {
  return (
    state.plan.onAgentLoss === 'replace' &&
    !state.stalled &&
    state.agents.some((agent) => agent.stage === 'lost' && agent.quota > 0 && !agent.isReplaced)
  );
}

/** An agent is gone for sure: its process ended, or it closed everything before it was told to. */
function left(state: RunState, name: string, atMs: number): Stepped {
  const agent = state.agents.find((each) => each.name === name);
  if (agent === undefined || !isLive(agent)) return stay(state);
  if (state.phase === 'gathering') {
    // It has no quota yet, so its place is free for another.
    return turnAway(state, name, 'it has left');
  }
  return lose(state, name, atMs);
}

function lose(state: RunState, name: string, atMs: number): Stepped {
  const agent = state.agents.find((each) => each.name === name);
  // A spare that has carried nothing leaves nothing behind.
  if (isRunPhase(state.phase) && (agent?.stage === 'joined' || agent?.stage === 'offered')) {
    return turnAway(state, name, 'it was lost before it got a quota');
  }
  const next = updateAgent(state, name, { stage: 'lost', open: 0 });
  if (state.phase === 'draining') return settleDrain(next, atMs);
  if (state.phase === 'preparing') return drain(next, { type: 'agents-not-ready', missing: [name] }, atMs);
  const lost = next.agents.filter((agent) => agent.stage === 'lost').map((agent) => agent.name);
  if (!next.agents.some(isLive)) return finish(next, { type: 'agents-lost', lost }, atMs);
  const wasCarrying = state.agents.some((agent) => agent.name === name && agent.quota > 0);
  if (state.plan.onAgentLoss === 'fail' && wasCarrying)
    return drain(next, { type: 'agents-lost', lost }, atMs);
  return progressed(next, atMs);
}

/** Hands one lost quota to agents with spare capacity, where that is wanted and one is due. */
function handOver(state: RunState, atMs: number): Stepped {
  if (state.plan.onAgentLoss !== 'replace') return stay(state);
  const handed = handedOver(state.agents, state.plan.leaseMs, atMs);
  if (handed === null) return stay(state);
  const { agents, grown } = handed;
  const next = { ...state, agents, grewAtMs: atMs, stalled: state.stalled && grown.size === 0 };
  const stepped = progressed(next, atMs);
  return {
    state: stepped.state,
    commands: [...quotaCommands(state.plan, agents, (agent) => grown.has(agent)), ...stepped.commands],
  };
}

/** Who had a quota and has not given its last word: without it nothing that it says it held is proven. */
export function withoutLastWord(state: RunState): string[] {
  return state.agents.filter((agent) => isLive(agent) && agent.quota > 0).map((agent) => agent.name);
}

/** Ends the run when nobody is left to wait for. */
function settleDrain(state: RunState, atMs: number): Stepped {
  if (state.phase !== 'draining' || state.agents.some(isLive)) return stay(state);
  assert(state.endReason !== null, 'draining without a reason');
  return finish(state, state.endReason, atMs);
}

/** All agents whose lease is over at once: a rack that loses power must not be lost one by one. */
function withoutSilent(state: RunState, silent: readonly AgentState[], atMs: number): Stepped {
  let stepped = stay(state);
  for (const { name } of silent) {
    if (stepped.state.phase === 'ended') break;
    const next =
      state.phase === 'gathering'
        ? turnAway(stepped.state, name, 'it was silent for too long')
        : lose(stepped.state, name, atMs);
    stepped = { state: next.state, commands: [...stepped.commands, ...next.commands] };
  }
  return stepped;
}

function ticked(state: RunState, atMs: number): Stepped {
  const { plan } = state;
  const elapsedMs = atMs - state.phaseSinceMs;
  const silent = state.agents.filter((agent) => isLive(agent) && atMs - agent.lastSeenMs > plan.leaseMs);
  if (silent.length > 0) return withoutSilent(state, silent, atMs);
  switch (state.phase) {
    case 'gathering': {
      if (elapsedMs < plan.gatherMs) return stay(state);
      return agentsMissing(state, atMs);
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

/** Not everybody has come. */
function agentsMissing(state: RunState, atMs: number): Stepped {
  const isHere = (agent: AgentState): boolean => agent.stage === 'offered' && !agent.isCut;
  const names = (agents: readonly AgentState[]): string[] => agents.map((agent) => agent.name);
  const joined = names(state.agents.filter(isHere));
  const silent = names(state.agents.filter((agent) => !isHere(agent)));
  return drain(state, { type: 'agents-missing', joined, silent, expected: state.plan.agentsExpected }, atMs);
}

function runningTick(state: RunState, atMs: number): Stepped {
  const { plan } = state;
  if (state.phase === 'holding' && atMs - state.phaseSinceMs >= plan.holdMs) {
    return drain(state, { type: 'held' }, atMs);
  }
  const handed = handOver(state, atMs);
  if (handed.state !== state) return handed;
  if (state.phase === 'ramping' && !state.stalled && atMs - state.grewAtMs > plan.stallMs) {
    return {
      state: { ...state, stalled: true },
      commands: state.agents
        .filter(isCarrying)
        .map((agent) => ({ type: 'send-stop-opening', agent: agent.name })),
    };
  }
  return progressed(state, atMs);
}

function interrupted(state: RunState, signal: 'SIGINT' | 'SIGTERM', atMs: number): Stepped {
  const reason: EndReason = { type: 'interrupted', signal };
  if (state.interrupted !== null) return finish(state, reason, atMs);
  const next = { ...state, interrupted: signal };
  if (state.phase === 'draining') return stay(next);
  return drain(next, reason, atMs);
}
