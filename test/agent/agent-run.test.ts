/** Tests an agent's run with real holder processes and a target that shares no line with them; the channel is a list. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { AgentRun } from '../../src/agent/agent-run.ts';
import type { Finding } from '../../src/base/errors.ts';
import type { AgentMessage, AgentMessageOf } from '../../src/control/message.ts';
import { type Allowance, OWNER_ALLOWANCE } from '../../src/plan/allowance.ts';
import { systemClock } from '../../src/time/timer.ts';
import { clientEnds } from '../support/kernel-view.ts';
import { honestQuota, honestSpec } from '../support/lying-coordinator.ts';
import { startNetTarget } from '../support/net-target.ts';
import { cliPath } from '../support/run-cli.ts';
import { until } from '../support/waiting.ts';
import { FAKE_HOLDER_ENTRY } from './fake-holder.ts';

interface Made {
  readonly run: AgentRun;
  readonly sent: AgentMessage[];
  readonly refusals: { findings: readonly Finding[]; hasStarted: boolean }[];
  readonly overs: () => number;
  /** the last message of a kind, once there is one that satisfies */
  readonly message: <Type extends AgentMessage['type']>(
    type: Type,
    isIt?: (message: AgentMessageOf<Type>) => boolean,
  ) => Promise<AgentMessageOf<Type>>;
}

function make(
  t: TestContext,
  port: number,
  mayGrow = false,
  limits: Partial<Allowance> = {},
  { agent, entryPath } = { agent: 'ada', entryPath: cliPath },
): Made {
  const sent: AgentMessage[] = [];
  const refusals: Made['refusals'] = [];
  let overs = 0;
  const sources = {
    addresses: ['127.0.0.7'],
    ports: null,
    aliasDevice: null,
    aliasLeaseMs: 60_000,
    prefixes: [],
  };
  const run = new AgentRun(
    { ...honestSpec(port), mayGrow },
    {
      agent,
      hostSpec: { sources, holders: null },
      entryPath,
      allowance: { ...OWNER_ALLOWANCE, ...limits },
      clock: systemClock,
      send: (message) => sent.push(message),
      onRefused: (findings, hasStarted) => refusals.push({ findings, hasStarted }),
      onOver: () => {
        overs += 1;
      },
    },
  );
  t.after(() => run.abandon());
  // What a coordinator does with each stats message.
  const renewing = setInterval(() => run.extendLease(systemClock.monotonicMs()), 500);
  t.after(() => clearInterval(renewing));
  const message: Made['message'] = async (type, isIt = () => true) => {
    const found = () =>
      sent.findLast((one): one is AgentMessageOf<typeof type> => one.type === type && isIt(one as never));
    await until(`a ${type} comes`, () => found() !== undefined);
    const one = found();
    assert(one !== undefined);
    return one;
  };
  return { run, sent, refusals, overs: () => overs, message };
}

const typesOf = (sent: readonly AgentMessage[]): string[] =>
  sent.map(({ type }) => type).filter((type) => type !== 'stats');

test('from offer to done: the kernel sees the quota, and nothing of it at the end; each step once, also when it is said twice', async (t) => {
  const target = await startNetTarget(t);
  const { run, sent, overs, message } = make(t, target.port);
  await run.offer();
  assert.equal((await message('offer')).boundBy, 'tuples');
  run.take(honestQuota(4));
  run.take(honestQuota(4));
  assert.deepEqual((await message('ready')).sources, ['127.0.0.7']);
  assert.equal(clientEnds(target.port).count, 0, 'nothing before the barrier');
  run.take({ type: 'start' });
  run.take({ type: 'start' });
  await message('stats', (stats) => stats.settled && stats.stats.open === 4);
  assert.deepEqual(clientEnds(target.port).bySource, { '127.0.0.7': 4 });
  run.take({ type: 'hold' });
  run.take({ type: 'hold' });
  await message('stats', ({ kernel }) => kernel.length === 1);
  run.take({ type: 'stop', reason: 'held' });
  run.take({ type: 'stop', reason: 'held' });
  const done = await message('done');
  assert.equal(done.stats.open, 4);
  assert.equal(done.stats.closed, 4);
  assert.deepEqual(
    done.kernel.map(({ when, established }) => [when, established]),
    [
      ['ramp-end', 4],
      ['hold-end', 4],
    ],
  );
  assert.equal(overs(), 1);
  await until('the kernel has closed them', () => clientEnds(target.port).count === 0);
  run.take(honestQuota(9));
  run.take({ type: 'start' });
  run.take({ type: 'stop', reason: 'held' });
  assert.deepEqual(typesOf(sent), ['offer', 'ready', 'done']);
});

test('what comes before its phase changes nothing: start and hold before a quota, a quota before the offer', async (t) => {
  const target = await startNetTarget(t);
  const { run, sent, message } = make(t, target.port);
  run.take(honestQuota(4));
  run.take({ type: 'start' });
  run.take({ type: 'hold' });
  run.take({ type: 'stop-opening' });
  await run.offer();
  run.take({ type: 'start' });
  run.take({ type: 'hold' });
  run.take(honestQuota(0));
  assert.equal((await message('ready')).holders, 0);
  run.take({ type: 'hold' });
  assert.deepEqual(typesOf(sent), ['offer', 'ready']);
  assert.equal(clientEnds(target.port).count, 0);
});

