import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Socket,
} from 'node:net';
import { after, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import type { Clock } from '../../src/base/clock.ts';
import { GATE_LIMITS } from '../../src/control/gate.ts';
import { PROTOCOL_VERSION } from '../../src/control/message.ts';
import { ControlServer, type RefusalReason } from '../../src/control/server.ts';
import {
  agentToken,
  generateToken,
  knownKeyOf,
  pskIdentityOf,
  SERVER_TLS,
  type Token,
} from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';
import { makeCertificates } from '../support/certificates.ts';

const HELLO = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  name: 'ada',
  host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
  resume: null,
};
const PSK: ConnectionOptions = {
  host: '127.0.0.1',
  minVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256',
  checkServerIdentity: () => undefined,
};

const certificates = makeCertificates();
after(() => certificates.remove());

async function until(done: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 3_000; tries++) {
    if (done()) return;
    await sleep(10);
  }
  assert.fail(`timed out waiting for ${what}`);
}

type Needs = { readonly minor: number; readonly words: string } | null;

async function startServer(t: TestContext, master: Token, clock: Clock = systemClock, needs: Needs = null) {
  const seen = {
    aheadMs: 0,
    agents: [] as { name: string; identity: string }[],
    refusals: [] as RefusalReason[],
    heard: 0,
    ends: [] as string[],
  };
  const server = new ControlServer({
    clock,
    host: '127.0.0.1',
    port: 0,
    keyFor: (identity) => knownKeyOf(master, identity, Date.now() + seen.aheadMs),
    needs,
    onRefused: (reason) => seen.refusals.push(reason),
    onAgent: (_channel, { name }, identity) => {
      seen.agents.push({ name, identity });
      return { onMessage: () => void seen.heard++, onClose: (_problem, end) => seen.ends.push(end) };
    },
  });
  t.after(() => server.close());
  const { port } = await server.listen();
  return Object.assign(seen, { port });
}

function offering({ identity, key }: Token): ConnectionOptions {
  return { pskCallback: () => ({ psk: key, identity: pskIdentityOf(identity) }) };
}

/** A TLS session, or the code of the error that it ended with; a socket that is closed without a word is `closed`. */
async function session(
  t: TestContext,
  port: number,
  options: ConnectionOptions,
): Promise<{ socket: TLSSocket; tickets: Buffer[]; error: string | null }> {
  const socket = connect({ ...PSK, port, ...options });
  t.after(() => socket.destroy());
  const tickets: Buffer[] = [];
  socket.on('session', (ticket: Buffer) => tickets.push(ticket));
  const error = await new Promise<string | null>((resolve) => {
    socket.on('secureConnect', () => resolve(null));
    socket.on('error', (problem: NodeJS.ErrnoException) => resolve(problem.code ?? problem.message));
    socket.on('close', () => resolve('closed'));
  });
  return { socket, tickets, error };
}

/** Asks for the upgrade and sends these frames; resolves with the close code, 1006 where there was no upgrade. */
async function speak(socket: TLSSocket, ...frames: readonly (string | Buffer)[]): Promise<number> {
  const ws = new WebSocket('ws://coordinator/agent', {
    createConnection: () => socket,
    perMessageDeflate: false,
  });
  ws.on('error', () => {});
  ws.on('open', () => {
    for (const frame of frames) ws.send(frame, () => {});
  });
  // Not `once`: that rejects with the error that comes before the close.
  return await new Promise((resolve) => ws.on('close', resolve));
}

