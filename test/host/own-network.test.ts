/** Tests what of this host's own network is missed: what was there at the start and is not there any more. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { OwnNetworkWatch } from '../../src/host/own-network.ts';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
/** 10.9.0.0/16 on eth0, as the kernel writes it. */
const NET = 'eth0\t0000090A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n';
const DEFAULT = 'eth0\t00000000\t0100090A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n';

function hostOf(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'own-network-'));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'net'));
  const link = (device: string, flags: string, carrier: string): void => {
    mkdirSync(join(root, 'class/net', device), { recursive: true });
    writeFileSync(join(root, 'class/net', device, 'flags'), `${flags}\n`);
    writeFileSync(join(root, 'class/net', device, 'carrier'), `${carrier}\n`);
  };
  const routes = (text: string): void => writeFileSync(join(root, 'net/route'), HEAD + text);
  link('eth0', '0x1003', '1');
  link('eth1', '0x1002', '0');
  routes(NET);
  const addresses = new Set(['10.9.0.1', '10.9.0.2']);
  const endpoints = ['10.9.3.4', '192.0.2.1'].map((address) => ({ address, port: 80, family: 4 as const }));
  const watch = new OwnNetworkWatch({
    devices: ['eth0', 'eth0', 'eth1', 'gone0'],
    endpoints: [...endpoints, { address: '2001:db8::1', port: 80, family: 6 }],
    sources: ['10.9.0.1', '10.9.0.2', '10.9.0.3'],
    procRoot: root,
    sysRoot: root,
    addresses: () => addresses,
  });
  return { watch, link, routes, addresses };
}

const NOTHING = { linksDown: {}, routesLost: [], addressesLost: [] };

test('what never was there is not missed: a device that was down, a route of another table, an address of a prefix', (t) => {
  assert.deepEqual(hostOf(t).watch.look(), NOTHING);
});

test('a device goes down by order or by its carrier, and comes back', (t) => {
  const { watch, link } = hostOf(t);
  link('eth0', '0x1003', '0');
  assert.deepEqual(watch.look().linksDown, { eth0: 'carrier' });
  link('eth0', '0x1002', '0');
  assert.deepEqual(watch.look().linksDown, { eth0: 'administrative' });
  link('eth0', '0x1003', '1');
  assert.deepEqual(watch.look(), NOTHING);
});

test('a route that is gone is missed, unless another one takes its place', (t) => {
  const { watch, routes } = hostOf(t);
  routes(DEFAULT);
  assert.deepEqual(watch.look().routesLost, []);
  routes('');
  assert.deepEqual(watch.look().routesLost, ['10.9.3.4:80']);
});

test('a source address that is gone is missed', (t) => {
  const { watch, addresses } = hostOf(t);
  addresses.delete('10.9.0.2');
  assert.deepEqual(watch.look().addressesLost, ['10.9.0.2']);
});
