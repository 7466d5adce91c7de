import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { after, before, test } from 'node:test';
import type { Endpoint } from '../../src/base/endpoint.ts';
import {
  countEstablished,
  countSockets,
  type SocketQuery,
  untilClosed,
} from '../../src/host/kernel-count.ts';
import { FakeTime } from '../support/fake-time.ts';
import { HANG_MS, pause, settled } from '../support/waiting.ts';

/** A kernel, or a filter on system calls, that refuses netlink. */
const refused = async (): Promise<boolean> => false;

/** All ways of asking must agree on real sockets. */
const METHODS = [
  ['sock-diag', {}],
  ['ss', { dump: refused }],
  ['proc-net-tcp', { dump: refused, ss: 'c100k-no-such-program' }],
] as const;

const SOURCES_OF_CLOSED = { 'sock-diag': '127.0.0.7', ss: '127.0.0.5', 'proc-net-tcp': '127.0.0.6' } as const;

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
    const source = SOURCES_OF_CLOSED[method];
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
    assert.deepEqual(waiting, { count: 2, others: null, method });
  });
}

test('a host whose kernel cannot be asked says so, instead of counting 0', async () => {
  const result = await countEstablished({
    sources: ['127.0.0.2'],
    ports: null,
    endpoints: [first],
    procRoot: '/nonexistent',
  });
  assert.deepEqual(result, { established: null, others: null, method: 'none' });
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
