/** Tests plans and paths as text: the first line, the arithmetic, the commands to copy, the width. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseHop, planPath } from '../../src/path/path-plan.ts';
import { judgePath } from '../../src/path/path-verdict.ts';
import { planJson } from '../../src/report/formats.ts';
import {
  PATH_SCHEMA_VERSION,
  type PathReport,
  PLAN_SCHEMA_VERSION,
  type Plan,
  renderPath,
  renderPlan,
  seenLines,
} from '../../src/report/plan-text.ts';
import type { SeenCounts } from '../../src/stats/observed-sources.ts';
import { NOTHING_OBSERVED } from '../support/nothing-observed.ts';

function samplePlan(change: Partial<Plan> = {}): Plan {
  return {
    schemaVersion: PLAN_SCHEMA_VERSION,
    toolVersion: '0.1.0',
    wouldStart: true,
    exitCode: 0,
    connections: 130_000,
    target: ['127.0.0.1:8000'],
    protocol: 'tcp',
    endpoints: ['127.0.0.1:8000'],
    sources: ['127.0.0.2', '127.0.0.3', '127.0.0.4'],
    ports: 64_512,
    tuples: 193_536,
    capacity: 193_536,
    boundBy: 'tuples',
    engine: { name: 'epoll', why: 'as --engine says' },
    holders: 7,
    path: null,
    findings: [
      {
        what: 'descriptors',
        severity: 'ok',
        needed: 18_600,
        available: 20_000,
        unit: 'descriptors',
        message: 'needs 18,600 descriptors per process, has 20,000',
        fix: null,
      },
    ],
    notes: [],
    ...change,
  };
}

describe('the plan as text', () => {
  it('says first that the run would start', () => {
    const text = renderPlan(samplePlan());
    assert.equal(text.split('\n')[0], 'READY to open 130,000 connections from this host');
    assert.match(text, /193,536 = 3 source addresses x 64,512 ports x 1 endpoint$/m);
    assert.match(text, /✓ needs 18,600 descriptors/);
  });

  it('does the arithmetic of each family by itself', () => {
    const text = renderPlan(
      samplePlan({
        endpoints: ['10.0.0.1:80', '[fd00::1]:80'],
        sources: ['10.0.0.2', 'fd00::2'],
        ports: 36_278,
        tuples: 72_556,
      }),
    ).replaceAll(/\s+/g, ' ');
    assert.ok(
      text.includes(
        '72,556 = 1 IPv4 source address x 36,278 ports x 1 IPv4 endpoint + 1 IPv6 source address x 36,278 ports x 1 IPv6 endpoint',
      ),
      text,
    );
  });

  it('says first that the run would be refused, and shows the command that fixes it in one line', () => {
    const fix = `--source-ip ${'FREE_1 --source-ip '.repeat(5)}FREE_6 --alias-dev eth0`;
    const text = renderPlan(
      samplePlan({
        wouldStart: false,
        exitCode: 3,
        sources: ['192.168.0.7'],
        findings: [
          {
            what: 'tuples',
            severity: 'refuse',
            needed: 130_000,
            available: 64_512,
            unit: 'tuples',
            message: 'needs 130,000 tuples, has 64,512',
            fix,
          },
        ],
      }),
    );
    assert.equal(text.split('\n')[0], 'REFUSED cannot open 130,000 connections from this host');
    assert.match(text, /✗ needs 130,000 tuples, has 64,512/);
    assert.ok(text.includes(fix));
  });

  it('names the first and the last of many addresses', () => {
    const sources = Array.from({ length: 20 }, (_, index) => `10.0.0.${index + 1}`);
    assert.match(renderPlan(samplePlan({ sources })), /20: 10\.0\.0\.1 \.\.\. 10\.0\.0\.20/);
  });
});

describe('the plan as JSON', () => {
  it('keeps every field', () => {
    assert.deepEqual(JSON.parse(planJson(samplePlan())), samplePlan());
  });
});

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

  it('gives the advice that helps for what ended idle connections, and says where there is no path', () => {
    const idle = { aliveMs: 4_000, forgottenMs: 5_000 };
    const text = (ended: 'fin' | 'silence', endpoint: string): string =>
      renderPath(sample({ verdict: null, seen: null, endpoints: [endpoint], idle: { ...idle, ended } }));
    const closed = text('fin', '[::1]:80');
    assert.match(closed, /^the target or a proxy closes idle connections after 4s to 5s\n/);
    assert.match(closed, /raise the\s+timeout of the target or its proxy/);
    assert.match(closed, /loopback/);
    const silent = text('silence', '192.0.2.1:80');
    assert.match(silent, /^the path forgets idle connections/);
    assert.match(silent, /TCP\s+keepalive/);
    assert.doesNotMatch(silent, /loopback/);
  });

  it('says what an idle search found and how often to send', () => {
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

describe('a planned path in the text of a plan', () => {
  it('says which hop binds, and prints lines to copy as they are', () => {
    const plan = planPath({
      connections: 130_000,
      endpoints: 1,
      hops: [parseHop('dnat'), parseHop('haproxy:1x1')],
      ports: null,
      firstAddress: '192.168.0.102/24',
      server: '192.168.0.101:8000',
    });
    const text = renderPlan(samplePlan({ path: plan }));
    assert.match(text, /28,232 of 130,000 connections: haproxy:1x1 binds/);
    assert.match(text, /^ {6}ip addr add FREE_2\/24 dev DEVICE$/m);
    assert.match(text, /^ {6}server s1 192\.168\.0\.101:8000 source 192\.168\.0\.102:1024-65535$/m);
  });
});
