/** Tests that counts over time keep every count, in the bucket of its moment, and add up in any order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { laterSeries, mergeSeries, SERIES_BUCKETS, SeriesCounter } from '../../src/stats/time-series.ts';

const KINDS = ['yes', 'no'] as const;
type Series = ReturnType<SeriesCounter<(typeof KINDS)[number]>['series']>;

function seriesOf(moments: readonly (readonly [kind: number, atMs: number])[]): Series {
  const counter = new SeriesCounter(KINDS);
  for (const [kind, atMs] of moments) counter.add(kind, atMs);
  return counter.series();
}

const DAY_MS = 86_400_000;
const moments = fc.array(fc.tuple(fc.nat(1), fc.oneof(fc.nat(2_000), fc.nat(120_000), fc.nat(30 * DAY_MS))), {
  maxLength: 40,
});
const total = ({ counts }: Series): number =>
  [...counts.yes, ...counts.no].reduce((sum, each) => sum + each, 0);

test('each count is in the bucket of its moment, whatever came before or after it', () => {
  fc.assert(
    fc.property(moments, (list) => {
      const { folds, counts } = seriesOf(list);
      const bucketMs = 2 ** folds;
      const expected: Record<string, number[]> = { yes: [], no: [] };
      for (const [kind, atMs] of list) {
        const row = expected[kind === 0 ? 'yes' : 'no'] ?? [];
        const at = Math.floor(atMs / bucketMs);
        while (row.length <= at) row.push(0);
        row[at] = (row[at] ?? 0) + 1;
      }
      assert.deepEqual(counts, expected);
      assert(counts.yes.length <= SERIES_BUCKETS && counts.no.length <= SERIES_BUCKETS);
      const latestMs = Math.max(0, ...list.map(([, atMs]) => atMs));
      assert(folds === 0 || latestMs >= (SERIES_BUCKETS * 2 ** folds) / 2, 'no coarser than it must be');
    }),
  );
});

test('parts add up in any order to what one counter would have counted', () => {
  fc.assert(
    fc.property(moments, moments, moments, (a, b, c) => {
      const whole = seriesOf([...a, ...b, ...c]);
      assert.deepEqual(mergeSeries(mergeSeries(seriesOf(a), seriesOf(b)), seriesOf(c)), whole);
      assert.deepEqual(mergeSeries(seriesOf(c), mergeSeries(seriesOf(b), seriesOf(a))), whole);
    }),
  );
});

test('a part that began later counts at the time of the run, and loses nothing', () => {
  fc.assert(
    fc.property(moments, fc.nat(10 * DAY_MS), (list, laterMs) => {
      const later = laterSeries(seriesOf(list), laterMs);
      assert.equal(total(later), list.length);
      assert(later.counts.yes.length <= SERIES_BUCKETS);
      const first = later.counts.yes.findIndex((each) => each > 0);
      if (first < 0) return;
      const bucketMs = 2 ** later.folds;
      const firstMs = laterMs + Math.min(...list.flatMap(([kind, atMs]) => (kind === 0 ? [atMs] : [])));
      assert(Math.abs(first * bucketMs - firstMs) <= 2 * bucketMs, `${first} x ${bucketMs} for ${firstMs}`);
    }),
  );
});

test('a moment before the start counts at the start', () => {
  assert.deepEqual(seriesOf([[0, -3]]), { folds: 0, counts: { yes: [1], no: [] } });
});
