/** Tests what a holder may say of a flat stage that it was late for. An engine that follows whole schedules: load-follower.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StageLedger } from '../../src/engine/stage-ledger.ts';
import { Tally } from '../../src/engine/tally.ts';
import { ShareOfLine } from '../../src/run/schedule.ts';

const STAGES = [
  { durationMs: 0, connections: 20 },
  { durationMs: 1_000, connections: 20 },
  { durationMs: 1_000, connections: 20 },
];

/** A ledger whose holder has so many open in the first flat stage, and has asked for all. */
function ledgerOf(open: number, stages = STAGES) {
  const tally = new Tally({ addresses: ['127.0.0.2'], endpoints: [], stages });
  const ledger = new StageLedger(new ShareOfLine(stages, [{ from: 0, to: 20 }]), tally);
  ledger.advanceTo(0);
  tally.open = open;
  const openMins = (): number[] => ledger.stages().map(({ openMin }) => openMin);
  return { tally, ledger, openMins };
}

test('what comes through in a turn that begins after a stage was not open in it', () => {
  for (const lateMs of [0, 1, 700]) {
    const { tally, ledger, openMins } = ledgerOf(12);
    ledger.turnBegins(500);
    ledger.turn(500, false);
    ledger.turnBegins(1_000 + lateMs);
    tally.open = 20;
    ledger.advanceTo(1_000 + lateMs);
    ledger.turn(1_000 + lateMs, true);
    assert.deepEqual(openMins(), [0, 12, 20]);
  }
});

test('the same after the last stage, however many turns follow', () => {
  const { tally, ledger, openMins } = ledgerOf(15, STAGES.slice(0, 2));
  for (const atMs of [1_000, 1_100, 1_200]) {
    ledger.turnBegins(atMs);
    tally.open = 20;
    ledger.advanceTo(atMs);
    ledger.turn(atMs, true);
  }
  assert.deepEqual(openMins(), [0, 15]);
});

test('a flat stage that asks for what the one before had begins with it: what is lost before anything is quiet is lost in it', () => {
  const { tally, ledger, openMins } = ledgerOf(20);
  ledger.turn(10, true);
  ledger.turnBegins(1_000);
  ledger.advanceTo(1_000);
  assert(!ledger.isApproaching);
  tally.missing = tally.worstMissing = 3;
  ledger.turn(1_100, false);
  tally.missing = 0;
  ledger.turn(1_500, true);
  assert.deepEqual(openMins(), [0, 20, 17]);
});

test('where some are missing at its begin it waits for them', () => {
  const { tally, ledger, openMins } = ledgerOf(20);
  ledger.turn(10, true);
  tally.missing = tally.worstMissing = 3;
  ledger.advanceTo(1_000);
  assert(ledger.isApproaching);
  tally.missing = 0;
  ledger.turn(1_500, true);
  assert.deepEqual(openMins(), [0, 17, 20]);
});
