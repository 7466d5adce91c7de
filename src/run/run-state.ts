/**
 * Owns the run as a reducer: which phase it is in, what is known of each agent, when it ends and why.
 * `step(state, event)` is pure: it says what changed and what agents are sent, and the coordinator acts on both.
 * Must never read a clock, send, or print.
 *
 *   gathering -> preparing -> ramping -> holding -> draining -> ended
 */
import assert from 'node:assert/strict';
import type { Finding } from '../base/errors.ts';
import type { Phase } from '../stats/stats.ts';
import {
  type AgentRecord,
  holdersBegun,
  isCarrying,
  isLive,
  newAgent,
  withLoss,
  withSnapshot,
} from './agent-record.ts';
import { firstQuotas, firstShares, handedOver, quotaCommands, refusalFindings, refusalsOf } from './quota.ts';
import type { AgentCommand, EndReason, RunChange, RunEvent } from './run-event.ts';
import { isEndless } from './run-spec.ts';
import {
  agentsWhere,
  andThen,
  drain,
  enter,
  finish,
  idsOf,
  phaseEndsMs,
  put,
  type RunState,
  type Stepped,
  stay,
  update,
} from './run-transition.ts';

/** Agents above those that are expected, gone ones included: they may come while the run goes on. */
const SPARES_MAX = 1_000;
/** However often something is started: getting ready takes so many times `prepareMs` at most. */
const PREPARE_STRETCH = 5;

const isRunPhase = (phase: Phase): boolean => phase === 'ramping' || phase === 'holding';
/**
 * The next state, what changed, and what agents are sent.
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
      return stay(update(state, event.agent, { isCut: true }));
    case 'agent-resumed':
      return resumed(state, event.agent, event.atMs);
    case 'agent-ready':
      return ready(state, event);
    case 'agent-reported':
      return reported(state, event);
    case 'agent-done':
      return done(state, event);
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

function joined(state: RunState, id: string, atMs: number): Stepped {
  if (state.agents.has(id)) return stay(state);
  const { agents, phase, terms } = state;
  const isGathering = phase === 'gathering';
  const isFull = agents.size >= terms.agentsExpected;
  // One that is cut off before the quotas loses its place to one that is here.
  const [cut] = isGathering && isFull ? agentsWhere(state, (agent) => agent.isCut) : [];
  if (cut !== undefined) {
    const without = turnAway(state, cut.id, 'another agent has taken its place');
    return andThen(without, (next) => joined(next, id, atMs));
  }
  const isExpected = isGathering && !isFull;
  const isRoom = agents.size < terms.agentsExpected + SPARES_MAX;
  const isSpare = isRunPhase(phase) && terms.onAgentLoss === 'replace' && isRoom;
  if (!isExpected && !isSpare)
    return turnAway(state, id, isGathering ? 'all expected agents are here' : 'the run has begun without it');
  return {
    state: put(state, newAgent(id, atMs)),
    changes: [{ type: 'agent-joined', agent: id }],
    commands: [{ type: 'send-spec', agent: id }],
  };
}

/** Lets go of an agent that has no quota, or was never taken. */
function turnAway(state: RunState, id: string, reason: string): Stepped {
  const established = state.established - (state.agents.get(id)?.stats.established ?? 0);
  return {
    state: { ...state, agents: state.agents.without(id), established },
    changes: [{ type: 'agent-turned-away', agent: id, reason }],
    commands: [],
  };
}

/** Before the start a refusal ends the run; a spare's refusal only loses the spare. */
function refused(state: RunState, id: string, findings: readonly Finding[], atMs: number): Stepped {
  const sender = state.agents.get(id);
  if (sender === undefined || !isLive(sender)) return stay(state);
  const next = update(state, id, { lastSeenMs: atMs });
  if (state.phase === 'draining') return stay(next);
  if (!isRunPhase(state.phase)) {
    return drain(next, { type: 'refused', agent: id, findings: refusalFindings(id, findings) }, atMs);
  }
  return sender.quota === 0 ? turnAway(next, id, 'it cannot take part') : lose(next, sender, atMs);
}

