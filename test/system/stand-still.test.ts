/**
 * Owns what a run makes of a process that is stopped (SIGSTOP) for seconds or for good: it ends, it says who stood still, and
 * it claims nothing that it has not seen. What is left afterwards is asked of the kernel.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchRun, startBench, until } from '../support/bench-run.ts';
import { clientEnds } from '../support/kernel-view.ts';
import { startNetTarget } from '../support/net-target.ts';

/** A run that has not ended by then hangs; what its bounds promise is far below. */
const ENDS_WITHIN_MS = 120_000;
const GONE_WITHIN_MS = 20_000;

function start(t: TestContext, target: string, ...args: string[]): BenchRun {
  return startBench(t, ['--target', target, ...args], { timeoutMs: ENDS_WITHIN_MS });
}

async function stopFor(pid: number, ms: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await sleep(ms);
  process.kill(pid, 'SIGCONT');
}

/** The role's first process, as soon as there is one. */
async function pidOf(run: BenchRun, role: 'agent' | 'holder' | 'serve-worker'): Promise<number> {
  await until(`there is a ${role}`, GONE_WITHIN_MS, () => run.pids(role).length > 0);
  return run.pids(role)[0]!;
}

test('an agent that is stopped at the start: seconds, a report, and who was missing', async (t) => {
  const run = start(t, 'self', '--conns', '200', '--duration', '1s');
  const agent = await pidOf(run, 'agent');
  process.kill(agent, 'SIGSTOP');
  const { code, stderr, timedOut } = await run.result;
  assert.equal(timedOut, false);
  assert.equal(code, 4, stderr);
  assert.match(stderr, /the local agent said nothing for \d+\.\d s, as a stopped process does/);
  const report = run.report();
  assert.deepEqual([report.verdict, report.exitCode], ['incomplete', 4]);
  assert.match(report.reason, /^the run never started: 1 agent\(s\) expected/);
  await run.gone(GONE_WITHIN_MS);
});

test('a holder that is stopped in the ramp does not keep the run in it', async (t) => {
  const target = await startNetTarget(t);
  const run = start(
    t,
    `127.0.0.1:${target.port}`,
    ...'--conns 4000 --rate 500/s --duration 1s --holders 2'.split(' '),
  );
  await until('some are open', GONE_WITHIN_MS, () => clientEnds(target.port).count > 1_500);
  process.kill(run.pids('holder')[0]!, 'SIGSTOP');
  const { code, stderr, timedOut } = await run.result;
  assert.equal(timedOut, false);
  assert.equal(code, 4, stderr);
  const report = run.report();
  assert.match(report.notes.join('\n'), /holder local\/\d \(pid \d+\) was lost: it said nothing for/);
  assert((report.connections.dropped['holder-lost'] ?? 0) > 0);
  await run.gone(GONE_WITHIN_MS);
  await until('no client end is left', GONE_WITHIN_MS, () => clientEnds(target.port).count === 0);
});

test('SIGTERM ends a run of which a holder is stopped', async (t) => {
  const target = await startNetTarget(t);
  const run = start(
    t,
    `127.0.0.1:${target.port}`,
    ...'--conns 4000 --rate 200/s --duration 60s --holders 2'.split(' '),
  );
  await until('some are open', GONE_WITHIN_MS, () => clientEnds(target.port).count > 100);
  process.kill(run.pids('holder')[0]!, 'SIGSTOP');
  process.kill(run.pid, 'SIGTERM');
  const { code, stderr, timedOut } = await run.result;
  assert.equal(timedOut, false);
  assert.equal(code, 143, stderr);
  assert.equal(run.report().verdict, 'incomplete');
  await run.gone(GONE_WITHIN_MS);
});

test('a frozen holder beside a frozen target proves nothing', async (t) => {
  const run = start(
    t,
    'echo://self',
    ...'--conns 2000 --duration 8s --holders 1 --probe-every 1s --probe-timeout 1s'.split(' '),
  );
  await run.saw(/holding/);
  await sleep(1_500);
  process.kill(run.pids('holder')[0]!, 'SIGSTOP');
  for (const pid of run.pids('serve-worker')) process.kill(pid, 'SIGSTOP');
  const { code, stderr } = await run.result;
  assert.equal(code, 4, stderr);
  assert.equal(run.report().connections.held, 0);
  await run.gone(GONE_WITHIN_MS);
});

test('a holder that stood still for longer than a probe may take: a gap in the proof, and no fault of the target', async (t) => {
  const run = start(
    t,
    'echo://self',
    ...'--conns 3000 --duration 9s --holders 1 --probe-every 1s --probe-timeout 2s'.split(' '),
  );
  await run.saw(/holding/);
  await sleep(1_500);
  await stopFor(run.pids('holder')[0]!, 5_000);
  const { code, stderr } = await run.result;
  const report = run.report();
  assert.deepEqual(
    report.connections.dropped,
    {},
    'answers that waited for us are read before they are called overdue',
  );
  assert.equal(code, 4, stderr);
  assert.match(
    report.reason,
    /3,000 of 3,000 held by our own count, but holder local\/1 stood still for \d\.\d s/,
  );
  assert(report.generator.limits.some((limit) => /holder local\/1 stood still for/.test(limit)));
});

test('an agent, the command line and a worker of the target that were stopped and continued say so', async (t) => {
  const run = start(t, 'self', ...'--conns 2000 --duration 22s --holders 1'.split(' '));
  await run.saw(/holding/);
  await stopFor(run.pids('agent')[0]!, 5_000);
  await stopFor(run.pids('serve-worker')[0]!, 5_000);
  await stopFor(run.pid, 5_000);
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  const notes = run.report().notes.join('\n');
  assert.match(notes, /^agent local stood still for \d\.\d s: it was stopped, or had no core$/m);
  assert.match(notes, /^the built-in target: worker 1 \(pid \d+\) stood still for \d\.\d s$/m);
  assert.match(
    notes,
    /^this process, the coordinator, stood still for \d\.\d s: it was stopped, or had no core$/m,
  );
  await run.gone(GONE_WITHIN_MS);
  assert(!existsSync(`/proc/${run.pid}`) || !readFileSync(`/proc/${run.pid}/stat`, 'latin1').includes(') T'));
});
