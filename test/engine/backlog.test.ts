/** Tests what is still to be opened: the pace, the order of stand-ins for lost connections, and their second tries. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Backlog } from '../../src/engine/backlog.ts';

describe('a backlog', () => {
  test('lets as many through as the rate allows, and says when the next is due', () => {
    const backlog = new Backlog(10, 100);
    assert.equal(backlog.allowed(0), 1);
    assert.equal(backlog.nextAtMs, 0);
    backlog.take();
    assert.equal(backlog.paced, 1);
    assert.equal(backlog.nextAtMs, 10);
    assert.equal(backlog.allowed(9.9), 1);
    assert.equal(backlog.allowed(10), 2);
    assert.equal(backlog.intendedAtMs(17), 10);
  });

  test('without a rate the next is due at once, at a rate of 0 never', () => {
    assert.equal(new Backlog(10, null).nextAtMs, 0);
    assert.equal(new Backlog(10, null).allowed(0), Number.POSITIVE_INFINITY);
    assert.equal(new Backlog(10, 0).nextAtMs, Number.POSITIVE_INFINITY);
    assert.equal(new Backlog(10, 0).allowed(1_000_000), 0);
  });

  test('begins what was never begun first, stand-ins for lost connections last', () => {
    const backlog = new Backlog(2, null);
    backlog.reopen(0);
    assert.deepEqual([backlog.take(), backlog.take(), backlog.take()], [false, false, true]);
    assert.equal(backlog.size, 0);
  });

  test('a loss long after the ramp is made good at the rate, not from what the pacer has saved up', () => {
    const backlog = new Backlog(1, 100);
    backlog.take();
    for (let lost = 0; lost < 5; lost++) backlog.reopen(60_000);
    assert.equal(backlog.allowed(60_000) - backlog.paced, 1);
    assert.equal(backlog.allowed(60_010) - backlog.paced, 2);
  });

  test('of those that cannot be opened, the stand-ins are told apart', () => {
    const backlog = new Backlog(7, null);
    for (let lost = 0; lost < 3; lost++) backlog.reopen(0);
    assert.equal(backlog.drop(5), 0, 'the first seven stand in for nobody');
    assert.equal(backlog.drop(5), 3);
    assert.equal(backlog.clear(), 0);
  });

  test('a stand-in that failed waits for a second, and is a stand-in again', () => {
    const backlog = new Backlog(1, null);
    assert.equal(backlog.drop(1), 0, 'the first one stood in for nobody');
    backlog.reopen(5_000);
    assert.equal(backlog.drop(1), 1);
    backlog.tryAgain(1, 5_000);
    assert.equal(backlog.againAtMs, 6_000);
    backlog.retryDue(5_999);
    assert.equal(backlog.size, 0);
    backlog.retryDue(6_000);
    assert.equal(backlog.size, 1);
    assert.equal(backlog.againAtMs, Number.POSITIVE_INFINITY);
    assert.equal(backlog.take(), true);
  });

  test('clearing it counts what was never begun, and forgets the stand-ins, waiting ones included', () => {
    const backlog = new Backlog(7, null);
    backlog.reopen(0);
    backlog.tryAgain(3, 0);
    assert.equal(backlog.clear(), 7);
    assert.equal(backlog.size, 0);
    backlog.retryDue(1_000_000);
    assert.equal(backlog.size, 0);
  });
});
