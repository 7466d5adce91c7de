/** Tests how many tuples a load that changes needs: what our FIN has closed rests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planHost } from '../../src/plan/host-plan.ts';
import { tuplesPerConnection } from '../../src/plan/resting.ts';
import type { Stage } from '../../src/run/schedule.ts';
import { FACTS, SPEC_FAR } from './plan-fixture.ts';

type Resting = Parameters<typeof tuplesPerConnection>[0];
const tuplesNeeded = (spec: Resting): number => Math.round(tuplesPerConnection(spec) * spec.connections);

const stages = (...list: readonly (readonly [number, number])[]): Stage[] =>
  list.map(([seconds, connections]) => ({ durationMs: seconds * 1_000, connections }));

test('a reset leaves nothing at rest', () => {
  const churn = { kind: 'rate', perSec: 5_000 } as const;
  assert.equal(tuplesNeeded({ connections: 100_000, close: 'rst', churn }), 100_000);
});

test('by rate: one for each that is closed while another rests', () => {
  const churn = { kind: 'rate', perSec: 100 } as const;
  assert.equal(tuplesNeeded({ connections: 1_000, close: 'fin', churn }), 1_000 + 100 * 67);
});

test('by lives: what is closed on average, and room for chance', () => {
  const needed = tuplesNeeded({ connections: 10_000, close: 'fin', churn: { kind: 'exp', ms: 67_000 } });
  assert(needed >= 20_000 + 300 && needed <= 20_000 + 1_000, String(needed));
});

test('by stages: what is closed on the way down rests while others are opened', () => {
  const of = (list: Stage[]): number => tuplesNeeded({ connections: 50_000, close: 'fin', stages: list });
  assert.equal(of(stages([10, 50_000], [10, 20_000])), 50_000);
  assert.equal(of(stages([10, 50_000], [10, 20_000], [10, 50_000])), 80_000);
  // So long later nothing of it rests.
  assert.equal(of(stages([10, 50_000], [10, 20_000], [67, 20_000], [10, 50_000])), 50_000);
  assert.equal(
    of(stages([10, 50_000], [10, 20_000], [62, 20_000], [10, 50_000])),
    50_000 + 15_000 - 15_000 + 0,
  );
});

test('a plan refuses what cannot last, with the rate that can', () => {
  const spec = {
    ...SPEC_FAR,
    connections: 10_000,
    close: 'fin',
    churn: { kind: 'rate', perSec: 5_000 },
  } as const;
  const planned = (perSec: number): ReturnType<typeof planHost> =>
    planHost({
      spec: { ...spec, churn: { kind: 'rate', perSec } },
      wanted: spec.connections,
      facts: FACTS,
      addresses: ['192.168.0.101'],
    });
  const refused = planned(5_000);
  const finding = refused.findings.find(({ what }) => what === 'tuples');
  assert.equal(finding?.severity, 'refuse');
  assert(refused.capacityMax < spec.connections);
  assert.match(
    finding?.message ?? '',
    /needs 345,000 tuples \(10,000 open, 335,000 at rest for 67s after our FIN\)/,
  );
  const [, rate = ''] = /--close rst.*--churn (\d+)\/s/.exec(finding?.fix ?? '') ?? [];
  assert.equal(planned(Number(rate)).findings.find(({ what }) => what === 'tuples')?.severity, 'ok', rate);
  assert.equal(planned(Number(rate) + 2).findings.find(({ what }) => what === 'tuples')?.severity, 'refuse');
});
