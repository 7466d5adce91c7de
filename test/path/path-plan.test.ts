/** Tests hops, their ceilings, and what is advised: following it must be enough. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BenchError } from '../../src/base/errors.ts';
import { parseHop, planPath } from '../../src/path/path-plan.ts';

type PathPlanRequest = Parameters<typeof planPath>[0];
type Hop = ReturnType<typeof parseHop>;

function request(hops: readonly string[], change: Partial<PathPlanRequest> = {}): PathPlanRequest {
  return {
    connections: 130_000,
    endpoints: 1,
    hops: hops.map(parseHop),
    ports: null,
    firstAddress: '192.168.0.102/24',
    server: '192.168.0.101:8000',
    ...change,
  };
}

const number = fc.integer({ min: 1, max: 99 });
const hop: fc.Arbitrary<Hop> = fc.oneof(
  fc.constantFrom<Hop>({ kind: 'direct' }, { kind: 'dnat' }),
  fc
    .tuple(fc.constantFrom('masquerade' as const, 'snat' as const), number)
    .map(([kind, addresses]): Hop => ({ kind, addresses })),
  fc.tuple(number, number).map(([sources, endpoints]): Hop => ({ kind: 'haproxy', sources, endpoints })),
);

/** A hop as a plan names it. */
function written(one: Hop): string {
  return planPath({ ...request([]), hops: [one] }).hops[0]?.hop ?? '';
}

describe('a hop of --via', () => {
  it('is read back as it is written', () => {
    fc.assert(fc.property(hop, (one) => assert.deepEqual(parseHop(written(one)), one)));
  });

  it('may leave a number out that is 1', () => {
    assert.deepEqual(parseHop('masquerade'), { kind: 'masquerade', addresses: 1 });
    assert.deepEqual(parseHop('haproxy:3'), { kind: 'haproxy', sources: 3, endpoints: 1 });
  });

  it('is refused when it cannot be, with the ones that can', () => {
    for (const text of [
      '',
      'nat',
      'snat:0',
      'snat:x',
      'snat:-1',
      'haproxy:1x0',
      'haproxy:1x1x1',
      'dnat:1',
      'snat:1:2',
    ]) {
      assert.throws(
        () => parseHop(text),
        (error) =>
          error instanceof BenchError && error.exitCode === 2 && /haproxy:<sources>/.test(error.hint ?? ''),
        text,
      );
    }
  });
});

/** Every network of the lab: hops, endpoints, asked, ports of the hop, what passes. */
const NETWORKS: readonly [string, readonly string[], number, number, [number, number] | null, number][] = [
  ['S1', ['direct'], 1, 100_000, null, 100_000],
  ['S2', ['dnat'], 1, 130_000, null, 130_000],
  ['S3', ['masquerade:1'], 1, 70_000, null, 64_512],
  ['S4', ['snat:3'], 1, 130_000, null, 130_000],
  ['S5', ['masquerade:1'], 3, 130_000, null, 130_000],
  ['S6', ['masquerade:1'], 3, 130_000, null, 130_000],
  ['S7, default range', ['dnat', 'haproxy:1x1'], 1, 70_000, null, 28_232],
  ['S7, all ports', ['dnat', 'haproxy:1x1'], 1, 70_000, [1_024, 65_535], 64_512],
  ['S8', ['dnat', 'haproxy:3x1'], 1, 130_000, [1_024, 65_535], 130_000],
  ['S9', ['direct'], 1, 130_000, null, 130_000],
  ['S10', ['masquerade:1'], 1, 20_000, [49_152, 65_535], 16_384],
  ['S11', ['masquerade:1'], 2, 100_000, null, 100_000],
];

describe('the plan of a path', () => {
  for (const [name, hops, endpoints, connections, range, passes] of NETWORKS) {
    it(`predicts ${passes} of ${connections} for ${name}`, () => {
      const ports = range === null ? null : [{ from: range[0], to: range[1] }];
      const plan = planPath(request(hops, { endpoints, connections, ports }));
      assert.equal(plan.predicted, passes);
      assert.equal(plan.suffices, passes === connections);
    });
  }

  it('names the lowest hop of several', () => {
    const plan = planPath(request(['snat:3', 'haproxy:1x1', 'masquerade:2']));
    assert.equal(plan.boundBy, 'haproxy:1x1');
    assert.equal(plan.ceiling, 28_232);
    assert.deepEqual(
      plan.hops.map((one) => one.ceiling),
      [193_536, 28_232, 129_024],
    );
  });

  it('never predicts more than was asked for or than any hop lets through', () => {
    fc.assert(
      fc.property(
        fc.array(hop, { maxLength: 5 }),
        fc.integer({ min: 1, max: 9_000_000 }),
        (hops, connections) => {
          const plan = planPath({ ...request([]), hops, connections });
          const least = Math.min(connections, ...plan.hops.map((one) => one.ceiling ?? Infinity));
          assert.equal(plan.predicted, least);
          assert.equal(plan.suffices, least === connections);
        },
      ),
    );
  });

  it('tells a NAT how many addresses, ports or records it needs, with a rule to copy', () => {
    const plan = planPath(request(['masquerade:1'], { firstAddress: '10.0.0.1/24' }));
    const text = plan.changes.flatMap(({ what, lines }) => [what, ...lines]).join('\n');
    assert.match(text, /without masquerading/);
    assert.match(text, /3 SNAT addresses/);
    assert.match(text, /3 endpoints/);
    assert.match(text, /3 DNS records/);
    assert.match(text, /ip addr add FREE_2\/24 dev DEVICE\nip addr add FREE_3\/24 dev DEVICE/);
    assert.match(text, /snat to numgen inc mod 3 map \{ 0 : 10\.0\.0\.1, 1 : FREE_2, 2 : FREE_3 \}/);
  });

  it('tells HAProxy its addresses and source lines, and following them is enough', () => {
    const plan = planPath(request(['haproxy:1x1']));
    const lines = plan.changes.flatMap((change) => change.lines);
    assert.ok(lines.includes('ip addr add FREE_2/24 dev DEVICE'));
    assert.ok(lines.includes('server s3 192.168.0.101:8000 source FREE_3:1024-65535'));
    const followed = planPath(request(['haproxy:3x1'], { ports: [{ from: 1_024, to: 65_535 }] }));
    assert.ok(followed.suffices);
  });

  it('has a command for every address but the one that is there, with the prefix length of that', () => {
    const commands = (firstAddress: string): string[] =>
      planPath(request(['haproxy:1x1'], { firstAddress }))
        .changes.flatMap(({ lines }) => lines)
        .filter((line) => line.startsWith('ip '));
    assert.deepEqual(commands('192.168.0.255/16'), [
      'ip addr add FREE_2/16 dev DEVICE',
      'ip addr add FREE_3/16 dev DEVICE',
    ]);
    assert.deepEqual(commands('192.168.0.255'), [
      'ip addr add FREE_2/24 dev DEVICE',
      'ip addr add FREE_3/24 dev DEVICE',
    ]);
  });

  it('advises no descriptor limit for HAProxy above the highest one of a kernel', () => {
    const plan = planPath(request(['haproxy:1x1'], { connections: 1_000_000 }));
    const text = plan.changes.map(({ what }) => what).join('\n');
    assert.match(text, /ulimit -n 1000200 for each of 2 processes/);
  });

  it('changes nothing where nothing is missing', () => {
    assert.deepEqual(planPath(request(['dnat', 'snat:3'])).changes, []);
  });
});
