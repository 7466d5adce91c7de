import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import { lateAfter } from '../../src/control/deadline.ts';

/** A clock and the timers that go with it; `stand` lets time pass in which this process does nothing. */
function fakeTime(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 1_000_000;
  return {
    nowMs: () => nowMs,
    /** Time passes, and each timer is late by so much. */
    pass: (ms: number, eachLateMs = 0) => {
      nowMs += ms + eachLateMs;
      t.mock.timers.tick(ms);
    },
    stand: (ms: number) => {
      nowMs += ms;
    },
  };
}

it('counts a pause of this process as one second, whatever its length', (t) => {
  const { nowMs, pass, stand } = fakeTime(t);
  let isLate = false;
  const late = (): void => {
    isLate = true;
  };
  lateAfter(3_000, late, nowMs);
  // What a stopped process sees when it goes on: its timer is due, and nothing that came meanwhile is read yet.
  stand(60_000);
  pass(500);
  for (let looks = 1; looks < 4; looks++) pass(500);
  assert.equal(isLate, false, '1 s of the pause, and 1.5 s');
  pass(500);
  assert.equal(isLate, true);
});

it('is over after its time on a busy machine too, where each look comes late', (t) => {
  const { nowMs, pass } = fakeTime(t);
  let lateAtMs: number | null = null;
  const beganMs = nowMs();
  const late = (): void => {
    lateAtMs = nowMs();
  };
  lateAfter(3_000, late, nowMs);
  for (let looks = 0; looks < 6; looks++) pass(500, 450);
  // Six looks of 950 ms: counted looks would wait for 5.7 s.
  assert(lateAtMs !== null && lateAtMs - beganMs <= 3_800, String(lateAtMs));
});

it('is over when that is said', (t) => {
  const { nowMs, pass } = fakeTime(t);
  let calls = 0;
  const stop = lateAfter(500, () => calls++, nowMs);
  stop();
  for (let looks = 0; looks < 10; looks++) pass(500);
  stop();
  assert.equal(calls, 0);
});
