/** Owns the proof that readings keep their least and most, and that the ladder of SYN retransmits is the kernel's. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, type TestContext, test } from 'node:test';
import {
  keptCounters,
  OwnNetworkWatch,
  readCounters,
  readKernel,
  readNetworkSettings,
  synLadderSec,
  tcpExtDelta,
  withReadings,
} from '../../src/host/kernel-evidence.ts';
import { type FakeKernel, fakeKernel } from './fake-kernel.ts';

test('the ladder of retransmits is that of this kernel and that of older ones', () => {
  assert.deepEqual(synLadderSec(4).slice(0, 7), [1, 2, 3, 4, 5, 7, 11]);
  assert.deepEqual(synLadderSec(0).slice(0, 5), [1, 3, 7, 15, 31]);
  assert.deepEqual(synLadderSec(null), synLadderSec(0));
});

test('readings keep the least, the most and the last; one that is missing now changes nothing', () => {
  let samples = withReadings({}, { conntrack: { value: 5, limit: 100 } });
  samples = withReadings(samples, {
    conntrack: { value: 90, limit: 100 },
    'time-wait': { value: 1, limit: null },
  });
  samples = withReadings(samples, { conntrack: { value: 20, limit: 50 } });
  assert.deepEqual(samples, {
    conntrack: { min: 5, max: 90, last: 20, limit: 50 },
    'time-wait': { min: 1, max: 1, last: 1, limit: null },
  });
});

test('only counters that say something about connections are kept', () => {
  assert.deepEqual(keptCounters({ ListenOverflows: 3, InSegs: 1_000, oom_kill: 1, RetransSegs: 0 }), {
    ListenOverflows: 3,
    oom_kill: 1,
  });
});

const FILES: Readonly<Record<string, string>> = {
  'sys/net/netfilter/nf_conntrack_count': '1200\n',
  'sys/net/netfilter/nf_conntrack_max': '262144\n',
  'sys/net/ipv4/neigh/default/gc_thresh3': '1024\n',
  'sys/net/ipv4/tcp_max_tw_buckets': '131072\n',
  'sys/net/ipv4/tcp_mem': '100\t200\t300\n',
  'net/stat/arp_cache': 'entries  allocs   destroys\n0000001f 00000002 00000003\n0000001f 0 0\n',
  'net/sockstat': 'sockets: used 300\nTCP: inuse 27 orphan 1 tw 9 alloc 40 mem 12\nUDP: inuse 4 mem 2\n',
  'net/snmp': 'Tcp: RtoAlgorithm RetransSegs\nTcp: 1 77\n',
  'net/netstat': 'TcpExt: ListenOverflows TCPSynRetrans\nTcpExt: 5 6\n',
  vmstat: 'nr_free_pages 100\noom_kill 2\noom_kill_other 9\n',
};

test('every reading has its limit beside it, and the kills for memory are among the counters', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'c100k-proc-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(FILES)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  assert.deepEqual(readKernel(root), {
    conntrack: { value: 1_200, limit: 262_144 },
    neighbours: { value: 31, limit: 1_024 },
    'tcp-sockets': { value: 27, limit: null },
    'time-wait': { value: 9, limit: 131_072 },
    'tcp-memory-pages': { value: 12, limit: 300 },
  });
  const { RetransSegs, ListenOverflows, oom_kill } = readCounters(root);
  assert.deepEqual([RetransSegs, ListenOverflows, oom_kill], [77, 5, 2]);
});

test('a host that tells nothing gives no readings', () => {
  assert.deepEqual(readKernel('/nonexistent'), {});
  assert.deepEqual(readCounters('/nonexistent'), {});
});

test('this host has sockets and counters', () => {
  assert.ok((readKernel()['tcp-sockets']?.value ?? -1) >= 0);
  assert.ok((readCounters().ActiveOpens ?? 0) > 0);
});

let kernel: FakeKernel | null = null;
afterEach(() => kernel?.remove());

test('counters of Tcp and TcpExt are read by name; other groups are not', () => {
  kernel = fakeKernel({
    'proc/net/snmp':
      'Ip: Forwarding\nIp: 2\nTcp: MaxConn RetransSegs\nTcp: -1 12\nUdp: InDatagrams\nUdp: 9\n',
    'proc/net/netstat': 'TcpExt: ListenOverflows ListenDrops\nTcpExt: 3 4\nIpExt: InOctets\nIpExt: 1\n',
  });
  assert.deepEqual(readCounters(kernel.procRoot), {
    IpForwarding: 2,
    MaxConn: -1,
    RetransSegs: 12,
    ListenOverflows: 3,
    ListenDrops: 4,
  });
});

test('without the files there are no counters', () => {
  kernel = fakeKernel();
  assert.deepEqual(readCounters(kernel.procRoot), {});
});

test('a counter that is no finite number is none', () => {
  const long = '9'.repeat(400);
  kernel = fakeKernel({
    'proc/net/snmp': `Tcp: A B C\nTcp: x ${long} 3\n`,
    'proc/net/snmp6': `Ip6InReceives ${long}\n`,
    'proc/net/sockstat': `TCP: inuse ${long} tw 4\n`,
  });
  assert.deepEqual(readCounters(kernel.procRoot), { C: 3 });
  assert.deepEqual(Object.keys(readKernel(kernel.procRoot)), ['time-wait']);
});

test('a delta names what changed', () => {
  assert.deepEqual(tcpExtDelta({ A: 1, B: 2 }, { A: 1, B: 5, C: 7 }), { B: 3, C: 7 });
});

test('the kernel counts a connection that is opened on loopback', async () => {
  const before = readCounters();
  for (const name of ['RetransSegs', 'TCPSynRetrans', 'ListenOverflows', 'ListenDrops']) {
    assert.equal(typeof before[name], 'number', name);
  }
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const socket = connect((server.address() as { port: number }).port, '127.0.0.1').resume();
  await new Promise((resolve) => socket.once('close', resolve));
  server.close();
  const delta = tcpExtDelta(before, readCounters());
  assert.ok((delta.ActiveOpens ?? 0) >= 1);
  assert.ok((delta.PassiveOpens ?? 0) >= 1);
});

const CONF = 'proc/sys/net/ipv4/conf';

test('the larger of the setting for all devices and of the device itself counts', (t) => {
  const kernel = fakeKernel({
    'proc/sys/net/ipv4/neigh/default/gc_thresh3': '4096\n',
    [`${CONF}/all/rp_filter`]: '1\n',
    [`${CONF}/eth0/rp_filter`]: '0\n',
    [`${CONF}/eth1/rp_filter`]: '2\n',
    [`${CONF}/all/promote_secondaries`]: '0\n',
    [`${CONF}/eth0/promote_secondaries`]: '0\n',
    [`${CONF}/eth1/promote_secondaries`]: '1\n',
  });
  t.after(() => kernel.remove());
  assert.deepEqual(readNetworkSettings(['eth0', 'eth1'], kernel.procRoot), {
    neighboursMax: 4_096,
    rpFilter: { eth0: 1, eth1: 2 },
    promoteSecondaries: { eth0: 0, eth1: 1 },
  });
});

test('what cannot be read is not made up: a device without settings is absent, the table has no size', (t) => {
  const kernel = fakeKernel({ [`${CONF}/all/rp_filter`]: '1\n' });
  t.after(() => kernel.remove());
  assert.deepEqual(readNetworkSettings(['gone0'], kernel.procRoot), {
    neighboursMax: null,
    rpFilter: {},
    promoteSecondaries: {},
  });
});

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
