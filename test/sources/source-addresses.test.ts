import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import { gatherHostFacts } from '../../src/host/host-facts.ts';
import type { EndpointRoute, HostAddress } from '../../src/host/ip-command.ts';
import type { SourceSpec } from '../../src/run/run-spec.ts';
import { chooseSources } from '../../src/sources/source-addresses.ts';

type SourceFacts = Parameters<typeof chooseSources>[2];

/** Source ports outside the ephemeral range of Linux. */
const PORTS_EACH = 36_280;
const demandOf = (wanted: number, portsEach = PORTS_EACH) => ({ wanted, portsEach });

const NONE: SourceSpec = {
  addresses: [],
  ports: null,
  aliasDevice: null,
  aliasLeaseMs: 60_000,
  prefixes: [],
};

const own = (address: string, device: string, more: Partial<HostAddress> = {}): HostAddress => ({
  address,
  family: address.includes(':') ? 6 : 4,
  prefix: 24,
  device,
  scope: 'global',
  usable: true,
  ...more,
});

const to = (address: string, port = 8_000): Endpoint => ({
  address,
  port,
  family: address.includes(':') ? 6 : 4,
});

const route = (address: string, device: string | null, more: Partial<EndpointRoute> = {}): EndpointRoute => ({
  address,
  device,
  source: null,
  local: device === 'lo',
  ...more,
});

const factsWith = (hostAddresses: HostAddress[], routes: EndpointRoute[]): SourceFacts => ({
  hostAddresses,
  routes,
});

const LOOPBACK = factsWith([own('127.0.0.1', 'lo', { scope: 'host' })], [route('127.0.0.1', 'lo')]);

const ETHERNET = factsWith(
  [
    own('127.0.0.1', 'lo', { scope: 'host' }),
    own('192.0.2.2', 'eth0'),
    own('192.0.2.3', 'eth0'),
    own('198.51.100.9', 'eth1'),
    own('2001:db8::2', 'eth0'),
    own('2001:db8::3', 'eth0', { usable: false }),
    own('fe80::1', 'eth0', { scope: 'link' }),
  ],
  [
    route('192.0.2.7', 'eth0', { source: '192.0.2.2' }),
    route('2001:db8::7', 'eth0', { source: '2001:db8::2' }),
    route('192.0.2.2', 'lo', { source: '192.0.2.2' }),
    route('203.0.113.5', 'tun0', { source: '192.0.2.3' }),
    route('203.0.113.6', null),
    route('127.0.0.1', 'lo'),
  ],
);

test('toward loopback: 127.0.0.2 upward, as many as the quota with its slack needs outside the ephemeral range', async () => {
  // 36,280 ports outside the range; slack is 2 % and 64.
  const rows: [number, number, string][] = [
    [1, 1, '127.0.0.2'],
    [35_505, 1, '127.0.0.2'],
    [35_506, 2, '127.0.0.3'],
    [130_000, 4, '127.0.0.5'],
    [1_000_000, 29, '127.0.0.30'],
  ];
  for (const [wanted, count, last] of rows) {
    const { addresses, notes } = await chooseSources(NONE, [to('127.0.0.1')], LOOPBACK, demandOf(wanted));
    assert.equal(addresses.length, count, String(wanted));
    assert.equal(addresses[0], '127.0.0.2');
    assert.equal(addresses.at(-1), last);
    assert.deepEqual(notes, []);
  }
});

test('toward loopback: each endpoint multiplies what one address can open, and narrow ports need more addresses', async () => {
  const three = [8_000, 8_001, 8_002].map((port) => to('127.0.0.1', port));
  assert.equal((await chooseSources(NONE, three, LOOPBACK, demandOf(100_000))).addresses.length, 1);
  assert.equal(
    (await chooseSources(NONE, [to('127.0.0.1')], LOOPBACK, demandOf(5_000, 1_000))).addresses.length,
    6,
  );
});

test('toward loopback: an endpoint is never its own source', async () => {
  const { addresses } = await chooseSources(NONE, [to('127.0.0.3')], LOOPBACK, demandOf(100_000));
  assert.deepEqual(addresses, ['127.0.0.2', '127.0.0.4', '127.0.0.5']);
});

test('IPv6 loopback has one address; both families together have both', async () => {
  assert.deepEqual((await chooseSources(NONE, [to('::1')], LOOPBACK, demandOf(130_000))).addresses, ['::1']);
  const both = await chooseSources(NONE, [to('127.0.0.1'), to('::1')], LOOPBACK, demandOf(1_000));
  assert.deepEqual(both.addresses, ['127.0.0.2', '::1']);
});

test("toward other hosts: the usable addresses of the endpoint's family on the device that routes to it", async () => {
  const rows: [Endpoint[], string[]][] = [
    [[to('192.0.2.7')], ['192.0.2.2', '192.0.2.3']],
    [[to('2001:db8::7')], ['2001:db8::2']],
    [
      [to('192.0.2.7'), to('2001:db8::7')],
      ['192.0.2.2', '192.0.2.3', '2001:db8::2'],
    ],
    // Our own address: the route is by lo, the source is that address.
    [[to('192.0.2.2')], ['192.0.2.2']],
    // A device without addresses: what the kernel would choose.
    [[to('203.0.113.5')], ['192.0.2.3']],
    // Beyond loopback 127.x is of no use, so it is left out for both.
    [
      [to('127.0.0.1'), to('192.0.2.7')],
      ['192.0.2.2', '192.0.2.3'],
    ],
  ];
  for (const [endpoints, expected] of rows) {
    const { addresses } = await chooseSources(NONE, endpoints, ETHERNET, demandOf(1_000));
    assert.deepEqual(addresses, expected, endpoints.map((end) => end.address).join());
  }
});

