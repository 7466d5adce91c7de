import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { after, before, test } from 'node:test';
import type { Endpoint } from '../../src/base/endpoint.ts';
import * as libc from '../../src/engine/libc.ts';
import { portOf, sockAddr } from '../../src/engine/libc.ts';
import {
  countEstablished,
  countSockets,
  FarSideWatch,
  type SocketQuery,
  untilClosed,
} from '../../src/host/kernel-count.ts';
import { FakeTime } from '../support/fake-time.ts';
import { HANG_MS, pause, settled } from '../support/waiting.ts';

/** Both ways of asking must agree on real sockets. */
const METHODS = [
  ['ss', {}],
  ['proc-net-tcp', { ss: 'c100k-no-such-program' }],
] as const;

const servers: Server[] = [];
const sockets: Socket[] = [];

async function listen(host: string): Promise<Endpoint> {
  const server = createServer((socket) => sockets.push(socket.on('error', () => {})));
  servers.push(server.listen({ port: 0, host }));
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  return { address: host, port, family: host.includes(':') ? 6 : 4 };
}

async function open(
  endpoint: Endpoint,
  localAddress: string,
  count: number,
  host = endpoint.address,
): Promise<number[]> {
  const opened = Array.from({ length: count }, () => connect({ host, port: endpoint.port, localAddress }));
  sockets.push(...opened);
  await Promise.all(opened.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  return opened.map((socket) => socket.localPort ?? 0);
}

let first: Endpoint;
let second: Endpoint;
let sixth: Endpoint;
let portsOfTwo: number[];

before(async () => {
  first = await listen('127.0.0.1');
  second = await listen('127.0.0.1');
  sixth = await listen('::1');
  portsOfTwo = await open(first, '127.0.0.2', 40);
  await open(first, '127.0.0.3', 7);
  await open(second, '127.0.0.2', 5);
  await open(sixth, '::1', 9);
  await open(first, '::ffff:127.0.0.4', 3, '::ffff:127.0.0.1');
});

after(async () => {
  for (const socket of sockets) socket.destroy();
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
});

for (const [method, options] of METHODS) {
  const count = async (query: Omit<SocketQuery, 'state'>): Promise<number | null> => {
    const result = await countEstablished({ ...query, ...options });
    assert.equal(result.method, method);
    return result.established;
  };

  test(`${method}: counts the client side alone, by source address and endpoint`, async () => {
    const rows: [string[] | null, Endpoint[], number][] = [
      [['127.0.0.2'], [first], 40],
      [['127.0.0.3'], [first], 7],
      [['127.0.0.2', '127.0.0.3'], [first], 47],
      [['127.0.0.2'], [second], 5],
      [['127.0.0.2'], [first, second], 45],
      [['127.0.0.9'], [first], 0],
      // The server's own address as a source: its sockets are the far ends, and do not count.
      [['127.0.0.1'], [first], 0],
      [null, [first], 50],
    ];
    for (const [sources, endpoints, expected] of rows) {
      assert.equal(
        await count({ sources, ports: null, endpoints }),
        expected,
        `${sources} ${endpoints.length}`,
      );
    }
  });

  test(`${method}: counts IPv6, and IPv4-mapped IPv6 sockets as IPv4`, async () => {
    assert.equal(await count({ sources: ['::1'], ports: null, endpoints: [sixth] }), 9);
    assert.equal(await count({ sources: ['127.0.0.4'], ports: null, endpoints: [first] }), 3);
    assert.equal(await count({ sources: ['127.0.0.2', '::1'], ports: null, endpoints: [first, sixth] }), 49);
  });

  test(`${method}: counts only source ports within the ranges`, async () => {
    const low = Math.min(...portsOfTwo);
    const high = Math.max(...portsOfTwo);
    const query = { sources: ['127.0.0.2'], endpoints: [first] };
    assert.equal(await count({ ...query, ports: [{ from: low, to: high }] }), 40);
    assert.equal(await count({ ...query, ports: [{ from: low, to: low }] }), 1);
    assert.equal(await count({ ...query, ports: [{ from: 1, to: low - 1 }] }), 0);
  });

  test(`${method}: an endpoint among a run of 81 ports and among 300 scattered ones is found`, async () => {
    const near = Array.from({ length: 81 }, (_, index) => ({
      ...first,
      port: Math.min(65_455, first.port) + index,
    }));
    const endpoints = near.some((end) => end.port === first.port) ? near : [...near, first];
    assert.equal(
      await count({
        sources: ['127.0.0.2'],
        ports: null,
        endpoints: endpoints.filter((end) => end.port !== second.port),
      }),
      40,
    );
    const scattered = Array.from({ length: 300 }, (_, index) => ({ ...first, port: 1_001 + index * 2 }));
    assert.equal(await count({ sources: ['127.0.0.2'], ports: null, endpoints: [...scattered, first] }), 40);
  });

  test(`${method}: a connection that is closed no longer counts, and one that we closed first waits`, async () => {
    const endpoint = await listen('127.0.0.1');
    const source = method === 'ss' ? '127.0.0.5' : '127.0.0.6';
    await open(endpoint, source, 6);
    const query = { sources: [source], ports: null, endpoints: [endpoint] };
    assert.equal(await count(query), 6);
    const mine = sockets.filter((socket) => socket.localAddress === source);
    const ended = Promise.all(
      mine.slice(0, 2).map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    );
    for (const socket of mine.slice(0, 2)) socket.resume().end();
    for (const socket of sockets) if (socket.remoteAddress === source) socket.resume();
    await ended;
    assert.equal(await count(query), 4);
    const waiting = await countSockets({ ...query, ...options, state: 'time-wait' });
    assert.deepEqual(waiting, { count: 2, method });
  });
}

test('a host whose kernel cannot be asked says so, instead of counting 0', async () => {
  const result = await countEstablished({
    sources: ['127.0.0.2'],
    ports: null,
    endpoints: [first],
    procRoot: '/nonexistent',
  });
  assert.deepEqual(result, { established: null, method: 'none' });
});

const SOURCE = '127.66.3.1';

test('it waits while the far end has not closed its side, for these addresses only, and not for ever', async (t) => {
  const accepted: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket));
  server.listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect({ host: '127.0.0.1', port, localAddress: SOURCE });
  t.after(() => client.destroy());
  await once(client, 'connect');
  if (accepted.length === 0) await once(server, 'connection');
  const [far] = accepted;
  assert(far);
  // An open connection is not a closing one.
  await settled('an open connection is not waited for', untilClosed([SOURCE], 10 * HANG_MS));

  far.resume();
  client.end();
  await once(far, 'end');
  const limitMs = await timed(() => untilClosed([SOURCE], 300));
  assert(limitMs >= 300, `it gave up after ${limitMs} ms`);
  await settled('another address is not waited for', untilClosed(['127.66.3.2'], 10 * HANG_MS));

  let isClosed = false;
  const closed = untilClosed([SOURCE], 10 * HANG_MS).then(() => {
    isClosed = true;
  });
  await pause(300);
  assert.equal(isClosed, false, 'the far end has not answered');
  far.end();
  await settled('it is over when the far end closes', closed);
});

