import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as tcpConnect } from 'node:net';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BenchError } from '../../src/base/errors.ts';
import type { Channel } from '../../src/control/channel.ts';
import { connectChannel } from '../../src/control/client.ts';
import { MESSAGES_AT_ONCE_MAX } from '../../src/control/intake.ts';
import type { AgentMessage, AgentMessageOf, CoordinatorMessage } from '../../src/control/message.ts';
import { PROTOCOL_VERSION } from '../../src/control/message.ts';
import { ControlServer, type RefusalReason } from '../../src/control/server.ts';
import { agentToken, generateToken, knownKeyOf, type Token } from '../../src/control/token.ts';
import { systemClock } from '../../src/time/timer.ts';
import * as waiting from '../support/waiting.ts';

const HELLO: AgentMessageOf<'hello'> = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  name: 'a',
  host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
  resume: null,
};

/** A server that records everything that it was told. */
async function startServer(master: Token) {
  const heard: AgentMessage[] = [];
  const closed: (string | null)[] = [];
  const refusals: RefusalReason[] = [];
  const channels: Channel<CoordinatorMessage>[] = [];
  const server = new ControlServer({
    clock: systemClock,
    host: '127.0.0.1',
    port: 0,
    keyFor: (identity) => knownKeyOf(master, identity, Date.now()),
    onAgent: (channel, hello) => {
      channels.push(channel);
      heard.push(hello);
      return { onMessage: (message) => heard.push(message), onClose: (problem) => closed.push(problem) };
    },
    onRefused: (reason) => refusals.push(reason),
  });
  const { port } = await server.listen();
  return { server, port, heard, closed, refusals, channels };
}

function until(done: () => boolean, what: string): Promise<void> {
  return waiting.until(what, done);
}

function client(port: number, token: Token) {
  const heard: CoordinatorMessage[] = [];
  const closed: (string | null)[] = [];
  const events = {
    onMessage: (message: CoordinatorMessage) => void heard.push(message),
    onClose: (problem: string | null) => void closed.push(problem),
  };
  return {
    heard,
    closed,
    channel: connectChannel('127.0.0.1', port, token, events, waiting.HANG_MS, systemClock),
  };
}

