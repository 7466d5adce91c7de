import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseHop, planPath } from '../../src/path/path-plan.ts';
import { judgePath } from '../../src/path/path-verdict.ts';
import {
  PATH_SCHEMA_VERSION,
  type PathReport,
  pathPlanLines,
  renderPath,
  seenLines,
} from '../../src/report/path-text.ts';
import type { SeenCounts } from '../../src/stats/observed-sources.ts';
import { NOTHING_OBSERVED } from '../support/nothing-observed.ts';

const SEEN: SeenCounts = {
  ...NOTHING_OBSERVED,
  sourceChanged: 300,
  portKept: 300,
  portMin: 1_024,
  portMax: 1_323,
  bySource: { '1.2.3.11>192.168.0.1': 300 },
  byEndpoint: { '1.2.3.4:8000>192.168.0.1': 300 },
};

function sample(change: Partial<PathReport>): PathReport {
  return {
    schemaVersion: PATH_SCHEMA_VERSION,
    toolVersion: '0.1.0',
    exitCode: 0,
    target: ['1.2.3.4:8000'],
    endpoints: ['1.2.3.4:8000'],
    samples: 300,
    established: 300,
    verdict: judgePath({ seen: SEEN, ports: null }),
    seen: SEEN,
    idle: null,
    ...change,
  };
}

describe('a path as text', () => {
  it('begins with the sentence, and says what would lift the ceiling', () => {
    const text = renderPath(sample({}));
    assert.match(text, /^everything arrives from 192\.168\.0\.1: 64,512 connections at most\n/);
    assert.match(text, /seen {9}1\.2\.3\.11 {2}as 192\.168\.0\.1 300/);
    assert.match(text, /what would lift it\n {2}- /);
  });

  it('keeps to 80 columns', () => {
    const long = sample({ target: Array.from({ length: 20 }, (_, n) => `1.2.3.4:${8000 + n}`) });
    for (const line of renderPath(long).split('\n')) assert.ok(line.length <= 80, line);
  });

  it('says what an idle search found and how often to speak', () => {
    const text = renderPath(
      sample({ verdict: null, seen: null, idle: { aliveMs: 19_900, forgottenMs: 20_800 } }),
    );
    assert.match(text, /^the path forgets idle connections after 19\.9s to 20\.8s\n/);
    assert.match(text, /--probe-every 9s/);
  });

  it('lists eight sources and counts the others', () => {
    const bySource = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`10.0.0.${n}>10.0.0.${n}`, 5]));
    const lines = seenLines({ ...SEEN, bySource });
    assert.equal(lines.length, 10);
    assert.match(lines[8] ?? '', /and 12 further sources/);
  });
});

describe('a planned path as lines', () => {
  it('says which hop binds, and prints lines to copy as they are', () => {
    const plan = planPath({
      connections: 130_000,
      endpoints: 1,
      hops: [parseHop('dnat'), parseHop('haproxy:1x1')],
      ports: null,
      firstAddress: '192.168.0.102/24',
      server: '192.168.0.101:8000',
    });
    const text = pathPlanLines(plan, 130_000).join('\n');
    assert.match(text, /28,232 of 130,000 connections: haproxy:1x1 binds/);
    assert.match(text, /^ {6}ip addr add FREE_2\/24 dev DEVICE$/m);
    assert.match(text, /^ {6}server s1 192\.168\.0\.101:8000 source 192\.168\.0\.102:1024-65535$/m);
  });
});
