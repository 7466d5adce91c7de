/** Tests that the counts of an engine add up whatever happens, and that only losses in the hold lower a minimum. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DropReason, FailReason, SkipReason } from '../../src/base/outcome.ts';
import { TupleMap } from '../../src/base/tuple-space.ts';
import { LossLedger } from '../../src/engine/loss-ledger.ts';
import { Tally } from '../../src/engine/tally.ts';
import type { Stats } from '../../src/stats/stats.ts';
import { specTo } from './engine-run.ts';

const OF = {
  addresses: ['10.0.0.1', '10.0.0.2', '10.0.0.1'],
  endpoints: [{ address: '192.0.2.1', port: 80, family: 4 as const }],
};

function statsOf(tally: Tally): Stats {
  const spec = specTo(80, 1, OF);
  return tally.stats(new LossLedger(spec, new TupleMap(spec)));
}

/** One connect of source 0 that the kernel completes. */
function openOne(tally: Tally, atMs: number, isReopened = false, source = 0): void {
  tally.attempted++;
  tally.pending++;
  tally.opened(source, 0, atMs, isReopened);
}

test('whatever happens, attempted and established are the sums of what became of them', () => {
  const sum = (counts: Partial<Record<string, number>>): number =>
    Object.values(counts).reduce<number>((total, count) => total + (count ?? 0), 0);
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 4 }), { maxLength: 200 }), (moves) => {
      const tally = new Tally(OF);
      for (const [at, move] of moves.entries()) {
        if (move === 0) openOne(tally, at);
        if (move === 1) {
          tally.attempted++;
          tally.failed(FailReason.refused, 1);
        }
        if (move === 2 && tally.open > 0) tally.dropped(DropReason.rst, 0, 0, false);
        if (move === 3 && tally.open > 0) tally.closedByUs(0, 0, false);
        if (move === 4) tally.markHold();
        const stats = statsOf(tally);
        assert.equal(stats.attempted, stats.established + sum(stats.failed) + stats.pending);
        assert.equal(stats.established, stats.open + sum(stats.dropped) + stats.closed);
        assert.equal(sum(stats.openBySource), stats.open);
        assert.equal(sum(stats.openByEndpoint), stats.open);
        assert(!tally.isHolding || stats.openMin <= stats.openAtHold);
      }
    }),
  );
});

test('a loss in the hold lowers the minimum, one before it and a close of ours do not', () => {
  const tally = new Tally(OF);
  for (let nth = 0; nth < 5; nth++) openOne(tally, nth);
  for (let nth = 0; nth < 4; nth++) tally.proved();
  tally.dropped(DropReason.fin, 0, 0, true);
  tally.markHold();
  tally.dropped(DropReason.fin, 0, 0, true);
  openOne(tally, 9, true);
  tally.markHold();
  tally.closedByUs(0, 0, true);
  tally.closedByUs(0, 0, false);
  const { openAtHold, openMin, verifiedMin, open, verified, reopened, dropped, closed } = statsOf(tally);
  assert.deepEqual(
    { openAtHold, openMin, verifiedMin, open, verified, reopened, dropped, closed },
    {
      openAtHold: 4,
      openMin: 3,
      verifiedMin: 2,
      open: 2,
      verified: 1,
      reopened: 1,
      dropped: { fin: 2 },
      closed: 2,
    },
  );
});

test('the ramp lasts from the first connect to the last one that is no reopening', () => {
  const tally = new Tally(OF);
  assert.equal(statsOf(tally).rampMs, 0);
  tally.firstConnectAtMs = 20;
  openOne(tally, 120);
  openOne(tally, 520);
  openOne(tally, 9_000, true);
  assert.equal(statsOf(tally).rampMs, 500);
});

test('open connections are counted by name, those of one name together, and names without any are left out', () => {
  const tally = new Tally(OF);
  openOne(tally, 0, false, 0);
  openOne(tally, 0, false, 2);
  assert.deepEqual(statsOf(tally).openBySource, { '10.0.0.1': 2 });
  assert.deepEqual(statsOf(tally).openByEndpoint, { '192.0.2.1:80': 2 });
});

test('a snapshot is not touched by what comes later', () => {
  const tally = new Tally(OF);
  tally.skipped(SkipReason.portInUse);
  tally.failed(FailReason.timeout, 2);
  const before = statsOf(tally);
  const text = JSON.stringify(before);
  tally.skipped(SkipReason.portInUse);
  tally.failed(FailReason.timeout, 1);
  openOne(tally, 1);
  tally.dropped(DropReason.rst, 0, 0, false);
  tally.connectUs.record(5);
  assert.equal(JSON.stringify(before), text);
  assert.deepEqual(statsOf(tally).failed, { timeout: 3 });
});
