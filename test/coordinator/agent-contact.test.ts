/** Tests what a `spec` says on the wire: nothing of the host on which the run was typed, and all that an agent of 1.0 needs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Channel } from '../../src/control/channel.ts';
import { generateToken } from '../../src/control/token.ts';
import { CommandSender } from '../../src/coordinator/agent-contact.ts';
import { AgentSessions } from '../../src/coordinator/agent-session.ts';
import { LOCAL_AGENT, type RunOptions } from '../../src/coordinator/run-settings.ts';
import { systemClock } from '../../src/host/system-clock.ts';
import { LEASE_TIMES } from '../../src/run/lease.ts';
import { SPEC } from '../plan/plan-fixture.ts';

const SOURCES = {
  addresses: ['10.0.0.2'],
  ports: [{ from: 2_000, to: 2_999 }],
  aliasDevice: 'eth0',
  aliasLeaseMs: 5_000,
  prefixes: ['10.1.0.0/20'],
};

function specsFor(names: readonly string[]): object[] {
  const sent: object[] = [];
  const channel: Channel<object> = {
    send: (message) => void sent.push(message),
    bufferedBytes: 0,
    close: () => {},
  };
  const options: RunOptions = {
    spec: { ...SPEC, sources: SOURCES, holders: 7 },
    targetText: [],
    entryPath: '',
    toolVersion: '1',
    clock: systemClock,
    listen: { host: '127.0.0.1', port: 0 },
    token: generateToken(),
    hasLocalAgent: true,
    remoteAgents: 1,
    waitAgentsMs: 1_000,
    onAgentLoss: 'continue',
    ssh: null,
    onProgress: () => {},
    onNote: () => {},
    onListening: () => {},
  };
  const sessions = new AgentSessions();
  const sender = new CommandSender(options, 'run', LEASE_TIMES, sessions);
  for (const name of names) {
    sessions.add(name, { identity: name, secret: undefined }, channel);
    sender.carryOut({ type: 'send-spec', agent: name });
  }
  return sent;
}

test('no agent, not even the local one, gets sources or holders over the channel', () => {
  const specs = specsFor([LOCAL_AGENT, 'ada']);
  assert.equal(specs.length, 2);
  for (const message of specs) {
    const text = JSON.stringify(message);
    for (const part of ['10.0.0.2', 'eth0', '10.1.0.0', '2999', '"holders":7'])
      assert(!text.includes(part), text);
  }
});

test('what version 1.0 insists on is there, and empty', () => {
  const [message] = specsFor(['ada']);
  assert(message !== undefined && 'spec' in message);
  const { spec } = message as { spec: { sources: unknown; holders: unknown } };
  assert.deepEqual(spec.sources, {
    addresses: [],
    ports: null,
    aliasDevice: null,
    aliasLeaseMs: 60_000,
    prefixes: [],
  });
  assert.equal(spec.holders, null);
});
