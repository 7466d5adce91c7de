import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as tcpConnect } from 'node:net';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel } from '../../src/control/channel.ts';
import { connectChannel } from '../../src/control/client.ts';
import type { AgentMessage, AgentMessageOf, CoordinatorMessage } from '../../src/control/message.ts';
import { PROTOCOL_VERSION } from '../../src/control/message.ts';
import { ControlServer, type StrangerReason } from '../../src/control/server.ts';
import { generateToken, type Token } from '../../src/control/token.ts';
import { BenchError } from '../../src/core/errors.ts';

const HELLO: AgentMessageOf<'hello'> = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  name: 'a',
  host: { hostname: 'h', cpus: 1, memoryBytes: 1, kernel: '6', node: 'v20' },
};

/** A server that records everything that it was told. */
async function startServer(token: Token) {
  const heard: AgentMessage[] = [];
  const closed: (string | null)[] = [];
  const strangers: StrangerReason[] = [];
  const channels: Channel<CoordinatorMessage>[] = [];
  const server = new ControlServer({
    host: '127.0.0.1',
    port: 0,
    keyFor: (identity) => (identity === token.identity ? token.key : null),
    onAgent: (channel, hello) => {
      channels.push(channel);
      heard.push(hello);
      return { onMessage: (message) => heard.push(message), onClose: (problem) => closed.push(problem) };
    },
    onStranger: (reason) => strangers.push(reason),
  });
  const { port } = await server.listen();
  return { server, port, heard, closed, strangers, channels };
}

/** Waits until `done` says so, at most five seconds. */
async function until(done: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (done()) return;
    await sleep(10);
  }
  assert.fail(`timed out waiting for ${what}`);
}

function client(port: number, token: Token) {
  const heard: CoordinatorMessage[] = [];
  const closed: (string | null)[] = [];
  const events = {
    onMessage: (message: CoordinatorMessage) => void heard.push(message),
    onClose: (problem: string | null) => void closed.push(problem),
  };
  return { heard, closed, channel: connectChannel('127.0.0.1', port, token, events) };
}

describe('the control channel', () => {
  const stops: (() => Promise<void>)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  it('carries messages both ways between an agent and a coordinator with the same token', async () => {
    const token = generateToken('a');
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

  it('refuses a wrong key and an unknown name in the TLS handshake, and counts each stranger once', async () => {
    const token = generateToken('a');
    const { server, port, heard, strangers } = await startServer(token);
    stops.push(() => server.close());
    for (const wrong of [{ ...generateToken('a') }, { identity: 'b', key: token.key }]) {
      await assert.rejects(client(port, wrong).channel, (error) => {
        assert.ok(error instanceof BenchError);
        assert.equal(error.exitCode, 4);
        assert.ok(!error.message.includes(wrong.key.toString('hex')));
        return true;
      });
    }
    await until(() => strangers.length === 2, 'two strangers');
    assert.deepEqual(strangers, ['tls', 'tls']);
    assert.deepEqual(heard, []);
  });

  it('closes a socket that says nothing, within seconds', async () => {
    const { server, port } = await startServer(generateToken('a'));
    stops.push(() => server.close());
    const socket = tcpConnect(port, '127.0.0.1');
    const startedMs = Date.now();
    socket.on('error', () => {});
    await once(socket, 'close');
    assert.ok(Date.now() - startedMs < 8_000);
  });

  it('closes a channel whose first message is not a hello, or of another major version', async () => {
    const token = generateToken('a');
    const { server, port, strangers, heard } = await startServer(token);
    stops.push(() => server.close());
    const first = client(port, token);
    (await first.channel).send({ type: 'refuse', findings: [] });
    await until(() => first.closed.length === 1, 'the first to be closed');
    const second = client(port, token);
    (await second.channel).send({ ...HELLO, protocol: '99.0' });
    await until(() => second.closed.length === 1, 'the second to be closed');
    assert.deepEqual(strangers, ['first-not-hello', 'version']);
    assert.deepEqual(heard, []);
  });

  it('closes a channel that sends what the schema does not know', async () => {
    const token = generateToken('a');
    const { server, port, closed } = await startServer(token);
    stops.push(() => server.close());
    const agent = client(port, token);
    const channel = await agent.channel;
    channel.send(HELLO);
    channel.send({ type: 'offer', connectionsMax: -1 } as unknown as AgentMessage);
    await until(() => closed.length === 1, 'the close at the coordinator');
    assert.match(closed[0] ?? '', /connectionsMax/);
  });
});