/** An agent is back after a cut, within its lease: it is sent again what it may have missed. */
function resumed(state: RunState, id: string, atMs: number): Stepped {
  const next = update(state, id, { lastSeenMs: atMs, isCut: false });
  const agent = next.agents.get(id);
  if (agent === undefined || !isLive(agent)) return stay(next);
  const repeated: Stepped = { ...stay(next), commands: missedCommands(next, agent, atMs) };
  return state.phase === 'gathering' ? andThen(repeated, (each) => assignWhenComplete(each, atMs)) : repeated;
}

function startOf({ begunMs }: RunState, agent: string, atMs: number): AgentCommand {
  return { type: 'send-start', agent, elapsedMs: begunMs === null ? 0 : Math.max(0, atMs - begunMs) };
}

function missedCommands(state: RunState, agent: AgentRecord, atMs: number): readonly AgentCommand[] {
  const { id, stage } = agent;
  const commands: AgentCommand[] = [{ type: 'send-resumed', agent: id }];
  const isRunning = stage === 'running';
  if (state.phase === 'draining') {
    // Without `hold` it would not know that what it kept all the time counts.
    if (state.hasHeld && isRunning) commands.push({ type: 'send-hold', agent: id });
    return [...commands, { type: 'send-stop', agent: id, reason: state.endReason?.type ?? 'draining' }];
  }
  if (stage === 'joined') commands.push({ type: 'send-spec', agent: id });
  if (isCarrying(agent))
    commands.push(...quotaCommands(state.spec, state.agents.values(), (each) => each === agent));
  if (!isRunning) return commands;
  commands.push(startOf(state, id, atMs));
  if (state.stalled) commands.push({ type: 'send-stop-opening', agent: id });
  if (state.phase === 'holding') commands.push({ type: 'send-hold', agent: id });
  return commands;
}

function offered(state: RunState, event: Extract<RunEvent, { type: 'agent-offered' }>): Stepped {
  const { capacity, boundBy, engine, sources, findings, notes, atMs } = event;
  const sender = state.agents.get(event.agent);
  // Once: what was agreed on does not change after it.
  if (sender?.stage !== 'joined') return stay(update(state, event.agent, { lastSeenMs: atMs }));
  const known = { ...sender, lastSeenMs: atMs, capacity, boundBy, engine, sources, findings, notes };
  const next = put(state, { ...known, stage: 'offered' });
  // A spare gets a quota when one is free.
  if (isRunPhase(state.phase)) return handOver(next, atMs);
  return state.phase === 'gathering' ? assignWhenComplete(next, atMs) : stay(put(state, known));
}

/** Quotas are handed out when all are here, and in contact. */
function assignWhenComplete(state: RunState, atMs: number): Stepped {
  if (state.agents.size !== state.terms.agentsExpected) return stay(state);
  for (const { stage, isCut } of state.agents.values()) if (stage !== 'offered' || isCut) return stay(state);
  return assign(state, atMs);
}

/** All have offered: quotas by capacity, or a refusal. */
function assign(state: RunState, atMs: number): Stepped {
  const agents = [...state.agents.values()];
  const { spec } = state;
  const refusals = refusalsOf(spec.connections, agents);
  if (refusals.length > 0) {
    const [only = null] = agents.length === 1 ? idsOf(agents) : [];
    return drain(state, { type: 'refused', agent: only, findings: refusals }, atMs);
  }
  const quotas = firstQuotas(spec.connections, agents);
  const counts = agents.map(({ id }) => quotas.get(id) ?? 0);
  const shares = firstShares(counts);
  const next = agents.map((agent, index): AgentRecord => {
    return { ...agent, stage: 'quoted', quota: counts[index] ?? 0, shares: shares[index] ?? [] };
  });
  const given = withQuotas(state, next);
  return andThen(given, (quoted) => ({
    ...enter(quoted, 'preparing', atMs),
    commands: quotaCommands(spec, next, () => true),
  }));
}

