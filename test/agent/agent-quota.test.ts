/** Tests which quotas a coordinator may give, and what each holder gets of one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentQuota } from '../../src/agent/agent-quota.ts';
import { OWNER_ALLOWANCE } from '../../src/plan/allowance.ts';
import { planHost } from '../../src/plan/host-plan.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { FACTS, LOOPBACK_4, SPEC } from '../plan/plan-fixture.ts';

const PLAN = planHost({ spec: SPEC, wanted: SPEC.connections, facts: FACTS, addresses: LOOPBACK_4 });

function quotasOf(
  options: { mayGrow?: boolean; ratePerSecMax?: number; connectionsMax?: number } = {},
): AgentQuota {
  const { mayGrow = true, ...limits } = options;
  return new AgentQuota({ agent: 'ada', spec: SPEC, allowance: { ...OWNER_ALLOWANCE, ...limits }, mayGrow });
}

const quotaOf = (connections: number, ratePerSec: number | null = null, pendingMax = 100) =>
  ({ type: 'quota', connections, ratePerSec, pendingMax }) as const;

const sum = (specs: readonly HolderSpec[], of: (spec: HolderSpec) => number): number =>
  specs.reduce((total, spec) => total + of(spec), 0);

/** Slices in order, none of which begins before the one before it has ended. */
function assertDisjoint(specs: readonly HolderSpec[]): void {
  let end = 0;
  for (const { sliceFrom, sliceTo, connections } of specs) {
    assert(
      sliceFrom >= end && sliceTo - sliceFrom >= connections,
      JSON.stringify({ sliceFrom, sliceTo, end }),
    );
    end = sliceTo;
  }
  assert(end <= PLAN.tuples);
}

test('a quota and what it grows by: quotas sum to the whole, no two holders share a tuple or a name', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 65_000 }), fc.integer({ min: 1, max: 65_000 }), (before, extra) => {
      const quotas = quotasOf();
      const first = quotas.first(PLAN, quotaOf(before));
      assert.equal(
        sum(first, (spec) => spec.connections),
        before,
      );
      const taken = { tuplesEnd: Math.max(0, ...first.map((spec) => spec.sliceTo)), size: first.length };
      const { specs } = quotas.growth(PLAN, before, quotaOf(before + extra), taken);
      assert.equal(
        sum(specs, (spec) => spec.connections),
        extra,
      );
      assertDisjoint([...first, ...specs]);
      const ids = [...first, ...specs].map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length);
    }),
    { numRuns: 100 },
  );
});

test('a rate is that of the quota, or less where the owner says so; what grows takes its part of it', () => {
  const rateOf = (specs: readonly HolderSpec[]): number =>
    sum(specs, (spec) => spec.ratePerSec ?? Number.NaN);
  assert.equal(rateOf(quotasOf().first(PLAN, quotaOf(1_000, 500))), 500);
  const limited = quotasOf({ ratePerSecMax: 200 });
  assert.equal(rateOf(limited.first(PLAN, quotaOf(1_000, 500))), 200);
  assert.equal(rateOf(limited.first(PLAN, quotaOf(1_000))), 200);
  const { specs, keptRatePerSec } = limited.growth(PLAN, 750, quotaOf(1_000, 500), {
    tuplesEnd: 750,
    size: 1,
  });
  assert.equal(rateOf(specs), 50);
  assert.equal(keptRatePerSec, 150);
  assert.equal(
    quotasOf().growth(PLAN, 750, quotaOf(1_000), { tuplesEnd: 750, size: 1 }).keptRatePerSec,
    null,
  );
});

test('what grows takes its part of the connects in flight, and at least one', () => {
  const taken = { tuplesEnd: 999, size: 1 };
  const pendingOf = (before: number): number =>
    sum(quotasOf().growth(PLAN, before, quotaOf(1_000, null, 100), taken).specs, (spec) => spec.pendingMax);
  assert.equal(pendingOf(750), 25);
  assert.equal(pendingOf(999), 1);
});

test('a quota that may grow is planned for all that it can reach, another for itself', () => {
  assert.equal(quotasOf({ mayGrow: false }).plannedFor(100, 50_000), 100);
  assert.equal(quotasOf().plannedFor(100, 50_000), 50_000);
  assert.equal(quotasOf().plannedFor(100, 500_000), SPEC.connections);
  assert.equal(quotasOf({ connectionsMax: 700 }).plannedFor(100, 50_000), 700);
});

test('a quota is judged by what was offered, by the owner, and by what it was before', () => {
  const whatOf = (
    quotas: AgentQuota,
    connections: number,
    current: [number, number] | null,
  ): string | undefined =>
    quotas.problem(
      quotaOf(connections),
      1_000,
      current === null ? null : { connections: current[0], growths: current[1] },
    )?.what;
  assert.equal(whatOf(quotasOf(), 1_000, null), undefined);
  assert.equal(whatOf(quotasOf(), 1_001, null), 'quota');
  assert.equal(whatOf(quotasOf({ connectionsMax: 10 }), 11, null), 'max-conns');
  assert.equal(whatOf(quotasOf(), 500, [400, 0]), undefined);
  assert.equal(whatOf(quotasOf(), 500, [400, 64]), 'quota');
  assert.equal(whatOf(quotasOf({ mayGrow: false }), 500, [400, 0]), 'quota');
});

/** What one quota is judged by. */
const TERMS = {
  connectionsMax: Number.POSITIVE_INFINITY,
  offered: 60,
  wholeRun: 100,
  pendingMax: 50,
  mayGrow: false,
  current: null as number | null,
  growths: 0,
};
const said = (connections: number, change: Partial<typeof TERMS> = {}, pendingMax = 50): string | null => {
  const terms = { ...TERMS, ...change };
  const { offered, mayGrow, growths } = terms;
  const quotas = new AgentQuota({
    agent: 'ada',
    spec: { ...SPEC, connections: terms.wholeRun, pendingMax: terms.pendingMax },
    allowance: { ...OWNER_ALLOWANCE, connectionsMax: terms.connectionsMax },
    mayGrow,
  });
  const current = terms.current === null ? null : { connections: terms.current, growths };
  const finding = quotas.problem(quotaOf(connections, null, pendingMax), offered, current);
  return finding === null ? null : `${finding.what}: ${finding.message}`;
};

test('a quota within the offer and the run is taken', () => {
  assert.equal(said(60), null);
  assert.equal(said(0), null);
  assert.equal(said(60, { current: 5, mayGrow: true, growths: 63 }), null);
});

test('one beyond the owner’s limit, the offer, the run or its connects in flight is refused with the figures', () => {
  assert.match(
    said(8, { connectionsMax: 7 }) ?? '',
    /^max-conns: a quota of 8 connections, this agent allows 7$/,
  );
  assert.match(said(61) ?? '', /^quota: a quota of 61 connections was asked for, this agent offered 60$/);
  assert.match(said(31, { wholeRun: 30 }) ?? '', /^quota: .* the whole run has 30$/);
  assert.match(
    said(5, {}, 51) ?? '',
    /^pending: 51 connects in flight were asked for, the whole run has 50$/,
  );
});

// PROTOCOL.md: growth-times
test('one that grows is refused where the run hands no quotas on, and when it grows without end', () => {
  assert.match(
    said(8, { current: 5 }) ?? '',
    /^quota: the quota grew from 5 to 8 connections, and this run was not/,
  );
  assert.match(said(8, { current: 5, mayGrow: true, growths: 64 }) ?? '', /^quota: .*, for the 65th time$/);
  assert.match(said(61, { current: 5, mayGrow: true }) ?? '', /this agent offered 60$/);
});
