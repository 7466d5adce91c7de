import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  Bucket,
  Intake,
  LargeMessages,
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
