import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { emptyStats, type Stats } from '../../src/stats/stats.ts';
import { statsNews, withNews } from '../../src/stats/stats-delta.ts';

describe('the news of stats', () => {
  it('is everything at first, and no histogram while none grows', () => {
    const stats: Stats = { ...emptyStats(), open: 3, connectUs: [5, 2, 9, 1], probeUs: [7, 4] };
    assert.deepEqual(statsNews(stats, null), stats);
    const later = { ...stats, open: 2, probeUs: [7, 5] };
    assert.deepEqual(statsNews(later, stats), {
      ...later,
      connectUs: null,
      connectFromIntendedUs: null,
      probeUs: [7, 5],
    });
  });

  it('tells the other side the same as everything each time would, whatever grows and whenever contact is cut', () => {
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
          const said = statsNews(stats, told);
          if (each.isLost) {
            // A cut: the message is gone, and what follows begins anew.
            told = null;
          } else {
            told = stats;
            known = withNews(known, JSON.parse(JSON.stringify(said)));
            assert.deepEqual(known, JSON.parse(JSON.stringify(stats)));
          }
        }
      }),
    );
  });
});
