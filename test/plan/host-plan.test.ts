import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressRange } from '../../src/base/address.ts';
import type { Finding } from '../../src/base/errors.ts';
import type { HostFacts } from '../../src/host/host-facts.ts';
import type { HostAddress } from '../../src/host/ip-command.ts';
import { planHost, sourceFindings } from '../../src/plan/host-plan.ts';
import { hostAlias } from '../../src/run/alias.ts';
import { FACTS, SPEC, SPEC_FAR } from './plan-fixture.ts';

type SourceSituation = Parameters<typeof sourceFindings>[0];

const own = (address: string, device: string, prefix = 24): HostAddress => ({
  address,
  family: 4,
  prefix,
  device,
  scope: 'global',
  usable: true,
});

const HERE: SourceSituation = {
  facts: {
    hostAddresses: [own('10.9.0.2', 'eth0')],
    routes: [{ address: '10.9.0.1', device: 'eth0', source: '10.9.0.2', local: false }],
  },
  settings: { neighboursMax: 1_024, rpFilter: { eth0: 0, eth1: 0 }, promoteSecondaries: { eth0: 0 } },
  leavesBy: new Map(),
  addresses: ['10.9.0.2'],
  aliases: [],
  spare: 0,
  leaseMs: 60_000,
  canChangeAddresses: true,
};

const names = (situation: SourceSituation): string[] =>
  sourceFindings(situation).map(({ what, severity }) => `${what} ${severity}`);

test('one address of its own needs no finding', () => {
  assert.deepEqual(sourceFindings(HERE), []);
});

test('aliases name the commands that add them; without the right to, they refuse and say what to run', () => {
  const aliases = ['10.9.0.101', '10.9.0.102'].map((address) => hostAlias(address, 'eth0'));
  const [allowed] = sourceFindings({ ...HERE, aliases });
  const commands = 'ip addr add 10.9.0.101/32 dev eth0 && ip addr add 10.9.0.102/32 dev eth0';
  assert.equal(allowed?.severity, 'ok');
  assert(allowed?.message.includes(commands));
  const [refused] = sourceFindings({ ...HERE, aliases, canChangeAddresses: false });
  assert.equal(refused?.severity, 'refuse');
  assert.equal(refused?.fix, `${commands}; or run as root`);
});

test('five hundred commands still fit into one message of the control channel', () => {
  const aliases = addressRange('fd09:1111:2222:3333:4444:5555:6666:1', 500).map((address) =>
    hostAlias(address, 'wlxabcdefabcde'),
  );
  for (const canChangeAddresses of [true, false]) {
    for (const finding of sourceFindings({ ...HERE, aliases, canChangeAddresses })) {
      assert(finding.message.length <= 4_096 + 2_000 && (finding.fix ?? '').length <= 8_192);
      assert.match(`${finding.message}${finding.fix}`, /more\)/);
    }
  }
});

test('hundreds of addresses on one segment are a finding about the neighbour table; behind a route they do not', () => {
  const facts = { ...HERE.facts, hostAddresses: [own('10.9.0.2', 'eth0', 22)] };
  const many = (count: number) => ({ ...HERE, facts, addresses: addressRange('10.9.0.10', count) });
  assert.deepEqual(names(many(500)), ['neighbour-table ok']);
  assert.deepEqual(names(many(900)), ['neighbour-table warn']);
  assert.match(sourceFindings(many(900))[0]?.fix ?? '', /gc_thresh3=3600/);
  assert.deepEqual(names({ ...many(900), addresses: addressRange('10.77.0.10', 900) }), []);
});

test('strict rp_filter matters where answers come in by another device', () => {
  const facts = { ...HERE.facts, hostAddresses: [own('10.9.0.2', 'eth0'), own('10.8.0.2', 'eth1')] };
  const strict = { ...HERE.settings, rpFilter: { eth0: 1, eth1: 1 } };
  assert.deepEqual(names({ ...HERE, facts, settings: strict }), []);
  assert.deepEqual(names({ ...HERE, facts, settings: strict, addresses: ['10.9.0.2', '10.8.0.2'] }), [
    'rp-filter warn',
  ]);
  assert.deepEqual(names({ ...HERE, facts, addresses: ['10.9.0.2', '10.8.0.2'] }), []);
});

