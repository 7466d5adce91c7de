import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type PortRange, portCount, TupleMap } from '../../src/base/tuple-space.ts';
import type { HostFacts } from '../../src/host/host-facts.ts';
import { choosePorts, planBasis, slackOf } from '../../src/plan/capacity.ts';
import {
  bufferPagesSure,
  descriptorsBound,
  HOLDERS_MAX,
  holdersFor,
  largestThatFits,
  memoryBytes,
  systemFiles,
} from '../../src/plan/cost.ts';
import { type HostPlan, planHost } from '../../src/plan/host-plan.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';
import { FACTS, LOOPBACK_4, SPEC, SPEC_FAR } from './plan-fixture.ts';

type PortRequest = Parameters<typeof choosePorts>[0];

const PORT_FACTS: PortRequest['facts'] = {
  localPortRange: { from: 32_768, to: 60_999 },
  reservedPorts: [],
  listenPortsAny: [],
  unprivilegedPortStart: null,
  canBindPrivileged: false,
};
const DEFAULT_PORTS: PortRequest = { explicit: null, facts: PORT_FACTS, tuplesPerPort: 1, wanted: 1 };

test('ports outside the ephemeral range come first, and the inside only when the quota with its slack needs it', () => {
  const outside = [
    { from: 1_024, to: 32_767 },
    { from: 61_000, to: 65_535 },
  ];
  // 35,505 x 1.02 + 64 = 36,280, all that is outside; one more connection passes it.
  assert.equal(slackOf(35_505), 36_280);
  const below = choosePorts({ ...DEFAULT_PORTS, wanted: 35_505 });
  assert.deepEqual(below, { ports: outside, portCount: 36_280, usesEphemeral: false });
  const above = choosePorts({ ...DEFAULT_PORTS, wanted: 35_506 });
  assert.deepEqual(above, {
    ports: [...outside, { from: 32_768, to: 60_999 }],
    portCount: 64_512,
    usesEphemeral: true,
  });
});

test('reserved ports, ports with a listener and ports that need privileges are left out', () => {
  const rows: [Partial<PortRequest['facts']>, PortRange[]][] = [
    [
      { reservedPorts: [{ from: 2_000, to: 32_767 }] },
      [
        { from: 1_024, to: 1_999 },
        { from: 61_000, to: 65_535 },
      ],
    ],
    [
      { listenPortsAny: [1_024, 65_535] },
      [
        { from: 1_025, to: 32_767 },
        { from: 61_000, to: 65_534 },
      ],
    ],
    [
      { unprivilegedPortStart: 30_000 },
      [
        { from: 30_000, to: 32_767 },
        { from: 61_000, to: 65_535 },
      ],
    ],
    // Privileged ports are never chosen unasked, even by root.
    [
      { canBindPrivileged: true },
      [
        { from: 1_024, to: 32_767 },
        { from: 61_000, to: 65_535 },
      ],
    ],
  ];
  for (const [more, ports] of rows) {
    const choice = choosePorts({ ...DEFAULT_PORTS, facts: { ...PORT_FACTS, ...more } });
    assert.deepEqual(choice.ports, ports);
    assert.equal(choice.portCount, portCount(ports));
  }
});

test('a host whose ephemeral range is everything above 1023 uses it, and says so', () => {
  const choice = choosePorts({
    ...DEFAULT_PORTS,
    facts: { ...PORT_FACTS, localPortRange: { from: 1_024, to: 65_535 } },
  });
  assert.deepEqual(choice.ports, [{ from: 1_024, to: 65_535 }]);
  assert.equal(choice.usesEphemeral, true);
});

test('explicit ports keep their order, minus reserved ports and ports with a listener', () => {
  const explicit = [
    { from: 40_000, to: 40_999 },
    { from: 20_000, to: 20_099 },
  ];
  const choice = choosePorts({
    ...DEFAULT_PORTS,
    explicit,
    facts: { ...PORT_FACTS, reservedPorts: [{ from: 20_050, to: 20_059 }], listenPortsAny: [40_500] },
  });
  assert.deepEqual(choice, {
    ports: [
      { from: 40_000, to: 40_499 },
      { from: 40_501, to: 40_999 },
      { from: 20_000, to: 20_049 },
      { from: 20_060, to: 20_099 },
    ],
    portCount: 1_089,
    usesEphemeral: true,
  });
  assert.equal(
    choosePorts({ ...DEFAULT_PORTS, explicit: [{ from: 20_000, to: 20_999 }] }).usesEphemeral,
    false,
  );
  const privileged = choosePorts({
    ...DEFAULT_PORTS,
    explicit: [{ from: 1_000, to: 1_033 }],
    facts: { ...PORT_FACTS, unprivilegedPortStart: 1_024 },
  });
  assert.equal(privileged.portCount, 10);
});