describe('the control channel', () => {
  const stops: (() => Promise<void>)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  it('carries messages both ways between an agent and a coordinator with the same token', async () => {
    const token = generateToken();
    const { server, port, heard, channels } = await startServer(token);
    stops.push(() => server.close());
    const agent = client(port, token);
    const channel = await agent.channel;
    channel.send(HELLO);
    channel.send({ type: 'refuse', findings: [] });
    await until(() => heard.length === 2, 'two messages at the coordinator');
    assert.deepEqual(heard, [HELLO, { type: 'refuse', findings: [] }]);
    channels[0]!.send({ type: 'stop', reason: 'held' });
    await until(() => agent.heard.length === 1, 'the answer at the agent');
    assert.deepEqual(agent.heard, [{ type: 'stop', reason: 'held' }]);
    channel.close();
    await until(() => agent.closed.length === 1, 'the close');
  });

  it('refuses a wrong key, an unknown, an expired and a changed identity in the TLS handshake, and counts each refused connection once', async () => {
    const token = generateToken();
    const { server, port, heard, refusals } = await startServer(token);
    stops.push(() => server.close());
    const named = agentToken(token, { name: 'a', expiresSec: null, targets: null });
    const expired = agentToken(token, { name: 'a', expiresSec: 1_000, targets: null });
    const widened = { ...named, identity: named.identity.replace('"a"', '"b"') };
    for (const wrong of [generateToken(), { identity: 'b', key: token.key }, expired, widened]) {
      await assert.rejects(client(port, wrong).channel, (error) => {
        assert.ok(error instanceof BenchError);
        assert.equal(error.exitCode, wrong === expired ? 2 : 4);
        assert.equal(error.code, wrong === expired ? 'token-expired' : 'control-channel');
        assert.ok(!error.message.includes(wrong.key.toString('hex')));
        return true;
      });
    }
    await until(() => refusals.length === 4, 'four refusals');
    assert.deepEqual(refusals, ['tls', 'tls', 'tls', 'tls']);
    assert.deepEqual(heard, []);
  });

  it('closes a socket that says nothing', async () => {
    const { server, port } = await startServer(generateToken());
    stops.push(() => server.close());
    const socket = tcpConnect(port, '127.0.0.1');
    socket.on('error', () => {});
    await waiting.settled('the close', once(socket, 'close'));
  });

  it('closes a channel whose first message is not a hello, or of another major version', async () => {
    const token = generateToken();
    const { server, port, refusals, heard } = await startServer(token);
    stops.push(() => server.close());
    const first = client(port, token);
    (await first.channel).send({ type: 'refuse', findings: [] });
    await until(() => first.closed.length === 1, 'the first to be closed');
    const second = client(port, token);
    (await second.channel).send({ ...HELLO, protocol: '99.0' });
    await until(() => second.closed.length === 1, 'the second to be closed');
    assert.deepEqual(refusals, ['first-not-hello', 'version']);
    assert.deepEqual(heard, []);
    assert.match(second.closed[0] ?? '', /1\.\d.*99\.0/, 'the refusal names both versions');
  });

  it('lets an agent use no other name than the one in its token', async () => {
    const master = generateToken();
    const { server, port, refusals, heard } = await startServer(master);
    stops.push(() => server.close());
    const agent = client(port, agentToken(master, { name: 'b', expiresSec: null, targets: null }));
    (await agent.channel).send(HELLO);
    await until(() => agent.closed.length === 1, 'the close');
    assert.deepEqual([refusals, heard], [['name'], []]);
  });

  it('closes a channel that says hello twice, and one that floods', async () => {
    const token = generateToken();
    const { server, port, refusals, heard } = await startServer(token);
    stops.push(() => server.close());
    const twice = client(port, token);
    const first = await twice.channel;
    first.send(HELLO);
    first.send(HELLO);
    await until(() => twice.closed.length === 1, 'the first to be closed');
    assert.deepEqual(refusals, ['malformed']);
    const flood = client(port, token);
    const second = await flood.channel;
    second.send({ ...HELLO, name: 'flood' });
    for (let count = 0; count < 2 * MESSAGES_AT_ONCE_MAX; count++)
      second.send({ type: 'refuse', findings: [] });
    await until(() => flood.closed.length === 1, 'the flood to be closed');
    assert.match(flood.closed[0] ?? '', /messages a second/);
    // What a pause of ours may have piled up is let through, and what comes while it is read.
    assert.ok(heard.length < 1.5 * MESSAGES_AT_ONCE_MAX, `${heard.length} messages were let through`);
  });

  it('keeps nothing of a refused connection: no byte grows with their number', {
    timeout: 10 * waiting.HANG_MS,
  }, async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const token = generateToken();
    const { server, port } = await startServer(token);
    stops.push(() => server.close());
    const heap = async (): Promise<number> => {
      // Longer than a refused socket may take to close.
      await sleep(1_500);
      collect();
      return process.memoryUsage().heapUsed;
    };
    const visit = async (): Promise<void> => {
      const refused = client(port, token);
      (await refused.channel).send({ ...HELLO, protocol: '99.0' });
      await until(() => refused.closed.length === 1, 'the refusal');
    };
    const visits = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += 10) await Promise.all(Array.from({ length: 10 }, visit));
    };
    await visits(300);
    const before = await heap();
    await visits(400);
    const perRefused = ((await heap()) - before) / 400;
    // A kept socket costs ten times as much; what is allowed here is the engine's own.
    assert.ok(
      perRefused < 3_000,
      `${Math.round(perRefused)} bytes a refused connection, on both sides together`,
    );
  });

  it('closes a channel that sends what the schema does not know', async () => {
    const token = generateToken();
    const { server, port, closed } = await startServer(token);
    stops.push(() => server.close());
    const agent = client(port, token);
    const channel = await agent.channel;
    channel.send(HELLO);
    const empty = { boundBy: 'none', findings: [], sources: [], notes: [] };
    channel.send({ type: 'offer', connectionsMax: -1, ...empty });
    await until(() => closed.length === 1, 'the close at the coordinator');
    assert.match(closed[0] ?? '', /connectionsMax/);
  });
});
