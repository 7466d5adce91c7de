/** Tests the parent's side of the local agent: it is told of every end once, and leaves no process behind. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { generateToken } from '../../src/control/token.ts';
import { LocalAgent } from '../../src/coordinator/local-agent.ts';
import type { HostSpec } from '../../src/run/run-spec.ts';
import { type ProcessView, processesWith } from '../support/kernel-view.ts';
import { settled, until } from '../support/waiting.ts';
import { FAKE_AGENT_ENTRY, UP_FILE_VARIABLE } from './fake-agent.ts';

const token = generateToken();
const HOST_SPEC: HostSpec = {
  sources: { addresses: ['127.0.0.9'], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
  holders: null,
};

/** What the parent grants an agent that says nothing. */
const SILENT_MS_MAX = 2_000;

interface Started {
  readonly agent: LocalAgent;
  /** the same process as the parent sees it, for the signals that it sends and the signs that it gets */
  readonly child: ChildProcess;
  readonly signals: () => readonly unknown[];
  readonly ends: string[];
  readonly upFile: string;
  /** the living process, found without asking the agent */
  find(): ProcessView | undefined;
}

/** Every process that is forked, as Node itself tells it to whoever listens. */
function forkedBy(begin: () => LocalAgent): { agent: LocalAgent; child: ChildProcess } {
  let child: ChildProcess | undefined;
  const listen = (message: unknown): void => {
    child = (message as { process: ChildProcess }).process;
  };
  subscribe('child_process', listen);
  const agent = begin();
  unsubscribe('child_process', listen);
  assert(child !== undefined, 'a process was forked');
  return { agent, child };
}

/** An agent that behaves as `name` says, and is up; from now on its parent's timers are the test's. */
async function start(t: TestContext, name: string): Promise<Started> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-local-agent-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const upFile = join(folder, 'up');
  const ends: string[] = [];
  process.env[UP_FILE_VARIABLE] = upFile;
  const { agent, child } = forkedBy(
    () =>
      new LocalAgent({
        entryPath: FAKE_AGENT_ENTRY,
        name,
        host: '127.0.0.1',
        port: 1,
        token,
        hostSpec: HOST_SPEC,
        onLine: null,
        onExit: (how) => ends.push(how),
      }),
  );
  delete process.env[UP_FILE_VARIABLE];
  const mark = `${UP_FILE_VARIABLE}=${upFile}`;
  const find = (): ProcessView | undefined => processesWith(mark).find(({ pid }) => pid !== process.pid);
  t.after(() => {
    const left = find();
    if (left !== undefined) process.kill(left.pid, 'SIGKILL');
  });
  const kill = t.mock.method(child, 'kill');
  await until('it runs', () => existsSync(upFile));
  t.mock.timers.enable({ apis: ['setTimeout'] });
  return {
    agent,
    child,
    signals: () => kill.mock.calls.map((call) => call.arguments[0]),
    ends,
    upFile,
    find,
  };
}

test('an agent that obeys ends when ordered to, and its end is reported once', async (t) => {
  const { agent, ends, find } = await start(t, 'obeys');
  await settled('it ends', agent.reap());
  await until('it is gone', () => find() === undefined);
  assert.deepEqual(ends, ['exited with 0']);
  await settled('nothing is waited for', agent.reap());
  assert.equal(ends.length, 1);
});

test('an agent gets over the pipe what belongs to this host', async (t) => {
  const { agent, upFile } = await start(t, 'obeys');
  const wordFile = `${upFile}.word`;
  await until('it was told', () => existsSync(wordFile) && readFileSync(wordFile, 'utf8') !== '');
  assert.deepEqual(JSON.parse(readFileSync(wordFile, 'utf8')), { type: 'host-spec', hostSpec: HOST_SPEC });
  await settled('it ends', agent.reap());
});

test('an agent that dies on its own is reported with its code, and need not be waited for', async (t) => {
  const { agent, ends } = await start(t, 'exits');
  await until('its end is told', () => ends.length > 0);
  assert.deepEqual(ends, ['exited with 7']);
  await settled('nothing is waited for', agent.reap());
});

test('an agent that is still loading, and so hears nothing, is ended at once', async (t) => {
  const { agent, ends, signals, find } = await start(t, 'loading');
  // No timer of the parent comes to its end in this test.
  await settled('it ends', agent.reap());
  assert.deepEqual([signals(), ends], [['SIGTERM'], ['killed by SIGTERM']]);
  assert.equal(find(), undefined);
});

test('an agent that does not end is killed after 2 s', async (t) => {
  const { agent, ends, signals, find } = await start(t, 'deaf');
  const reaped = agent.reap();
  t.mock.timers.tick(SILENT_MS_MAX - 1);
  assert.deepEqual(signals(), ['SIGTERM']);
  t.mock.timers.tick(1);
  assert.deepEqual(signals(), ['SIGTERM', 'SIGKILL']);
  await settled('it ends', reaped);
  assert.deepEqual(ends, ['killed by SIGKILL']);
  assert.equal(find(), undefined);
});

test('an agent that is busy giving addresses back is waited for, and ends by itself', async (t) => {
  const { agent, child, ends, signals, find } = await start(t, 'busy');
  const reaped = agent.reap();
  // Twice as long as a silent one is waited for.
  for (let signs = 0; signs < 4; signs++) {
    await settled('a sign', once(child, 'message'));
    t.mock.timers.tick(SILENT_MS_MAX - 1);
    assert.deepEqual([signals(), ends], [['SIGTERM'], []]);
  }
  process.kill(find()?.pid ?? assert.fail('it is not there'), 'SIGUSR2');
  await settled('it ends', reaped);
  assert.deepEqual(ends, ['exited with 0'], 'it was not killed');
  assert.equal(find(), undefined);
});

test('an agent that hangs while it closes is killed 2 s after its last sign', async (t) => {
  const { agent, child, ends, signals } = await start(t, 'hangs');
  const reaped = agent.reap();
  const sign = once(child, 'message');
  t.mock.timers.tick(SILENT_MS_MAX - 1);
  await settled('its one sign', sign);
  t.mock.timers.tick(SILENT_MS_MAX - 1);
  assert.deepEqual(signals(), ['SIGTERM']);
  t.mock.timers.tick(1);
  await settled('it ends', reaped);
  assert.deepEqual(ends, ['killed by SIGKILL']);
});

test('the token is in no argument and no variable, and the process group is its own', async (t) => {
  const { agent, find } = await start(t, 'obeys');
  const { pid, args } = find() ?? { pid: 0, args: [] };
  const environment = readFileSync(`/proc/${pid}/environ`, 'latin1');
  const secret = token.key.toString('base64url');
  assert.doesNotMatch(environment, /C100K_TOKEN/);
  assert.ok(!environment.includes(secret));
  assert.ok(!args.join(' ').includes(secret));
  assert.deepEqual(args.slice(2), ['agent', '--join', '127.0.0.1:1', '--name', 'obeys', '--token-stdin']);
  // Fields of stat(5) behind the name: state, parent, process group.
  const group = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[2];
  assert.equal(group, String(pid), 'Ctrl-C in the terminal must reach the CLI alone');
  await settled('it ends', agent.reap());
});
