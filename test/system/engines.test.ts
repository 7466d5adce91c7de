/**
 * Owns the two engines under the whole program: each holds what was asked, the report says which and why, and where io_uring is
 * refused a run goes on without it, or is refused if it asked for it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { URING_SKIP } from '../engine/drivers/driver-harness.ts';
import { startBench } from '../support/bench-run.ts';
import { clientEnds, socketsOnPort } from '../support/kernel-view.ts';
import { repositoryRoot, runCli } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

const CONNECTIONS = 30_000;
/** What a process of Node has open beside connections. */
const OWN_DESCRIPTORS_MAX = 100;

for (const engine of ['uring', 'epoll'] as const) {
  const skip = engine === 'uring' && URING_SKIP;
  test(`${CONNECTIONS} connections that echo are held with --engine ${engine}`, { skip }, async (t) => {
    const run = startBench(
      t,
      [
        '--target',
        'self',
        '--probe',
        'echo',
        '--conns',
        `${CONNECTIONS}`,
        '--duration',
        '3s',
        '--engine',
        engine,
      ],
      { timeoutMs: 120_000 },
    );
    const port = await run.selfPort();
    await run.saw(/^.*holding/m);
    assert.equal(clientEnds(port).count, CONNECTIONS, 'client ends that ss counts');
    const holders = run.pids('holder');
    for (const pid of [...holders, ...run.pids('serve-worker')]) assert.equal(niceOf(pid), 5);
    for (const pid of run.pids('agent')) assert.equal(niceOf(pid), 0);
    const { code, stderr, stdout } = await run.result;
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`^engine +${engine}: as --engine says$`, 'm'));
    await run.gone(HANG_MS);
    assert.deepEqual(socketsOnPort(port), []);
    const { agents, connections } = run.report();
    assert.deepEqual(agents[0]?.engine, { name: engine, why: 'as --engine says' });
    assert.equal(connections.verified, CONNECTIONS);
    const used = agents.flatMap((agent) => agent.holders.map(({ descriptorsUsed }) => descriptorsUsed));
    if (engine === 'uring') {
      const cores = availableParallelism();
      assert.equal(holders.length, Math.max(1, cores - 1), 'one core is left to the target');
      assert(
        used.every((count) => count < OWN_DESCRIPTORS_MAX),
        used.join(),
      );
    } else {
      assert(used.reduce((sum, count) => sum + count, 0) >= CONNECTIONS, used.join());
    }
  });
}

/** Field 19 of /proc/PID/stat; the second one may hold spaces and ends with a bracket (proc(5)). */
function niceOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[16]);
}

/** The command line in a process to which a seccomp filter refuses io_uring, as container runtimes do; children inherit it. */
const entry = join(repositoryRoot, 'build', 'test', 'engine', 'drivers', 'refusal-entry.js');
const REFUSED = { wrap: `shift 2; exec '${process.execPath}' '${entry}' seccomp-eperm -- "$@"` };

test('where seccomp refuses io_uring a run uses epoll and says why', { skip: URING_SKIP }, async (t) => {
  const run = startBench(t, ['--target', 'self', '--conns', '500', '--duration', '1s'], REFUSED);
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  const engine = run.report().agents[0]?.engine;
  assert.equal(engine?.name, 'epoll');
  assert.match(engine?.why ?? '', /^io_uring: not permitted \(seccomp/);
});

test('--engine uring that seccomp refuses is exit 3, in a plan and in a run', {
  skip: URING_SKIP,
}, async () => {
  for (const command of [['plan'], []]) {
    const args = [...command, '--target', 'self', '--conns', '500', '--engine', 'uring'];
    const { code, stdout, stderr } = await runCli(args, REFUSED);
    assert.equal(code, 3, stderr);
    assert.match(`${stdout}${stderr}`, /io_uring: not permitted \(seccomp/);
    assert.match(`${stdout}${stderr}`, /--engine auto/);
  }
});

test('however busy the machine is, no agent is lost', async (t) => {
  // Four loops for each core, at a better priority than holders have.
  const loops: ChildProcess[] = [];
  t.after(() => {
    for (const loop of loops) loop.kill('SIGKILL');
  });
  for (let count = 0; count < 4 * availableParallelism(); count++)
    loops.push(spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
  const args = [
    '--target',
    'self',
    '--conns',
    '40000',
    '--holders',
    '8',
    '--duration',
    '10s',
    '--engine',
    'epoll',
  ];
  const run = startBench(t, args, { timeoutMs: 4 * HANG_MS });
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  assert.deepEqual(
    run.report().agents.map(({ lost, held }) => [lost, held]),
    [[false, 40_000]],
  );
});
