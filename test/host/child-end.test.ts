import assert from 'node:assert/strict';
import { ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { whenOver } from '../../src/host/child-end.ts';

/** What is heard of a child, in order; no process is started for it. */
function listen(isConnected: boolean): { child: ChildProcess; heard: string[] } {
  const child = new ChildProcess();
  Object.defineProperty(child, 'connected', { value: isConnected });
  const heard: string[] = [];
  child.on('message', (message) => heard.push(String(message)));
  whenOver(child, (code, signal) => heard.push(`over ${code} ${signal}`));
  return { child, heard };
}

test('a child is over when its last message is read, which may come after its exit', () => {
  const { child, heard } = listen(true);
  child.emit('exit', 0, null);
  child.emit('message', 'last');
  child.emit('disconnect');
  assert.deepEqual(heard, ['last', 'over 0 null']);
});

test('one whose channel is closed before is over when it has ended', () => {
  const { child, heard } = listen(false);
  child.emit('disconnect');
  child.emit('exit', null, 'SIGKILL');
  assert.deepEqual(heard, ['over null SIGKILL']);
});

test('of a real child that says something and ends, the last message is heard before its end', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-child-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const entry = join(folder, 'child.cjs');
  writeFileSync(entry, "process.send('last', () => process.exit(3));");
  const child = fork(entry, { execArgv: [] });
  const heard: string[] = [];
  child.on('message', (message) => heard.push(String(message)));
  whenOver(child, (code) => heard.push(`over ${code}`));
  await once(child, 'exit');
  if (child.connected) await once(child, 'disconnect');
  assert.deepEqual(heard, ['last', 'over 3']);
});
