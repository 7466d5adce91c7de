/** Tests that a timer calls when its delay is over and not before, however long that is: on mocked timers and on Node's. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, DueTimer, every, pause, systemClock, waitUntil } from '../../src/time/timer.ts';
import { FakeTime } from '../support/fake-time.ts';

const DAY_MS = 86_400_000;
/** The longest that setTimeout waits. */
const PART_MS = 2 ** 31 - 1;

/** Lets so much time pass, in steps that a mocked timer of Node takes. */
function pass(tick: (ms: number) => void, ms: number): void {
  for (let leftMs = ms; leftMs > 0; leftMs -= PART_MS) tick(Math.min(leftMs, PART_MS));
}

test('it calls once, after its delay', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let calls = 0;
  after(300, () => calls++);
  t.mock.timers.tick(299);
  assert.equal(calls, 0);
  t.mock.timers.tick(1);
  assert.equal(calls, 1);
  t.mock.timers.tick(1_000);
  assert.equal(calls, 1);
});

test('a delay of 30 days, and one of a year, is waited for to its end', (t) => {
  for (const days of [30, 365]) {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let calls = 0;
    after(days * DAY_MS, () => calls++);
    pass((ms) => t.mock.timers.tick(ms), days * DAY_MS - 1);
    assert.equal(calls, 0, `${days} days`);
    t.mock.timers.tick(1);
    assert.equal(calls, 1, `${days} days`);
    t.mock.timers.reset();
  }
});

test('a period of 30 days calls every 30 days', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  let calls = 0;
  const timer = every(30 * DAY_MS, () => calls++);
  pass((ms) => t.mock.timers.tick(ms), 30 * DAY_MS - 1);
  assert.equal(calls, 0);
  t.mock.timers.tick(1);
  assert.equal(calls, 1);
  pass((ms) => t.mock.timers.tick(ms), 30 * DAY_MS);
  assert.equal(calls, 2);
  timer.cancel();
  pass((ms) => t.mock.timers.tick(ms), 60 * DAY_MS);
  assert.equal(calls, 2);
});

test('what is cancelled does not call: before its time, between two parts, or from within the call of a period', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  let calls = 0;
  const short = after(10, () => calls++);
  const long = after(PART_MS + 10, () => calls++);
  const periods = [PART_MS / 2, PART_MS + 10].map((ms) =>
    every(ms, () => periods.forEach((one) => void one.cancel())),
  );
  short.cancel();
  t.mock.timers.tick(PART_MS);
  long.cancel();
  long.cancel();
  t.mock.timers.tick(PART_MS);
  assert.equal(calls, 0);
});

test('an endless delay never calls, and nothing that is no number is taken', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let calls = 0;
  const timer = after(Number.POSITIVE_INFINITY, () => calls++);
  for (let part = 0; part < 100; part++) t.mock.timers.tick(PART_MS);
  assert.equal(calls, 0);
  timer.cancel();
  assert.throws(() => after(Number.NaN, () => {}), /a delay is a number/);
  for (const bad of [0, 0.5, -1, Number.NaN]) assert.throws(() => every(bad, () => {}), /a period of/);
});

test('on the timers of Node a long delay is not over at once', async () => {
  const warnings: string[] = [];
  const onWarning = ({ name }: Error): void => {
    if (name.startsWith('Timeout')) warnings.push(name);
  };
  process.on('warning', onWarning);
  const early: string[] = [];
  const long = [
    after(30 * DAY_MS, () => early.push('after'), { isUnref: true }),
    every(30 * DAY_MS, () => early.push('every'), { isUnref: true }),
  ];
  // Node's own would have called after 1 ms, with a TimeoutOverflowWarning.
  await pause(50);
  process.off('warning', onWarning);
  assert.deepEqual({ early, warnings }, { early: [], warnings: [] });
  for (const timer of long) timer.cancel();
});

test('a pause ends at once when it is given up, leaves no timer and no listener behind, and does not begin after that', async () => {
  const stop = new AbortController();
  const long = pause(365 * DAY_MS, { signal: stop.signal });
  for (let round = 0; round < 20; round += 1) await pause(1, { signal: stop.signal });
  assert.equal(getEventListeners(stop.signal, 'abort').length, 1, 'those that are over listen no more');
  stop.abort();
  await long;
  await pause(365 * DAY_MS, { signal: stop.signal });
  assert.equal(getEventListeners(stop.signal, 'abort').length, 0);
});

