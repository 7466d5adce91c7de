import assert from 'node:assert/strict';
import { it, test } from 'node:test';
import fc from 'fast-check';
import { mergeHistograms } from '../../src/stats/histogram.ts';
import {
  BurstMeter,
  lossCounts,
  newestLosses,
  QUARTER_MS,
  QUARTERS_REPORTED,
  RecentLossRing,
} from '../../src/stats/loss.ts';
import { emptyStats, withAllLost } from '../../src/stats/stats.ts';

it('what a dead holder held is dropped by a reason of its own, and nothing is counted twice', () => {
  const before = {
    ...emptyStats(),
    attempted: 95,
    established: 80,
    open: 70,
    openMin: 70,
    verified: 60,
    pending: 5,
    failed: { refused: 10 },
    dropped: { fin: 10 },
    openBySource: { '127.0.0.2': 70 },
  };
  const after = withAllLost(before, 'holder-lost', 100);
  assert.deepEqual(after.dropped, { fin: 10, 'holder-lost': 70 });
  assert.equal(after.open + after.openMin + after.verified + after.pending, 0);
  assert.deepEqual(after.openBySource, {});
  assert.equal(after.established + 10 + after.unattempted, 100, 'established + failed + unattempted = quota');
});

it('what was opened in place of lost connections takes nothing from what was never attempted', () => {
  const before = {
    ...emptyStats(),
    attempted: 50,
    established: 50,
    reopened: 20,
    open: 30,
    dropped: { fin: 20 },
    unattempted: 70,
  };
  assert.equal(withAllLost(before, 'holder-lost', 100).unattempted, 70);
});

it('a holder that held nothing has no loss to report', () => {
  assert.deepEqual(withAllLost(emptyStats(), 'agent-lost', 7).dropped, {});
  assert.equal(withAllLost(emptyStats(), 'agent-lost', 7).unattempted, 7);
});

it('what a lost process held is on the ledger by source, and by endpoint where there is only one', () => {
  const before = {
    ...emptyStats(),
    open: 10,
    openBySource: { '127.0.0.2': 6, '127.0.0.3': 3 },
    openByEndpoint: { '127.0.0.1:80': 10 },
    droppedBy: { 'rst 127.0.0.2 127.0.0.1:80': 2 },
  };
  assert.deepEqual(lossCounts(withAllLost(before, 'holder-lost', 10).droppedBy), [
    { reason: 'holder-lost', source: '127.0.0.2', endpoint: '127.0.0.1:80', count: 6 },
    { reason: 'holder-lost', source: '127.0.0.3', endpoint: '127.0.0.1:80', count: 3 },
    { reason: 'rst', source: '127.0.0.2', endpoint: '127.0.0.1:80', count: 2 },
    { reason: 'holder-lost', source: '*', endpoint: '127.0.0.1:80', count: 1 },
  ]);
});

function ringOf(times: readonly number[]): RecentLossRing {
  const ring = new RecentLossRing();
  for (const atMs of times.toSorted((a, b) => a - b)) ring.add(atMs);
  return ring;
}

/** The most within four quarters, by looking at all. */
function most(times: readonly number[]): number {
  const quarters = times.map((atMs) => Math.floor(atMs / QUARTER_MS));
  return Math.max(
    0,
    ...quarters.map((first) => quarters.filter((each) => each >= first && each < first + 4).length),
  );
}

test('maxima of different seconds are not added', () => {
  const meter = new BurstMeter();
  const a = ringOf(Array.from({ length: 100 }, () => 1_000));
  const b = ringOf(Array.from({ length: 100 }, () => 9_000));
  meter.take('x', mergeHistograms(a.list(), b.list()), 0, 10_000);
  meter.take('y', ringOf(Array.from({ length: 50 }, () => 5_000)).list(), 0, 10_000);
  assert.equal(meter.max, 100);
});

test('losses of one second add up over holders and agents, wherever the second begins', () => {
  const meter = new BurstMeter();
  meter.take('x', ringOf([1_900, 1_950]).list(), 0, 3_000);
  meter.take('y', ringOf([2_100, 2_600]).list(), 0, 3_000);
  assert.equal(meter.max, 4);
});

test('what is sent again counts once, and an agent that began later is shifted', () => {
  const meter = new BurstMeter();
  const ring = ringOf([100, 120]);
  meter.take('x', ring.list(), 0, 500);
  meter.take('x', ring.list(), 0, 500);
  assert.equal(meter.max, 2);
  ring.add(130);
  meter.take('x', ring.list(), 0, 500);
  assert.equal(meter.max, 3);
  meter.take('late', ringOf([100]).list(), 10_000, 11_000);
  assert.equal(meter.max, 3);
  meter.take('later', ringOf([100, 100, 100]).list(), 10_000, 11_000);
  assert.equal(meter.max, 4);
});

test('a time that has not come is not taken, and the meter forgets what is old', () => {
  const meter = new BurstMeter();
  meter.take('liar', [4_000_000_000, 500], 0, 1_000);
  assert.equal(meter.max, 0);
  for (let second = 0; second < 10_000; second++) meter.take('x', [second * 4, 1], 0, second * 1_000);
  assert.equal(meter.max, 1);
});

test('over random losses of several holders and agents, reported every second, the most is that of all together', () => {
  const times = fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      fc.array(fc.array(times, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
      (agents) => {
        const meter = new BurstMeter();
        for (let nowMs = 1_000; nowMs <= 21_000; nowMs += 1_000) {
          for (const [index, holders] of agents.entries()) {
            const lists = holders.map((each) => ringOf(each.filter((atMs) => atMs < nowMs)).list());
            meter.take(`a${index}`, lists.reduce(mergeHistograms, []), 0, nowMs);
          }
        }
        assert.equal(meter.max, most(agents.flat(2)));
      },
    ),
    { numRuns: 150 },
  );
});

test('a ring tells of the last quarters only, also after a long time without a loss', () => {
  const ring = ringOf([0, 10]);
  const laterMs = QUARTERS_REPORTED * QUARTER_MS * 5 + 60;
  ring.add(laterMs);
  assert.deepEqual(ring.list(), [QUARTERS_REPORTED * 5, 1]);
  ring.add(laterMs - 5_000);
  assert.deepEqual(ring.list(), [QUARTERS_REPORTED * 5, 2], 'time does not go back');
  assert.deepEqual(newestLosses([0, 7, 5, 1, QUARTERS_REPORTED, 2]), [5, 1, QUARTERS_REPORTED, 2]);
  assert.deepEqual(newestLosses([]), []);
});
