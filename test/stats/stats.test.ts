/** Owns the proof that stats add up in any order and grouping. */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { DropReason, FailReason, SkipReason } from '../../src/base/outcome.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { RecentLossRing } from '../../src/stats/loss.ts';
import { emptyStats, mergeAllStats, type Stats, statsDelta, withDelta } from '../../src/stats/stats.ts';

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

/** With its histograms as lists: what is kept are arrays of small numbers. */
function asLists(stats: Stats): Stats {
  const { connectUs, connectFromIntendedUs, probeUs } = stats;
  return {
    ...stats,
    connectUs: Array.from(connectUs),
    connectFromIntendedUs: Array.from(connectFromIntendedUs),
    probeUs: Array.from(probeUs),
  };
}

describe('what has changed in stats', () => {
  it('is everything at first, and no histogram while none grows', () => {
    const stats: Stats = { ...emptyStats(), open: 3, connectUs: [5, 2, 9, 1], probeUs: [7, 4] };
    assert.deepEqual(statsDelta(stats, null), stats);
    const later = { ...stats, open: 2, probeUs: [7, 5] };
    assert.deepEqual(statsDelta(later, stats), {
      ...later,
      connectUs: null,
      connectFromIntendedUs: null,
      probeUs: [7, 5],
    });
  });

  for (const takesGrowth of [false, true])
    it(`tells the other side the same as everything each time would, whatever grows and whenever contact is cut${takesGrowth ? ', by what came to it' : ''}`, () => {
      const turn = fc.record({
        connects: fc.array(fc.integer({ min: 1, max: 10_000 }), { maxLength: 3 }),
        probes: fc.array(fc.integer({ min: 1, max: 10_000 }), { maxLength: 3 }),
        isLost: fc.boolean(),
      });
      fc.assert(
        fc.property(fc.array(turn, { maxLength: 30 }), (turns) => {
          const connects = new LatencyRecorder();
          const probes = new LatencyRecorder();
          let told: Stats | null = null;
          let known = emptyStats();
          for (const each of turns) {
            for (const us of each.connects) connects.record(us);
            for (const us of each.probes) probes.record(us);
            const stats: Stats = { ...emptyStats(), connectUs: connects.sparse(), probeUs: probes.sparse() };
            const said = statsDelta(stats, told, takesGrowth);
            if (each.isLost) {
              // A cut: the message is gone, and what follows begins anew.
              told = null;
            } else {
              told = stats;
              known = withDelta(known, JSON.parse(JSON.stringify(said)));
              assert.deepEqual(asLists(known), JSON.parse(JSON.stringify(stats)));
            }
          }
        }),
      );
    });

  it('is of a histogram that has grown a little what came to it, where the other side takes that', () => {
    const stats: Stats = { ...emptyStats(), connectUs: [5, 2, 9, 1], probeUs: [7, 4, 8, 1, 9, 1] };
    const later = { ...stats, connectUs: [5, 3, 6, 1, 9, 2], probeUs: [7, 5, 8, 1, 9, 1] };
    const said = statsDelta(later, stats, true);
    assert.deepEqual([said.connectUs, said.probeUs], [[5, 3, 6, 1, 9, 2], null], 'the shorter way is taken');
    assert.deepEqual(said.grown, { probeUs: [7, 1] });
    assert.deepEqual(
      statsDelta(later, stats).probeUs,
      later.probeUs,
      'who would leave it out hears it whole',
    );
    const known = withDelta(withDelta(emptyStats(), statsDelta(stats, null, true)), said);
    assert.deepEqual(asLists(known), later);
    assert.ok(!('grown' in known), 'it is put together');
  });

  it('is the whole of a histogram that is not the last one grown', () => {
    const stats: Stats = { ...emptyStats(), probeUs: [7, 4, 8, 1, 9, 1] };
    for (const probeUs of [
      [7, 5, 8, 2],
      [7, 3, 8, 1, 9, 4],
    ]) {
      const said = statsDelta({ ...stats, probeUs }, stats, true);
      assert.deepEqual([said.probeUs, said.grown], [probeUs, undefined]);
    }
  });

  it('is kept in few bytes', () => {
    const known = withDelta(emptyStats(), { ...emptyStats(), probeUs: [7, 4] });
    assert.ok(known.probeUs instanceof Uint16Array);
    const grown = withDelta(known, { ...emptyStats(), probeUs: null, grown: { probeUs: [6, 1] } });
    assert.ok(grown.probeUs instanceof Uint16Array);
    assert.equal(withDelta(grown, { ...emptyStats(), probeUs: null }).probeUs, grown.probeUs, 'the same one');
  });
});