test('it ends as soon as it is so', async () => {
  const time = new FakeTime();
  let asked = 0;
  assert.equal(await waitUntil(() => ++asked === 3, 20_000, 100, time), true);
  assert.equal(asked, 3);
  assert.equal(time.now, 10_200);
});

test('questions that take long count: a deadline of 2 s with answers of 1 s is three questions, not twenty', async () => {
  const time = new FakeTime();
  let asked = 0;
  const isSo = await waitUntil(
    async () => {
      asked += 1;
      time.now += 1_000;
      return false;
    },
    12_000,
    100,
    time,
  );
  assert.equal(isSo, false);
  assert.equal(asked, 2);
  assert(time.now <= 12_100, `${time.now}`);
});

test('pauses that take long count too', async () => {
  const time = new FakeTime(900);
  let asked = 0;
  assert.equal(await waitUntil(() => ++asked === 100, 12_000, 100, time), false);
  assert.equal(asked, 3);
});

test('the last pause ends at the deadline, and who is asked knows what is left', async () => {
  const time = new FakeTime();
  const left: number[] = [];
  await waitUntil((ms) => left.push(ms) === 0, 10_250, 100, time);
  assert.deepEqual(left, [250, 150, 50, 1]);
  assert.deepEqual(time.pauses, [100, 100, 50]);
});

test('with a deadline that has passed it is still asked for once', async () => {
  const time = new FakeTime();
  assert.equal(await waitUntil(() => true, 9_000, 100, time), true);
  assert.equal(await waitUntil(() => false, 9_000, 100, time), false);
  assert.deepEqual(time.pauses, []);
});

/** A timer on a clock that the test moves, and the times at which it called. */
function dueTimer(t: TestContext): {
  timer: DueTimer;
  calls: number[];
  pass: (ms: number, lagMs?: number) => void;
} {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 5_000.25;
  const calls: number[] = [];
  const timer = new DueTimer(() => nowMs);
  const pass = (ms: number, lagMs = 0): void => {
    nowMs += ms - lagMs;
    t.mock.timers.tick(ms);
  };
  return { timer, calls, pass };
}

test('a timer for one moment calls once, when it has come', (t) => {
  const { timer, calls, pass } = dueTimer(t);
  timer.arm(5_300.25, () => calls.push(1));
  pass(299);
  assert.equal(calls.join(), '');
  pass(1);
  assert.equal(calls.join(), '1');
  pass(10_000);
  assert.equal(calls.join(), '1');
});

test('a timer that fires early by the finer clock waits again', (t) => {
  const { timer, calls, pass } = dueTimer(t);
  timer.arm(5_300.25, () => calls.push(1));
  pass(300, 0.5);
  assert.equal(calls.join(), '', 'half a millisecond is missing');
  pass(1);
  assert.equal(calls.join(), '1');
});

test('what is due already is called soon, but not from within the call', (t) => {
  const { timer, calls, pass } = dueTimer(t);
  timer.arm(5_000.25, () => calls.push(1));
  assert.equal(calls.join(), '');
  pass(1);
  assert.equal(calls.join(), '1');
});

test('a moment that is further away than a timer can count is waited for in parts', (t) => {
  const { timer, calls, pass } = dueTimer(t);
  const days60Ms = 60 * 86_400_000;
  timer.arm(5_000.25 + days60Ms, () => calls.push(1));
  pass(2 ** 31 - 1);
  pass(2 ** 31 - 1);
  assert.equal(calls.join(), '');
  pass(days60Ms - 2 * (2 ** 31 - 1));
  assert.equal(calls.join(), '1');
});

test('what was called off, or armed anew, is not called', (t) => {
  const { timer, calls, pass } = dueTimer(t);
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

test('the monotonic clock moves forward by about the time that passes, in milliseconds', async () => {
  const outerNs = process.hrtime.bigint();
  const before = systemClock.monotonicMs();
  await sleep(50);
  const passedMs = systemClock.monotonicMs() - before;
  const outerMs = Number(process.hrtime.bigint() - outerNs) / 1e6;
  assert.ok(passedMs >= 49 && passedMs <= outerMs + 1, `${passedMs} ms of ${outerMs} ms`);
});

test('the wall clock counts milliseconds since 1970', () => {
  assert.ok(systemClock.wallMs() > Date.parse('2024-01-01'));
});