/** With records whose quotas are new. */
function withQuotas(state: RunState, changed: readonly AgentRecord[]): Stepped {
  const changes = changed.flatMap(({ id, quota }): RunChange[] => {
    const from = state.agents.get(id)?.quota ?? 0;
    return from === quota ? [] : [{ type: 'quota-changed', agent: id, from, to: quota }];
  });
  return { state: changed.reduce(put, state), changes, commands: [] };
}

function ready(state: RunState, event: Extract<RunEvent, { type: 'agent-ready' }>): Stepped {
  const { agent: id, engine, sources, findings, notes, atMs } = event;
  const sender = state.agents.get(id);
  if (sender?.stage !== 'quoted') return stay(update(state, id, { lastSeenMs: atMs }));
  const known = { ...sender, lastSeenMs: atMs, engine: engine ?? sender.engine, sources, findings, notes };
  if (isRunPhase(state.phase)) {
    // The barrier is behind us: a spare starts as soon as it is ready.
    const commands: AgentCommand[] = [startOf(state, id, atMs)];
    if (state.phase === 'holding') commands.push({ type: 'send-hold', agent: id });
    return { ...stay(put(state, { ...known, stage: 'running', startedMs: atMs })), commands };
  }
  if (state.phase !== 'preparing') return stay(put(state, known));
  const next = put(state, { ...known, stage: 'ready' });
  for (const agent of next.agents.values()) if (agent.stage === 'quoted') return stay(next);
  return begin(next, atMs);
}

/** All are ready: the ramp begins. */
function begin(state: RunState, atMs: number): Stepped {
  const agents = state.agents.map((agent) =>
    agent.stage === 'ready' ? { ...agent, stage: 'running', startedMs: atMs } : agent,
  );
  const next = { ...state, agents, grewAtMs: atMs, begunMs: atMs };
  return {
    ...enter(next, 'ramping', atMs),
    commands: agentsWhere(next, isLive).map(({ id }) => startOf(next, id, atMs)),
  };
}

function reported(state: RunState, event: Extract<RunEvent, { type: 'agent-reported' }>): Stepped {
  const { snapshot, atMs } = event;
  const sender = state.agents.get(event.agent);
  if (sender === undefined || !isLive(sender)) return stay(state);
  const isRunning = sender.stage === 'running';
  const settled = isRunning && event.settled && event.quota === sender.quota;
  const known = { ...withSnapshot(sender, snapshot, atMs), settled };
  const next = withGrowth(put(state, known), atMs);
  if (!isRunning) return stay(isNearer(state, sender, known) ? { ...next, grewAtMs: atMs } : next);
  // Only a report that changes what the phase depends on is worth looking at all agents: with thousands of them that
  // costs more than the report itself. Each tick looks anyway.
  const matters = settled !== sender.settled || (known.stats.open === 0) !== (sender.stats.open === 0);
  return matters ? progressed(next, atMs) : stay(next);
}

/** Whether an agent that gets ready has started a further holder. They load a few at a time, and on a busy host for long. */
function isNearer({ phase }: RunState, before: AgentRecord, now: AgentRecord): boolean {
  return phase === 'preparing' && now.stage === 'quoted' && holdersBegun(now) > holdersBegun(before);
}

/** Notes when the sum of established was highest: a ramp that does not grow has stalled. */
function withGrowth(state: RunState, atMs: number): RunState {
  if (state.established <= state.establishedMax) return state;
  return { ...state, establishedMax: state.established, grewAtMs: atMs };
}

/** Moves on from the ramp when all have settled, and from the hold when nothing is left to hold. */
function progressed(state: RunState, atMs: number): Stepped {
  if (!isRunPhase(state.phase) || hasOpenLoss(state)) return stay(state);
  let isNothingOpen = true;
  for (const agent of state.agents.values()) {
    if (!isCarrying(agent)) continue;
    if (agent.stage !== 'running' || !agent.settled) return stay(state);
    isNothingOpen &&= agent.stats.open === 0;
  }
  // A schedule goes on by its time, whatever is open.
  if (state.spec.stages !== undefined) return stay(state);
  const mayComeBack = state.phase === 'holding' && state.spec.onDrop === 'reopen';
  if (isNothingOpen && !mayComeBack) return drain(state, { type: 'nothing-open' }, atMs);
  return state.phase === 'holding' ? stay(state) : hold(state, atMs);
}

