/** Owns the proof that a rate is a limit over every second, and that latency counts from where it should. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Pacer } from '../../src/engine/pacer.ts';

/** A window that is shorter than a second by what adding up doubles may cost. */
const SECOND_MS = 1_000 - 1e-6;

/** The most moments of an ascending list that lie within one half-open second. */
function mostPerSecond(moments: readonly number[]): number {
  let most = 0;
  let from = 0;
  for (let to = 0; to < moments.length; to++) {
    while (moments[to]! - moments[from]! >= SECOND_MS) from++;
    most = Math.max(most, to - from + 1);
  }
  return most;
}

/** Calls as many as the pacer lets through at each of the moments of a clock; the moments of the calls. */
function run(pacer: Pacer, clock: readonly number[], before: (nowMs: number) => void = () => {}): number[] {
  const called: number[] = [];
  for (const nowMs of clock) {
    before(nowMs);
    while (pacer.mayBegin(nowMs)) {
      pacer.begin(nowMs);
      called.push(nowMs);
    }
  }
  return called;
}

/** A clock that is looked at `looks` times, each `stepMs` after the last, from 0. */
function ticks(looks: number, stepMs: number, fromMs = 0): number[] {
  return Array.from({ length: looks }, (_, look) => fromMs + look * stepMs);
}

const rates = fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.double({ min: 0.1, max: 5_000, noNaN: true }));
/** Steps of a clock: turns of a loop, late turns, and pauses of the whole process. */
const steps = fc.oneof(
  { weight: 20, arbitrary: fc.double({ min: 0, max: 3, noNaN: true }) },
  { weight: 3, arbitrary: fc.double({ min: 3, max: 60, noNaN: true }) },
  { weight: 1, arbitrary: fc.integer({ min: 100, max: 6_000 }) },
);

/** Connects that may come on top of the rate within one second: what 10 ms give, at least one. */
const burstOf = (rate: number): number => Math.max(1, rate / 100);
const connectsPerSecondMax = (rate: number): number => Math.ceil(rate + burstOf(rate));

