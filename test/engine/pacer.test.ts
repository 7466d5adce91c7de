/** Owns the proof that a ramp keeps its pace. Must never wait: time is a number here. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { connectsAllowed, intendedAtMs } from '../../src/engine/pacer.ts';

const rates = fc.oneof(
  fc.integer({ min: 1, max: 100_000 }),
  fc.double({ min: 0.001, max: 1e6, noNaN: true }),
);
const times = fc.oneof(fc.nat(100_000), fc.double({ min: 0, max: 1e7, noNaN: true }));

test('the first connect may start at once, and then as many as the rate says', () => {
  for (const [elapsedMs, rate, allowed] of [
    [0, 1_000, 1],
    [0.9, 1_000, 1],
    [1, 1_000, 2],
    [1_000, 1_000, 1_001],
    [1_999, 0.5, 1],
    [2_000, 0.5, 2],
    [-1, 1_000, 0],
    [5_000, 0, 0],
    [0, null, Number.POSITIVE_INFINITY],
  ] as const) {
    assert.equal(connectsAllowed(elapsedMs, rate), allowed, `${elapsedMs} ms at ${rate}`);
  }
});

test('the allowance is never more than rate times time plus one, nor a whole connect less', () => {
  fc.assert(
    fc.property(times, rates, (elapsedMs, rate) => {
      const exact = (elapsedMs * rate) / 1_000;
      const allowed = connectsAllowed(elapsedMs, rate);
      assert(Number.isInteger(allowed) && allowed <= exact + 1 && allowed > exact);
    }),
  );
});

test('the allowance never shrinks as time passes', () => {
  fc.assert(
    fc.property(times, times, rates, (a, b, rate) => {
      assert(connectsAllowed(Math.min(a, b), rate) <= connectsAllowed(Math.max(a, b), rate));
    }),
  );
});

test('a connect is intended for its place in the ramp, never for the future', () => {
  assert.equal(intendedAtMs(0, 1_000, 50), 0);
  assert.equal(intendedAtMs(20, 1_000, 50), 20);
  assert.equal(intendedAtMs(80, 1_000, 50), 50);
  assert.equal(intendedAtMs(3, null, 50), 50);
  fc.assert(
    fc.property(times, rates, (nowMs, rate) => {
      const last = connectsAllowed(nowMs, rate) - 1;
      const intendedMs = intendedAtMs(last, rate, nowMs);
      assert(intendedMs <= nowMs, 'not after now');
      assert(
        nowMs - intendedMs <= 1_000 / rate + nowMs * 1e-9,
        'the newest allowed connect is at most one period late',
      );
    }),
  );
});
