import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressRange } from '../../src/base/address.ts';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { BenchError } from '../../src/base/errors.ts';
import type { HostFacts } from '../../src/host/host-facts.ts';
import type { HostAddress } from '../../src/host/ip-command.ts';
import { slackOf } from '../../src/plan/capacity.ts';
import { hostAlias, parseSourcePrefix } from '../../src/run/alias.ts';
import type { RunSpec, SourceSpec } from '../../src/run/run-spec.ts';
import { chooseFrom, type FoundSources, findSources } from '../../src/sources/discover.ts';
import { FakeIp } from '../host/fake-ip.ts';
import { FACTS, SPEC } from '../plan/plan-fixture.ts';

/** Documentation networks (RFC 5737): no host has them, and nothing is sent to them. */
const TARGET = '198.51.100.1';
const own = (address: string, device: string, prefix = 24): HostAddress => ({
  ...{ address, family: 4, prefix, device, scope: 'global', usable: true },
});
const HOST: HostFacts = {
  ...FACTS,
  hostAddresses: [own('198.51.100.2', 'eth0'), own('203.0.113.2', 'eth1')],
  routes: [{ address: TARGET, device: 'eth0', source: '198.51.100.2', local: false }],
};
const specWith = (sources: Partial<SourceSpec>): RunSpec => ({
  ...SPEC,
  endpoints: [{ address: TARGET, port: 8_000, family: 4 }],
  sources: { ...SPEC.sources, ...sources },
});
const hostIp = (): FakeIp =>
  new FakeIp(
    HOST.hostAddresses.map(({ address, prefix, device }) => ({
      ...{ local: address, prefixlen: prefix, device, validSec: null },
    })),
  );
const sourcesOf = (
  sources: Partial<SourceSpec>,
  ip = hostIp(),
  facts: HostFacts = HOST,
): Promise<FoundSources> => findSources(specWith(sources), facts, 1_000, ip.run);

async function refusal(sources: Partial<SourceSpec>): Promise<string> {
  let said = '';
  await assert.rejects(sourcesOf(sources), (error: unknown) => {
    assert(error instanceof BenchError);
    said = `${error.code} ${error.exitCode}: ${error.message}`;
    return true;
  });
  return said;
}

test('what is there is used, what is missing is a candidate for the device that routes to the target', async () => {
  const addresses = ['198.51.100.2', '198.51.100.101-198.51.100.102'];
  const { present, candidates } = await sourcesOf({ addresses, aliasDevice: 'auto' });
  assert.deepEqual(present, ['198.51.100.2']);
  assert.deepEqual(
    candidates,
    ['198.51.100.101', '198.51.100.102'].map((address) => hostAlias(address, 'eth0')),
  );
});

test('an address that a run which has just ended took away is added anew, and is none of another program', async () => {
  const ended = own('198.51.100.101', 'eth0', 32);
  const facts = { ...HOST, hostAddresses: [...HOST.hostAddresses, ended] };
  const sources = { addresses: ['198.51.100.101'], aliasDevice: 'auto' };
  const { present, candidates } = await sourcesOf(sources, hostIp(), facts);
  assert.deepEqual([present, candidates], [[], [hostAlias('198.51.100.101', 'eth0')]]);
  const ip = hostIp();
  ip.addresses.push({ local: ended.address, prefixlen: 32, device: 'eth0', validSec: null });
  const stays = await sourcesOf(sources, ip, facts);
  assert.deepEqual([stays.present, stays.candidates], [['198.51.100.101'], []]);
});

test('an address that cannot be a source here is refused with what it is', async () => {
  const rows: [string, RegExp][] = [
    ['198.51.100.0', /^bad-address 3: .* is the address of the network 198\.51\.100\.0\/24 on eth0/],
    ['203.0.113.255', /^bad-address 3: .* is the broadcast address of 203\.0\.113\.0\/24 on eth1/],
    [TARGET, /^bad-address 3: .* is the target itself/],
  ];
  for (const [address, said] of rows) {
    assert.match(await refusal({ addresses: [address], aliasDevice: 'auto' }), said);
  }
  assert.match(
    await refusal({ addresses: ['198.51.100.9'], aliasDevice: 'nosuch0' }),
    /^bad-device 3: this host has no device nosuch0/,
  );
  assert.match(await refusal({ addresses: ['198.51.100.9', '198.51.100.10'] }), /does not have 2 source/);
});

test('a network that holds the target, the segment or the next hop is refused; another becomes local', async () => {
  assert.match(await refusal({ prefixes: ['198.51.100.0/28'] }), /contains the target 198\.51\.100\.1/);
  assert.match(await refusal({ prefixes: ['203.0.113.0/24'] }), /contains the whole segment of eth1/);
  const [prefix] = (await sourcesOf({ prefixes: ['192.0.2.0/26'] })).prefixes;
  assert.equal(prefix?.prefix.addresses.length, 62);
  assert.deepEqual(
    prefix?.aliases.map(({ address, prefix: bits, device }) => `${address}/${bits} ${device}`),
    ['192.0.2.1/26 lo'],
  );
  const routed = findSources(specWith({ prefixes: ['192.0.2.0/26'] }), HOST, 1_000, () =>
    Promise.resolve({
      ...{ code: 0, stderr: '', missing: false, truncated: false },
      stdout: '[{"dst":"198.51.100.1","gateway":"192.0.2.1","dev":"eth0"}]',
    }),
  );
  await assert.rejects(routed, /contains the next hop 192\.0\.2\.1/);
});

