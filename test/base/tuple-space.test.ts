/** Owns the proof that indexes and 4-tuples are one to one, and that slices never overlap. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import {
  type PortRange,
  parsePortRanges,
  portCount,
  slicesOf,
  subtractPorts,
  TupleMap,
  type TupleSpace,
} from '../../src/base/tuple-space.ts';
import { tupleAt } from '../support/written-tuple.ts';

/** Disjoint ranges in any order, within the first ports from `base` on. */
const portRanges = fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 12 }).chain((borders) => {
  const sorted = [...borders].sort((a, b) => a - b);
  const ranges: PortRange[] = [];
  for (let at = 0; at + 1 < sorted.length; at += 2) ranges.push({ from: sorted[at]!, to: sorted[at + 1]! });
  return fc.shuffledSubarray(ranges);
});

const v4Endpoint = (n: number): Endpoint => ({ address: '10.0.0.1', port: 8_000 + n, family: 4 });
const v6Endpoint = (n: number): Endpoint => ({ address: 'fd00::1', port: 8_000 + n, family: 6 });

/** A space with both families mixed in any order. */
const tupleSpaces: fc.Arbitrary<TupleSpace> = fc
  .tuple(fc.nat(4), fc.nat(4), fc.nat(3), fc.nat(3))
  .chain(([a4, a6, e4, e6]) => {
    const addresses = [
      ...Array.from({ length: a4 }, (_, n) => `127.0.0.${n + 2}`),
      ...Array.from({ length: a6 }, (_, n) => `fd00::${n + 2}`),
    ];
    const endpoints = [
      ...Array.from({ length: e4 }, (_, n) => v4Endpoint(n)),
      ...Array.from({ length: e6 }, (_, n) => v6Endpoint(n)),
    ];
    const shuffled = <Item>(items: Item[]) =>
      fc.shuffledSubarray(items, { minLength: items.length, maxLength: items.length });
    return fc.record({ addresses: shuffled(addresses), ports: portRanges, endpoints: shuffled(endpoints) });
  });

function portsOf(ranges: readonly PortRange[]): number[] {
  return ranges.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, n) => from + n));
}

test('every index is one 4-tuple of one family, and every such 4-tuple has an index', () => {
  fc.assert(
    fc.property(tupleSpaces, (space) => {
      const map = new TupleMap(space);
      const seen = new Set<string>();
      for (let index = 0; index < map.size; index += 1) {
        const address = space.addresses[map.addressIndexAt(index)]!;
        const endpoint = space.endpoints[map.endpointIndexAt(index)]!;
        assert.equal(address.includes(':') ? 6 : 4, endpoint.family, 'no tuple across families');
        const back = map.indexOf(map.addressIndexAt(index), map.endpointIndexAt(index), map.portAt(index));
        assert.equal(back, index, 'and the way back');
        seen.add(`${address} ${map.portAt(index)} ${endpoint.address} ${endpoint.port}`);
      }
      assert.equal(seen.size, map.size, 'no tuple twice');
      const wanted = space.addresses.flatMap((address) =>
        space.endpoints
          .filter(({ family }) => family === (address.includes(':') ? 6 : 4))
          .flatMap((endpoint) =>
            portsOf(space.ports).map((port) => `${address} ${port} ${endpoint.address} ${endpoint.port}`),
          ),
      );
      assert.deepEqual([...seen].sort(), wanted.sort(), 'none is missing');
    }),
  );
});

test('the address varies fastest, then the endpoint, then the port', () => {
  const space: TupleSpace = {
    addresses: ['127.0.0.2', '127.0.0.3'],
    ports: [
      { from: 61_000, to: 61_001 },
      { from: 1_024, to: 1_024 },
    ],
    endpoints: [v4Endpoint(0), v4Endpoint(1)],
  };
  const lines = Array.from({ length: 12 }, (_, index) => {
    const { address, port, endpoint } = tupleAt(space, index);
    return `${address} ${port} ${endpoint.port}`;
  });
  assert.deepEqual(lines, [
    '127.0.0.2 61000 8000',
    '127.0.0.3 61000 8000',
    '127.0.0.2 61000 8001',
    '127.0.0.3 61000 8001',
    '127.0.0.2 61001 8000',
    '127.0.0.3 61001 8000',
    '127.0.0.2 61001 8001',
    '127.0.0.3 61001 8001',
    '127.0.0.2 1024 8000',
    '127.0.0.3 1024 8000',
    '127.0.0.2 1024 8001',
    '127.0.0.3 1024 8001',
  ]);
});

