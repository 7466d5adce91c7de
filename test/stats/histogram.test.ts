/** Owns the proof that latencies are counted, merged and summed up without loss. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { build } from 'hdr-histogram-js';
import {
  COUNTS_LENGTH,
  compactHistogram,
  emptyHistogram,
  grownBy,
  grownHistogram,
  HISTOGRAM_COUNT_MAX,
  histogramCount,
  LATENCY_US_MAX,
  LATENCY_US_MIN,
  LatencyRecorder,
  latencySummary,
  mergeHistograms,
  SIGNIFICANT_DIGITS,
  type SparseHistogram,
} from '../../src/stats/histogram.ts';

const latencies = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: LATENCY_US_MIN, max: LATENCY_US_MAX })),
  { maxLength: 200 },
);

function sparseOf(values: readonly number[]): SparseHistogram {
  const recorder = new LatencyRecorder();
  for (const us of values) recorder.record(us);
  return recorder.sparse();
}

test('what two recorders counted is what one would have counted', () => {
  fc.assert(
    fc.property(latencies, latencies, (a, b) => {
      assert.deepEqual(mergeHistograms(sparseOf(a), sparseOf(b)), sparseOf([...a, ...b]));
    }),
  );
});

test('merging is associative and commutative, and the empty histogram changes nothing', () => {
  fc.assert(
    fc.property(latencies, latencies, latencies, (x, y, z) => {
      const [a, b, c] = [sparseOf(x), sparseOf(y), sparseOf(z)];
      assert.deepEqual(mergeHistograms(mergeHistograms(a, b), c), mergeHistograms(a, mergeHistograms(b, c)));
      assert.deepEqual(mergeHistograms(a, b), mergeHistograms(b, a));
      assert.deepEqual(mergeHistograms(a, emptyHistogram()), a);
      assert.deepEqual(mergeHistograms(emptyHistogram(), a), a);
    }),
  );
});

test('a sparse histogram has ascending indexes within the range and counts above 0', () => {
  fc.assert(
    fc.property(latencies, (values) => {
      const sparse = sparseOf(values);
      assert.equal(sparse.length % 2, 0);
      for (let at = 0; at < sparse.length; at += 2) {
        assert(sparse[at]! > (at === 0 ? -1 : sparse[at - 2]!) && sparse[at]! < COUNTS_LENGTH);
        assert(sparse[at + 1]! > 0);
      }
      assert.equal(histogramCount(sparse), values.length);
    }),
  );
});

test('percentiles are those that the reference implementation gives', () => {
  fc.assert(
    fc.property(latencies, (values) => {
      const reference = build({
        bitBucketSize: 64,
        lowestDiscernibleValue: LATENCY_US_MIN,
        highestTrackableValue: LATENCY_US_MAX,
        numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
      });
      for (const us of values) reference.recordValue(us);
      const at = (percentile: number): number | null =>
        values.length === 0 ? null : reference.getValueAtPercentile(percentile);
      assert.deepEqual(latencySummary(sparseOf(values)), {
        count: values.length,
        p50: at(50),
        p90: at(90),
        p99: at(99),
        p999: at(99.9),
        max: at(100),
      });
    }),
  );
});

test('percentiles are within a thousandth of what was recorded', () => {
  fc.assert(
    fc.property(latencies, (values) => {
      if (values.length === 0) return;
      const sorted = [...values].sort((a, b) => a - b);
      const { p50, max } = latencySummary(sparseOf(values));
      for (const [got, exact] of [
        [p50, sorted[Math.ceil(values.length / 2) - 1]!],
        [max, sorted.at(-1)!],
      ] as const) {
        assert(got !== null && got >= exact && got - exact <= exact / 1_000, `${got} for ${exact}`);
      }
    }),
  );
});

test('values out of range count as the nearest in range, and no value can stop the recorder', () => {
  const recorder = new LatencyRecorder();
  for (const us of [0, -5, 0.2, Number.NaN, Number.NEGATIVE_INFINITY]) recorder.record(us);
  assert.deepEqual(recorder.sparse(), sparseOf(new Array<number>(5).fill(LATENCY_US_MIN)));
  const high = new LatencyRecorder();
  for (const us of [LATENCY_US_MAX + 1, 1e300, Number.POSITIVE_INFINITY]) high.record(us);
  assert.deepEqual(high.sparse(), sparseOf(new Array<number>(3).fill(LATENCY_US_MAX)));
  assert.deepEqual(sparseOf([1_234.4]), sparseOf([1_234]));
});

test('the sparse form is built anew only when something was recorded', () => {
  const recorder = new LatencyRecorder();
  assert.deepEqual(recorder.sparse(), []);
  recorder.record(10);
  const before = recorder.sparse();
  assert.equal(recorder.sparse(), before, 'the same array');
  recorder.record(10);
  assert.deepEqual(recorder.sparse(), [10, 2]);
  assert.deepEqual(before, [10, 1], 'what was handed out does not change');
  assert.equal(recorder.count, 2);
});

test('nothing recorded has no percentiles', () => {
  const none = { count: 0, p50: null, p90: null, p99: null, p999: null, max: null };
  assert.deepEqual(latencySummary(emptyHistogram()), none);
});

test('a histogram to keep has the same numbers in as few bytes as the largest needs', () => {
  const widths = [
    [65_535, Uint16Array],
    [65_536, Uint32Array],
    [2 ** 32 - 1, Uint32Array],
    [2 ** 32, Float64Array],
  ] as const;
  for (const [count, Kind] of widths) {
    const sparse = [3, 1, COUNTS_LENGTH - 1, count];
    for (const kept of [compactHistogram(sparse), grownHistogram([3, 1], [COUNTS_LENGTH - 1, count])]) {
      assert.ok(kept instanceof Kind, `${count}`);
      assert.deepEqual(Array.from(kept), sparse);
    }
  }
  assert.equal(compactHistogram([]), emptyHistogram());
});

test('what came to a histogram, added to it, makes the grown one', () => {
  fc.assert(
    fc.property(latencies, latencies, (before, after) => {
      const [old, now] = [sparseOf(before), sparseOf([...before, ...after])];
      const added = grownBy(old, now);
      assert.deepEqual(added, sparseOf(after));
      assert.deepEqual(Array.from(grownHistogram(compactHistogram(old), added ?? [])), now);
    }),
  );
});

test('what comes to a kept histogram may need more bytes, and may lie before, between and behind what it has', () => {
  const kept = compactHistogram([10, 1, 20, 65_535]);
  assert(kept instanceof Uint16Array);
  const grown = grownHistogram(kept, [5, 1, 15, 2, 30, 3]);
  assert(grown instanceof Uint16Array);
  assert.deepEqual(Array.from(grown), [5, 1, 10, 1, 15, 2, 20, 65_535, 30, 3]);
  assert.deepEqual(Array.from(grownHistogram(kept, [20, 1])), [10, 1, 20, 65_536]);
  assert.deepEqual(Array.from(grownHistogram(kept, [])), [10, 1, 20, 65_535]);
  assert.deepEqual(Array.from(kept), [10, 1, 20, 65_535], 'it is not changed itself');
});

test('a histogram that has lost a count is no grown one', () => {
  assert.equal(grownBy([3, 2, 5, 1], [3, 2]), null);
  assert.equal(grownBy([3, 2, 5, 1], [3, 1, 5, 9]), null);
  assert.equal(grownBy([3, 2], [4, 2]), null);
});

test('however often an agent adds to a count, it stays within what one message may say', () => {
  const most = [7, HISTOGRAM_COUNT_MAX];
  assert.deepEqual(Array.from(grownHistogram(grownHistogram(most, most), [6, 1])), [6, 1, ...most]);
});