describe('a kept TLS session', () => {
  const claims = { name: 'ada', targets: null };

  it('is no token: neither while the token is good nor after it has expired, under any name', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const token = agentToken(master, { ...claims, expiresSec: Math.floor(Date.now() / 1_000) + 3_600 });
    const first = await session(t, seen.port, offering(token));
    assert.equal(first.error, null);
    void speak(first.socket, JSON.stringify(HELLO));
    await until(() => seen.agents.length === 1, 'the agent');
    await until(() => first.tickets.length > 0, 'a ticket: without one this test attacks nothing');
    for (const aheadMs of [0, 2 * 3_600_000]) {
      seen.aheadMs = aheadMs;
      for (const ticket of first.tickets) {
        const second = await session(t, seen.port, { session: ticket });
        assert.notEqual(second.error, null, 'a session without the key was taken');
        assert.ok(second.socket.destroyed || !second.socket.isSessionReused());
      }
    }
    // The ticket beside the expired key, too.
    const both = await session(t, seen.port, { ...offering(token), session: first.tickets[0] });
    assert.notEqual(both.error, null);
    assert.deepEqual(
      seen.agents.map(({ name }) => name),
      ['ada'],
      'nobody else came in',
    );
  });

  it('is not resumed by TLS either, where the gate would not stand before it', async (t) => {
    const { key } = generateToken();
    const asked: string[] = [];
    const server = createServer({
      ...SERVER_TLS,
      pskCallback: (_socket: TLSSocket, identity: string) => {
        asked.push(identity);
        return identity === 'master' ? key : null;
      },
    } as Parameters<typeof createServer>[0]);
    server.on('clientError', (_error, socket) => socket.destroy());
    t.after(() => server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const first = await session(t, port, offering({ identity: 'master', key }));
    assert.equal(first.error, null);
    await until(() => first.tickets.length > 0, 'a ticket');
    assert.deepEqual(asked, ['master']);
    const second = await session(t, port, { session: first.tickets[0]! });
    assert.match(second.error ?? 'taken', /ALERT|ECONNRESET|closed/);
  });

  it('that was made in time is of no use once its token has expired', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const token = agentToken(master, { ...claims, expiresSec: Math.floor(Date.now() / 1_000) + 3_600 });
    const { socket, error } = await session(t, seen.port, offering(token));
    assert.equal(error, null);
    seen.aheadMs = 2 * 3_600_000;
    void speak(socket, JSON.stringify(HELLO));
    await until(() => seen.agents.length + seen.refusals.length > 0, 'an answer');
    assert.deepEqual(seen.agents, []);
    assert.deepEqual(seen.refusals, ['tls']);
  });
});

describe('who has no key', () => {
  it('is refused in the handshake: no key, a certificate, an unknown and an empty identity, TLS 1.2', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const { good, ca } = certificates;
    const refusals: ConnectionOptions[] = [
      {},
      { key: good.key, cert: good.cert, ca: ca.cert },
      offering({ identity: 'unknown', key: master.key }),
      { pskCallback: () => ({ psk: master.key, identity: '' }) },
      { ...offering(master), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ciphers: 'PSK-AES128-GCM-SHA256' },
      offering(generateToken()),
    ];
    for (const options of refusals) {
      const { error } = await session(t, seen.port, options);
      assert.notEqual(error, null);
    }
    await until(() => seen.refusals.length === refusals.length, 'each to be counted');
    assert.ok(seen.refusals.every((reason) => reason === 'tls'));
    assert.deepEqual(seen.agents, []);
  });

  it('learns from the alert whether the token was unknown, wrong or, when it is genuine, expired', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const expired = agentToken(master, { name: 'ada', expiresSec: 1_000, targets: null });
    const alertOf = async (token: Token): Promise<string> =>
      (await session(t, seen.port, offering(token))).error ?? 'taken';
    assert.match(await alertOf({ identity: 'x', key: master.key }), /UNKNOWN_PSK_IDENTITY$/);
    assert.match(await alertOf(generateToken()), /DECRYPT_ERROR$/);
    assert.match(await alertOf(expired), /CERTIFICATE_EXPIRED$/);
    assert.match(await alertOf({ ...expired, key: master.key }), /DECRYPT_ERROR$/);
  });

  it('gains nothing by sending the first bytes of an agent again', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    // A client's bytes, as a router sees them on the way.
    const bytes = await firstBytesOf(t, master);
    const first = await answerTo(seen.port, bytes);
    assert.equal(first[0], 22, 'the first time it is an agent for all the server knows');
    const again = await answerTo(seen.port, bytes);
    assert.equal(again[0], 21, 'an alert');
    await until(() => seen.refusals.length > 0, 'the refusal');
    assert.deepEqual(seen.agents, []);
  });

  it('makes room for the next when there are too many, and an agent comes through', async (t) => {
    const master = generateToken();
    // While the server's time stands still none is late, so that room is made for this reason alone.
    let isStill = true;
    const monotonicMs = (): number => (isStill ? 0 : systemClock.monotonicMs());
    const seen = await startServer(t, master, { ...systemClock, monotonicMs });
    const sockets: Socket[] = [];
    t.after(() => {
      for (const socket of sockets) socket.destroy();
    });
    const count = GATE_LIMITS.unprovenPerAddress + 200;
    for (let made = 0; made < count; made++) {
      const socket = connectTcp(seen.port, '127.0.0.1');
      socket.on('error', () => {});
      sockets.push(socket);
      if (made % 100 === 0) await once(socket, 'connect');
    }
    const { socket, error } = await session(t, seen.port, offering(master));
    assert.equal(error, null);
    void speak(socket, JSON.stringify(HELLO));
    await until(() => seen.agents.length === 1, 'the agent');
    const crowded = seen.refusals.filter((reason) => reason === 'crowded').length;
    assert.ok(crowded >= 200, `${crowded} made room`);
    isStill = false;
    await until(() => seen.refusals.length === count, 'each to be counted once');
  });
});