test('two seconds are two seconds, also where each look takes more than one', async () => {
  const waiting = new FakeTime();
  const limits: number[] = [];
  const count = async (_ours: ReadonlySet<string>, timeoutMs: number): Promise<number> => {
    limits.push(timeoutMs);
    waiting.now += Math.min(timeoutMs, 1_150);
    return 7;
  };
  const beganMs = waiting.now;
  await untilClosed([SOURCE], 2_000, { count, waiting });
  assert.equal(waiting.now - beganMs, 2_000);
  assert.deepEqual(limits, [2_000, 750], 'a look may take no longer than what is left');
});

test('it waits no longer where the kernel cannot be asked', async () => {
  const waiting = new FakeTime();
  await untilClosed([SOURCE], 2_000, { count: async () => null, waiting });
  assert.deepEqual(waiting.pauses, []);
});

async function timed(body: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await body();
  return performance.now() - beganMs;
}

const endpointOf = (port: number) => ({ address: '127.0.0.1', port, family: 4 as const });

async function connected(port: number, localAddress: string, count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect({ port, host: '127.0.0.1', localAddress }));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  return sockets;
}

test('connections that no process has accepted wait; those of other sources are not ours', async (t) => {
  const fd = libc.tcpSocket(libc.AF_INET);
  const any = sockAddr('127.0.0.1', 0);
  assert.equal(libc.bind(fd, any.bytes, any.length), 0);
  assert.equal(libc.listen(fd, 64), 0);
  const named = new Uint8Array(28);
  assert.equal(libc.getsockname(fd, named, new Int32Array([28])), 0);
  const endpoint = endpointOf(portOf(named));
  const sockets = [
    ...(await connected(endpoint.port, '127.0.0.91', 5)),
    ...(await connected(endpoint.port, '127.0.0.92', 3)),
  ];
  const accepted = [0, 1].map(() => libc.accept(fd, new Uint8Array(28), new Int32Array([28])));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    for (const each of [fd, ...accepted]) libc.close(each);
  });
  const watch = new FarSideWatch([endpoint], ['127.0.0.91', '127.0.0.92']);
  await watch.lookAtConnections();
  const seen = watch.facts()[`127.0.0.1:${endpoint.port}`];
  assert.deepEqual([seen?.waitingLast, seen?.takenLast, seen?.halfOpenMax], [6, 2, 0]);
  assert.deepEqual([seen?.isQueueFull, seen?.isOwnerGone], [false, false]);
  assert.equal(seen?.descriptorsMax, libc.descriptorsMax());
  assert(Math.abs((seen?.descriptorsUsed ?? 0) - readdirSync('/proc/self/fd').length) < 20);
  const ofOne = new FarSideWatch([endpoint], ['127.0.0.92']);
  await ofOne.lookAtConnections();
  const own = ofOne.facts()[`127.0.0.1:${endpoint.port}`];
  assert.equal((own?.waitingLast ?? 0) + (own?.takenLast ?? 0), 3);
});