test('a quota that grows while it holds is opened by further holders, and counted with the first', async (t) => {
  const target = await startNetTarget(t);
  const { run, message } = make(t, target.port, true);
  await run.offer();
  run.take(honestQuota(4));
  await message('ready');
  run.take({ type: 'start' });
  await message('stats', (stats) => stats.settled && stats.stats.open === 4);
  run.take({ type: 'hold' });
  run.take(honestQuota(7));
  run.take(honestQuota(7));
  const stats = await message('stats', (one) => one.settled && one.stats.open === 7);
  assert.equal(stats.quota, 7);
  assert.equal(stats.holders.length, 2);
  assert.equal(clientEnds(target.port).count, 7);
  run.take({ type: 'stop', reason: 'held' });
  const done = await message('done');
  assert.equal(done.notes.filter((note) => note.startsWith('the quota grew from 4 to 7')).length, 1);
});

test('a quota beyond the offer refuses, once; after that only `stop` means something, and its done has nothing open', async (t) => {
  const target = await startNetTarget(t);
  const { run, sent, refusals, message } = make(t, target.port, false, { connectionsMax: 6 });
  await run.offer();
  assert.equal((await message('offer')).connectionsMax, 6);
  run.take(honestQuota(7));
  run.take(honestQuota(4));
  run.take({ type: 'start' });
  run.violated('a second problem');
  assert.equal(refusals.length, 1);
  assert.deepEqual(
    refusals.map(({ findings, hasStarted }) => [findings.map(({ what }) => what), hasStarted]),
    [[['max-conns'], false]],
  );
  run.take({ type: 'stop', reason: 'refused' });
  assert.equal((await message('done')).stats.open, 0);
  assert.deepEqual(typesOf(sent), ['offer', 'refuse', 'done']);
});

test('a rule that is broken in the middle of a run refuses and closes in order: what was open is in the final counts', async (t) => {
  const target = await startNetTarget(t);
  const { run, sent, refusals, overs, message } = make(t, target.port);
  await run.offer();
  run.take(honestQuota(4));
  await message('ready');
  run.take({ type: 'start' });
  await message('stats', (stats) => stats.stats.open === 4);
  run.violated('a number out of range');
  assert.equal((await message('done')).stats.open, 4);
  assert.deepEqual(
    refusals.map(({ hasStarted }) => hasStarted),
    [true],
  );
  assert.deepEqual(typesOf(sent), ['offer', 'ready', 'refuse', 'done']);
  assert.equal(overs(), 1);
});

test('stop before anything is open, and while holders load, ends with done and no holder', async (t) => {
  const target = await startNetTarget(t);
  for (const isLoading of [false, true]) {
    const { run, sent, overs, message } = make(t, target.port);
    await run.offer();
    if (isLoading) run.take(honestQuota(4));
    run.take({ type: 'stop', reason: 'interrupted' });
    assert.equal((await message('done')).stats.open, 0);
    assert.equal(overs(), 1);
    assert.deepEqual(typesOf(sent), ['offer', 'done']);
  }
  assert.equal(clientEnds(target.port).count, 0);
});

test('one that is abandoned leaves no connection, says nothing more, and is over once', async (t) => {
  const target = await startNetTarget(t);
  const { run, sent, overs, message } = make(t, target.port);
  await run.offer();
  run.take(honestQuota(4));
  await message('ready');
  run.take({ type: 'start' });
  await message('stats', (stats) => stats.stats.open === 4);
  assert.equal(run.partial().stats.open, 4);
  assert.equal(run.partial().quota, 4);
  run.abandon();
  run.abandon();
  const count = sent.length;
  await until('the kernel has closed them', () => clientEnds(target.port).count === 0);
  run.take({ type: 'stop', reason: 'late' });
  assert.equal(sent.length, count);
  assert.equal(overs(), 1);
});

test('after a cut what the coordinator cannot do without is said again, and a whole report while it runs', async (t) => {
  const target = await startNetTarget(t);
  const { run, sent, message } = make(t, target.port);
  await run.offer();
  run.resend();
  assert.deepEqual(typesOf(sent), ['offer', 'offer']);
  run.take(honestQuota(4));
  await message('ready');
  run.take({ type: 'start' });
  await message('stats', (stats) => stats.settled && stats.stats.open === 4);
  const before = sent.length;
  run.resend();
  const [again, stats] = sent.slice(before);
  assert.equal(again?.type, 'ready');
  assert(stats?.type === 'stats');
  assert(Array.isArray(stats.stats.connectUs), 'the whole histogram, not that nothing has changed');
});

test('while its holders load, it says which of them have a process: the coordinator waits longer for that', async (t) => {
  const { run, sent, message } = make(t, 9, false, {}, { agent: 'mute', entryPath: FAKE_HOLDER_ENTRY });
  await run.offer();
  await message('offer');
  run.take(honestQuota(4));
  const { holders } = await message('stats', (stats) => stats.holders.some(({ pid }) => pid > 0));
  assert.deepEqual(
    holders.map(({ id, pid }) => [id, existsSync(`/proc/${pid}`)]),
    [['mute/1', true]],
  );
  assert.deepEqual(typesOf(sent), ['offer']);
});
