import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { afterEach, test } from 'node:test';
import { readTcpExt, tcpExtDelta } from '../../src/host/tcp-counters.ts';
import { type FakeKernel, fakeKernel } from './fake-kernel.ts';

let kernel: FakeKernel | null = null;
afterEach(() => kernel?.remove());

test('counters of Tcp and TcpExt are read by name; other groups are not', () => {
  kernel = fakeKernel({
    'proc/net/snmp':
      'Ip: Forwarding\nIp: 2\nTcp: MaxConn RetransSegs\nTcp: -1 12\nUdp: InDatagrams\nUdp: 9\n',
    'proc/net/netstat': 'TcpExt: ListenOverflows ListenDrops\nTcpExt: 3 4\nIpExt: InOctets\nIpExt: 1\n',
  });
  assert.deepEqual(readTcpExt(kernel.procRoot), {
    MaxConn: -1,
    RetransSegs: 12,
    ListenOverflows: 3,
    ListenDrops: 4,
  });
});

test('without the files there are no counters', () => {
  kernel = fakeKernel();
  assert.deepEqual(readTcpExt(kernel.procRoot), {});
});

test('a delta names what changed', () => {
  assert.deepEqual(tcpExtDelta({ A: 1, B: 2 }, { A: 1, B: 5, C: 7 }), { B: 3, C: 7 });
});

test('the kernel counts a connection that is opened on loopback', async () => {
  const before = readTcpExt();
  for (const name of ['RetransSegs', 'TCPSynRetrans', 'ListenOverflows', 'ListenDrops']) {
    assert.equal(typeof before[name], 'number', name);
  }
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const socket = connect((server.address() as { port: number }).port, '127.0.0.1').resume();
  await new Promise((resolve) => socket.once('close', resolve));
  server.close();
  const delta = tcpExtDelta(before, readTcpExt());
  assert.ok((delta.ActiveOpens ?? 0) >= 1);
  assert.ok((delta.PassiveOpens ?? 0) >= 1);
});