function hold(state: RunState, atMs: number): Stepped {
  return {
    ...enter({ ...state, hasHeld: true }, 'holding', atMs),
    commands: agentsWhere(state, isCarrying).map(({ id }) => ({ type: 'send-hold', agent: id })),
  };
}

/** Whether a lost quota still waits to be handed to another agent. */
function hasOpenLoss(state: RunState): boolean {
  if (state.terms.onAgentLoss !== 'replace' || state.stalled) return false;
  for (const { stage, quota, isReplaced } of state.agents.values())
    if (stage === 'lost' && quota > 0 && !isReplaced) return true;
  return false;
}

function done(state: RunState, event: Extract<RunEvent, { type: 'agent-done' }>): Stepped {
  const { agent: id, snapshot, evidence, notes, atMs } = event;
  const sender = state.agents.get(id);
  if (sender === undefined || !isLive(sender)) return stay(state);
  const known = withSnapshot(sender, snapshot, atMs);
  const next = put(state, { ...known, evidence, notes: [...sender.notes, ...notes] });
  // One that is done before it was sent `stop` has closed on its own: nothing of it is held any more.
  if (state.phase !== 'draining') return left(next, id, atMs);
  return settleDrain(update(next, id, { stage: 'done' }), atMs);
}

/** An agent is gone for sure: its process ended, or it closed everything before `stop`. */
function left(state: RunState, id: string, atMs: number): Stepped {
  const agent = state.agents.get(id);
  if (agent === undefined || !isLive(agent)) return stay(state);
  // It has no quota yet, so its place is free for another.
  if (state.phase === 'gathering') return turnAway(state, id, 'it has left');
  return lose(state, agent, atMs);
}

/** @param agent is live */
function lose(state: RunState, agent: AgentRecord, atMs: number): Stepped {
  const { id, stage, stats, quota } = agent;
  // A spare that has carried nothing leaves nothing behind.
  if (isRunPhase(state.phase) && (stage === 'joined' || stage === 'offered')) {
    return turnAway(state, id, 'it was lost before it got a quota');
  }
  const lost: Stepped = {
    ...stay(put(state, withLoss(agent))),
    changes: [{ type: 'agent-lost', agent: id, open: stats.open }],
  };
  return andThen(lost, (next) => afterLoss(next, id, quota > 0, atMs));
}

/** What the loss of an agent means for the run. */
function afterLoss(state: RunState, id: string, wasCarrying: boolean, atMs: number): Stepped {
  if (state.phase === 'draining') return settleDrain(state, atMs);
  if (state.phase === 'preparing') return drain(state, { type: 'agents-not-ready', missing: [id] }, atMs);
  const lost = idsOf(agentsWhere(state, (agent) => agent.stage === 'lost'));
  const isAnyLive = agentsWhere(state, isLive).length > 0;
  if (!isAnyLive) return finish(state, { type: 'agents-lost', lost }, atMs);
  if (state.terms.onAgentLoss === 'fail' && wasCarrying)
    return drain(state, { type: 'agents-lost', lost }, atMs);
  return progressed(state, atMs);
}

/** Hands one lost quota to agents with spare capacity, where that is wanted and one is due. */
function handOver(state: RunState, atMs: number): Stepped {
  if (state.terms.onAgentLoss !== 'replace') return stay(state);
  const changed = handedOver([...state.agents.values()], state.terms.leaseMs, atMs);
  if (changed === null) return stay(state);
  const grown = new Set(changed.filter((agent) => agent.stage !== 'lost'));
  const handed = withQuotas(state, changed);
  const next = { ...handed.state, grewAtMs: atMs, stalled: state.stalled && grown.size === 0 };
  const commands = quotaCommands(state.spec, next.agents.values(), (agent) => grown.has(agent));
  return andThen({ ...handed, state: next, commands }, (each) => progressed(each, atMs));
}