/** What a client with this token says first. */
async function firstBytesOf(t: TestContext, token: Token): Promise<Buffer> {
  const server = createTcpServer();
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = connect({ ...PSK, port, ...offering(token) });
  client.on('error', () => {});
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  client.destroy();
  return bytes;
}

/** The first bytes of the answer. */
async function answerTo(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = connectTcp(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(bytes);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return answer;
}

describe('who has a key', () => {
  it('says a small hello first: more than 32 KiB before it ends the channel', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const { socket } = await session(t, seen.port, offering(master));
    assert.equal(await speak(socket, 'x'.repeat(5_900_000)), 1009);
    await until(() => seen.refusals.length === 1, 'the refusal');
    assert.deepEqual(seen.refusals, ['malformed']);
  });

  it('has a message in at most 16,384 pieces, and pings end the channel like messages', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const join = async (): Promise<WebSocket> => {
      const { socket } = await session(t, seen.port, offering(master));
      const ws = new WebSocket('ws://coordinator/agent', {
        createConnection: () => socket,
        perMessageDeflate: false,
      });
      ws.on('error', () => {});
      await once(ws, 'open');
      ws.send(JSON.stringify({ ...HELLO, name: `ada-${seen.agents.length}` }));
      return ws;
    };
    const pieces = await join();
    await until(() => seen.agents.length === 1, 'the first agent');
    const piecesClosed = once(pieces, 'close');
    for (let count = 0; count < 20_000; count++) pieces.send('x', { fin: false }, () => {});
    await piecesClosed;
    const pings = await join();
    await until(() => seen.agents.length === 2, 'the second agent');
    const pingsClosed = once(pings, 'close');
    for (let count = 0; count < 10_000; count++) pings.ping('', true, () => {});
    await pingsClosed;
    await until(() => seen.ends.length === 2, 'both ends');
    assert.deepEqual(seen.ends, ['violated', 'violated']);
  });

  it('has so many links at once with the token of one agent: a new one takes the place of the oldest idle one', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const token = agentToken(master, { name: 'ada', expiresSec: null, targets: null });
    const sessions: TLSSocket[] = [];
    for (let count = 0; count < GATE_LIMITS.perToken + 3; count++) {
      const { socket, error } = await session(t, seen.port, offering(token));
      assert.equal(error, null, `link ${count}`);
      sessions.push(socket);
    }
    await until(() => sessions.filter((each) => each.destroyed).length >= 3, 'the oldest to go');
    assert.ok(sessions.slice(0, 3).every((each) => each.destroyed));
    void speak(sessions.at(-1)!, JSON.stringify(HELLO));
    await until(() => seen.agents.length === 1, 'the newest to come in');
  });

  it('may have a token of more than 256 bytes, and is called what the token says', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master);
    const targets = Array.from({ length: 60 }, (_, index) => `10.${index}.0.0/16:8000-9000`);
    const token = agentToken(master, { name: 'ada', expiresSec: null, targets });
    assert.ok(token.identity.length > 1_000);
    const wrong = await session(t, seen.port, offering(token));
    assert.equal(await speak(wrong.socket, JSON.stringify({ ...HELLO, name: 'eve' })), 1008);
    const { socket, error } = await session(t, seen.port, offering(token));
    assert.equal(error, null);
    void speak(socket, JSON.stringify(HELLO));
    await until(() => seen.agents.length === 1, 'the agent');
    assert.deepEqual(seen.refusals, ['name']);
    // One target more or less is another key.
    const wider = agentToken(master, {
      name: 'ada',
      expiresSec: null,
      targets: [...targets, '0.0.0.0/0:1-65535'],
    });
    const forged = await session(t, seen.port, offering({ identity: wider.identity, key: token.key }));
    assert.match(forged.error ?? 'taken', /DECRYPT_ERROR$/);
  });

  it('is turned away when it would leave out what the run asks for, and taken otherwise', async (t) => {
    const master = generateToken();
    const seen = await startServer(t, master, systemClock, { minor: 2, words: '--header' });
    const old = JSON.stringify({ ...HELLO, protocol: '1.1' });
    const first = await session(t, seen.port, offering(master));
    assert.equal(await speak(first.socket, old), 4001);
    assert.deepEqual([seen.refusals, seen.agents], [['version'], []]);
    const second = await session(t, seen.port, offering(master));
    void speak(second.socket, JSON.stringify({ ...HELLO, protocol: '1.2' }));
    await until(() => seen.agents.length === 1, 'the agent of now');
    const plain = await startServer(t, master);
    const third = await session(t, plain.port, offering(master));
    void speak(third.socket, old);
    await until(() => plain.agents.length === 1, 'the old agent, where nothing needs a newer one');
  });
});
