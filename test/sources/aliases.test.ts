import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hostAlias } from '../../src/run/alias.ts';
import { AliasRecords } from '../../src/sources/alias-records.ts';
import { addAliases, removeAliases, removeLeftovers, renewAliases } from '../../src/sources/aliases.ts';
import { type FakeAddress, FakeIp } from '../host/fake-ip.ts';

const A = hostAlias('10.9.0.101', 'eth0');
const B = hostAlias('10.9.0.102', 'eth0');
const NOWHERE = hostAlias('10.9.0.103', 'nodev');

test('what is added, what was there, and what failed are distinguished in one batch', async () => {
  const ip = new FakeIp([{ local: B.address, prefixlen: 32, device: 'eth0', validSec: null }]);
  const { added, present, failed } = await addAliases(ip.run, [A, B, NOWHERE], 60);
  assert.deepEqual(added, [A]);
  assert.deepEqual(present, [B]);
  assert.deepEqual(failed, [{ alias: NOWHERE, why: 'Cannot find device "nodev"' }]);
  assert.equal(ip.addresses.find((one) => one.local === A.address)?.validSec, 60);
  assert.equal(ip.addresses.find((one) => one.local === B.address)?.validSec, null, 'not touched');
});

test('a removed address that was gone already is no failure', async () => {
  const label = 'eth0:c100k';
  const ip = new FakeIp([{ local: A.address, prefixlen: 32, device: 'eth0', validSec: 9, label }]);
  assert.deepEqual(await removeAliases(ip.run, [A, B]), []);
  assert.deepEqual(ip.addresses, []);
});

test('what another program has added in the place of an alias stays, and is no failure; one of ours that stays is one', async () => {
  const foreign = { local: A.address, prefixlen: 32, device: 'eth0', validSec: null };
  const relabelled = { local: B.address, prefixlen: 32, device: 'eth0', validSec: 9, label: 'eth0:b' };
  const ip = new FakeIp([foreign, relabelled]);
  const failed = await removeAliases(ip.run, [A, B]);
  assert.deepEqual(failed, [{ alias: B, why: 'ipv4: Address not found.' }]);
  assert.deepEqual(ip.addresses, [foreign, relabelled]);
});

test('a renewed address has its lifetime again', async () => {
  const ip = new FakeIp([{ local: A.address, prefixlen: 32, device: 'eth0', validSec: 2 }]);
  assert.deepEqual(await renewAliases(ip.run, [A], 60), []);
  assert.equal(ip.addresses[0]?.validSec, 60);
});

test('without ip everything fails and says so', async () => {
  const ip = new FakeIp();
  ip.isMissing = true;
  assert.deepEqual((await addAliases(ip.run, [A], 60)).failed, [{ alias: A, why: 'ip is missing' }]);
  assert.deepEqual(await removeAliases(ip.run, [A]), [{ alias: A, why: 'ip is missing' }]);
});

/** No process has this id. */
const DEAD_PID = 999_999_999;

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-cleanup-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const ours = (local: string, more: Partial<FakeAddress> = {}): FakeAddress => ({
  local,
  prefixlen: local.includes(':') ? 128 : 32,
  device: 'eth0',
  validSec: 40,
  ...(local.includes(':') ? {} : { label: 'eth0:c100k' }),
  ...more,
});

test('what a dead agent recorded is removed with its record; everything else stays', async (t) => {
  const folder = folderOf(t);
  const named = ['10.9.0.101', 'fd09::a1', '10.9.0.102', '10.9.0.103', '10.9.0.104'].map((one) =>
    hostAlias(one, 'eth0'),
  );
  new AliasRecords({ folder, pid: DEAD_PID }).write(named);
  new AliasRecords({ folder }).write([hostAlias('10.9.0.104', 'eth0')]);
  const byHand: FakeAddress = { local: '10.9.0.2', prefixlen: 24, device: 'eth0', validSec: null };
  const ip = new FakeIp([
    byHand,
    ours('10.9.0.101'),
    ours('fd09::a1'),
    ours('10.9.0.102', { validSec: null }),
    ours('10.9.0.103', { label: 'eth0' }),
    ours('10.9.0.104'),
    ours('10.9.0.200'),
  ]);
  const records = new AliasRecords({ folder });
  const dry = await removeLeftovers(ip.run, records, true);
  assert.equal(ip.commands.length, 0, 'a dry run changes nothing');
  const cleanup = await removeLeftovers(ip.run, records, false);
  assert.deepEqual(cleanup, { ...dry });
  assert.deepEqual(
    cleanup.removed.map(({ address }) => address),
    ['10.9.0.101', 'fd09::a1'],
  );
  assert.deepEqual(
    cleanup.kept.map(({ alias, why }) => [alias.address, why]),
    [
      ['10.9.0.102', 'it was made permanent'],
      ['10.9.0.103', 'it does not carry our label any more'],
      ['10.9.0.104', 'a run that is going on uses it'],
    ],
  );
  assert.deepEqual(
    cleanup.unrecorded.map(({ address }) => address),
    ['10.9.0.200'],
  );
  assert.deepEqual(
    ip.addresses.map(({ local }) => local),
    ['10.9.0.2', '10.9.0.102', '10.9.0.103', '10.9.0.104', '10.9.0.200'],
  );
  assert.equal(readdirSync(folder).length, 1, 'the living record alone is left');
});

test('when the addresses cannot be read nothing is done and no record is erased', async (t) => {
  const folder = folderOf(t);
  new AliasRecords({ folder, pid: DEAD_PID }).write([hostAlias('10.9.0.101', 'eth0')]);
  const ip = new FakeIp([ours('10.9.0.101')]);
  ip.isMissing = true;
  const cleanup = await removeLeftovers(ip.run, new AliasRecords({ folder }), false);
  assert.equal(cleanup.isBlind, true);
  assert.equal(readdirSync(folder).length, 1);
});
