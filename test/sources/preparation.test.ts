/** Tests what an agent offers before anything is opened, and how a quota becomes the slices of its holders. */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { hostAlias } from '../../src/run/alias.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { holderSpecs, planSources, prepareHost } from '../../src/sources/preparation.ts';
import { FACTS, SPEC } from '../plan/plan-fixture.ts';

type FoundSources = Parameters<typeof planSources>[2];

const FOUND: FoundSources = {
  facts: FACTS,
  settings: { neighboursMax: null, rpFilter: {}, promoteSecondaries: {} },
  leavesBy: new Map(),
  canChangeAddresses: true,
  portsEach: 36_280,
  present: ['127.0.0.2', '127.0.0.3'],
  candidates: [hostAlias('192.168.0.201', 'eth0'), hostAlias('192.168.0.202', 'eth0')],
  prefixes: [],
  forbidden: null,
  notes: ['a note of the search'],
};

describe('a plan with the sources of this host', () => {
  it('takes what is there, and nothing is added for it', () => {
    const { choice, plan, blocked, notes } = planSources(SPEC, 60_000, FOUND);
    assert.deepEqual([choice.addresses, choice.aliases], [['127.0.0.2', '127.0.0.3'], []]);
    assert.deepEqual(plan.addresses, choice.addresses);
    assert.deepEqual(blocked, []);
    assert.deepEqual(notes, ['a note of the search']);
  });

  it('takes as many candidates as are missing, and says among the findings that they are added', () => {
    const { choice, plan, blocked } = planSources(SPEC, 100_000, FOUND);
    assert.deepEqual(choice.addresses, ['127.0.0.2', '127.0.0.3', '192.168.0.201']);
    const aliases = plan.findings.find(({ what }) => what === 'aliases');
    assert.deepEqual([aliases?.severity, aliases?.needed], ['ok', 1]);
    assert.deepEqual(blocked, []);
  });

  it('is blocked where the process may not add them, whatever the capacity', () => {
    const { blocked, plan } = planSources(SPEC, 100_000, { ...FOUND, canChangeAddresses: false });
    assert.deepEqual(
      blocked.map(({ what, severity }) => [what, severity]),
      [['aliases', 'refuse']],
    );
    assert(plan.capacityMax >= 100_000);
    assert(plan.findings.includes(blocked[0] ?? assert.fail('nothing is blocked')));
  });

  it('leaves out what was found not to work', () => {
    const excluded = new Set(['127.0.0.2', '192.168.0.201']);
    const { choice } = planSources(SPEC, 60_000, FOUND, excluded);
    assert.deepEqual(choice.addresses, ['127.0.0.3', '192.168.0.202']);
  });
});

test('this host, asked for a target on loopback, offers a plan; a source that it does not have is a finding', async () => {
  const prepared = await prepareHost(SPEC, 10);
  assert('plan' in prepared, JSON.stringify(prepared));
  assert(prepared.choice.addresses.length > 0);
  assert.equal(prepared.found.facts.platform, process.platform);
  // 192.0.2.0/24 is for documentation (RFC 5737): no host has an address of it.
  const sources = { ...SPEC.sources, addresses: ['192.0.2.9'] };
  const endpoints = [{ address: '127.0.0.1', port: 8_000, family: 4 as const }];
  const refused = await prepareHost({ ...SPEC, endpoints, sources }, 10);
  assert(!('plan' in refused));
  assert.deepEqual(
    refused.map(({ what, severity }) => [what, severity]),
    [['not-our-address', 'refuse']],
  );
  assert.match(refused[0]?.message ?? '', /192\.0\.2\.9/);
});

describe('the holders of a quota', () => {
  const { plan } = planSources(SPEC, 60_000, FOUND);
  const sum = (specs: readonly HolderSpec[], of: (spec: HolderSpec) => number): number =>
    specs.reduce((total, spec) => total + of(spec), 0);

  it('have disjoint slices with room for their connections, and together the whole quota', () => {
    const share = fc.record({
      connections: fc.integer({ min: 1, max: 60_000 }),
      ratePerSec: fc.option(fc.integer({ min: 1, max: 50_000 })),
      pendingMax: fc.integer({ min: 1, max: 5_000 }),
    });
    fc.assert(
      fc.property(share, fc.nat({ max: 12_000 }), (one, keepFree) => {
        const specs = holderSpecs('local', SPEC, plan, one, keepFree);
        assert.equal(
          sum(specs, ({ connections }) => connections),
          one.connections,
        );
        if (one.ratePerSec === null) assert(specs.every(({ ratePerSec }) => ratePerSec === null));
        else {
          const rate = sum(specs, ({ ratePerSec }) => ratePerSec ?? assert.fail('no rate'));
          assert(Math.abs(rate - one.ratePerSec) < 1e-6, `${rate} of ${one.ratePerSec}`);
        }
        let from = 0;
        for (const spec of specs) {
          assert(spec.sliceFrom >= from && spec.sliceTo - spec.sliceFrom >= spec.connections);
          from = spec.sliceTo;
        }
        assert(plan.tuples - from >= Math.min(keepFree, plan.tuples - one.connections), 'what is kept free');
      }),
    );
  });

  it('of a quota that has grown come behind those that are there, in tuples and in numbers', () => {
    const share = { connections: 100, ratePerSec: null, pendingMax: 10 };
    const [first] = holderSpecs('a', SPEC, plan, share, 1_000);
    const [next] = holderSpecs('a', SPEC, plan, share, 0, {
      tuplesFrom: first?.sliceTo ?? 0,
      indexFrom: 1,
      connectionsFrom: 100,
    });
    assert.deepEqual([first?.id, next?.id], ['a/1', 'a/2']);
    assert(first !== undefined && next !== undefined && next.sliceFrom >= first.sliceTo);
    assert(next.sliceTo <= plan.tuples);
  });

  it('number the clients of PROXY headers one after the other, over all holders', () => {
    const spec = { ...SPEC, proxyHeader: { version: 'v1', clients: '10.0.0.0/8' } } as const;
    const share = { connections: 100, ratePerSec: null, pendingMax: 10 };
    const grown = { tuplesFrom: 0, indexFrom: 3, connectionsFrom: 40 };
    for (const [from, placement] of [[0, undefined] as const, [40, grown] as const]) {
      let next = from;
      for (const each of holderSpecs('a', spec, plan, share, 0, placement)) {
        assert.equal(each.connectionsFrom ?? 0, next);
        assert.deepEqual(each.proxyHeader, spec.proxyHeader);
        next += each.connections;
      }
    }
    assert.equal('proxyHeader' in (holderSpecs('a', SPEC, plan, share, 0)[0] ?? {}), false);
  });
});