const arbPort = fc.integer({ min: 1, max: 65_535 });
const arbRange = fc.tuple(arbPort, arbPort).map(([one, other]) => ({
  from: Math.min(one, other),
  to: Math.max(one, other),
}));
const arbRequest = fc.record({
  explicit: fc.option(arbRange.map((range) => [range])),
  facts: fc.record({
    localPortRange: fc.option(arbRange),
    reservedPorts: fc.array(arbRange, { maxLength: 4 }),
    listenPortsAny: fc.uniqueArray(arbPort, { maxLength: 20 }),
    unprivilegedPortStart: fc.constantFrom(null, 1_024, 2_000),
    canBindPrivileged: fc.boolean(),
  }),
  tuplesPerPort: fc.integer({ min: 0, max: 50 }),
  wanted: fc.integer({ min: 0, max: 500_000 }),
});

const contains = (ranges: readonly PortRange[], port: number): boolean =>
  ranges.some(({ from, to }) => from <= port && port <= to);

test('property: chosen ports are disjoint, never reserved, and suffice whenever the full range suffices', () => {
  fc.assert(
    fc.property(arbRequest, (request) => {
      const choice = choosePorts(request);
      const { reservedPorts, listenPortsAny, unprivilegedPortStart, canBindPrivileged } = request.facts;
      const firstPort = canBindPrivileged ? 1 : (unprivilegedPortStart ?? 1_024);
      const chosen = new Uint8Array(65_536);
      for (const { from, to } of choice.ports) {
        for (let port = from; port <= to; port++) chosen[port] = (chosen[port] ?? 0) + 1;
      }
      let usable = 0;
      let usableFull = 0;
      for (let port = 1; port <= 65_535; port++) {
        const times = chosen[port] ?? 0;
        assert.ok(times <= 1, `port ${port} twice`);
        const reserved = contains(reservedPorts, port);
        const bindable = port >= firstPort && !listenPortsAny.includes(port);
        assert.ok(times === 0 || (bindable && !reserved), `port ${port} is reserved or cannot be bound`);
        usable += times;
        const inFull = request.explicit === null ? port >= 1_024 : contains(request.explicit, port);
        if (inFull && !reserved && bindable) usableFull += 1;
      }
      assert.equal(choice.portCount, usable);
      if (usableFull * request.tuplesPerPort >= request.wanted) {
        assert.ok(usable * request.tuplesPerPort >= request.wanted);
      }
    }),
    { numRuns: 60 },
  );
});

test('pairs are of one family only', () => {
  const four = { address: '10.0.0.1', port: 1, family: 4 } as const;
  const six = { address: 'fd00::1', port: 1, family: 6 } as const;
  const pairsOf = (addresses: string[], endpoints: RunSpec['endpoints']): number =>
    planBasis({ spec: { ...SPEC, endpoints }, wanted: 1, facts: FACTS, addresses }).pairs;
  assert.equal(pairsOf(['10.0.0.2', '10.0.0.3'], [four]), 2);
  assert.equal(pairsOf(['10.0.0.2', '10.0.0.3', 'fd00::2'], [four, six, { ...six, port: 2 }]), 4);
  assert.equal(pairsOf(['fd00::2'], [four]), 0);
  assert.equal(pairsOf([], [four]), 0);
});

