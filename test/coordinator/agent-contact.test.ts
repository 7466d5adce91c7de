/**
 * Tests what a `spec` says on the wire (nothing of the host on which the run was typed, and all that an agent of 1.0 needs), and
 * how much one agent may make a coordinator do by doing what is allowed again and again: losses that are opened again, cuts
 * and returns, stats with ever new tables.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ExitCode } from '../../src/base/errors.ts';
import type { Channel } from '../../src/control/channel.ts';
import { generateToken } from '../../src/control/token.ts';
import { CommandSender } from '../../src/coordinator/agent-contact.ts';
import { AgentSessions } from '../../src/coordinator/agent-session.ts';
import { LOCAL_AGENT, type RunOptions } from '../../src/coordinator/run-settings.ts';
import { type LedgerEntry, UNWATCHED } from '../../src/coordinator/run-watch.ts';
import { LEASE_TIMES } from '../../src/run/lease.ts';
import { systemClock } from '../../src/time/timer.ts';
import { SPEC } from '../plan/plan-fixture.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { until } from '../support/waiting.ts';
import { begun, besideHonest, start } from './lied-to-run.ts';
import { holding, RawAgent } from './raw-agent.ts';

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

// PROTOCOL.md: leave
test('a refusal in the hold is leaving: that agent alone is lost, and what it held is 0', async (t) => {
  const { liar, epoch, report } = await besideHonest(t);
  liar.stats(10, holding(10), { epoch });
  await liar.hears('hold');
  liar.say({ type: 'refuse', findings: [] });
  const { verdict, exitCode, connections, agents } = await report;
  assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.incomplete]);
  assert.equal(connections.held, 10);
  assert.deepEqual(
    agents.map(({ name, lost, held }) => [name, lost, held]),
    [
      ['honest', false, 10],
      ['liar', true, 0],
    ],
  );
});

// PROTOCOL.md: events-reopen
test('where lost connections are opened again, as many losses as the quota go to the ledger for each second', async (t) => {
  const loss = { count: 1 };
  const many = Array.from({ length: 1_000 }, () => loss);
  const channel = { send: () => {}, bufferedBytes: 0, close: () => {} };
  const credentials = { identity: 'master', secret: undefined };
  const { lossAllowance: allowance } = new AgentSessions().add('ada', credentials, channel);
  assert.equal(allowance.take(many, 10, 0).length, 10);
  assert.equal(allowance.take(many, 10, 0.1).length, 10);
  assert.equal(allowance.take(many, 10, 3).length, 20);
  assert.equal(allowance.take(many, 10, 3).length, 0);

  const entries: LedgerEntry[] = [];
  const watch = { ...UNWATCHED, onLosses: (more: readonly LedgerEntry[]) => void entries.push(...more) };
  const spec = runSpec({ connections: 10, holdMs: 400, onDrop: 'reopen' });
  // On a busy machine the messages alone take longer than a short lease.
  const lease = { quietMs: 20_000, leaseMs: 60_000, marginMs: 20_000 };
  const run = await start(t, { watch, spec, lease });
  const beganMs = performance.now();
  const liar = await begun(t, run);
  const details = { atMs: 1, holder: 'liar/1', source: '127.0.0.1:1', endpoint: '127.0.0.1:2', ageMs: 1 };
  const losses = Array.from({ length: 1_000 }, () => ({ ...details, reason: 'rst', count: 1 }));
  for (let message = 0; message < 20; message++) liar.say({ type: 'losses', epoch: 1, losses });
  liar.stats(10, holding(10));
  await liar.hears('hold');
  liar.stats(10, holding(10));
  await liar.hears('stop');
  liar.done(holding(10));
  await run.report;
  const most = 10 * (1 + Math.ceil((performance.now() - beganMs) / 1_000));
  assert(entries.length >= 20 && entries.length <= most, `${entries.length} of 20,000`);
});

// PROTOCOL.md: link-lines
test('of an agent that comes and goes thirty times, twenty lines are shown, and it is still part of the run', async (t) => {
  const run = await start(t, {
    lease: { quietMs: 20_000, leaseMs: 60_000, marginMs: 20_000 },
    spec: runSpec({ connections: 10, holdMs: 100 }),
  });
  const secret = 's'.repeat(22);
  let agent = await begun(t, run, { secret });
  const { runId, epoch } = (await agent.hears('spec')) as unknown as { runId: string; epoch: number };
  for (let times = 0; times < 30; times++) {
    agent.leave();
    agent = await RawAgent.join(run.port, run.token, { secret, resume: { runId, epoch } });
    await agent.hears('resumed');
  }
  agent.stats(10, holding(10));
  await agent.hears('hold');
  agent.stats(10, holding(10));
  await agent.hears('stop');
  agent.done(holding(10));
  assert.equal((await run.report).verdict, 'pass');
  const about = run.notes.filter((line) => line.startsWith('agent liar'));
  assert.equal(about.length, 20, about.join('\n'));
  assert.match(about.at(-1) ?? '', /comes and goes: further cuts are not shown/);
});

// PROTOCOL.md: memory
test('stats with ever new tables leave one copy behind, not one for each message', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const run = await start(t, { lease: { quietMs: 20_000, leaseMs: 60_000, marginMs: 20_000 } });
  const liar = await begun(t, run);
  const renewals = (): number => liar.heard.filter(({ type }) => type === 'renew').length;
  let said = 0;
  const say = async (times: number): Promise<number> => {
    for (let message = 0; message < times; message++) {
      const openBySource: Record<string, number> = {};
      for (let index = 0; index < 20_000; index++) {
        openBySource[`fd00:${(said + 1).toString(16)}::${index.toString(16)}`] = 0;
      }
      liar.stats(10, { ...holding(10), openBySource, troubles: { [`new-${said}`]: 1 } }, { settled: false });
      said += 1;
      await until('it is answered', () => renewals() === said);
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = await say(5);
  const grown = (await say(40)) - before;
  t.diagnostic(`${Math.round(grown / 1e3)} kB more after 40 messages`);
  // One copy of such a table takes more than 1 MB, so 40 kept ones more than 40.
  assert(grown < 5e6, `${grown} bytes more after 40 messages`);
  liar.leave();
});