describe('a pacer', () => {
  test('lets at most rate and burst through in any second, whatever pauses, hold-ups and idle times there are', () => {
    fc.assert(
      fc.property(
        rates,
        fc.array(fc.tuple(steps, fc.nat({ max: 11 })), { minLength: 50, maxLength: 400 }),
        (rate, moves) => {
          const pacer = new Pacer(rate);
          const called: number[] = [];
          let nowMs = 0;
          for (const [step, kind] of moves) {
            nowMs += step;
            if (kind === 0) pacer.heldUp(nowMs);
            else if (kind === 1) pacer.idle(nowMs);
            else {
              while (pacer.mayBegin(nowMs)) {
                pacer.begin(nowMs);
                called.push(nowMs);
              }
            }
          }
          assert(mostPerSecond(called) <= connectsPerSecondMax(rate), `at ${rate}/s`);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('so do several that share a rate, each within its own burst', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2_000 }),
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 8 }),
        fc.array(fc.array(steps, { minLength: 100, maxLength: 100 }), { minLength: 8, maxLength: 8 }),
        (rate, quotas, clocks) => {
          const total = quotas.reduce((sum, quota) => sum + quota, 0);
          const shares = quotas.map((quota) => (rate * quota) / total);
          const called = shares.flatMap((share, index) => {
            let nowMs = 0;
            return run(
              new Pacer(share),
              clocks[index]!.map((step) => {
                nowMs += step;
                return nowMs;
              }),
            );
          });
          called.sort((a, b) => a - b);
          const most = shares.reduce((sum, share) => sum + connectsPerSecondMax(share), 0);
          assert(mostPerSecond(called) <= most);
          assert(most <= rate + shares.reduce((sum, share) => sum + burstOf(share) + 1, 0));
        },
      ),
    );
  });

  test('does not catch up after a pause of four seconds', () => {
    const pacer = new Pacer(100);
    const called = run(pacer, [...ticks(1_000, 1), ...ticks(120, 1, 5_000)]);
    assert.equal(called.filter((at) => at < 1_000).length, 100);
    assert.equal(called.filter((at) => at >= 5_000).length, 1 + 12);
    assert.equal(Math.round(pacer.shiftMs), 3_990);
    assert.equal(pacer.shiftMsMax, pacer.shiftMs);
  });

  test('turns that are late by less than the burst cost nothing: the rate is kept', () => {
    for (const rate of [50, 100, 1_000, 5_000]) {
      const pacer = new Pacer(rate);
      const called = run(pacer, ticks(1_000, 9.9));
      assert(Math.abs(called.length - rate * 9.9) <= burstOf(rate) + 1, `${called.length} at ${rate}/s`);
      assert.equal(pacer.shiftMs, 0);
    }
  });

  test('the burst is what ten milliseconds give, at least one connect', () => {
    // After a pause of a minute: the connect that was due, and the burst.
    const rows = [
      [0.5, 2],
      [5, 2],
      [100, 2],
      [5_000, 51],
    ] as const;
    for (const [rate, atOneMoment] of rows)
      assert.equal(run(new Pacer(rate), [60_000]).length, atOneMoment, `${rate}/s`);
  });

  test('the connect that a pause has delayed shows the whole pause, those after it follow a shifted plan', () => {
    const pacer = new Pacer(100);
    assert.equal(pacer.begin(0), 0);
    assert.equal(pacer.begin(12), 10);
    assert.equal(pacer.begin(4_020), 20);
    assert(pacer.mayBegin(4_020), 'one more: the burst');
    assert.equal(pacer.begin(4_020), 4_020);
    assert.equal(pacer.mayBegin(4_020), false);
    assert.equal(pacer.nextAtMs, 4_030);
    assert.equal(pacer.shiftMs, 3_990);
  });

  test('the pending cap delays connects and the plan stays: the slowness of the target shows in all of them', () => {
    const pacer = new Pacer(100);
    pacer.begin(0);
    for (let nowMs = 10; nowMs <= 4_000; nowMs += 5) pacer.heldUp(nowMs);
    assert.equal(pacer.begin(4_002), 10);
    assert.equal(pacer.begin(4_002), 20, 'the burst');
    assert.equal(pacer.mayBegin(4_002), false);
    assert.equal(pacer.begin(4_012), 30, 'late by as much as the first');
    assert.equal(pacer.shiftMs, 0, 'nothing of it was our own lateness');
  });

  test('a pause in the middle of such a hold-up is our own', () => {
    const pacer = new Pacer(100);
    pacer.begin(0);
    pacer.heldUp(1_000);
    pacer.begin(5_000);
    assert.equal(pacer.shiftMs, 3_990);
  });

  test('nothing is saved up while there is nothing to open', () => {
    const pacer = new Pacer(100);
    pacer.begin(0);
    pacer.idle(60_000);
    assert.equal(pacer.begin(60_000), 60_000);
    assert.equal(pacer.mayBegin(60_000), false);
    assert.equal(pacer.nextAtMs, 60_010);
    assert.equal(pacer.shiftMs, 0);
  });

  test('another rate counts from the moment that it is given, whether it is faster or slower', () => {
    const pacer = new Pacer(0.001);
    pacer.begin(0);
    assert.equal(pacer.nextAtMs, 1_000_000);
    pacer.setRate(100, 500);
    assert.equal(pacer.nextAtMs, 510);
    pacer.begin(510);
    pacer.setRate(1, 515);
    assert.equal(pacer.nextAtMs, 520, 'what was due soon stays due');
    pacer.begin(520);
    assert.equal(pacer.nextAtMs, 1_520);
    pacer.setRate(100, 60_000);
    assert.equal(pacer.begin(60_000), 60_000, 'nothing was saved up');
    assert.equal(pacer.nextAtMs, 60_010);
    assert.equal(pacer.shiftMs, 0);
  });

  test('without a rate the next is due at once and planned for when it is called, at a rate of 0 never', () => {
    const free = new Pacer(null);
    assert.equal(free.nextAtMs, 0);
    assert.equal(free.begin(17), 17);
    assert.equal(free.mayBegin(17), true);
    const never = new Pacer(0);
    assert.equal(never.nextAtMs, Number.POSITIVE_INFINITY);
    assert.equal(never.mayBegin(1e12), false);
  });
});
