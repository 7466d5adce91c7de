import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostAlias } from '../../src/run/alias.ts';
import { addAliases, removeAliases, renewAliases } from '../../src/sources/aliases.ts';
import { FakeIp } from '../host/fake-ip.ts';

const A = hostAlias('10.9.0.101', 'eth0');
const B = hostAlias('10.9.0.102', 'eth0');
const NOWHERE = hostAlias('10.9.0.103', 'nodev');

test('what is added, what was there, and what failed are told apart in one batch', async () => {
  const ip = new FakeIp([{ local: B.address, prefixlen: 32, device: 'eth0', validSec: null }]);
  const { added, present, failed } = await addAliases(ip.run, [A, B, NOWHERE], 60);
  assert.deepEqual(added, [A]);
  assert.deepEqual(present, [B]);
  assert.deepEqual(failed, [{ alias: NOWHERE, why: 'Cannot find device "nodev"' }]);
  assert.equal(ip.addresses.find((one) => one.local === A.address)?.validSec, 60);
  assert.equal(ip.addresses.find((one) => one.local === B.address)?.validSec, null, 'not touched');
});

test('a removed address that was gone already is no failure', async () => {
  const ip = new FakeIp([{ local: A.address, prefixlen: 32, device: 'eth0', validSec: 9 }]);
  assert.deepEqual(await removeAliases(ip.run, [A, B]), []);
  assert.deepEqual(ip.addresses, []);
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
