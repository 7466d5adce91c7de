/** Owns the proof that stats add up in any order and grouping. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DropReason, FailReason, SkipReason } from '../../src/base/outcome.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { RecentLossRing } from '../../src/stats/loss.ts';
import { emptyStats, mergeAllStats, type Stats } from '../../src/stats/stats.ts';

/** Tables have no prototype, which deepEqual would call a difference. */
const plain = structuredClone;

const count = fc.nat(1_000_000);
const countsOf = (keys: readonly string[]) =>
  fc.dictionary(fc.constantFrom(...keys), count, { maxKeys: 4, noNullPrototype: true });
const histogram = fc.array(fc.integer({ min: 1, max: 10_000_000 }), { maxLength: 20 }).map((values) => {
  const recorder = new LatencyRecorder();
  for (const us of values) recorder.record(us);
  return recorder.sparse();
});

const recent = fc.array(fc.nat(60_000), { maxLength: 20 }).map((times) => {
  const ring = new RecentLossRing();
  for (const atMs of times.toSorted((a, b) => a - b)) ring.add(atMs);
  return ring.list();
});

const mergeStats = (a: Stats, b: Stats): Stats => mergeAllStats([a, b]);

const anyStats: fc.Arbitrary<Stats> = fc.record(
  {
    attempted: count,
    established: count,
    open: count,
    openAtHold: count,
    openMin: count,
    verified: count,
    verifiedMin: count,
    verifiedInHold: count,
    pending: count,
    closed: count,
    unattempted: count,
    failed: countsOf(Object.values(FailReason)),
    dropped: countsOf(Object.values(DropReason)),
    localSkips: countsOf(Object.values(SkipReason)),
    droppedBy: countsOf(['rst 127.0.0.2 127.0.0.1:80', 'fin * *']) as fc.Arbitrary<Record<string, number>>,
    lossDetailsCut: count,
    youngDrops: count,
    resetsOnProbe: count,
    probeTimeoutsAcked: count,
    recentLosses: recent,
    reopened: count,
    reopenFailed: count,
    synRetransmits: count,
    retransmittedConnects: count,
    bytesIn: count,
    bytesOut: count,
    probesSent: count,
    probesAnswered: count,
    connectUs: histogram,
    connectFromIntendedUs: histogram,
    probeUs: histogram,
    openBySource: countsOf(['127.0.0.2', '127.0.0.3', 'fd00::1']) as fc.Arbitrary<Record<string, number>>,
    openByEndpoint: countsOf(['127.0.0.1:80', '[::1]:80']) as fc.Arbitrary<Record<string, number>>,
    rampMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
  },
  { noNullPrototype: true },
);

test('adding stats is associative and commutative, and empty stats change nothing', () => {
  fc.assert(
    fc.property(anyStats, anyStats, anyStats, (a, b, c) => {
      assert.deepEqual(plain(mergeStats(mergeStats(a, b), c)), plain(mergeStats(a, mergeStats(b, c))));
      assert.deepEqual(plain(mergeStats(a, b)), plain(mergeStats(b, a)));
      assert.deepEqual(plain(mergeStats(a, emptyStats())), plain(a));
      assert.deepEqual(plain(mergeStats(emptyStats(), a)), plain(a));
    }),
    { numRuns: 60 },
  );
});

test('each number of the sum is the sum of the numbers, but the ramp is the longer one', () => {
  fc.assert(
    fc.property(anyStats, anyStats, (a, b) => {
      const sum = mergeStats(a, b);
      for (const key of Object.keys(a) as (keyof Stats)[]) {
        const [x, y] = [a[key], b[key]];
        if (typeof x !== 'number' || typeof y !== 'number') continue;
        assert.equal(sum[key], key === 'rampMs' ? Math.max(x, y) : x + y, key);
      }
    }),
    { numRuns: 60 },
  );
});

test('counts are added by key, and a reason that only one side knows is kept', () => {
  const a: Stats = { ...emptyStats(), failed: { refused: 2, timeout: 1 }, openBySource: { '127.0.0.2': 5 } };
  const b: Stats = { ...emptyStats(), failed: { refused: 3, reset: 4 }, openBySource: { '127.0.0.3': 6 } };
  const sum = mergeAllStats([a, b, a]);
  assert.deepEqual(plain(sum.failed), { refused: 7, timeout: 2, reset: 4 });
  assert.deepEqual(plain(sum.openBySource), { '127.0.0.2': 10, '127.0.0.3': 6 });
  assert.deepEqual(a.failed, { refused: 2, timeout: 1 }, 'the parts are not changed');
});

test('the sum of nothing is empty', () => {
  assert.deepEqual(mergeAllStats([]), emptyStats());
});
