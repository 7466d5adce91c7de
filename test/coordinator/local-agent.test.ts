/** Tests the parent's side of the local agent: it is told of every end once, and leaves no process behind. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { generateToken } from '../../src/control/token.ts';
import { LocalAgent } from '../../src/coordinator/local-agent.ts';
import { until } from '../support/bench-run.ts';
import { type ProcessView, processesWith } from '../support/kernel-view.ts';
import { BUSY_MS, FAKE_AGENT_ENTRY } from './fake-agent.ts';

const token = generateToken();

interface Started {
  readonly agent: LocalAgent;
  readonly ends: string[];
  /** the living process, found without asking the agent */
  find(): ProcessView | undefined;
}

async function start(t: TestContext, name: string): Promise<Started> {
  const mark = `TEST_LOCAL_AGENT=${name}-${process.pid}-${performance.now()}`;
  const ends: string[] = [];
  process.env.TEST_LOCAL_AGENT = mark.slice(mark.indexOf('=') + 1);
  const agent = new LocalAgent({
    entryPath: FAKE_AGENT_ENTRY,
    name,
    host: '127.0.0.1',
    port: 1,
    token,
    onExit: (how) => ends.push(how),
  });
  delete process.env.TEST_LOCAL_AGENT;
  const find = (): ProcessView | undefined => processesWith(mark).find(({ pid }) => pid !== process.pid);
  t.after(() => {
    const left = find();
    if (left !== undefined) process.kill(left.pid, 'SIGKILL');
  });
  if (name !== 'exits') await until('it runs', 5_000, () => find() !== undefined);
  return { agent, ends, find };
}

test('an agent that obeys ends when it is told to, and its end is told once', async (t) => {
  const { agent, ends, find } = await start(t, 'obeys');
  await sleep(300);
  await agent.reap();
  await until('it is gone', 1_000, () => find() === undefined);
  assert.deepEqual(ends, ['exited with 0']);
  await agent.reap();
  assert.equal(ends.length, 1);
});

test('an agent that dies on its own is told with its code, and need not be waited for', async (t) => {
  const { agent, ends } = await start(t, 'exits');
  await until('its end is told', 5_000, () => ends.length > 0);
  assert.deepEqual(ends, ['exited with 7']);
  const beganMs = performance.now();
  await agent.reap();
  assert(performance.now() - beganMs < 100);
});

test('an agent that is still loading, and so hears nothing, is ended at once', async (t) => {
  const { agent, find } = await start(t, 'loading');
  await sleep(300);
  const beganMs = performance.now();
  await agent.reap();
  const tookMs = performance.now() - beganMs;
  assert(tookMs < 1_000, `${Math.round(tookMs)} ms`);
  assert.equal(find(), undefined);
});

test('an agent that does not end is killed after 2 s', async (t) => {
  const { agent, ends, find } = await start(t, 'deaf');
  await sleep(300);
  const beganMs = performance.now();
  await agent.reap();
  const tookMs = performance.now() - beganMs;
  assert(tookMs > 1_500 && tookMs < 4_000, `${Math.round(tookMs)} ms`);
  assert.deepEqual(ends, ['killed by SIGKILL']);
  assert.equal(find(), undefined);
});

test('an agent that is busy giving addresses back is waited for, and ends by itself', async (t) => {
  const { agent, ends, find } = await start(t, 'busy');
  await sleep(300);
  const beganMs = performance.now();
  await agent.reap();
  const tookMs = performance.now() - beganMs;
  assert(tookMs >= BUSY_MS - 100, `${Math.round(tookMs)} ms`);
  assert.deepEqual(ends, ['exited with 0'], 'it was not killed');
  assert.equal(find(), undefined);
});

test('an agent that hangs while it closes is killed 2 s after its last sign', async (t) => {
  const { agent, ends } = await start(t, 'hangs');
  await sleep(300);
  const beganMs = performance.now();
  await agent.reap();
  const tookMs = performance.now() - beganMs;
  assert(tookMs > 1_500 && tookMs < 5_000, `${Math.round(tookMs)} ms`);
  assert.deepEqual(ends, ['killed by SIGKILL']);
});

test('the token is in the environment and in no argument, and the process group is its own', async (t) => {
  const { agent, find } = await start(t, 'obeys');
  const { pid, args } = find() ?? { pid: 0, args: [] };
  const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  const secret = environment.find((line) => line.startsWith('C100K_TOKEN='))?.slice('C100K_TOKEN='.length);
  assert((secret ?? '').length >= 32, 'a token');
  assert.equal(
    args.some((arg) => arg.includes(secret ?? '')),
    false,
    args.join(' '),
  );
  assert.deepEqual(args.slice(2), ['agent', '--join', '127.0.0.1:1', '--name', 'obeys']);
  // Fields of stat(5) behind the name: state, parent, process group.
  const group = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[2];
  assert.equal(group, String(pid), 'Ctrl-C in the terminal must reach the CLI alone');
  await agent.reap();
});
