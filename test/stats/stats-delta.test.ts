/** Tests that what an agent leaves out of its stats is never missing, whatever it says of the rest. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { emptyStats, type Stats } from '../../src/stats/stats.ts';
import { statsDelta, withDelta } from '../../src/stats/stats-delta.ts';

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
