/** Tests TLS under the other protocols against Node's own TLS server, and what becomes of certificates that will not do. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { WebSocketServer } from 'ws';
import { DEFAULT_PROTOCOL_OPTIONS, type TlsOptions } from '../../../src/base/endpoint.ts';
import type { HolderSpec } from '../../../src/run/run-spec.ts';
import { HolderProcess } from '../../agent/holder-process.ts';
import { type Certificates, type KeyPair, makeCertificates } from '../../support/certificates.ts';
import { settled, until } from '../../support/waiting.ts';
import { cleanUp, EngineRun, kernelCount, specTo, Target } from '../engine-run.ts';

let certificates: Certificates;
const servers = new Set<Server>();

before(() => {
  certificates = makeCertificates();
});
after(() => certificates.remove());
afterEach(async () => {
  await cleanUp();
  for (const server of servers) server.close();
  servers.clear();
});

async function listening(server: Server): Promise<number> {
  servers.add(server);
  await new Promise<void>((resolve) => {
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 }, () => resolve());
  });
  return (server.address() as AddressInfo).port;
}

/** A TLS server that counts its sessions and does `onSocket`. */
function tlsServer(
  pair: KeyPair,
  onSocket: (socket: TLSSocket) => void = (socket) => socket.resume(),
): Server {
  const server = createServer({ key: pair.key, cert: pair.cert }, onSocket);
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => socket.on('error', () => {}));
  return server;
}

function spec(
  port: number,
  connections: number,
  tls: Partial<TlsOptions>,
  over: Partial<HolderSpec> = {},
): HolderSpec {
  const whole = { servername: null, ca: certificates.ca.cert, isVerified: true, ...tls };
  const protocolOptions = { ...DEFAULT_PROTOCOL_OPTIONS, tls: whole };
  return specTo(port, connections, { protocol: 'tls', pendingMax: 32, protocolOptions, ...over });
}

test('tls:// connections are open once the session is agreed on, and leave no descriptor behind', async () => {
  const names = new Set<string | false | null>();
  const server = tlsServer(certificates.good, (socket) => {
    names.add(socket.servername);
    socket.resume();
  });
  const port = await listening(server);
  const before = readdirSync('/proc/self/fd').length;
  const run = new EngineRun(spec(port, 60, { servername: 'server.test' }));
  const stats = await run.open();
  assert.deepEqual([stats.open, stats.verified, stats.failed], [60, 60, {}]);
  assert.deepEqual([...names], ['server.test']);
  assert.equal(kernelCount('established', port), 60);
  assert.equal(stats.tls?.sessions, 60);
  assert.equal(stats.tls?.resumed, 0);
  assert.deepEqual(Object.values(stats.tls?.ciphers ?? {}), [60]);
  assert.match(Object.keys(stats.tls?.ciphers ?? {})[0] ?? '', /^TLSv1\.3 TLS_/);
  await run.stop();
  await until('the kernel has none left', () => kernelCount('established', port) === 0);
  // The server's ends live in this process too.
  await until('descriptors are given back', () => readdirSync('/proc/self/fd').length <= before);
});

test('with --close fin the server sees the end of the session, not a reset', async () => {
  const errors: string[] = [];
  let ended = 0;
  const server = tlsServer(certificates.good, (socket) => {
    socket.resume();
    socket.on('end', () => ended++);
    socket.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code ?? ''));
  });
  const run = new EngineRun(spec(await listening(server), 20, {}, { close: 'fin' }));
  await run.open();
  await run.stop();
  await until('all have ended', () => ended === 20);
  assert.deepEqual(errors, []);
});

