import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { writePartialReport } from '../../src/agent/partial-report.ts';

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-partial-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('the last stats are for their owner alone, in a folder that is made for them', (t) => {
  const path = join(folderOf(t), 'new', 'partial.json');
  assert.equal(writePartialReport(path, { a: 1 }), path);
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { a: 1 });
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('in a folder like /tmp a link or a pipe that waits there gets nothing, and nothing hangs', (t) => {
  const folder = folderOf(t);
  chmodSync(folder, 0o1777);
  const victim = join(folder, 'victim');
  writeFileSync(victim, 'precious');
  symlinkSync('victim', join(folder, 'link.json'));
  execFileSync('mkfifo', [join(folder, 'pipe.json')]);
  for (const name of ['link.json', 'pipe.json']) {
    assert.equal(writePartialReport(join(folder, name), { a: 1 }), null);
  }
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.deepEqual(readdirSync(folder).sort(), ['link.json', 'pipe.json', 'victim']);
});
