/** Tests the words about agents that are waited for, and the error when they did not come. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitCode } from '../../src/base/errors.ts';
import { neverRan, waitingNote } from '../../src/coordinator/missing-agents.ts';
import { AgentTable, newAgent } from '../../src/run/agent-record.ts';
import type { RunTerms } from '../../src/run/run-spec.ts';
import { initialRunState, type RunState } from '../../src/run/run-state.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

const TERMS: RunTerms = {
  agentsExpected: 3,
  gatherMs: 1,
  prepareMs: 1,
  stallMs: 1,
  drainMs: 1,
  leaseMs: 1,
  onAgentLoss: 'fail',
};

const ssh = (failed: readonly string[], hosts: readonly string[]) => ({
  failed,
  missing: (present: Pick<ReadonlySet<string>, 'has'>) => hosts.filter((host) => !present.has(host)),
});

function gathering(...names: readonly string[]): RunState {
  const agents = names.reduce((table, name) => table.with(newAgent(name, 0)), AgentTable.empty());
  return { ...initialRunState(runSpec(), TERMS, 0), agents };
}

test('while agents are missing the note says who is here, how many are not, and by ssh which', () => {
  assert.equal(waitingNote(gathering(), 3, null), 'waiting for agents: none here, 3 of 3 missing');
  assert.equal(
    waitingNote(gathering('a'), 3, ssh([], ['a', 'b', 'c'])),
    'waiting for agents: a here, 2 of 3 missing: b, c',
  );
});

test('nothing is said once all are here and in contact, or where no agent is waited for', () => {
  const full = gathering('a', 'b', 'c');
  assert.equal(waitingNote(full, 3, null), null);
  const cut = { ...full, agents: full.agents.with({ ...newAgent('b', 0), isCut: true }) };
  assert.equal(waitingNote(cut, 3, null), 'waiting for agents: a, b (cut off), c here, 0 of 3 missing');
  assert.equal(waitingNote(gathering(), 0, null), null);
  assert.equal(waitingNote({ ...gathering(), phase: 'ramping' }, 3, null), null);
});

test('of many agents ten are named', () => {
  const names = Array.from({ length: 12 }, (_, index) => `n${index}`);
  const state = { ...gathering(...names), terms: { ...TERMS, agentsExpected: 13 } };
  assert.match(waitingNote(state, 13, null) ?? '', /: n0, .*, n9 and 2 more here, 1 of 13 missing$/);
});

test('a run that no agent came to says who came, for how long it waited, and what to do', () => {
  const missing = { type: 'agents-missing', joined: ['a'], silent: ['b'], expected: 3 } as const;
  const byHand = neverRan(missing, 1_200, null);
  assert.equal(byHand?.message, '3 agent(s) expected, only a came in 2 s; b came and stopped answering');
  assert.match(byHand?.hint ?? '', /--wait-agents/);
  assert.equal(byHand?.exitCode, ExitCode.incomplete);
  const bySsh = neverRan(missing, 1_200, ssh([], ['a', 'b', 'c']));
  assert.match(bySsh?.message ?? '', /; missing: c$/);
  assert.match(bySsh?.hint ?? '', /ssh -o BatchMode=yes/);
  assert.match(neverRan(missing, 0, ssh(['c'], ['c']))?.message ?? '', /; none could be started on c$/);
});

test('a run whose agents were not ready names them, and any other end is no error', () => {
  assert.match(neverRan({ type: 'agents-not-ready', missing: ['a', 'b'] }, 0, null)?.message ?? '', /a, b$/);
  assert.equal(neverRan({ type: 'held' }, 0, null), null);
  assert.equal(neverRan({ type: 'agents-lost', lost: ['a'] }, 0, null), null);
});