test('an endpoint that no source reaches is named in a note', async () => {
  const { addresses, notes } = await chooseSources(NONE, [to('203.0.113.6')], ETHERNET, demandOf(1_000));
  assert.deepEqual(addresses, []);
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? '', /203\.0\.113\.6/);
});

test('explicit addresses of this host are taken in the order given, all of them', async () => {
  const spec: SourceSpec = { ...NONE, addresses: ['127.0.0.20-127.0.0.22', '127.0.0.9'], ports: null };
  const { addresses } = await chooseSources(spec, [to('127.0.0.1')], LOOPBACK, demandOf(1));
  assert.deepEqual(addresses, ['127.0.0.20', '127.0.0.21', '127.0.0.22', '127.0.0.9']);
});

test('an IPv4 list with endpoints of both families leaves the IPv6 ones out and says so', async () => {
  const spec: SourceSpec = { ...NONE, addresses: ['127.0.0.2'], ports: null };
  const { notes } = await chooseSources(spec, [to('127.0.0.1'), to('::1')], LOOPBACK, demandOf(1));
  assert.match(notes.join(), /no IPv6 source address reaches ::1/);
});

test('addresses that this host does not have are refused, each named, with the command that adds them', async () => {
  const facts = await gatherHostFacts([to('127.0.0.1')]);
  const spec: SourceSpec = {
    ...NONE,
    addresses: ['198.51.100.77', '127.0.0.2', '198.51.100.78'],
    ports: null,
  };
  const withDevice = { ...facts, routes: [route('127.0.0.1', 'eth7')] };
  await assert.rejects(chooseSources(spec, [to('127.0.0.1')], withDevice, demandOf(10)), (error: unknown) => {
    assert.ok(error instanceof BenchError);
    assert.equal(error.code, 'not-our-address');
    assert.equal(error.exitCode, 3);
    assert.match(error.message, /198\.51\.100\.77, 198\.51\.100\.78$/);
    assert.equal(
      error.hint,
      'let the run add what is missing: --alias-dev auto; or by hand: ' +
        'ip addr add 198.51.100.77/32 dev eth7 && ip addr add 198.51.100.78/32 dev eth7',
    );
    return true;
  });
});

test('hundreds of addresses that are not ours: eight are named and the rest counted, in well under a second', async () => {
  const spec: SourceSpec = { ...NONE, addresses: ['198.51.100.0/24'], ports: null };
  await assert.rejects(
    chooseSources(spec, [to('127.0.0.1')], LOOPBACK, demandOf(10)),
    /198\.51\.100\.8 and 246 more/,
  );
});

test('every real address of this host that is usable passes the check', async () => {
  const facts = await gatherHostFacts([to('127.0.0.1'), to('::1')]);
  const mine = facts.hostAddresses
    .filter((one) => one.usable && one.scope !== 'link')
    .map((one) => one.address);
  const blind = { ...facts, hostAddresses: [] };
  const families = new Set(mine.map((address) => (address.includes(':') ? 6 : 4)));
  const endpoints = [to('127.0.0.1'), to('::1')].filter((end) => families.has(end.family));
  // With the list of addresses taken away, only the bind can know that they are ours.
  assert.deepEqual(
    (await chooseSources({ ...NONE, addresses: mine, ports: null }, endpoints, blind, demandOf(1))).addresses,
    mine,
  );
});

test('addresses that can never be a source are a usage error', async () => {
  const rows: [string, Endpoint, RegExp][] = [
    ['127.0.0.2', to('::1'), /is IPv4, and the target has only IPv6 endpoints/],
    ['::1', to('127.0.0.1'), /is IPv6, and the target has only IPv4 endpoints/],
    ['0.0.0.0', to('127.0.0.1'), /wildcard, multicast or broadcast/],
    ['224.0.0.5', to('127.0.0.1'), /wildcard, multicast or broadcast/],
    ['255.255.255.255', to('127.0.0.1'), /wildcard, multicast or broadcast/],
    ['ff02::1', to('::1'), /wildcard, multicast or broadcast/],
    ['::', to('::1'), /wildcard, multicast or broadcast/],
    ['127.0.0.2', to('192.0.2.7'), /is on loopback and cannot reach 192\.0\.2\.7/],
  ];
  for (const [address, endpoint, message] of rows) {
    await assert.rejects(
      chooseSources({ ...NONE, addresses: [address], ports: null }, [endpoint], ETHERNET, demandOf(1)),
      (error: unknown) => {
        assert.ok(error instanceof BenchError, address);
        assert.equal(error.exitCode, 2);
        assert.match(error.message, message);
        assert.ok(error.hint.length > 0);
        return true;
      },
    );
  }
});
