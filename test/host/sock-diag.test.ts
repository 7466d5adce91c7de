import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import type { PortRange } from '../../src/base/tuple-space.ts';
import { addressKey, dumpSockets, TcpState } from '../../src/host/sock-diag.ts';

type SocketFilter = Parameters<typeof dumpSockets>[0];

const SOURCE = '127.66.4.1';
const servers: Server[] = [];
const sockets: Socket[] = [];
const far: Socket[] = [];

/** Our ends, by local port and remote port; what the kernel lets through, without a judgement of ours. */
async function dumped(filter: Partial<SocketFilter>): Promise<[number, number][]> {
  const seen: [number, number][] = [];
  const key = addressKey(SOURCE);
  const isAnswered = await dumpSockets(
    { states: [TcpState.established], localPorts: null, remotePorts: null, ...filter },
    (socket) => {
      if (socket.localAddress === key) seen.push([socket.localPort, socket.remotePort]);
    },
  );
  assert.equal(isAnswered, true);
  return seen.sort(([left], [right]) => left - right);
}

async function listen(): Promise<number> {
  const server = createServer((socket) => far.push(socket)).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as { port: number }).port;
}

let ports: readonly number[] = [];
/** [local port, remote port] of each, in the order of local ports */
let all: [number, number][] = [];

before(async () => {
  ports = [await listen(), await listen(), await listen()];
  for (const port of ports) {
    for (let count = 0; count < 20; count++) {
      const socket = connect({ port, host: '127.0.0.1', localAddress: SOURCE });
      sockets.push(socket);
      await once(socket, 'connect');
      all.push([socket.localPort ?? 0, port]);
    }
  }
  all = all.sort(([left], [right]) => left - right);
});

after(() => {
  for (const socket of [...sockets, ...far]) socket.destroy();
  for (const server of servers) server.close();
});

const only = (port: number | undefined): PortRange[] => [{ from: port ?? 0, to: port ?? 0 }];

test('without ports every socket of the state comes, and none of another state', async () => {
  assert.deepEqual(await dumped({}), all);
  assert.deepEqual(await dumped({ states: [TcpState.timeWait, TcpState.listen] }), []);
});

test('the kernel lets through what has one of the ports on each side', async () => {
  const [first, second, third] = ports;
  assert.deepEqual(
    await dumped({ remotePorts: only(first) }),
    all.filter(([, remote]) => remote === first),
  );
  assert.deepEqual(
    await dumped({ remotePorts: [...only(first), ...only(1), ...only(third)] }),
    all.filter(([, remote]) => remote !== second),
  );
  const [low, high] = [all[10]?.[0] ?? 0, all[30]?.[0] ?? 0];
  const within = all.filter(([local]) => local >= low && local <= high);
  assert(within.length === 21);
  assert.deepEqual(await dumped({ localPorts: [{ from: low, to: high }] }), within);
  const outside = [
    { from: 1, to: low - 1 },
    { from: high + 1, to: 65_535 },
  ];
  assert.deepEqual(
    await dumped({ localPorts: outside, remotePorts: only(second) }),
    all.filter(([local, remote]) => (local < low || local > high) && remote === second),
  );
  assert.deepEqual(await dumped({ remotePorts: only(1) }), []);
});

test('the longest program is taken by the kernel, and beyond it everything is let through', async () => {
  const scattered = (count: number): PortRange[] =>
    Array.from({ length: count }, (_, index) => ({ from: 1 + 2 * index, to: 1 + 2 * index }));
  const last = [...scattered(255), ...only(ports[2])];
  assert.deepEqual(
    await dumped({ remotePorts: last, localPorts: [...scattered(255), { from: 1_024, to: 65_535 }] }),
    all.filter(([, remote]) => remote === ports[2]),
  );
  assert.deepEqual(await dumped({ remotePorts: scattered(257) }), all);
});

test('a socket that no process has accepted has no inode; what waits at a listener is its receive queue', async () => {
  const remotePorts = only(ports[0]);
  let ours = 0;
  const ownPorts = new Set(all.map(([local]) => local));
  await dumpSockets({ states: [TcpState.established], localPorts: null, remotePorts }, (socket) => {
    // Other programs may have connections to the same number of a port.
    if (socket.inode !== 0 && ownPorts.has(socket.localPort)) ours++;
  });
  assert.equal(ours, 20);
  const listeners: [number, number][] = [];
  await dumpSockets(
    { states: [TcpState.listen], localPorts: remotePorts, remotePorts: null },
    ({ receiveQueue, sendQueue }) => listeners.push([receiveQueue, sendQueue]),
  );
  assert.equal(listeners.length, 1);
  assert.equal(listeners[0]?.[0], 0);
  assert((listeners[0]?.[1] ?? 0) > 0, 'a backlog');
});

test('an address is the same in each way of writing it', () => {
  assert.equal(addressKey('::ffff:1.2.3.4'), addressKey('1.2.3.4'));
  assert.equal(addressKey('1.2.3.4'), '\x01\x02\x03\x04');
  assert.equal(addressKey('::1').length, 16);
});
