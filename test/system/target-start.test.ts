/**
 * Owns what a run does whose built-in target does not start: a worker that is stopped or killed while it loads, and a run that is
 * told to end meanwhile. There is always a report, and it says who is missing.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type BenchRun, startBench } from '../support/bench-run.ts';
import { processesWith } from '../support/kernel-view.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { type RunningCli, startCli } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

/** What it takes on a loaded machine to end processes that are killed. */

/** The first worker, at the first moment at which there is one. */
async function firstWorker(cli: RunningCli, pids: () => readonly number[]): Promise<number> {
  for (;;) {
    const [pid] = pids();
    if (pid !== undefined) return pid;
    assert.equal(cli.child.exitCode, null, cli.stderr());
    await nextTurn();
  }
}

async function starting(t: TestContext): Promise<{ readonly run: BenchRun; readonly pid: number }> {
  const run = startBench(t, ['--target', 'self', '--conns', '100', '--duration', '10m'], { ownGroup: true });
  return { run, pid: await firstWorker(run, () => run.pids('serve-worker')) };
}

async function assertRefused(run: BenchRun, reason: RegExp): Promise<void> {
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 3, stderr);
  // The text is folded to the width of a terminal.
  assert.match(stdout.replaceAll(/\s+/g, ' '), reason);
  const report = run.report();
  assert.deepEqual(schemaErrors(report), []);
  assert.deepEqual([report.verdict, report.exitCode, report.isPartial], ['refused', 3, false]);
  assert.match(report.reason, reason);
  await run.gone(HANG_MS);
}

test('a worker that is stopped while it loads: the run is refused, names it, and leaves a report and nothing else', async (t) => {
  const { run, pid } = await starting(t);
  process.kill(pid, 'SIGSTOP');
  await assertRefused(
    run,
    new RegExp(`worker 1 \\(pid ${pid}\\) said nothing for 10 s, because it is stopped, and was killed`),
  );
});

test('a worker that is killed while it loads: the run is refused, names it, and leaves a report and nothing else', async (t) => {
  const { run, pid } = await starting(t);
  process.kill(pid, 'SIGKILL');
  await assertRefused(run, new RegExp(`worker 1 \\(pid ${pid}\\) was ended by SIGKILL`));
});

for (const { signal, exitCode } of [
  { signal: 'SIGTERM', exitCode: 143 },
  { signal: 'SIGINT', exitCode: 130 },
] as const) {
  test(`${signal} while the target starts: the report is written, exit ${exitCode}, nothing is left`, async (t) => {
    const { run, pid } = await starting(t);
    // It never listens, so the target is starting for as long as this test looks.
    process.kill(pid, 'SIGSTOP');
    process.kill(-run.pid, signal);
    const { code, stderr } = await run.result;
    assert.equal(code, exitCode, stderr);
    assert.match(stderr, new RegExp(`${signal}: closing; once more ends at once`));
    const report = run.report();
    assert.deepEqual(schemaErrors(report), []);
    assert.deepEqual([report.verdict, report.exitCode], ['incomplete', exitCode]);
    assert.match(report.reason, new RegExp(`interrupted by ${signal} before the hold began`));
    await run.gone(HANG_MS);
  });
}

test('serve whose worker is stopped while it loads says which one, ends with 3, and leaves nothing', async (t) => {
  const mark = `TEST_RUN_MARK=${randomUUID()}`;
  const [name = '', value = ''] = mark.split('=');
  const serve = startCli(['serve', '--port', '0', '--workers', '2'], { env: { [name]: value } });
  const workers = (): number[] =>
    processesWith(mark)
      .filter(({ args }) => args.includes('serve-worker'))
      .map(({ pid }) => pid);
  t.after(() => {
    for (const { pid } of processesWith(mark)) process.kill(pid, 'SIGKILL');
  });
  const pid = await firstWorker(serve, workers);
  process.kill(pid, 'SIGSTOP');
  const { code, stderr } = await serve.result;
  assert.equal(code, 3, stderr);
  assert.match(stderr, new RegExp(`worker 1 \\(pid ${pid}\\) said nothing for 10 s`));
  assert.deepEqual(processesWith(mark), []);
});
