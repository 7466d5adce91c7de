/** Tests how many connections are still to be begun, and which of them stand in for lost ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backlog } from '../../src/engine/backlog.ts';

test('a backlog begins what was never begun first, stand-ins for lost connections last', () => {
  const backlog = new Backlog(2);
  backlog.reopen();
  const taken: [boolean, boolean][] = [];
  for (let each = 0; each < 3; each++) taken.push([backlog.hasNew, backlog.take()]);
  assert.deepEqual(taken, [
    [true, false],
    [true, false],
    [false, true],
  ]);
  assert.equal(backlog.size, 0);
});

test('of those that cannot be opened, the stand-ins are distinguished', () => {
  const backlog = new Backlog(7);
  for (let lost = 0; lost < 3; lost++) backlog.reopen();
  assert.equal(backlog.drop(5), 0, 'the first seven stand in for none');
  assert.equal(backlog.drop(5), 3);
  assert.equal(backlog.clear(), 0);
});

test('stand-ins that failed wait for a second, and are stand-ins again', () => {
  const backlog = new Backlog(1);
  assert.equal(backlog.drop(1), 0, 'the first one stood in for none');
  backlog.reopen();
  backlog.reopen();
  assert.equal(backlog.drop(2), 2);
  backlog.tryAgain(2, 5_000);
  assert.equal(backlog.hasWaiting, true);
  assert.equal(backlog.againAtMs, 6_000);
  backlog.retryDue(5_999);
  assert.equal(backlog.size, 0);
  backlog.retryDue(6_000);
  assert.equal(backlog.size, 2);
  assert.equal(backlog.hasWaiting, false);
  assert.equal(backlog.againAtMs, Number.POSITIVE_INFINITY);
  assert.deepEqual([backlog.take(), backlog.take()], [true, true]);
});

test('clearing it counts what was never begun, and forgets the stand-ins, waiting ones included', () => {
  const backlog = new Backlog(7);
  backlog.reopen();
  backlog.tryAgain(3, 0);
  assert.equal(backlog.clear(), 7);
  assert.equal(backlog.size, 0);
  backlog.retryDue(1_000_000);
  assert.equal(backlog.size, 0);
});
