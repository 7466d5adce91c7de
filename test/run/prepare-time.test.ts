/** Tests how long the run waits for agents that get ready: from the last holder that any of them has started. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { step } from '../../src/run/run-state.ts';
import { newHolderHealth } from '../../src/stats/stats.ts';
import { type EventBody, join, offer, play, ready, snapshot, TERMS } from './played-run.ts';

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
