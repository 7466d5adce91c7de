/** Tests how a run ends that only a signal ends, and how long it waits for agents that get ready, event by event. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RunEvent } from '../../src/run/run-event.ts';
import { step } from '../../src/run/run-state.ts';
import { initialRunState, type RunState } from '../../src/run/run-transition.ts';
import { newHolderHealth } from '../../src/stats/stats.ts';
import {
  type EventBody,
  join,
  offer,
  play,
  ready,
  report,
  SPEC,
  snapshot,
  TERMS,
  UP_TO_RAMP,
} from './played-run.ts';
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

const GATHERED: readonly (readonly [number, EventBody])[] = [
  [0, join('a')],
  [0, join('b')],
  [0, offer('a', 1_000)],
  [0, offer('b', 1_000)],
];

/** What an agent of eight holders says when `begun` of them have a process. */
function starting(agent: string, begun: number): EventBody {
  const holders = Array.from({ length: 8 }, (_, index) =>
    newHolderHealth(`${agent}/${index}`, index < begun ? 100 + index : 0, 1),
  );
  return { type: 'agent-reported', agent, snapshot: { ...snapshot(0), holders }, settled: false, quota: 501 };
}

/** The end of a run in which `b` starts a holder at each of these times, and `a` lives; both say something until `endMs`. */
function endOf(
  startsMs: readonly number[],
  endMs: number,
): { readonly atMs: number; readonly reason: unknown } {
  let { state } = play({ ...TERMS, leaseMs: 1e9 }, [...GATHERED, [0, ready('a')]]);
  for (let atMs = 0; atMs <= endMs; atMs += 1_000) {
    const begun = startsMs.filter((each) => each <= atMs).length;
    state = step(state, { ...starting('b', begun % 9), atMs } as Parameters<typeof step>[1]).state;
    state = step(state, { type: 'ticked', atMs }).state;
    if (state.endReason !== null) return { atMs, reason: state.endReason };
  }
  return { atMs: endMs, reason: null };
}

const MISSING_B = { type: 'agents-not-ready', missing: ['b'] };

// PROTOCOL.md: wait-ready
it('an agent that starts one holder after the other has its time from the last one', () => {
  assert.deepEqual(endOf([], 200_000), { atMs: 30_000, reason: MISSING_B });
  assert.deepEqual(endOf([20_000, 45_000], 200_000), { atMs: 75_000, reason: MISSING_B });
});

it('what an agent of the quota that is ready says does not lengthen it', () => {
  const { state } = play({ ...TERMS, leaseMs: 1e9 }, [
    ...GATHERED,
    [0, ready('a')],
    [29_000, starting('a', 3)],
    [30_000, { type: 'ticked' }],
  ]);
  assert.deepEqual(state.endReason, MISSING_B);
});

it('an agent that says ever new holders ends it all the same', () => {
  const each = Array.from({ length: 500 }, (_, index) => index * 1_000);
  assert.deepEqual(endOf(each, 400_000), { atMs: 150_000, reason: MISSING_B });
});
