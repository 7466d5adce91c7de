import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import {
  Bucket,
  Intake,
  LargeMessages,
  lateAfter,
  MESSAGES_AT_ONCE_MAX,
  MESSAGES_PER_SEC_MAX,
} from '../../src/control/intake.ts';

/** An intake, by default with a clock that stands still, and what it does. */
function intakeOf(large: LargeMessages, owner: string | null, nowMs = () => 0) {
  const told = { isPaused: false, pauses: 0, problem: null as string | null };
  const intake = new Intake(
    large,
    owner,
    {
      pause: () => {
        told.isPaused = true;
        told.pauses++;
      },
      resume: () => {
        told.isPaused = false;
      },
      violated: (problem) => {
        told.problem = problem;
      },
    },
    nowMs,
  );
  return { intake, told };
}

const CHUNK = 64 * 1_024;

it('lets through at once what an honest agent says in a minute of pause, and cuts a flood', () => {
  const bucket = new Bucket(MESSAGES_PER_SEC_MAX, MESSAGES_AT_ONCE_MAX, 0);
  const said = (count: number, nowMs: number): number =>
    Array.from({ length: count }, () => bucket.take(1, nowMs)).filter((waitMs) => waitMs > 0).length;
  assert.equal(said(60 * MESSAGES_PER_SEC_MAX, 1_000), 0);
  assert.equal(said(100, 1_000), 100);
  // Filled again over time, and never beyond its bound.
  assert.equal(said(MESSAGES_AT_ONCE_MAX, 10_000_000), 0);
  assert.equal(said(1, 10_000_000), 1);
});

it('takes 32 KiB before a hello and ends the channel beyond that', () => {
  const { intake, told } = intakeOf(new LargeMessages(), null);
  intake.bytes(Intake.LIMITS.helloBytes);
  // The hello may be in the next chunk, and more behind it.
  intake.bytes(CHUNK);
  assert.equal(told.problem, null);
  intake.bytes(1);
  assert.match(told.problem ?? '', /before a hello/);
});

it('slows down who says much, and goes on when there is room again', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { intake, told } = intakeOf(new LargeMessages(), null);
  intake.greeted();
  for (let sent = 0; sent <= Intake.LIMITS.bytesAtOnce; sent += CHUNK) {
    intake.bytes(CHUNK);
    intake.message();
  }
  assert.equal(told.isPaused, true);
  assert.equal(told.problem, null, 'it is no violation');
  t.mock.timers.tick(1_000);
  assert.equal(told.isPaused, false);
});

it('takes in 4 large messages at a time over all channels, one of an agent token; others wait their turn', () => {
  const large = new LargeMessages();
  const begin = (owner: string | null) => {
    const each = intakeOf(large, owner);
    each.intake.greeted();
    for (let sent = 0; sent <= Intake.LIMITS.smallBytes; sent += CHUNK) each.intake.bytes(CHUNK);
    return each;
  };
  const mine = [begin('agent:mine'), begin('agent:mine')];
  assert.deepEqual(
    mine.map(({ told }) => told.isPaused),
    [false, true],
  );
  const others = Array.from({ length: Intake.LIMITS.largeAtOnce }, () => begin(null));
  assert.deepEqual(
    others.map(({ told }) => told.isPaused),
    [...Array(Intake.LIMITS.largeAtOnce - 1).fill(false), true],
  );
  // One whole message makes room: for the one that has waited longest and may.
  mine[0]!.intake.message();
  assert.equal(mine[1]!.told.isPaused, false);
  assert.equal(others.at(-1)!.told.isPaused, true);
  // So does a channel that ends in the middle of one.
  others[0]!.intake.end();
  assert.equal(others.at(-1)!.told.isPaused, false);
  for (const { intake } of [...mine, ...others]) intake.end();
});

it('ends a large message that takes too long, and one that never ends', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 0;
  const slow = intakeOf(new LargeMessages(), null, () => nowMs);
  slow.intake.greeted();
  slow.intake.bytes(Intake.LIMITS.smallBytes + 1);
  for (let ticks = 1; ticks <= Intake.LIMITS.largeMs / 500; ticks++) {
    assert.equal(slow.told.problem, null);
    nowMs += 500;
    t.mock.timers.tick(500);
  }
  assert.match(slow.told.problem ?? '', /too long/);
  const endless = intakeOf(new LargeMessages(), null);
  endless.intake.greeted();
  endless.intake.bytes(Intake.LIMITS.messageBytes + 1);
  assert.match(endless.told.problem ?? '', /too large/);
});

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