test('the routing table is asked about sources on another device than the route, and about no other', async () => {
  const ip = new FakeIp();
  ip.leavesBy.set('203.0.113.2', 'eth1');
  const { leavesBy } = await sourcesOf({ addresses: ['198.51.100.2', '203.0.113.2'] }, ip);
  assert.deepEqual([...leavesBy], [['203.0.113.2', 'eth1']]);
  assert.deepEqual(ip.commands, [`route get ${TARGET} from 203.0.113.2`]);
});

const NO_SOURCES: FoundSources = {
  facts: HOST,
  settings: { neighboursMax: null, rpFilter: {}, promoteSecondaries: {} },
  leavesBy: new Map(),
  canChangeAddresses: true,
  portsEach: 1_000,
  present: [],
  candidates: [],
  prefixes: [],
  forbidden: null,
  notes: [],
};

test('a quota takes what is there first, then as few candidates as it needs, and none that was found bad', () => {
  const candidates = [101, 102, 103].map((last) => hostAlias(`198.51.100.${last}`, 'eth0'));
  const found: FoundSources = {
    ...NO_SOURCES,
    present: ['198.51.100.2'],
    candidates,
  };
  const spec = specWith({ ports: [{ from: 20_000, to: 20_999 }] });
  const last = (wanted: number, ...bad: string[]): string[] =>
    chooseFrom(found, spec, wanted, new Set(bad)).addresses.map((one) => one.split('.').at(-1) ?? '');
  assert.deepEqual(last(500), ['2']);
  assert.deepEqual(last(1_500), ['2', '101']);
  assert.deepEqual(last(1_500, '198.51.100.101'), ['2', '102']);
  assert.deepEqual(last(1_500, '198.51.100.2'), ['101', '102']);
  assert.deepEqual(last(9_999), ['2', '101', '102', '103']);
  assert.equal(chooseFrom(found, spec, 1_500).spare, 2);

  const prefix = parseSourcePrefix('192.0.2.0/30');
  const withNetwork = { ...found, prefixes: [{ prefix, aliases: [hostAlias('192.0.2.0', 'lo')] }] };
  const choice = chooseFrom(withNetwork, spec, 500);
  assert.deepEqual(choice.addresses, ['198.51.100.2', '192.0.2.1', '192.0.2.2']);
  assert.deepEqual(choice.aliases, [hostAlias('192.0.2.0', 'lo')]);
});

const FOUR: Endpoint = { address: '10.9.0.1', port: 8_000, family: 4 };
const SIX: Endpoint = { address: 'fd09::1', port: 8_000, family: 6 };

/** How many of the candidates are chosen. */
function aliasesNeeded(request: {
  readonly present: readonly string[];
  readonly candidates: readonly string[];
  readonly endpoints: readonly Endpoint[];
  readonly portsEach: number;
  readonly wanted: number;
}): number {
  const { present, candidates, endpoints, portsEach, wanted } = request;
  const aliases = candidates.map((address) => hostAlias(address, 'eth0'));
  const found = { ...NO_SOURCES, portsEach, present, candidates: aliases };
  const choice = chooseFrom(found, { ...SPEC, endpoints }, wanted);
  assert.equal(choice.spare, candidates.length - choice.aliases.length);
  return choice.aliases.length;
}

test('130,000 connections to one endpoint need four addresses with ports outside the ephemeral range', () => {
  const candidates = addressRange('10.9.0.101', 10);
  const request = { candidates, endpoints: [FOUR], portsEach: 36_280, wanted: 130_000 };
  assert.equal(aliasesNeeded({ ...request, present: [] }), 4);
  assert.equal(aliasesNeeded({ ...request, present: ['10.9.0.2'] }), 3);
  assert.equal(aliasesNeeded({ ...request, present: [], wanted: 10_000_000 }), 10, 'all that there are');
});

test('an address is worth nothing toward endpoints of the other family', () => {
  const request = { present: ['fd09::2'], candidates: ['10.9.0.101'], portsEach: 1_000, wanted: 100 };
  assert.equal(aliasesNeeded({ ...request, endpoints: [FOUR] }), 1);
  assert.equal(aliasesNeeded({ ...request, endpoints: [SIX] }), 0);
});

test('what is chosen suffices, and one less would not', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200_000 }),
      fc.integer({ min: 1, max: 64_512 }),
      fc.integer({ min: 0, max: 5 }),
      fc.integer({ min: 1, max: 3 }),
      (wanted, portsEach, here, endpointCount) => {
        const endpoints = Array.from({ length: endpointCount }, (_, index) => ({
          ...FOUR,
          port: 8_000 + index,
        }));
        const candidates = addressRange('10.9.1.1', 300);
        const count = aliasesNeeded({
          present: addressRange('10.9.0.1', here),
          candidates,
          endpoints,
          portsEach,
          wanted,
        });
        const tuples = (addresses: number): number => addresses * portsEach * endpointCount;
        const suffices = tuples(here + count) >= slackOf(wanted);
        assert(suffices || count === candidates.length);
        if (count > 0) assert(tuples(here + count - 1) < slackOf(wanted));
      },
    ),
  );
});