const WRONG: readonly (readonly [
  string,
  (c: Certificates) => KeyPair,
  (c: Certificates) => Partial<TlsOptions>,
  string,
])[] = [
  [
    'a CA that signed something else',
    (c) => c.good,
    (c) => ({ ca: c.unknownCa.cert }),
    'tls UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  ],
  [
    'a name that the certificate has not',
    (c) => c.otherName,
    () => ({ servername: 'server.test' }),
    'tls ERR_TLS_CERT_ALTNAME_INVALID',
  ],
  [
    'an address that the certificate has not',
    (c) => c.otherName,
    () => ({}),
    'tls ERR_TLS_CERT_ALTNAME_INVALID',
  ],
  ['an expired certificate', (c) => c.expired, () => ({}), 'tls CERT_HAS_EXPIRED'],
];

for (const [what, pairOf, optionsOf, detail] of WRONG) {
  test(`${what}: each connection fails as tls, with its code; --insecure takes it`, async () => {
    const port = await listening(tlsServer(pairOf(certificates)));
    const options = optionsOf(certificates);
    const run = new EngineRun(spec(port, 12, options));
    const stats = await run.open();
    assert.deepEqual(stats.failed, { tls: 12 });
    assert.deepEqual(stats.troubles, { [detail]: 12 });
    await run.stop();
    const careless = new EngineRun(spec(port, 12, { ...options, isVerified: false }));
    const taken = await careless.open();
    assert.equal(taken.open, 12);
    assert.equal(taken.tls?.unverified, 12);
    await careless.stop();
  });
}

test('a target that does not speak TLS, or hangs up, is no certificate error', async () => {
  const plain = await Target.listen((socket) =>
    socket.on('data', () => socket.write('HTTP/1.1 400 Bad\r\n\r\n')),
  );
  const run = new EngineRun(spec(plain.port, 5, {}));
  const stats = await run.open();
  assert.deepEqual(stats.failed, { tls: 5 });
  assert.deepEqual(stats.troubles, { 'tls ERR_SSL_WRONG_VERSION_NUMBER': 5 });
  await run.stop();
  await plain.close();
  const rude = await Target.listen((socket) => socket.on('data', () => socket.end()));
  const other = new EngineRun(spec(rude.port, 5, {}));
  assert.deepEqual((await other.open()).failed, { handshake: 5 });
  await other.stop();
  await rude.close();
});

test('a silent target fails the handshake after the connect timeout', async () => {
  const deaf = await Target.listen();
  const run = new EngineRun(spec(deaf.port, 4, {}, { connectTimeoutMs: 400 }));
  assert.deepEqual((await run.open()).failed, { handshake: 4 });
  await until('nothing stays open', () => kernelCount('established', deaf.port) === 0);
  await run.stop();
  await deaf.close();
});

test('what the server ends or resets while we hold is counted as fin and rst', async () => {
  const sockets: TLSSocket[] = [];
  const connections: Socket[] = [];
  const server = tlsServer(certificates.good, (socket) => {
    socket.resume();
    sockets.push(socket);
  });
  server.on('connection', (socket: Socket) => connections.push(socket));
  const run = new EngineRun(spec(await listening(server), 20, {}));
  await run.open();
  await until('the server has all sessions', () => sockets.length === 20);
  const ports = new Set(sockets.slice(0, 8).map((socket) => socket.remotePort));
  for (const socket of sockets.slice(0, 8)) socket.end();
  for (const socket of connections.filter(({ remotePort }) => !ports.has(remotePort)).slice(0, 5))
    socket.resetAndDestroy();
  await until('losses are noticed', () => run.stats().open === 7);
  assert.deepEqual(run.stats().dropped, { fin: 8, rst: 5 });
  await run.stop();
});

test('wss:// proves itself by pings inside TLS, https:// by requests', async () => {
  const https = createHttps({ key: certificates.good.key, cert: certificates.good.cert }, (_, response) =>
    response.end('ok'),
  );
  const sockets = new WebSocketServer({ server: https });
  let pings = 0;
  sockets.on('connection', (socket) => socket.on('ping', () => pings++));
  const port = await listening(https as unknown as Server);
  for (const protocol of ['wss', 'https'] as const) {
    const over = { protocol, probeEveryMs: 200 };
    const run = new EngineRun(spec(port, 25, {}, over));
    const stats = await run.open();
    assert.deepEqual([stats.open, stats.verified, stats.failed], [25, 25, {}], protocol);
    await until(`${protocol} probes are answered`, () => run.stats().probesAnswered >= 75);
    assert.deepEqual(run.stats().dropped, {});
    assert(run.stats().bytesIn > 0 && run.stats().bytesOut > 0);
    await run.stop();
  }
  assert(pings >= 75, `the server saw ${pings} pings`);
  sockets.close();
});

test('TLS works over IPv6, with the address in the certificate', async () => {
  const server = tlsServer(certificates.good);
  servers.add(server);
  await new Promise<void>((resolve) => {
    server.listen({ port: 0, host: '::1' }, () => resolve());
  });
  const { port } = server.address() as AddressInfo;
  const endpoints = [{ address: '::1', port, family: 6 as const }];
  const run = new EngineRun(spec(port, 5, {}, { addresses: ['::1'], endpoints }));
  assert.deepEqual((await run.open()).failed, {});
  assert.equal(run.stats().verified, 5);
  await run.stop();
});

test('a holder with open sessions ends when its agent goes, and its connections with it', async () => {
  const port = await listening(tlsServer(certificates.good));
  const holder = new HolderProcess();
  await holder.prepare(spec(port, 30, {}));
  holder.send({ type: 'start' });
  await holder.until('the holder settles', () => holder.settled);
  assert.equal((await holder.report()).stats.open, 30);
  holder.child.disconnect();
  await settled('the holder ends', holder.exited);
  assert.equal(kernelCount('established', port), 0);
});

test('a banner is proof inside TLS too', async () => {
  const server = tlsServer(certificates.good, (socket) => socket.write('220 mail ready\r\n'));
  const port = await listening(server);
  const base = spec(port, 6, {});
  const protocolOptions = { ...base.protocolOptions!, banner: '220 ' };
  const run = new EngineRun({ ...base, protocolOptions });
  assert.equal((await run.open()).verified, 6);
  await run.stop();
});

test('client certificates are dealt out by the number of the connection, and the server sees each', async () => {
  const names = new Map<string, number>();
  const options = { key: certificates.good.key, cert: certificates.good.cert, ca: certificates.ca.cert };
  const server = createServer({ ...options, requestCert: true, rejectUnauthorized: true }, (socket) => {
    const name = String(socket.getPeerCertificate().subject.CN);
    names.set(name, (names.get(name) ?? 0) + 1);
    socket.on('error', () => {});
    socket.resume();
  });
  const pairs = certificates.clients.pairs.map(({ cert, key }) => ({ cert, key }));
  const port = await listening(server);
  // Two of three: a holder makes the certificates alone that its slots are dealt, from its own first number on.
  const run = new EngineRun(spec(port, 2, { pairs }, { connectionsFrom: 5 }));
  await run.open();
  // The server is done with a handshake after the client.
  await until('the server has both', () => names.size === 2);
  assert.deepEqual(Object.fromEntries(names), { 'device-2': 1, 'device-0': 1 });
  await run.stop();
  names.clear();
  const more = new EngineRun(spec(port, 30, { pairs }));
  assert.equal((await more.open()).open, 30);
  const seen = (): number => [...names.values()].reduce((sum, count) => sum + count, 0);
  await until('the server has all', () => seen() === 30);
  assert.deepEqual(Object.fromEntries(names), { 'device-0': 10, 'device-1': 10, 'device-2': 10 });
  await more.stop();
});

test('what the server chose by ALPN is counted; HTTP/2 is no session of wss', async () => {
  const { key, cert } = certificates.good;
  const choosing = (chosen: readonly string[]): Server => {
    const server = createServer({ key, cert, ALPNProtocols: [...chosen] }, (socket) => socket.resume());
    server.on('tlsClientError', () => {});
    server.on('secureConnection', (socket) => socket.on('error', () => {}));
    return server;
  };
  const alpnOf = async (server: Server, tls: Partial<TlsOptions>, over: Partial<HolderSpec> = {}) => {
    const run = new EngineRun(spec(await listening(server), 6, tls, over));
    const stats = await run.open();
    await run.stop();
    return stats;
  };
  assert.deepEqual((await alpnOf(choosing(['b', 'a']), { alpn: ['a', 'b'] })).tls?.alpn, { b: 6 });
  assert.deepEqual((await alpnOf(tlsServer(certificates.good), { alpn: ['x'] })).tls?.alpn, { none: 6 });
  const none = await alpnOf(choosing(['b']), { alpn: ['x'] });
  assert.deepEqual(none.failed, { tls: 6 });
  assert.deepEqual(none.troubles, { 'tls ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL': 6 });
  const h2 = await alpnOf(choosing(['h2', 'http/1.1']), { alpn: ['h2', 'http/1.1'] }, { protocol: 'https' });
  assert.deepEqual(h2.failed, { tls: 6 });
  assert.deepEqual(h2.troubles, { 'tls h2 was chosen by ALPN, and this run speaks HTTP/1.1': 6 });
});

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`${version}: sessions are resumed only when that is asked for, and both ends count the same`, async () => {
    let reused = 0;
    const { key, cert } = certificates.good;
    const versions = { minVersion: version, maxVersion: version };
    const server = createServer({ key, cert, ...versions }, (socket) => {
      if (socket.isSessionReused()) reused++;
      socket.on('error', () => {});
      // In TLS 1.3 a ticket may come behind the handshake, before the first data.
      socket.write('hello');
      socket.resume();
    });
    const port = await listening(server);
    const full = new EngineRun(spec(port, 20, {}, { pendingMax: 1 }));
    assert.deepEqual([(await full.open()).tls?.resumed, reused], [0, 0]);
    await full.stop();
    const run = new EngineRun(spec(port, 20, { resumes: true }, { pendingMax: 1, ratePerSec: 50 }));
    const stats = await run.open();
    const { sessions = 0, resumed = 0, unverified } = stats.tls ?? {};
    assert.deepEqual([stats.open, sessions, unverified], [20, 20, 0]);
    assert(resumed >= 10 && resumed <= 19, `${resumed} were resumed`);
    // The server is done with a handshake after the client.
    await until('the server has counted as many', () => reused === resumed);
    await run.stop();
  });
}

test('a session whose certificate does not pass is never taken up', async () => {
  const port = await listening(tlsServer(certificates.otherName));
  const run = new EngineRun(spec(port, 12, { resumes: true }, { pendingMax: 1 }));
  const stats = await run.open();
  assert.deepEqual(stats.failed, { tls: 12 });
  assert.deepEqual(stats.troubles, { 'tls ERR_TLS_CERT_ALTNAME_INVALID': 12 });
  await run.stop();
});