test('a rule that sends a source out by its own device is the way back too: strict rp_filter is no matter', () => {
  const facts = { ...HERE.facts, hostAddresses: [own('10.9.0.2', 'eth0'), own('10.8.0.2', 'eth1')] };
  const settings = { ...HERE.settings, rpFilter: { eth0: 1, eth1: 1 } };
  const by = (addresses: string[], ...pairs: [string, string][]): SourceSituation => ({
    ...{ ...HERE, facts, settings, addresses },
    leavesBy: new Map(pairs),
  });
  assert.deepEqual(names(by(['10.8.0.2'], ['10.8.0.2', 'eth1'])), []);
  const [asked] = sourceFindings(by(['10.8.0.2'], ['10.8.0.2', 'tun0']));
  assert.match(asked?.message ?? '', /10\.8\.0\.2 is on eth1, its packets leave by tun0/);
  assert.deepEqual(names(by(['10.9.0.2'], ['10.9.0.2', 'eth1'])), ['rp-filter warn']);
});

test('IPv6 has no rp_filter, and its route says nothing about IPv4 sources', () => {
  const facts = {
    hostAddresses: [own('10.9.0.2', 'eth0'), { ...own('fd08::2', 'eth1', 64), family: 6 as const }],
    routes: [
      { address: 'fd09::1', device: 'eth1', source: 'fd08::2', local: false },
      { address: '10.9.0.1', device: 'eth0', source: '10.9.0.2', local: false },
    ],
  };
  const settings = { ...HERE.settings, rpFilter: { eth0: 1, eth1: 1 } };
  assert.deepEqual(names({ ...HERE, facts, settings, addresses: ['10.9.0.2', 'fd08::2'] }), []);
});

test("inside a container gc_thresh3 is not to be seen: the kernel's default is taken and called that", () => {
  const facts = { ...HERE.facts, hostAddresses: [own('10.9.0.2', 'eth0', 22)] };
  const addresses = addressRange('10.9.0.10', 900);
  const said = (neighboursMax: number | null) =>
    sourceFindings({ ...HERE, facts, addresses, settings: { ...HERE.settings, neighboursMax } })[0];
  assert.match(said(null)?.message ?? '', /gc_thresh3, 1,024 by default$/);
  assert.equal(said(null)?.severity, 'warn');
  assert.match(said(8_192)?.message ?? '', /gc_thresh3, 8,192 here$/);
  assert.equal(said(8_192)?.severity, 'ok');
});

test('addresses that share a subnet are removed together unless promote_secondaries is on', () => {
  const facts = { ...HERE.facts, hostAddresses: [own('10.9.0.2', 'eth0'), own('10.9.0.3', 'eth0')] };
  const both = { ...HERE, facts, addresses: ['10.9.0.2', '10.9.0.3'] };
  assert.deepEqual(names(both), ['promote-secondaries warn']);
  assert.deepEqual(names({ ...both, settings: { ...HERE.settings, promoteSecondaries: { eth0: 1 } } }), []);
  const hosts = {
    ...both,
    facts: { ...facts, hostAddresses: [own('10.9.0.2', 'eth0', 32), own('10.9.0.3', 'eth0', 32)] },
  };
  assert.deepEqual(names(hosts), []);
});

test('programs that are not installed are named, with what stays unknown, where they matter', () => {
  const toolsOf = (toolsMissing: HostFacts['toolsMissing'], spec = SPEC_FAR): Finding | undefined =>
    planHost({
      spec: { ...spec, connections: 10 },
      wanted: 10,
      addresses: ['192.168.0.101'],
      facts: { ...FACTS, ...(toolsMissing === undefined ? {} : { toolsMissing }) },
    }).findings.find(({ what }) => what === 'tools');
  assert.equal(toolsOf(undefined), undefined);
  assert.equal(toolsOf([]), undefined);
  const both = toolsOf(['ss', 'arping']);
  assert.equal(both?.severity, 'warn');
  assert.match(
    both?.message ?? '',
    /^not installed: ss \(the processes of listeners .*; arping \(whether another host/,
  );
  assert.equal(both?.fix, 'apt-get install iproute2 iputils-arping');
  assert.equal(toolsOf(['arping'], SPEC), undefined, 'no other host is asked on loopback');
});
