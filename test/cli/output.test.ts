/** Tests that nobody who stops reading changes what a run ends with, and that what could not be written is told. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { CountingServer } from '../support/counting-server.ts';
import { runShell, startCli } from '../support/run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'c100k-output-'));
let far: CountingServer;
let target = '';

before(async () => {
  far = await CountingServer.listen();
  target = far.target;
});

after(async () => {
  await far.close();
  rmSync(folder, { recursive: true, force: true });
});

const base = (): string[] => ['-t', target, '-c', '200', '-d', '300ms'];

describe('a run whose output no process reads', () => {
  it('keeps its exit code when the reader goes away', async () => {
    const result = await runShell(
      `$CLI ${base().join(' ')} | head -c 10; echo; echo "code \${PIPESTATUS[0]}"`,
    );
    assert.match(result.stdout, /^target {4}\ncode 0\n$/);
  });

  it('keeps its exit code when the reader was gone before the first word', async () => {
    for (const command of [base().join(' '), `plan ${base().join(' ')} --json -`]) {
      const result = await runShell(`$CLI ${command} | true; echo "code \${PIPESTATUS[0]}"`);
      assert.equal(result.stdout, 'code 0\n', result.stderr);
      assert.doesNotMatch(result.stderr, /bug|hint/);
    }
  });

  it('keeps its exit code when the reader goes away before the JSON', async () => {
    const result = await runShell(
      `$CLI ${base().join(' ')} --json - | head -c 1 >/dev/null; echo "code \${PIPESTATUS[0]}"`,
    );
    assert.match(result.stdout, /code 0\n$/);
  });

  it('keeps its exit code when stdout and stderr are closed', async () => {
    const result = await runShell(`$CLI ${base().join(' ')} >&- 2>&-; echo "code $?"`);
    assert.equal(result.stdout, 'code 0\n');
  });

  it('keeps its exit code when stderr goes away in the middle', async () => {
    const result = await runShell(
      `{ $CLI ${base().join(' ')} 2>&3 >/dev/null; echo "code $?"; } 3> >(head -c 5 >/dev/null)`,
    );
    assert.equal(result.stdout, 'code 0\n');
  });

  it('ends with 5 when stdout has no room, and the report file is written all the same', async () => {
    const path = join(folder, 'full.json');
    const result = await runShell(`$CLI ${base().join(' ')} --json '${path}' >/dev/full; echo "code $?"`);
    assert.equal(result.stdout, 'code 5\n', result.stderr);
    assert.equal((JSON.parse(readFileSync(path, 'utf8')) as RunReport).verdict, 'pass');
  });

  it('prints its report and ends with 5 when the file cannot be written at the end', async () => {
    const inner = mkdtempSync(join(folder, 'gone-'));
    // Long enough that the folder is gone before the end.
    const running = startCli(['-t', target, '-c', '200', '-d', '5s', '--json', join(inner, 'r.json')]);
    await running.saw(/holding/);
    rmSync(inner, { recursive: true });
    const result = await running.result;
    assert.match(result.stdout, /^PASS \(kernel only\) held 200 of 200/m);
    assert.match(result.stderr, /the report cannot be written/);
    assert.equal(result.code, 5);
  });
});