/** Ends the run when there is no agent left to wait for. */
function settleDrain(state: RunState, atMs: number): Stepped {
  if (state.phase !== 'draining' || agentsWhere(state, isLive).length > 0) return stay(state);
  return finish(state, null, atMs);
}

/** All agents whose lease is over together: a rack that loses power must not be lost one by one. */
function withoutSilent(state: RunState, silent: readonly AgentRecord[], atMs: number): Stepped {
  return silent.reduce<Stepped>(
    (before, agent) =>
      andThen(before, (next) => {
        if (next.phase === 'ended') return stay(next);
        return state.phase === 'gathering'
          ? turnAway(next, agent.id, 'it was silent for too long')
          : lose(next, agent, atMs);
      }),
    stay(state),
  );
}

function ticked(state: RunState, atMs: number): Stepped {
  const { terms } = state;
  const elapsedMs = atMs - state.phaseSinceMs;
  const silent = agentsWhere(state, (agent) => isLive(agent) && atMs - agent.lastSeenMs > terms.leaseMs);
  if (silent.length > 0) return withoutSilent(state, silent, atMs);
  switch (state.phase) {
    case 'gathering':
      return elapsedMs < terms.gatherMs ? stay(state) : agentsMissing(state, atMs);
    case 'preparing': {
      const sinceMs = atMs - Math.max(state.phaseSinceMs, state.grewAtMs);
      if (sinceMs < terms.prepareMs && elapsedMs < PREPARE_STRETCH * terms.prepareMs) return stay(state);
      const missing = idsOf(agentsWhere(state, (agent) => agent.stage === 'quoted'));
      return drain(state, { type: 'agents-not-ready', missing }, atMs);
    }
    case 'ramping':
    case 'holding':
      return runningTick(state, atMs);
    case 'draining':
      return elapsedMs < terms.drainMs ? stay(state) : finish(state, null, atMs);
    case 'ended':
      return stay(state);
  }
}

/** Not all have come. */
function agentsMissing(state: RunState, atMs: number): Stepped {
  const isHere = (agent: AgentRecord): boolean => agent.stage === 'offered' && !agent.isCut;
  const joined = idsOf(agentsWhere(state, isHere));
  const silent = idsOf(agentsWhere(state, (agent) => !isHere(agent)));
  return drain(state, { type: 'agents-missing', joined, silent, expected: state.terms.agentsExpected }, atMs);
}

function runningTick(state: RunState, atMs: number): Stepped {
  const { terms, spec } = state;
  const endsMs = phaseEndsMs(state);
  if (endsMs !== null && atMs >= endsMs)
    return state.phase === 'holding' ? drain(state, { type: 'held' }, atMs) : hold(state, atMs);
  const handed = handOver(state, atMs);
  if (handed.state !== state || spec.stages !== undefined) return handed;
  if (state.phase === 'ramping' && !state.stalled && atMs - state.grewAtMs > terms.stallMs) {
    return {
      ...stay({ ...state, stalled: true }),
      commands: agentsWhere(state, isCarrying).map(({ id }) => ({ type: 'send-stop-opening', agent: id })),
    };
  }
  return progressed(state, atMs);
}

function interrupted(state: RunState, signal: 'SIGINT' | 'SIGTERM', atMs: number): Stepped {
  const reason: EndReason = { type: 'interrupted', signal };
  if (state.phase === 'holding' && isEndless(state.spec))
    return drain({ ...state, wasEnded: true }, { type: 'held' }, atMs);
  if (state.interrupted !== null || state.wasEnded)
    return finish({ ...state, interrupted: signal }, reason, atMs);
  const next = { ...state, interrupted: signal };
  if (state.phase === 'draining') return stay(next);
  return drain(next, reason, atMs);
}
