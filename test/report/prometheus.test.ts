/** Owns the proof that a node exporter can read the file: heads once, samples well formed, nothing twice. */
import assert from 'node:assert/strict';
import { it, test } from 'node:test';
import fc from 'fast-check';
import { prometheusText } from '../../src/report/prometheus.ts';
import { hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { sampleReport } from './sample-report.ts';

const SAMPLE = /^([a-z0-9_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? -?[0-9.e+-]+$/;

it('every line is a head or a sample, each sample stands below the head of its metric, and none comes twice', () => {
  const report = sampleReport({
    requirements: [
      {
        requirement: 'a"b\\c\nd',
        metric: 'held',
        isDefault: false,
        passed: true,
        actual: 1,
        actualText: '1',
      },
    ],
    connections: { ...sampleReport().connections, failed: { timeout: 3, refused: 1 }, dropped: {} },
  });
  const text = prometheusText(report);
  const seen = new Set<string>();
  let metric = '';
  for (const line of text.trimEnd().split('\n')) {
    const head = /^# (HELP|TYPE) (\S+) /.exec(line);
    if (head !== null) {
      metric = head[2] ?? '';
      continue;
    }
    assert.match(line, SAMPLE);
    assert.equal(SAMPLE.exec(line)?.[1], metric);
    const key = line.slice(0, line.lastIndexOf(' '));
    assert.ok(!seen.has(key), key);
    seen.add(key);
  }
  assert.ok(text.includes('c100k_connections{state="held"} 130000\n'));
  assert.ok(text.includes('c100k_connections_failed{reason="timeout"} 3\n'));
  assert.ok(text.includes('c100k_requirement_passed{requirement="a\\"b\\\\c d"} 1\n'));
  assert.ok(!text.includes('probe_seconds'), 'what was not measured is left out');
});

// PROTOCOL.md: text-formats
test('whatever another process has said, each line is a comment or one sample with escaped labels', () => {
  const sample =
    /^[a-z_0-9]+(?:\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? -?[0-9.e+-]+$/;
  fc.assert(
    fc.property(hostileReport, (report) => {
      const text = prometheusText(report);
      assert.doesNotMatch(text, INVISIBLE);
      for (const line of text.trimEnd().split('\n')) {
        if (!line.startsWith('# ')) assert.match(line, sample);
      }
    }),
    { numRuns: 200 },
  );
});
