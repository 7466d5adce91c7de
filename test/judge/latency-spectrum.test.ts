/** Tests the spectrum of an encoded histogram against the recorded values, and what no histogram is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latencySpectrum } from '../../src/judge/latency-spectrum.ts';
import type { Latency } from '../../src/judge/report.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { encodeHistogram } from '../../src/stats/histogram-encoding.ts';

function latencyOf(histogram: string | null, count: number): Latency {
  return { count, p50: null, p90: null, p99: null, p999: null, max: null, histogram };
}

test('the spectrum has the recorded values, is ascending and ends with the maximum', () => {
  const recorder = new LatencyRecorder();
  for (let us = 1; us <= 10_000; us++) recorder.record(us * 100);
  const points = latencySpectrum(latencyOf(encodeHistogram(recorder.sparse()), 10_000)) ?? [];
  const at = (percent: number): number => points.find((point) => point.percent === percent)?.ms ?? Number.NaN;
  assert.ok(Math.abs(at(50) - 500) < 1, String(at(50)));
  assert.ok(Math.abs(at(75) - 750) < 1, String(at(75)));
  assert.ok(Math.abs(at(100) - 1_000) < 1, String(at(100)));
  for (const [index, { ms, percent }] of points.entries()) {
    assert.ok(index === 0 || ms >= (points[index - 1]?.ms ?? 0));
    assert.ok(index === 0 || percent > (points[index - 1]?.percent ?? 0));
  }
});

test('what is no histogram has no spectrum', () => {
  for (const text of [
    '',
    'HISTF',
    'not base64!',
    'A'.repeat(2_000_000),
    Buffer.from('zlib?').toString('base64'),
  ])
    assert.equal(latencySpectrum(latencyOf(text, 5)), null, text.slice(0, 20));
  assert.equal(latencySpectrum(latencyOf(null, 0)), null);
});
