/** Tests an agent's end of the pipe to its parent, in a process of its own: the parent is this one. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { type HostSpecMessage, SHUTDOWN_HEARTBEAT } from '../../src/agent/process-pipe.ts';
import { HANG_MS, settled } from '../support/waiting.ts';
import { type Heard, PIPE_ENTRY } from './pipe-entry.ts';

const MESSAGE: HostSpecMessage = {
  type: 'host-spec',
  hostSpec: {
    sources: { addresses: ['127.0.0.9'], ports: null, aliasDevice: null, aliasLeaseMs: 60_000, prefixes: [] },
    holders: 3,
  },
};

function forked(t: TestContext, ...args: string[]): ChildProcess {
  const child = fork(PIPE_ENTRY, args);
  t.after(() => child.kill('SIGKILL'));
  return child;
}

async function heard(child: ChildProcess): Promise<Heard> {
  const [message] = await settled('its word', once(child, 'message'));
  await settled('it ends', once(child, 'exit'));
  return message as Heard;
}

test('what the parent says about this host is taken, and what else comes before it is not', async (t) => {
  const child = forked(t, 'hear', String(HANG_MS));
  for (const other of ['closing', null, { type: 'spec' }, { hostSpec: {} }]) child.send(other as string);
  child.send(MESSAGE);
  assert.deepEqual(await heard(child), { hostSpec: MESSAGE.hostSpec });
});

test('a parent that says nothing in time is an error of the control channel, with how long it took', async (t) => {
  const { error } = await heard(forked(t, 'hear', '200'));
  assert.deepEqual([error?.code, error?.exitCode], ['control-channel', 4]);
  assert.match(error?.message ?? '', /did not say which sources are its own within 0\.2 s$/);
});

test('a parent that is gone while this process was loading leaves nothing to do', async (t) => {
  const child = forked(t, 'hear', String(HANG_MS));
  child.disconnect();
  const [code] = await settled('it ends', once(child, 'exit'));
  assert.equal(code, 3, 'null');
});

test('one that closes says so again and again, and its pipe does not keep it once its work is done', async (t) => {
  const child = forked(t, 'beat', '1200');
  let beats = 0;
  child.on('message', (message) => {
    assert.equal(message, SHUTDOWN_HEARTBEAT);
    beats += 1;
  });
  const [code] = await settled('it ends', once(child, 'exit'));
  assert.equal(code, 0);
  assert(beats >= 2, `${beats} heartbeats`);
});
