import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { EventsFile } from '../../src/api/events-file.ts';
import { BenchError, ErrorCode, ExitCode } from '../../src/base/errors.ts';
import type { LedgerEntry } from '../../src/coordinator/run-watch.ts';

/** The file writes what it is given: any entry will do. */
function entries(count: number, text = ''): LedgerEntry[] {
  return Array.from({ length: count }, (_, at) => ({ at, text }) as object as LedgerEntry);
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-events-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function isUnwritable(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BenchError, String(error));
    assert.deepEqual([error.code, error.exitCode], [ErrorCode.reportUnwritable, ExitCode.reportUnwritten]);
    assert.match(error.message, pattern);
    return true;
  };
}

test('an old ledger is emptied and keeps its mode; one that is moved away is followed by a new one', (t) => {
  const path = join(folderOf(t), 'events.jsonl');
  writeFileSync(path, 'old');
  chmodSync(path, 0o640);
  const file = new EventsFile(path);
  assert.equal(readFileSync(path, 'utf8'), '');
  file.append(entries(1));
  renameSync(path, `${path}.1`);
  file.append(entries(2));
  file.check();
  assert.equal(readFileSync(`${path}.1`, 'utf8').split('\n').length, 2);
  assert.equal(readFileSync(path, 'utf8').split('\n').length, 3);
  assert.equal(statSync(path).mode & 0o777, 0o640);
});

test('a link that is put in its place gets nothing, and the end of the run says so', (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'events.jsonl');
  const file = new EventsFile(path);
  rmSync(path);
  writeFileSync(join(folder, 'victim'), 'precious');
  symlinkSync('victim', path);
  file.append(entries(1));
  assert.throws(() => file.check(), isUnwritable(/cannot be written to .*events.jsonl: /));
  assert.equal(readFileSync(join(folder, 'victim'), 'utf8'), 'precious');
});

test('a pipe gets everything, also what came before its reader and more than it holds', async (t) => {
  const path = join(folderOf(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const file = new EventsFile(path);
  for (let batch = 0; batch < 10; batch += 1) file.append(entries(100, 'x'.repeat(300)));
  const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  reader.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  file.append(entries(1));
  file.check();
  await once(reader, 'close');
  assert.equal(text.split('\n').length - 1, 1_001);
});

test('a pipe that nobody reads stops no batch, and is told at the end; it does not fill the memory', (t) => {
  const path = join(folderOf(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const idle = new EventsFile(path);
  idle.append(entries(1));
  assert.throws(() => idle.check(), isUnwritable(/nobody reads it/));
  const full = new EventsFile(path);
  for (let batch = 0; batch < 40; batch += 1) full.append(entries(1_000, 'x'.repeat(1_000)));
  assert.throws(() => full.check(), isUnwritable(/does not keep up/));
});