test('a space beyond 2^32 is numbered without loss', () => {
  const space: TupleSpace = {
    addresses: Array.from({ length: 1_000 }, (_, n) => `10.0.${Math.floor(n / 250)}.${n % 250}`),
    ports: [{ from: 1_024, to: 65_535 }],
    endpoints: Array.from({ length: 200 }, (_, n) => v4Endpoint(n)),
  };
  const map = new TupleMap(space);
  assert.equal(map.size, 64_512 * 1_000 * 200);
  assert(map.size > 2 ** 33);
  assert.equal(map.addressIndexAt(map.size - 1), 999);
  assert.equal(map.endpointIndexAt(map.size - 1), 199);
  assert.equal(map.portAt(map.size - 1), 65_535);
  assert.equal(map.portAt(200_000 * 40_000 - 1), 1_024 + 39_999);
  assert.equal(map.indexOf(999, 199, 65_535), map.size - 1);
  assert.equal(map.indexOf(0, 0, 1_023), -1, 'a port of none');
});

test('a port that is in two ranges is a bug and stops at once', () => {
  const ports = [
    { from: 10, to: 20 },
    { from: 20, to: 30 },
  ];
  assert.throws(() => new TupleMap({ addresses: [], ports, endpoints: [] }), { message: /port 20/ });
});

test('slices are disjoint, cover the space exactly, and are never shorter than their quota', () => {
  const sized = fc
    .array(fc.oneof(fc.nat(20), fc.nat(200_000)), { minLength: 1, maxLength: 60 })
    .chain((quotas) => {
      const total = quotas.reduce((sum, quota) => sum + quota, 0);
      const slack = fc.oneof(fc.constant(0), fc.nat(50), fc.integer({ min: 0, max: 2 ** 45 }));
      return fc.tuple(
        fc.constant(quotas),
        slack.map((extra) => total + extra),
      );
    });
  fc.assert(
    fc.property(sized, ([quotas, size]) => {
      const slices = slicesOf(size, quotas);
      assert.equal(slices.length, quotas.length);
      let from = 0;
      for (const [index, slice] of slices.entries()) {
        assert.equal(slice.from, from, 'each slice starts where the one before it ends');
        assert(slice.to - slice.from >= quotas[index]!, 'a slice is at least as long as its quota');
        from = slice.to;
      }
      assert.equal(from, size, 'the last slice ends where the space ends');
    }),
  );
});

test('slack is shared in proportion, and too small a space is a bug', () => {
  assert.deepEqual(slicesOf(400, [100, 0, 100]), [
    { from: 0, to: 200 },
    { from: 200, to: 200 },
    { from: 200, to: 400 },
  ]);
  assert.deepEqual(slicesOf(5, [0, 0]), [
    { from: 0, to: 0 },
    { from: 0, to: 5 },
  ]);
  assert.throws(() => slicesOf(199, [100, 100]), { name: 'AssertionError' });
  assert.throws(() => slicesOf(199, []), { name: 'AssertionError' });
});

test('source ports are read in the order of preference', () => {
  assert.deepEqual(parsePortRanges('20000-20999, 30000,1-2'), [
    { from: 20_000, to: 20_999 },
    { from: 30_000, to: 30_000 },
    { from: 1, to: 2 },
  ]);
  assert.equal(portCount(parsePortRanges('1024-65535')), 64_512);
  assert.equal(portCount([]), 0);
});

test('wrong source ports are refused with ports that can be typed', () => {
  for (const [text, message] of [
    ['', /is not a port/],
    ['80,', /is not a port/],
    ['http', /"http" is not a port/],
    ['-80', /"-80" is not a port/],
    ['0-100', /port 0 is outside 1 to 65535/],
    ['1024-70000', /port 70000 is outside/],
    ['300-200', /ends before it starts/],
    ['20000-20999,20500-21500', /overlap/],
    ['7,7', /overlap/],
  ] as const) {
    assert.throws(
      () => parsePortRanges(text),
      (error) => {
        assert(error instanceof BenchError && error.code === 'bad-ports', `${text}: ${error}`);
        assert.match(error.message, message);
        const typed = /^type --source-ports (\S+)$/.exec(error.hint)?.[1] ?? '';
        assert(portCount(parsePortRanges(typed)) > 0, `the hint "${error.hint}" does not work`);
        return true;
      },
      text,
    );
  }
});

test('the hint names the flag that the ports are of', () => {
  for (const text of ['http', '0', '300-200', '7,7'])
    assert.throws(
      () => parsePortRanges(text, '--via-ports'),
      (error) => error instanceof BenchError && /^type --via-ports \d/.test(error.hint),
    );
});

test('ports that are taken away are gone, and no others', () => {
  const minusRanges = fc.array(
    fc
      .tuple(fc.integer({ min: 1, max: 60 }), fc.nat(10))
      .map(([from, length]) => ({ from, to: from + length })),
    { maxLength: 5 },
  );
  fc.assert(
    fc.property(portRanges, minusRanges, (ranges, minus) => {
      const gone = new Set(portsOf(minus));
      assert.deepEqual(
        portsOf(subtractPorts(ranges, minus)),
        portsOf(ranges).filter((port) => !gone.has(port)),
      );
    }),
    { numRuns: 500 },
  );
});
