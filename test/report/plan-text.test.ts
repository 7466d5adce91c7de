import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planJson } from '../../src/report/json.ts';
import { PLAN_SCHEMA_VERSION, type Plan, renderPlan } from '../../src/report/plan-text.ts';

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
