/** Tests that what is due is called then: not before, not at the next tick, and not after it was called off. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { DueTimer } from '../../src/coordinator/due-timer.ts';

/** A timer on a clock that the test moves, and the times at which it called. */
function fixture(t: TestContext): {
  timer: DueTimer;
  calls: number[];
  pass: (ms: number, lagMs?: number) => void;
} {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 5_000.25;
  const calls: number[] = [];
  const timer = new DueTimer({ monotonicMs: () => nowMs, wallMs: () => 0 });
  const pass = (ms: number, lagMs = 0): void => {
    nowMs += ms - lagMs;
    t.mock.timers.tick(ms);
  };
  return { timer, calls, pass };
}

test('it calls once, at its moment', (t) => {
  const { timer, calls, pass } = fixture(t);
  timer.arm(5_300.25, () => calls.push(1));
  pass(299);
  assert.equal(calls.join(), '');
  pass(1);
  assert.equal(calls.join(), '1');
  pass(10_000);
  assert.equal(calls.join(), '1');
});

test('a timer that fires early by the finer clock waits again', (t) => {
  const { timer, calls, pass } = fixture(t);
  timer.arm(5_300.25, () => calls.push(1));
  pass(300, 0.5);
  assert.equal(calls.join(), '', 'half a millisecond is missing');
  pass(1);
  assert.equal(calls.join(), '1');
});

test('what is due already is called soon, but not from within the call', (t) => {
  const { timer, calls, pass } = fixture(t);
  timer.arm(5_000.25, () => calls.push(1));
  assert.equal(calls.join(), '');
  pass(1);
  assert.equal(calls.join(), '1');
});

test('a moment that is further away than a timer can count is waited for in parts', (t) => {
  const { timer, calls, pass } = fixture(t);
  const days60Ms = 60 * 86_400_000;
  timer.arm(5_000.25 + days60Ms, () => calls.push(1));
  pass(2 ** 31 - 1);
  pass(2 ** 31 - 1);
  assert.equal(calls.join(), '');
  pass(days60Ms - 2 * (2 ** 31 - 1));
  assert.equal(calls.join(), '1');
});

test('what was called off, or armed anew, is not called', (t) => {
  const { timer, calls, pass } = fixture(t);
  timer.arm(5_300, () => calls.push(1));
  timer.arm(5_400, () => calls.push(2));
  pass(350);
  assert.equal(calls.join(), '');
  pass(50);
  assert.equal(calls.join(), '2');
  timer.arm(6_000, () => calls.push(3));
  timer.cancel();
  pass(5_000);
  assert.equal(calls.join(), '2');
});
