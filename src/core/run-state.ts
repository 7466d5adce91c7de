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

/** What becomes of the quota of an agent that is lost. */
export type LossPolicy = 'fail' | 'continue' | 'replace';

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
  /** an agent that was silent for so long is lost; longer than its own lease, after which it has closed everything */
  readonly leaseMs: number;
  readonly onAgentLoss: LossPolicy;
  /** lost connections are opened again: a moment without any is then not the end */
  readonly canReopen: boolean;
}

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

/** Why a run ended. */
export type EndReason =
  | { readonly type: 'held' }
  | { readonly type: 'nothing-open' }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' }
  | { readonly type: 'requirement-broken'; readonly requirement: string }
  | { readonly type: 'refused'; readonly agent: string | null; readonly findings: readonly Finding[] }
  | {
      readonly type: 'agents-missing';
      /** who came and said what it can hold */
      readonly joined: readonly string[];
      /** who came and is silent */
      readonly silent: readonly string[];
      readonly expected: number;
    }
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
  /** the hold phase has begun */
  readonly hasHeld: boolean;
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
      /** the quota that the report speaks of: an older one does not settle a newer one */
      readonly quota: number;
      readonly settled: boolean;
      readonly open: number;
      readonly established: number;
    }
  /** its channel is gone; it may come back within its lease */
  | { readonly type: 'agent-cut'; readonly agent: string }
  | { readonly type: 'agent-resumed'; readonly agent: string }
  | { readonly type: 'agent-done'; readonly agent: string }
  | { readonly type: 'agent-left'; readonly agent: string }
  | { readonly type: 'ticked' }
  /** who is missing cannot come any more */
  | { readonly type: 'gathering-hopeless' }
  /** only where the run is to end early for it */
  | { readonly type: 'requirement-broken'; readonly requirement: string }
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
  | { readonly type: 'turn-away'; readonly agent: string; readonly reason: string }
  | { readonly type: 'send-resumed'; readonly agent: string }
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
    hasHeld: false,
    interrupted: null,
    endReason: null,
  };
}

const isLive = (agent: AgentState): boolean => agent.stage !== 'lost' && agent.stage !== 'done';
const isRunPhase = (phase: Phase): boolean => phase === 'ramping' || phase === 'holding';
/** Live and with a quota: neither a spare nor one that is still offering. */
const isCarrying = (agent: AgentState): boolean =>
  agent.stage === 'running' || agent.stage === 'quoted' || agent.stage === 'ready';
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
  const isSpare = isRunPhase(state.phase) && state.plan.onAgentLoss === 'replace';
  if (!isExpected && !isSpare) {
    const reason =
      state.phase === 'gathering' ? 'all expected agents are here' : 'the run has begun without it';
    return { state, commands: [{ type: 'turn-away', agent: name, reason }] };
  }
  const agent: AgentState = {
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

/** Before the start a refusal ends the run; a spare's refusal only loses the spare. */
function refused(state: RunState, name: string, findings: readonly Finding[], atMs: number): Stepped {
  const next = seen(state, name, atMs);
  const sender = state.agents.find((agent) => agent.name === name);
  if (sender === undefined || !isLive(sender) || state.phase === 'draining') return stay(next);
  if (!isRunPhase(state.phase)) return drain(next, { type: 'refused', agent: name, findings }, atMs);
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
  if (isCarrying(agent)) commands.push(...quotaCommands(next, (each) => each === agent));
  if (agent.stage === 'running') {
    commands.push({ type: 'send-start', agent: name });
    if (state.stalled) commands.push({ type: 'send-stop-opening', agent: name });
    if (state.phase === 'holding') commands.push({ type: 'send-hold', agent: name });
  }
  return { state: next, commands };
}

/** The whole quota of each agent that is picked, with its share of the rate and of the pending cap. */
function quotaCommands(state: RunState, isPicked: (agent: AgentState) => boolean): RunCommand[] {
  const quotas = state.agents.map((each) => each.quota);
  const rates = splitRate(state.plan.ratePerSec, quotas);
  const pendings = splitPending(state.plan.pendingMax, quotas);
  return state.agents.flatMap((agent, index) =>
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
  const { connections } = state.plan;
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
  const next = { ...enter(state, 'preparing', atMs), agents };
  return { state: next, commands: quotaCommands(next, () => true) };
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

/**
 * Hands lost quotas to agents with spare capacity: only when the lease of the lost one and a margin are over, so that it
 * has closed everything, whatever became of it. What nobody could take is offered again to an agent that comes later.
 */
function handOver(state: RunState, atMs: number): Stepped {
  if (state.plan.onAgentLoss !== 'replace') return stay(state);
  const spares = state.agents.map((agent) =>
    agent.stage === 'running' || agent.stage === 'offered' ? Math.max(0, agent.capacity - agent.quota) : 0,
  );
  const hasSpare = spares.some((spare) => spare > 0);
  const due = state.agents.find(
    (agent) =>
      agent.stage === 'lost' &&
      agent.quota > 0 &&
      (!agent.isReplaced || hasSpare) &&
      atMs - agent.lastSeenMs >= state.plan.leaseMs,
  );
  if (due === undefined) return stay(state);
  const extras = splitQuota(due.quota, spares);
  const given = extras.reduce((sum, extra) => sum + extra, 0);
  const agents = state.agents.map((agent, index) => {
    if (agent.name === due.name) return { ...agent, quota: agent.quota - given, isReplaced: true };
    if (extras[index] === 0) return agent;
    const stage = agent.stage === 'offered' ? ('quoted' as const) : agent.stage;
    return { ...agent, stage, quota: agent.quota + extras[index]!, settled: false };
  });
  const next = { ...state, agents, grewAtMs: atMs, stalled: state.stalled && given === 0 };
  const grown = new Set(agents.filter((_, index) => extras[index]! > 0));
  const stepped = progressed(next, atMs);
  return {
    state: stepped.state,
    commands: [...quotaCommands(next, (agent) => grown.has(agent)), ...stepped.commands],
  };
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
