/**
 * Owns what the whole program does when it is told to stop, and when nobody reads what it writes.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchRun, startBench, until } from '../support/bench-run.ts';
import { clientEnds } from '../support/kernel-view.ts';
import { type NetTarget, startNetTarget } from '../support/net-target.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { HANG_MS } from '../support/waiting.ts';

const IN_RAMP = ['--conns', '10000', '--rate', '1000/s', '--duration', '10m', '--holders', '2'];
const IN_HOLD = ['--conns', '3000', '--duration', '10m', '--holders', '2'];

interface Started {
  readonly target: NetTarget;
  readonly run: BenchRun;
}

/** A run in a process group of its own, once the target has so many connections. */
async function startAndWait(t: TestContext, args: readonly string[], open: number): Promise<Started> {
  const target = await startNetTarget(t);
  const run = startBench(t, ['--target', `127.0.0.1:${target.port}`, ...args], { ownGroup: true });
  await until('the target has enough', HANG_MS, async () => {
    assert.equal(run.child.exitCode, null, run.stderr());
    return (await target.counts()).open >= open;
  });
  return { target, run };
}

/** What a terminal does at Ctrl-C: the signal goes to every process of the group. */
function signalGroup(run: BenchRun, signal: NodeJS.Signals): void {
  process.kill(-run.pid, signal);
}

async function assertNothingLeft({ target, run }: Started): Promise<void> {
  await run.gone(HANG_MS);
  await until('the target sees all gone', HANG_MS, async () => (await target.counts()).open === 0);
  assert.equal(clientEnds(target.port).count, 0);
}

