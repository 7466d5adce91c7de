/**
 * Owns a report with as much of everything as one has, for what must stay small and quick with it.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunReport, TimelinePoint } from '../../src/judge/report.ts';
import { repositoryRoot } from '../support/run-cli.ts';
import { sampleReport } from './sample-report.ts';

/** Points of a run of 130,000 connections, four a second; at point 5,003 only seven are open. */
export function manyPoints(count: number): TimelinePoint[] {
  const [point] = sampleReport().timeline;
  assert.ok(point !== undefined);
  return Array.from({ length: count }, (_, at) => ({
    ...point,
    atSec: at / 4,
    phase: at < count / 10 ? 'ramping' : 'holding',
    open: at === 5_003 ? 7 : 123_456 + (at % 97),
    seenByTarget: 123_000 + at,
  }));
}

/** As much of everything as a report has: 10,000 points, 10,000 counts of losses, 1,000 agents. */
export function largeReport(): RunReport {
  const losses = Array.from({ length: 10_000 }, (_, at) => ({
    reason: 'rst' as const,
    source: `10.${at % 7}.${at % 251}.${at % 13}`,
    endpoint: `192.168.100.${at % 250}:${8_000 + (at % 900)}`,
    count: 1 + (at % 5),
  }));
  const rows = Array.from({ length: 64 }, (_, place) => ({
    place: `[2001:db8:1234:5678:9abc:def0:1234:${place.toString(16).padStart(4, '0')}]:8000`,
    reason: 'rst',
    at: Array.from({ length: 60 }, (__, bucket) => [bucket * 2, 1 + bucket]).flat(),
  }));
  const columns = Array.from({ length: 120 }, (_, column) =>
    Array.from({ length: 30 }, (__, step) => [step, 1 + ((column * step) % 1_000)]).flat(),
  );
  // Histograms as a run of 130,000 has them.
  const recorded = JSON.parse(
    readFileSync(join(repositoryRoot, 'test', 'report', 'frames', 'readme.json'), 'utf8'),
  ) as RunReport;
  const sample = sampleReport();
  const [agent] = sample.agents;
  assert.ok(agent !== undefined);
  return sampleReport({
    verdict: 'fail',
    connectMs: recorded.connectMs,
    connectFromIntendedMs: recorded.connectFromIntendedMs,
    echoMs: recorded.echoMs,
    timeline: manyPoints(10_000),
    losses: { ...sample.losses, counts: losses },
    connections: { ...sample.connections, dropped: { rst: 30_000 } },
    overTime: {
      losses: { bucketMs: 500, sources: rows, endpoints: rows },
      connect: { bucketMs: 500, columns },
      probe: { bucketMs: 500, columns },
    },
    agents: Array.from({ length: 1_000 }, (_, at) => ({
      ...agent,
      name: `agent-${at}-of-a-host-with-a-long-name`,
    })),
    notes: Array.from(
      { length: 1_000 },
      (_, at) => `number ${at}: ${'a note as long as a peer likes '.repeat(at === 3 ? 50_000 : 4)}`,
    ),
  });
}