test('a queue with more than its backlog is full', async (t) => {
  const fd = libc.tcpSocket(libc.AF_INET);
  const any = sockAddr('127.0.0.1', 0);
  assert.equal(libc.bind(fd, any.bytes, any.length), 0);
  assert.equal(libc.listen(fd, 1), 0);
  const named = new Uint8Array(28);
  assert.equal(libc.getsockname(fd, named, new Int32Array([28])), 0);
  const endpoint = endpointOf(portOf(named));
  const sockets = await connected(endpoint.port, '127.0.0.93', 2);
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    libc.close(fd);
  });
  const watch = new FarSideWatch([endpoint], ['127.0.0.93']);
  await watch.lookAtListeners();
  assert.equal(watch.facts()[`127.0.0.1:${endpoint.port}`]?.isQueueFull, true);
});

test('a listener whose process has ended is gone, and what never listened here is not spoken of', async (t) => {
  const script = `require('net').createServer(() => {}).listen(0, '127.0.0.1', function () { console.log(this.address().port) })`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const endpoint = endpointOf(Number(line.toString()));
  const watch = new FarSideWatch([endpoint, endpointOf(1)], ['127.0.0.94']);
  await watch.lookAtListeners();
  const name = `127.0.0.1:${endpoint.port}`;
  assert.equal(watch.facts()[name]?.isOwnerGone, false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(watch.facts()[name]?.isOwnerGone, true);
  assert.deepEqual(Object.keys(watch.facts()), [name]);
});

test('without ss nothing is known, and a listener of every address is found', async () => {
  const missing = new FarSideWatch([endpointOf(7)], [], async () => ({
    ...{ code: null, stdout: '', stderr: '', missing: true, truncated: false },
  }));
  await missing.lookAtListeners();
  assert.deepEqual(missing.facts(), {});
  const server = createServer(() => {}).listen(0, '::');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const watch = new FarSideWatch([endpointOf(port)], []);
  await watch.lookAtListeners();
  server.close();
  assert.deepEqual(Object.keys(watch.facts()), [`127.0.0.1:${port}`]);
});

test('the processes of listeners are asked for until they are known, and then no more: each such look reads every descriptor', async () => {
  const asked: string[] = [];
  const results = [1, 0, 0];
  const watch = new FarSideWatch(
    [{ address: '127.0.0.1', port: 8_000, family: 4 }],
    ['127.0.0.1'],
    async (_program, [columns = '']) => {
      asked.push(columns);
      const stdout = `LISTEN 0 511 127.0.0.1:8000 0.0.0.0:* users:(("node",pid=${process.pid},fd=19))\n`;
      return { code: results[asked.length - 1] ?? 0, stdout, stderr: '', missing: false, truncated: false };
    },
  );
  for (let look = 0; look < 3; look++) await watch.lookAtListeners();
  assert.deepEqual(asked, ['-Htnlp', '-Htnlp', '-Htnl']);
  const { descriptorsUsed } = watch.facts()['127.0.0.1:8000'] ?? {};
  assert((descriptorsUsed ?? 0) > 3, `${descriptorsUsed} descriptors of this process`);
});
