/** Tests how many connections are due to be begun, and which of them stand in for lost ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backlog } from '../../src/engine/backlog.ts';
import { TRIES_MAX } from '../../src/run/reopen-policy.ts';

function takeAll(backlog: Backlog): number[] {
  const taken: number[] = [];
  while (backlog.size > 0) taken.push(backlog.take());
  return taken;
}

test('a backlog begins what was never begun first, then what was tried most often', () => {
  const backlog = new Backlog(2);
  for (const tries of [0, TRIES_MAX, 3, 0]) backlog.reopen(tries);
  assert.equal(backlog.hasNew, true);
  assert.equal(backlog.size, 6);
  assert.deepEqual(takeAll(backlog), [-1, -1, TRIES_MAX, 3, 0, 0]);
  assert.equal(backlog.hasNew, false);
});

test('what is not begun after all is due as it was', () => {
  const backlog = new Backlog(1);
  backlog.reopen(2);
  const taken = takeAll(backlog);
  for (const tries of taken) backlog.putBack(tries);
  assert.equal(backlog.hasNew, true);
  assert.deepEqual(takeAll(backlog), taken);
});

test('clearing it counts what was never begun, and forgets the stand-ins', () => {
  const backlog = new Backlog(7);
  for (let lost = 0; lost < 3; lost++) backlog.reopen(lost);
  assert.equal(backlog.clear(), 7);
  assert.equal(backlog.size, 0);
  backlog.reopen(1);
  assert.deepEqual(takeAll(backlog), [1]);
});
