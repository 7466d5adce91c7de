/** Owns the proof that other tools can read our histograms: the complete package decodes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeFromCompressedBase64, type JsHistogram } from 'hdr-histogram-js';
import {
  LATENCY_US_MAX,
  LatencyRecorder,
  latencySummary,
  type SparseHistogram,
} from '../../src/stats/histogram.ts';
import { encodeHistogram } from '../../src/stats/histogram-encoding.ts';

function decoded(text: string): { histogram: JsHistogram; sparse: SparseHistogram } {
  const histogram = decodeFromCompressedBase64(text, 64) as JsHistogram;
  const sparse: number[] = [];
  for (let index = 0; index < histogram.countsArrayLength; index += 1) {
    const count = histogram.getCountAtIndex(index);
    if (count > 0) sparse.push(index, count);
  }
  return { histogram, sparse };
}

test('what is encoded is decoded to the same counts and percentiles', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: LATENCY_US_MAX }), { maxLength: 100 }), (values) => {
      const recorder = new LatencyRecorder();
      for (const us of values) recorder.record(us);
      const text = encodeHistogram(recorder.sparse());
      assert.match(text, /^[A-Za-z0-9+/]+=*$/);
      const { histogram, sparse } = decoded(text);
      assert.deepEqual(sparse, recorder.sparse());
      assert.equal(histogram.totalCount, values.length);
      assert.equal(histogram.highestTrackableValue, LATENCY_US_MAX);
      assert.equal(histogram.numberOfSignificantValueDigits, 3);
      if (values.length > 0) assert.equal(histogram.getValueAtPercentile(50), latencySummary(sparse).p50);
    }),
    { numRuns: 50 },
  );
});

test('counts beyond 32 bits survive', () => {
  const sparse = [5, 2 ** 33 + 7, 4_000, 1];
  assert.deepEqual(decoded(encodeHistogram(sparse)).sparse, sparse);
});
