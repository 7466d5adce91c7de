import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { countLines, LineCounter, missingPrograms, runProgram } from '../../src/host/command.ts';
import { answeringNice } from '../support/priority.ts';
import { HANG_MS, settled } from '../support/waiting.ts';

const NODE = process.execPath;

test('a program that runs too long is ended, and what it has started is not waited for', async (t) => {
  // The sleep keeps the output open for longer than any test may take.
  const script = 'sleep 600 & echo $!; wait';
  // On a machine that is busy it may have said nothing yet: then it gets longer.
  let pid = 0;
  for (let timeoutMs = 1_500; pid === 0 && timeoutMs < HANG_MS; timeoutMs *= 3) {
    const result = await settled(
      'a command beyond its time',
      runProgram('sh', ['-c', script], { timeoutMs }),
      2 * HANG_MS,
    );
    assert.equal(result.code, null);
    pid = Number(result.stdout);
  }
  // Signals for 0 are for all processes of the group: the runner of the tests, too.
  assert(pid > 0, 'it has said whom it started');
  t.after(() => process.kill(pid, 'SIGKILL'));
});

test('a command tells its exit code and both outputs', async () => {
  const script = 'process.stdout.write("out"); process.stderr.write("err"); process.exitCode = 3';
  const result = await runProgram(NODE, ['-e', script], { timeoutMs: HANG_MS });
  assert.deepEqual(result, { code: 3, stdout: 'out', stderr: 'err', missing: false, truncated: false });
});

test('input reaches the command, and a command that never reads its input does no harm', async () => {
  const echoed = await runProgram('cat', [], { timeoutMs: HANG_MS, input: 'hello\n' });
  assert.equal(echoed.stdout, 'hello\n');
  const deaf = await runProgram('true', [], { timeoutMs: HANG_MS, input: 'x'.repeat(1_000_000) });
  assert.equal(deaf.code, 0);
});

test('arguments are not seen by a shell', async () => {
  const result = await runProgram('echo', ['$HOME; exit 1', '*'], { timeoutMs: HANG_MS });
  assert.equal(result.stdout, '$HOME; exit 1 *\n');
});

test('a command that is not installed is missing, not an exception', async () => {
  const result = await runProgram('c100k-no-such-program', [], { timeoutMs: HANG_MS });
  assert.equal(result.missing, true);
  assert.equal(result.code, null);
  const counted = await countLines('c100k-no-such-program', [], { timeoutMs: HANG_MS });
  assert.equal(counted.missing, true);
  assert.equal(counted.code, null);
});

test('a command that hangs is killed at its time limit and has no exit code', async () => {
  const result = await runProgram(NODE, ['-e', 'setInterval(() => {}, 1000)'], { timeoutMs: 300 });
  assert.equal(result.code, null);
  assert.equal(result.missing, false);
});

test('output beyond 16 MiB is thrown away and said to be', async () => {
  const result = await runProgram('head', ['-c', '20000000', '/dev/zero'], { timeoutMs: HANG_MS });
  assert.equal(result.code, 0);
  assert.equal(result.truncated, true);
  assert.equal(result.stdout.length, 16 * 1024 * 1024);
});

test('lines are counted as they come: 300,000 of them, and those that match', async () => {
  const all = await countLines('seq', ['300000'], { timeoutMs: HANG_MS });
  assert.deepEqual(all, { code: 0, missing: false, count: 300_000 });
  const some = await countLines('seq', ['300000'], {
    timeoutMs: HANG_MS,
    matches: (line) => line.endsWith('7'),
  });
  assert.equal(some.count, 30_000);
});

test('a line counts once wherever the pieces are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z]{0,8}$/), { maxLength: 30 }),
      fc.array(fc.nat(300), { maxLength: 10 }),
      (lines, cuts) => {
        const text = lines.map((line) => `${line}\n`).join('');
        const seen: string[] = [];
        const counter = new LineCounter((line) => seen.push(line) > 0);
        let from = 0;
        for (const cut of [
          ...cuts.map((at) => Math.min(at, text.length)).sort((a, b) => a - b),
          text.length,
        ]) {
          counter.add(Buffer.from(text.slice(from, cut)));
          from = cut;
        }
        assert.equal(counter.end(), lines.length);
        assert.deepEqual(seen, lines);
      },
    ),
  );
});

test('a program is missing where no folder has a file of its name that may be run', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-path-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'c100k-there'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(folder, 'c100k-plain'), 'text');
  mkdirSync(join(folder, 'c100k-folder'));
  const path = process.env.PATH;
  process.env.PATH = `${folder}:/usr/bin:/bin`;
  t.after(() => {
    process.env.PATH = path;
  });
  const names = ['c100k-there', 'c100k-plain', 'c100k-folder', 'c100k-none', 'sh'];
  assert.deepEqual(missingPrograms(names), ['c100k-plain', 'c100k-folder', 'c100k-none']);
});

test('a process that must answer in time goes first where it may, and what it starts begins as if it had not', async () => {
  const command = new URL('../../src/host/command.js', import.meta.url).href;
  const script = `
    import { getPriority, setPriority } from 'node:os';
    import { lowerPriority, raisePriority, runProgram } from '${command}';
    const chosen = Number(process.argv[1]);
    if (chosen !== 0) setPriority(chosen);
    raisePriority();
    const raised = getPriority();
    const { stdout } = await runProgram('nice', [], { timeoutMs: ${HANG_MS} });
    const after = getPriority();
    lowerPriority();
    console.log(JSON.stringify({ raised, child: Number(stdout), after, lowered: getPriority() }));
  `;
  const seen = async (command: string, args: readonly string[], chosen: number): Promise<unknown> => {
    const all = [...args, NODE, '--input-type=module', '-e', script, String(chosen)];
    const { code, stdout, stderr } = await runProgram(command, all, { timeoutMs: 3 * HANG_MS });
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  // Whoever runs the tests may be nice already, and may not have that right.
  const raised = answeringNice();
  const lowered = Math.max(5, getPriority());
  assert.deepEqual(await seen('env', [], 0), { raised, child: getPriority(), after: raised, lowered });
  const chosen = Math.max(7, getPriority());
  assert.deepEqual(await seen('env', [], chosen), {
    raised: chosen,
    child: chosen,
    after: chosen,
    lowered: chosen,
  });
  // Without that right nothing changes.
  const without = ['--bounding-set', '-sys_nice'];
  if (raised < 0)
    assert.deepEqual(await seen('setpriv', without, 0), { raised: 0, child: 0, after: 0, lowered: 5 });
});