test('holders: as many as descriptors need, one for each core when the quota is large, never more than connections', () => {
  const rows: [number, number, number | null, number, number][] = [
    // connections, per holder, asked, cores -> holders
    [0, 19_936, null, 2, 0],
    [1, 19_936, null, 2, 1],
    [19_936, 19_936, null, 2, 1],
    [19_999, 60_000, null, 8, 1],
    [20_000, 60_000, null, 8, 8],
    [19_937, 19_936, null, 1, 2],
    [130_000, 19_936, null, 2, 7],
    [1_000_000, 19_936, null, 2, 51],
    [130_000, 192, null, 2, HOLDERS_MAX],
    [130_000, 0, null, 2, HOLDERS_MAX],
    [130_000, 19_936, 3, 2, 3],
    [2, 19_936, 5, 2, 2],
    [130_000, 19_936, 1_000, 2, HOLDERS_MAX],
  ];
  for (const [connections, perHolder, holdersAsked, cpus, holders] of rows) {
    assert.equal(holdersFor(connections, { perHolder, holdersAsked, cpus }), holders, String(connections));
  }
});

test('the largest number that fits is found by halving, at both ends too', () => {
  for (const limit of [0, 1, 7, 99, 100])
    assert.equal(
      largestThatFits(100, (count) => count <= limit),
      limit,
    );
  assert.equal(
    largestThatFits(0, () => true),
    0,
  );
});

const planOf = (
  facts: Partial<HostFacts>,
  spec: RunSpec = SPEC,
  addresses: readonly string[] = LOOPBACK_4,
  wanted = spec.connections,
): HostPlan => planHost({ spec, wanted, facts: { ...FACTS, ...facts }, addresses });

test('130,000 connections on loopback with 20,000 descriptors a process: 7 holders and ports outside the range', () => {
  const plan = planOf({});
  assert.equal(plan.holders, 7);
  assert.equal(plan.tuples, 4 * 36_280);
  assert.deepEqual([plan.capacityMax, plan.boundBy], [145_120, 'tuples']);
  assert.deepEqual(
    plan.findings.filter((finding) => finding.severity !== 'ok'),
    [],
  );
  assert.deepEqual(plan.notes, []);
});

test('capacity is the smallest bound, and says which it is', () => {
  const far = (facts: Partial<HostFacts>, addresses: readonly string[]): [number, string] => {
    const plan = planOf(facts, SPEC_FAR, addresses);
    return [plan.capacityMax, plan.boundBy];
  };
  const one = ['192.168.0.101'];
  const many = Array.from({ length: 200 }, (_, index) => `192.168.1.${index + 1}`);
  assert.deepEqual(far({}, one), [64_512, 'tuples']);
  assert.deepEqual(far({ tcpTimestamps: 0, timeWaitOnTuples: 512 }, one), [64_000, 'tuples']);
  assert.deepEqual(far({ nofileHard: 256 }, many), [192 * 256, 'descriptors']);
  assert.deepEqual(far({ nofileHard: 10 }, many), [0, 'descriptors']);
  // 100,000 files free: 10,000 connections cost 10,000 and 64 for the holder.
  assert.deepEqual(far({ fileMax: 10_476, fileUsed: 412 }, many), [10_000, 'system-descriptors']);
  assert.deepEqual(far({ memoryAvailableBytes: 55e6 + 3_700 * 10_000 }, many), [10_000, 'memory']);
  const group = { cgroupMemoryLimitBytes: 100e6, cgroupMemoryUsedBytes: 45e6 - 37_000 };
  assert.deepEqual(far(group, many), [10, 'memory']);
  assert.deepEqual(far({ conntrack: { active: true, count: 12, max: 1_012 } }, many), [1_000, 'conntrack']);
  assert.deepEqual(far({ tcpMem: [1, 2, 593] }, many), [500, 'tcp-mem']);
});

test('TLS costs memory for each session, and preflight says so', () => {
  const spec = { ...SPEC, protocol: 'wss' as const, connections: 1_000 };
  const bytes = 55e6 + (2 * 3_700 + 45_000) * 1_000;
  const plan = planOf({ memoryAvailableBytes: bytes }, spec);
  assert.deepEqual([plan.capacityMax, plan.boundBy], [1_000, 'memory']);
  const memory = plan.findings.find((finding) => finding.what === 'memory');
  assert.match(memory?.message ?? '', /1,000 TLS sessions x /);
});

test('an endpoint on this host costs both ends', () => {
  const bytes = 55e6 + 2 * 3_700 * 1_000;
  assert.equal(planOf({ memoryAvailableBytes: bytes }).capacityMax, 1_000);
  assert.equal(planOf({ fileMax: 2_064, fileUsed: 0 }).capacityMax, 1_000);
});

