/**
 * Owns that the control channel stays in time however many processes want a core: many holders, and loops that compute without
 * end beside them. What is held is asked of the kernel. Must never judge how long it took.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBench, until } from '../support/bench-run.ts';
import { clientEnds } from '../support/kernel-view.ts';
import { HANG_MS } from '../support/waiting.ts';

const HOLDERS = 24;
/** Without sched_autogroup, as in a container, the loops leave a run few parts of a core: 130 to 380 connects a second beside 16. */
const CONNECTIONS = 6_000;
const LOOPS = 10;
/** Far beyond what a host with no core to spare needs. */
const ENDS_WITHIN_MS = 10 * 60_000;

/** Computes, and ends when its parent has. */
const LOOP = `for (let turn = 0; ; turn++) if (turn % 1e7 === 0 && process.ppid !== ${process.pid}) process.exit();`;

function startLoops(t: TestContext): readonly ChildProcess[] {
  const loops = Array.from({ length: LOOPS }, () =>
    spawn(process.execPath, ['-e', LOOP], { stdio: 'ignore' }),
  );
  t.after(() => {
    for (const loop of loops) loop.kill('SIGKILL');
  });
  return loops;
}

test(`${HOLDERS} holders beside ${LOOPS} busy loops: no agent is lost, and all is held`, async (t) => {
  const loops = startLoops(t);
  const run = startBench(
    t,
    [
      ...['--target', 'self', '--conns', String(CONNECTIONS), '--duration', '30s'],
      ...['--engine', 'epoll', '--holders', String(HOLDERS)],
    ],
    { timeoutMs: ENDS_WITHIN_MS },
  );
  await run.saw(/holding/);
  assert.equal(run.pids('holder').length, HOLDERS);
  assert(
    loops.every((loop) => loop.exitCode === null && loop.signalCode === null),
    'the loops run',
  );
  const port = await run.selfPort();
  assert.equal(clientEnds(port).count, CONNECTIONS);
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stderr, /contact is cut|was lost|is lost/);
  const report = run.report();
  assert.deepEqual([report.verdict, report.agents.length], ['pass', 1]);
  await run.gone(HANG_MS);
  await until('nothing is left', HANG_MS, () => clientEnds(port).count === 0);
});

test('an agent that stood still for six seconds in the hold has not lost contact: it has not listened', async (t) => {
  const run = startBench(t, ['--target', 'self', '--conns', '500', '--duration', '14s']);
  await run.saw(/holding/);
  const [agent] = run.pids('agent');
  assert(agent !== undefined);
  process.kill(agent, 'SIGSTOP');
  await sleep(6_000);
  process.kill(agent, 'SIGCONT');
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  // A new link would show here, and would be work for both.
  assert.doesNotMatch(stderr, /contact is cut|is back|was lost|is lost/);
  const report = run.report();
  assert.deepEqual([report.connections.held, report.agents.length], [500, 1]);
  assert.equal(report.target?.openMax, 500, 'the target counts them');
});
