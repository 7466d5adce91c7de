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
function ledgerOf(open: number) {
  const tally = new Tally({ addresses: ['127.0.0.2'], endpoints: [], stages: STAGES });
  const ledger = new StageLedger(new ShareOfLine(STAGES, [{ from: 0, to: 20 }]), tally);
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
  const { tally, ledger, openMins } = ledgerOf(20);
  ledger.turn(10, true);
  ledger.advanceTo(1_000);
  tally.open = 15;
  for (const atMs of [2_000, 2_100, 2_200]) {
    ledger.turnBegins(atMs);
    tally.open = 20;
    ledger.advanceTo(atMs);
    ledger.turn(atMs, true);
  }
  assert.deepEqual(openMins(), [0, 20, 15]);
});
