/** Tests metrics as Prometheus and OpenTelemetry take them: the same names, nothing counted twice, whatever texts they hold. */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { otlpJson, prometheusText, scrapeText } from '../../src/report/metrics-text.ts';
import { hostileReport, INVISIBLE } from '../support/hostile-text.ts';
import { decodeMetrics } from '../support/otlp-collector.ts';
import { sampleReport } from './sample-report.ts';

function namesIn(text: string): string[] {
  return [...text.matchAll(/^# TYPE (\w+) gauge$/gm)].map((match) => match[1] ?? '');
}

const twoAgents = () => {
  const [agent] = sampleReport().agents;
  assert.ok(agent !== undefined);
  const half = {
    ...agent,
    quota: 65_000,
    established: 65_000,
    open: 65_000,
    held: 65_000,
    failed: { refused: 2 },
  };
  return sampleReport({
    agents: [
      { ...half, name: 'a' },
      { ...half, name: 'b' },
    ],
  });
};

describe('the text of a scrape', () => {
  it('has the names of the textfile, each sample with run and target', () => {
    const text = scrapeText(twoAgents());
    assert.deepEqual(
      namesIn(text).filter((name) => name !== 'c100k_connections_failed'),
      namesIn(prometheusText(sampleReport())),
    );
    for (const line of text.split('\n').filter((one) => /^c100k/.test(one)))
      assert.match(line, /^c100k_\w+\{run="nightly",target="self"[,}]/);
  });

  it('gives what agents count by agent, so that a sum is the count', () => {
    const lines = [
      ...scrapeText(twoAgents()).matchAll(/^c100k_connections\{.*agent="(\w)",state="held"\} (\d+)$/gm),
    ];
    assert.deepEqual(
      lines.map(([, agent, value]) => [agent, value]),
      [
        ['a', '65000'],
        ['b', '65000'],
      ],
    );
    assert.doesNotMatch(scrapeText(twoAgents()), /target="self",state="held"/);
    assert.match(scrapeText(twoAgents()), /c100k_connections_failed\{.*agent="b",reason="refused"\} 2\n/);
  });

  it('says of a run that goes on no verdict', () => {
    const text = scrapeText(sampleReport({ isPartial: true }));
    assert.doesNotMatch(text, /run_passed|run_exit_code|run_end/);
    assert.match(text, /state="asked"\} 130000/);
  });

  it('of a run without a name has when it began', () => {
    assert.match(scrapeText(sampleReport({ about: null })), /run="2026-01-02T03:04:05\.000Z"/);
  });
});

test('whatever another process has said, each line is a comment or a sample', () => {
  fc.assert(
    fc.property(hostileReport, (report) => {
      for (const text of [scrapeText(report), prometheusText(report)]) {
        assert.doesNotMatch(text, INVISIBLE);
        for (const line of text.split('\n').filter((one) => one !== ''))
          assert.match(
            line,
            /^(?:# (?:HELP|TYPE) c100k_\w+ .*|c100k_\w+(?:\{(?:\w+="(?:[^"\\]|\\["\\n])*",?)+\})? [-\d.e+]+)$/,
          );
      }
    }),
    { numRuns: 40 },
  );
});

test('OTLP has the same gauges, with times in nanoseconds as text', () => {
  const body = JSON.parse(otlpJson(twoAgents(), 1_700_000_000_123)) as {
    resourceMetrics: {
      resource: { attributes: { key: string; value: { stringValue: string } }[] };
      scopeMetrics: {
        metrics: { name: string; gauge: { dataPoints: { timeUnixNano: string; asDouble: number }[] } }[];
      }[];
    }[];
  };
  const [resource] = body.resourceMetrics;
  const attributes = Object.fromEntries(
    resource?.resource.attributes.map(({ key, value }) => [key, value.stringValue]) ?? [],
  );
  assert.deepEqual(attributes, {
    'service.name': 'c100k-bench',
    'service.version': '0.1.0',
    run: 'nightly',
    target: 'self',
  });
  const metrics = resource?.scopeMetrics[0]?.metrics ?? [];
  assert.deepEqual(
    metrics.map(({ name }) => name),
    namesIn(scrapeText(twoAgents())),
  );
  for (const { gauge } of metrics)
    for (const point of gauge.dataPoints)
      assert.deepEqual([point.timeUnixNano, typeof point.asDouble], ['1700000000123000000', 'number']);
});

test('whatever another process has said, OTLP is what the types of its protocol read', () => {
  fc.assert(
    fc.property(hostileReport, (report) => {
      const { samples } = decodeMetrics(otlpJson(report, 1_700_000_000_123));
      assert.ok(samples.length > 10);
    }),
    { numRuns: 40 },
  );
});

test('a receiver refuses a name that the protocol does not have', () => {
  const body = otlpJson(sampleReport(), 1_700_000_000_123);
  for (const wrong of [body.replace('timeUnixNano', 'time_unix_nanos'), body.replace('asDouble', 'asFloat')])
    assert.throws(() => decodeMetrics(wrong));
});
