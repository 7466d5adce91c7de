/** Tests which sources of a plan are left out, and by what: aliases of a fake `ip`, checks that bind answers. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Finding } from '../../src/base/errors.ts';
import type { HostFacts } from '../../src/host/host-facts.ts';
import { type Alias, hostAlias } from '../../src/run/alias.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';
import { AliasLease } from '../../src/sources/alias-lease.ts';
import { AliasRecords } from '../../src/sources/alias-records.ts';
import type { FoundSources } from '../../src/sources/discover.ts';
import { type Preparation, planSources } from '../../src/sources/preparation.ts';
import { secureSources } from '../../src/sources/source-check.ts';
import { FakeIp } from '../host/fake-ip.ts';
import { FACTS, SPEC } from '../plan/plan-fixture.ts';

/**
 * Sources of a documentation network (RFC 5737), which this host cannot bind: a check of one is answered by bind, so that
 * nothing leaves the machine. What a target answers is for the networks of test/system.
 */
const SOURCE = '198.51.100.2';
const TARGET = '198.51.100.1';
const PORTS = [{ from: 20_000, to: 20_999 }];

const specTo = (address: string): RunSpec => ({
  ...SPEC,
  endpoints: [{ address, port: 8_000, family: 4 }],
  sources: { ...SPEC.sources, ports: PORTS },
});
const FACTS_TO: HostFacts = {
  ...FACTS,
  hostAddresses: [{ address: SOURCE, family: 4, prefix: 24, device: 'eth0', scope: 'global', usable: true }],
  routes: [
    { address: TARGET, device: 'eth0', source: SOURCE, local: false },
    { address: '127.0.0.1', device: 'lo', source: '127.0.0.1', local: true },
  ],
};

function foundOf(present: readonly string[], candidates: readonly Alias[] = []): FoundSources {
  return {
    facts: FACTS_TO,
    settings: { neighboursMax: null, rpFilter: {}, promoteSecondaries: {} },
    leavesBy: new Map(),
    canChangeAddresses: true,
    portsEach: 100,
    present,
    candidates,
    forbidden: null,
    prefixes: [],
    notes: [],
  };
}

async function secure(
  t: TestContext,
  ip: FakeIp,
  target: string,
  wanted: number,
  found: FoundSources,
): Promise<{ result: Preparation | readonly Finding[]; lease: AliasLease; routeChecks: Finding[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-check-'));
  const records = new AliasRecords({ folder, pid: process.pid });
  const lease = new AliasLease({ run: ip.run, records, leaseMs: 5_000, onLost: () => {} });
  t.after(async () => {
    await lease.release();
    rmSync(folder, { recursive: true, force: true });
  });
  const spec = specTo(target);
  const result = await secureSources(spec, planSources(spec, wanted, found), lease, ip.run);
  const findings = 'plan' in result ? result.plan.findings : result;
  return { result, lease, routeChecks: findings.filter(({ what }) => what === 'route-check') };
}

test('sources towards this host have no route that could fail: nothing is asked, nothing is found', async (t) => {
  const ip = new FakeIp();
  const { result, routeChecks } = await secure(t, ip, '127.0.0.1', 500, foundOf(['127.0.0.2']));
  assert('plan' in result);
  assert.deepEqual(routeChecks, []);
  assert.deepEqual(ip.commands, []);
});

test('an alias that cannot be added is named, and the next candidate takes its place', async (t) => {
  const ip = new FakeIp();
  const candidates = [hostAlias('198.51.100.101', 'nodev'), hostAlias('198.51.100.102', 'eth0')];
  const { result, lease, routeChecks } = await secure(t, ip, '127.0.0.1', 500, foundOf([], candidates));
  assert('plan' in result);
  assert.deepEqual(result.choice.addresses, ['198.51.100.102']);
  assert.deepEqual(lease.held, [candidates[1]]);
  assert.equal(routeChecks.length, 1);
  assert.equal(routeChecks[0]?.severity, 'warn');
  assert.match(
    routeChecks[0]?.message ?? '',
    /^left out 1 of 2 source addresses: 198\.51\.100\.101 \(Cannot find device "nodev"\); the other 1 can hold 1,000 of 500/,
  );
});

test('when nothing takes the place of a bad alias the run is refused with the arithmetic', async (t) => {
  const ip = new FakeIp();
  const candidates = [hostAlias('198.51.100.101', 'eth0'), hostAlias('198.51.100.102', 'nodev')];
  const { result, routeChecks } = await secure(t, ip, '127.0.0.1', 1_500, foundOf([], candidates));
  assert(!('plan' in result));
  assert.equal(routeChecks[0]?.severity, 'refuse');
  assert.deepEqual([routeChecks[0]?.needed, routeChecks[0]?.available], [1_500, 1_000]);
  const tuples = result.find(({ what }) => what === 'tuples');
  assert.match(tuples?.message ?? '', /^needs 1,500 tuples, has 1,000 \(1 source address x 1,000 ports x 1/);
});

test('a source that leaves by another device is named even when the target answers no source', async (t) => {
  const ip = new FakeIp([{ local: SOURCE, prefixlen: 24, device: 'eth0', validSec: null }]);
  ip.leavesBy.set(SOURCE, 'eth1');
  const { result, routeChecks } = await secure(t, ip, TARGET, 500, foundOf([SOURCE]));
  assert(!('plan' in result));
  const refused = routeChecks.find(({ severity }) => severity === 'refuse');
  assert.match(refused?.message ?? '', /198\.51\.100\.2 \(it is on eth0 and leaves by eth1\)/);
});

test('when no address of this host gets an answer it is a warning: the run counts what the target does', async (t) => {
  const ip = new FakeIp([{ local: SOURCE, prefixlen: 24, device: 'eth0', validSec: null }]);
  ip.leavesBy.set(SOURCE, 'eth0');
  const { result, routeChecks } = await secure(t, ip, TARGET, 500, foundOf([SOURCE]));
  assert('plan' in result);
  assert.deepEqual(result.choice.addresses, [SOURCE]);
  assert.equal(routeChecks[0]?.severity, 'warn');
  assert.match(
    routeChecks[0]?.message ?? '',
    /gives no address of this host an answer \(not an address of this/,
  );
});