const arbFacts = fc.record({
  nofileHard: fc.option(fc.integer({ min: 1, max: 100_000 })),
  fileMax: fc.option(fc.integer({ min: 0, max: 500_000 })),
  fileUsed: fc.option(fc.integer({ min: 0, max: 10_000 })),
  memoryAvailableBytes: fc.option(fc.integer({ min: 0, max: 4_000_000_000 })),
  cgroupMemoryLimitBytes: fc.option(fc.integer({ min: 0, max: 4_000_000_000 })),
  tcpMem: fc.option(fc.constantFrom([10, 100, 1_000] as const, [1e5, 2e5, 3e5] as const)),
  tcpTimestamps: fc.constantFrom(0, 1, null),
  timeWaitOnTuples: fc.option(fc.nat(200_000)),
  cpus: fc.integer({ min: 1, max: 64 }),
  conntrack: fc.record({
    active: fc.constantFrom(true, false, null),
    count: fc.option(fc.nat(100_000)),
    max: fc.option(fc.nat(300_000)),
  }),
  reservedPorts: fc.array(arbRange, { maxLength: 2 }),
  listenPortsAny: fc.uniqueArray(arbPort, { maxLength: 5 }),
});

test('property: capacity never exceeds a resource, and preflight refuses exactly when it is below what is wanted', () => {
  fc.assert(
    fc.property(
      arbFacts,
      fc.boolean(),
      fc.integer({ min: 1, max: 300_000 }),
      fc.integer({ min: 0, max: 6 }),
      fc.option(fc.integer({ min: 1, max: 300 })),
      (some, far, wanted, addressCount, holders) => {
        const facts: HostFacts = { ...FACTS, ...some };
        const spec: RunSpec = { ...(far ? SPEC_FAR : SPEC), connections: wanted, holders };
        const addresses = Array.from({ length: addressCount }, (_, index) => `127.0.0.${index + 2}`);
        const plan = planHost({ spec, wanted, facts, addresses });
        const { capacityMax, shape } = plan;
        assert.ok(capacityMax >= 0 && Number.isSafeInteger(capacityMax), String(capacityMax));
        assert.ok(capacityMax <= plan.tuples);
        // Slices are cut from this number, so it must be the size of the tuple space.
        assert.equal(
          plan.tuples,
          new TupleMap({ addresses, ports: plan.ports, endpoints: spec.endpoints }).size,
        );
        assert.ok(capacityMax <= descriptorsBound(shape));
        const within = (cost: number, available: number | null): void => {
          // Nothing at all costs nothing, however little there is.
          if (available !== null && capacityMax > 0) assert.ok(cost <= available, `${cost} of ${available}`);
        };
        within(
          systemFiles(capacityMax, shape),
          facts.fileMax === null ? null : facts.fileMax - (facts.fileUsed ?? 0),
        );
        within(memoryBytes(capacityMax, shape), facts.memoryAvailableBytes);
        within(memoryBytes(capacityMax, shape), facts.cgroupMemoryLimitBytes);
        within(bufferPagesSure(capacityMax, shape), facts.tcpMem === null ? null : facts.tcpMem[2] - 93);
        const { active, count, max } = facts.conntrack;
        if (far && active === true && count !== null && max !== null)
          within(capacityMax, Math.max(0, max - count));
        assert.ok(plan.holders * shape.perHolder >= Math.min(wanted, capacityMax));
        assert.ok(plan.holders <= HOLDERS_MAX && plan.holders <= wanted);
        const refused = plan.findings.some((finding) => finding.severity === 'refuse');
        // Holders that begin together take 50 ms of a core each, and the agent must be heard within 5 s.
        const beginTooLate = plan.holders > facts.cpus * 100;
        assert.equal(refused, capacityMax < wanted || beginTooLate, JSON.stringify(plan.findings));
        for (const finding of plan.findings) {
          if (finding.severity !== 'ok') assert.ok(finding.fix, `${finding.what} has no fix`);
        }
      },
    ),
    { numRuns: 400 },
  );
});

test('more holders than the stated maximum are cut, with a note', () => {
  const plan = planOf({}, { ...SPEC, holders: 1_000 });
  assert.equal(plan.holders, HOLDERS_MAX);
  assert.match(plan.notes.join(), /--holders 1000 is taken as 256/);
});