for (const { signal, exitCode } of [
  { signal: 'SIGINT', exitCode: 130 },
  { signal: 'SIGTERM', exitCode: 143 },
] as const) {
  test(`${signal} in the ramp: opening stops, the report is written, exit ${exitCode}, nothing is left`, async (t) => {
    const started = await startAndWait(t, IN_RAMP, 1_000);
    signalGroup(started.run, signal);
    const { code, stdout, stderr } = await started.run.result;
    assert.equal(code, exitCode, stderr);
    await assertNothingLeft(started);
    const report = started.run.report();
    assert.deepEqual(schemaErrors(report), []);
    assert.equal(report.exitCode, exitCode);
    assert.equal(report.verdict, 'incomplete');
    assert.match(report.reason, new RegExp(`interrupted by ${signal} before the hold began`));
    assert.match(stdout, /^INCOMPLETE/m);
    const { established, unattempted, failed, dropped } = report.connections;
    assert.deepEqual({ failed, dropped }, { failed: {}, dropped: {} });
    assert.equal(established + unattempted, 10_000, 'opened and given up sum to the total');
    const { accepted } = await started.target.counts();
    assert(accepted >= established && accepted < 10_000, `accepted ${accepted}, established ${established}`);
    assert(!report.notes.some((note) => note.startsWith('no last word')), report.notes.join('\n'));
    assert.deepEqual(
      report.kernel.counts.map((count) => count.established),
      report.kernel.counts.map((count) => count.open),
      'what the kernel counted and our own count',
    );
    assert.deepEqual(
      report.notes.filter((note) => note.includes('our count is')),
      [],
    );
  });

  test(`${signal} in the hold: the report says what was held until then, exit ${exitCode}, nothing is left`, async (t) => {
    const started = await startAndWait(t, IN_HOLD, 3_000);
    await started.run.saw(/holding/);
    await sleep(300);
    signalGroup(started.run, signal);
    const { code, stdout, stderr } = await started.run.result;
    assert.equal(code, exitCode, stderr);
    await assertNothingLeft(started);
    const report = started.run.report();
    assert.deepEqual(schemaErrors(report), []);
    assert.match(report.reason, new RegExp(`interrupted by ${signal} while holding: 3,000 of 3,000 held`));
    assert.equal(report.connections.held, 3_000);
    assert.deepEqual(report.connections.dropped, {}, 'what we close ourselves is no drop');
    assert.equal(report.connections.closed, 3_000);
    assert.equal(report.kernel.established, 3_000);
    assert.match(stdout, /^INCOMPLETE/m);
    assert.match(stderr, new RegExp(`${signal}: closing; once more ends at once`));
  });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} ends a hold that has no end of its own: it passes when everything was held`, async (t) => {
    const args = ['--conns', '2000', '--duration', 'forever', '--holders', '2'];
    const started = await startAndWait(t, args, 2_000);
    await started.run.saw(/holding/);
    signalGroup(started.run, signal);
    const { code, stdout, stderr } = await started.run.result;
    assert.equal(code, 0, stderr);
    await assertNothingLeft(started);
    const report = started.run.report();
    assert.deepEqual(schemaErrors(report), []);
    assert.deepEqual([report.verdict, report.asked.holdMs, report.connections.held], ['pass', 0, 2_000]);
    assert.match(stdout, /held until interrupted/);
  });
}

test('a hold that has no end of its own fails when something was lost before Ctrl-C', async (t) => {
  const args = ['--conns', '500', '--duration', '0', '--holders', '1'];
  const started = await startAndWait(t, args, 500);
  await started.run.saw(/holding/);
  started.target.reset(3);
  await until('they are gone', HANG_MS, async () => (await started.target.counts()).open === 497);
  signalGroup(started.run, 'SIGINT');
  const { code, stderr } = await started.run.result;
  assert.equal(code, 1, stderr);
  assert.equal(started.run.report().connections.held, 497);
});

test('Ctrl-C twice ends at once, with nothing left', async (t) => {
  const started = await startAndWait(t, IN_RAMP, 1_000);
  signalGroup(started.run, 'SIGINT');
  await started.run.saw(/once more ends at once/);
  signalGroup(started.run, 'SIGINT');
  const { code, timedOut } = await started.run.result;
  assert.equal(code, 130);
  assert.equal(timedOut, false);
  await assertNothingLeft(started);
});

test('Ctrl-C before anything is open ends in order', async (t) => {
  const run = startBench(t, ['--target', 'self', '--conns', '2000'], { ownGroup: true });
  // The first line comes before the target and the agent are started, and just before the handlers are set.
  await run.saw(/c100k-bench --target self/);
  await sleep(20);
  signalGroup(run, 'SIGINT');
  const { code, stdout, stderr, timedOut } = await run.result;
  assert.equal(code, 130, stderr);
  assert.equal(timedOut, false);
  await run.gone(HANG_MS);
  assert.match(stdout, /^INCOMPLETE/m);
  assert.equal(run.report().connections.established, 0);
});

for (const delayMs of [150, 400, 700, 1_000]) {
  test(`Ctrl-C ${delayMs} ms after the start, before the ramp: in order, at once, and nothing is left`, async (t) => {
    const run = startBench(t, ['--target', 'self', '--conns', '30000', '--holders', '4'], { ownGroup: true });
    await run.saw(/c100k-bench --target self/);
    await sleep(delayMs);
    signalGroup(run, 'SIGINT');
    const { code, stdout, stderr, timedOut } = await run.result;
    assert.equal(code, 130, stdout + stderr);
    // An agent that is still loading hears nothing: it must not be waited for (test/coordinator/local-agent.test.ts).
    assert.equal(timedOut, false);
    await run.gone(HANG_MS);
    assert.deepEqual(schemaErrors(run.report()), []);
    assert.doesNotMatch(stderr, /bug|was lost|contact is cut/);
  });
}

test('Ctrl-C of a run against the built-in target drains before the target goes: nothing is dropped', async (t) => {
  const run = startBench(t, ['--target', 'self', '--conns', '3000', '--duration', '10m'], { ownGroup: true });
  await run.saw(/holding/);
  signalGroup(run, 'SIGINT');
  const { code, stderr } = await run.result;
  assert.equal(code, 130, stderr);
  await run.gone(HANG_MS);
  const { dropped, closed } = run.report().connections;
  assert.deepEqual({ dropped, closed }, { dropped: {}, closed: 3_000 });
});

const SHORT = ['--conns', '500', '--duration', '500ms'];

/** A whole run whose output goes somewhere that does not take it. */
async function runInto(t: TestContext, wrap: string, args: readonly string[] = []) {
  const target = await startNetTarget(t);
  const run = startBench(t, ['--target', `127.0.0.1:${target.port}`, ...SHORT, ...args], { wrap });
  const result = await run.result;
  assert.equal((await target.counts()).accepted, 500, `the run took place: ${result.stderr}`);
  await run.gone(HANG_MS);
  assert.equal(run.report().connections.held, 500, 'the report file is complete');
  return result;
}

test('output piped into head -c 10: the run goes on, and says nothing about the pipe', async (t) => {
  const { code, stdout, stderr } = await runInto(t, '"$@" | head -c 10; exit $' + '{PIPESTATUS[0]}');
  assert.equal(code, 0, stderr);
  assert.equal(stdout.length, 10);
  assert.doesNotMatch(stderr, /EPIPE|bug|hint/);
});

test('both outputs piped into head -c 10: the run goes on to its end', async (t) => {
  const { code } = await runInto(t, '"$@" 2>&1 | head -c 10; exit $' + '{PIPESTATUS[0]}', [
    '--progress-every',
    '100ms',
  ]);
  assert.equal(code, 0);
});

test('stdout closed: the run goes on, and the report file is written', async (t) => {
  const { code, stdout, stderr } = await runInto(t, 'exec "$@" >&-');
  assert.equal(code, 0, stderr);
  assert.equal(stdout, '');
  assert.doesNotMatch(stderr, /bug/);
});

test('stderr closed: the run goes on, and the result is on stdout', async (t) => {
  const { code, stdout, stderr } = await runInto(t, 'exec "$@" 2>&-');
  assert.equal(code, 0);
  assert.match(stdout, /^PASS \(kernel only\) held 500 of 500/m);
  assert.equal(stderr, '');
});

test('stdout on a full disk: the report file is written, and the exit code says that stdout was not', async (t) => {
  const { code, stderr } = await runInto(t, 'exec "$@" >/dev/full');
  assert.equal(code, 5, stderr);
  assert.match(stderr, /could not be written to stdout: .*\n {2}hint: /);
});

test('stderr on a full disk: the run goes on, and the result is on stdout', async (t) => {
  const { code, stdout } = await runInto(t, 'exec "$@" 2>/dev/full');
  assert.equal(code, 0);
  assert.match(stdout, /^PASS \(kernel only\) held 500 of 500/m);
});
