/** Owns a run of two agents as events: its terms, what the agents say, and feeding the reducer with it. */
import type { Finding } from '../../src/base/errors.ts';
import type { AgentCommand, RunChange, RunEvent } from '../../src/run/run-event.ts';
import type { RunSpec, RunTerms } from '../../src/run/run-spec.ts';
import { step } from '../../src/run/run-state.ts';
import { initialRunState } from '../../src/run/run-transition.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { runSpec } from './run-spec-fixture.ts';

export const SPEC = runSpec({ connections: 1_001, ratePerSec: 500, pendingMax: 100, holdMs: 10_000 });

export const TERMS: RunTerms = {
  agentsExpected: 2,
  gatherMs: 60_000,
  prepareMs: 30_000,
  stallMs: 20_000,
  drainMs: 20_000,
  leaseMs: 20_000,
  onAgentLoss: 'continue',
};

export const REFUSAL: Finding = {
  what: 'tuples',
  severity: 'refuse',
  needed: 2,
  available: 1,
  unit: 'tuples',
  message: 'too few',
  fix: null,
};

/** `Omit` over a union would lose its members: this keeps them. */
export type EventBody = RunEvent extends infer Event
  ? Event extends RunEvent
    ? Omit<Event, 'atMs'>
    : never
  : never;

/** Feeds events at given times and collects every change and every command. */
export function play(
  terms: RunTerms,
  events: readonly (readonly [number, EventBody])[],
  spec: RunSpec = SPEC,
) {
  let state = initialRunState(spec, terms, 0);
  const changes: RunChange[] = [];
  const commands: AgentCommand[] = [];
  for (const [atMs, body] of events) {
    const stepped = step(state, { ...body, atMs } as RunEvent);
    state = stepped.state;
    changes.push(...stepped.changes);
    commands.push(...stepped.commands);
  }
  return { state, changes, commands };
}

const PREPARATION = { sources: [], findings: [], notes: [] };
export const join = (agent: string): EventBody => ({ type: 'agent-joined', agent });
export const offer = (agent: string, capacity: number): EventBody => ({
  type: 'agent-offered',
  agent,
  capacity,
  boundBy: 'tuples',
  engine: null,
  ...PREPARATION,
});
export const ready = (agent: string): EventBody => ({
  type: 'agent-ready',
  agent,
  engine: null,
  ...PREPARATION,
});
export const snapshot = (open: number, established = open) => ({
  stats: { ...emptyStats(), open, established },
  holders: [],
  kernel: [],
});
export const done = (agent: string): EventBody => ({
  type: 'agent-done',
  agent,
  snapshot: snapshot(0),
  evidence: null,
  notes: [],
});
/** By default a report of the quota that `UP_TO_RAMP` gives the agent. */
export const report = (
  agent: string,
  open: number,
  settled: boolean,
  quota = agent === 'a' ? 501 : 500,
): EventBody => ({
  type: 'agent-reported',
  agent,
  quota,
  settled,
  snapshot: snapshot(open),
});
export const UP_TO_RAMP: readonly (readonly [number, EventBody])[] = [
  [0, join('a')],
  [1, join('b')],
  [2, offer('a', 10_000)],
  [3, offer('b', 10_000)],
  [4, ready('a')],
  [5, ready('b')],
];
export const types = (commands: readonly (AgentCommand | RunChange)[]): string[] =>
  commands.map((command) => command.type);
