/** Tests how a run ends that only a signal ends, event by event. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RunEvent } from '../../src/run/run-event.ts';
import { step } from '../../src/run/run-state.ts';
import { initialRunState, type RunState } from '../../src/run/run-transition.ts';
import { report, SPEC, TERMS, UP_TO_RAMP } from './played-run.ts';
import { runSpec } from './run-spec-fixture.ts';

describe('a hold without an end of its own', () => {
  const endless = initialRunState(runSpec({ ...SPEC, holdMs: 0 }), TERMS, 0);
  const held: RunState = [
    ...UP_TO_RAMP,
    [1_000, report('a', 501, true)] as const,
    [1_100, report('b', 500, true)] as const,
  ].reduce((state, [atMs, event]) => step(state, { ...event, atMs } as RunEvent).state, endless);

  it('goes on until a signal ends it, which is no interruption', () => {
    // Agents say something all the time; here only the time passes.
    assert.equal(held.phase, 'holding');
    assert.equal(step(held, { type: 'ticked', atMs: 1_101 + TERMS.leaseMs / 2 }).state.phase, 'holding');
    const ended = step(held, { type: 'interrupted', signal: 'SIGINT', atMs: 2_000 });
    assert.deepEqual([ended.state.phase, ended.state.interrupted], ['draining', null]);
    assert.deepEqual(ended.state.endReason, { type: 'held' });
    assert.deepEqual(
      ended.commands.map((command) => (command.type === 'send-stop' ? command.reason : command.type)),
      ['held', 'held'],
    );
  });

  it('is interrupted by a second signal, and by the first one before it holds', () => {
    const ended = step(held, { type: 'interrupted', signal: 'SIGTERM', atMs: 2_000 });
    const twice = step(ended.state, { type: 'interrupted', signal: 'SIGTERM', atMs: 2_100 });
    assert.deepEqual([twice.state.phase, twice.state.interrupted], ['ended', 'SIGTERM']);
    const early = step(endless, { type: 'interrupted', signal: 'SIGINT', atMs: 5 });
    assert.deepEqual(early.state.endReason, { type: 'interrupted', signal: 'SIGINT' });
  });
});
