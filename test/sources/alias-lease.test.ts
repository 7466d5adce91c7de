import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hostAlias } from '../../src/run/alias.ts';
import { AliasLease } from '../../src/sources/alias-lease.ts';
import { AliasRecords } from '../../src/sources/alias-records.ts';
import { FakeIp } from '../host/fake-ip.ts';
import { until } from '../support/waiting.ts';

const A = hostAlias('10.9.0.101', 'eth0');
const B = hostAlias('10.9.0.102', 'eth0');
const BY_HAND = { local: '10.9.0.102', prefixlen: 32, device: 'eth0', validSec: null };

function leaseOn(t: TestContext, ip: FakeIp, folder: string, pid = process.pid) {
  const lost: string[] = [];
  const lease = new AliasLease({
    run: ip.run,
    records: new AliasRecords({ folder, pid }),
    leaseMs: 5_000,
    onLost: (addresses) => lost.push(...addresses),
  });
  t.after(() => lease.release());
  return { lease, lost };
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-lease-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const addressesOf = (ip: FakeIp): string[] => ip.addresses.map(({ local }) => local);

test('only what was added is removed: an address that was there is used and stays', async (t) => {
  const ip = new FakeIp([BY_HAND]);
  const { lease } = leaseOn(t, ip, folderOf(t));
  assert.deepEqual(await lease.acquire([A, B]), { failed: [], notes: [] });
  assert.deepEqual(lease.held, [A]);
  assert.deepEqual(await lease.release(), []);
  assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
  assert.equal(ip.addresses[0]?.validSec, null, 'and was not given a lifetime');
});

test('two runs that share an alias: the first to end leaves it, the last one removes it', async (t) => {
  const ip = new FakeIp();
  const folder = folderOf(t);
  const first = leaseOn(t, ip, folder);
  // The parent of this process lives as long as we do.
  const second = leaseOn(t, ip, folder, process.ppid);
  await first.lease.acquire([A, B]);
  await second.lease.acquire([A]);
  assert.deepEqual(second.lease.held, [A]);
  await first.lease.release();
  assert.deepEqual(addressesOf(ip), ['10.9.0.101']);
  await second.lease.release();
  assert.deepEqual(addressesOf(ip), []);
});

test('an alias is renewed while it is there; one that somebody deletes is told once and not added again', async (t) => {
  const ip = new FakeIp();
  const { lease, lost } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([A, B]);
  await lease.watch([A.address, B.address]);
  for (const address of ip.addresses) address.validSec = 1;
  await until('renewed', () => ip.addresses.every(({ validSec }) => validSec === 5));
  ip.addresses.splice(0, 1);
  await until('told', () => lost.length > 0);
  await until('renewed again', () => ip.commands.filter((line) => line.startsWith('addr change')).length > 3);
  assert.deepEqual(lost, ['10.9.0.101']);
  assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
});

test('when the alias of a network goes, all its sources are lost', async (t) => {
  const ip = new FakeIp();
  const { lease, lost } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([{ address: '10.1.0.1', family: 4, prefix: 24, device: 'lo' }]);
  await lease.watch(['10.1.0.1', '10.1.0.2', '10.1.0.254', '127.0.0.2']);
  ip.addresses.length = 0;
  await until('told', () => lost.length > 0);
  assert.deepEqual(lost, ['10.1.0.1', '10.1.0.2', '10.1.0.254']);
});

test('a source that failed its check is given back before the run', async (t) => {
  const ip = new FakeIp();
  const { lease } = leaseOn(t, ip, folderOf(t));
  await lease.acquire([A, B]);
  await lease.give([A]);
  assert.deepEqual(addressesOf(ip), ['10.9.0.102']);
  assert.deepEqual(lease.held, [B]);
});

test('who asks for the release again, as the end of a run does after a refusal, waits until all is removed', async (t) => {
  const ip = new FakeIp();
  let go = (): void => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  let removals = 0;
  const lease = new AliasLease({
    run: async (file, args, options) => {
      if (options.input?.includes(' del ')) {
        removals += 1;
        await gate;
      }
      return ip.run(file, args, options);
    },
    records: new AliasRecords({ folder: folderOf(t) }),
    leaseMs: 5_000,
    onLost: () => {},
  });
  await lease.acquire([A, B]);
  let over = 0;
  const both = Promise.all([1, 2].map(() => lease.release().then(() => over++)));
  await until('the removal has begun', () => removals === 1);
  assert.equal(over, 0, 'the addresses are still there');
  go();
  await both;
  assert.equal(removals, 1);
  assert.deepEqual(addressesOf(ip), []);
});
