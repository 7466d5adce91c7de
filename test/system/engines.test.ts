/**
 * Owns the two engines under the whole program: each holds what was asked, the report says which and why, and where io_uring is
 * refused a run goes on without it, or is refused if it asked for it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, getPriority, release } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import type { AgentEngine } from '../../src/run/agent-record.ts';
import { URING_SKIP } from '../engine/drivers/driver-harness.ts';
import { startBench } from '../support/bench-run.ts';
import { withKernelSetting } from '../support/kernel-setting.ts';
import { clientEnds, socketsOnPort } from '../support/kernel-view.ts';
import { answeringNice } from '../support/priority.ts';
import { type CliOptions, repositoryRoot, runCli } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

const CONNECTIONS = 30_000;
const SYSCTL = '/proc/sys/kernel/io_uring_disabled';
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
    // Whoever runs the tests may be nice already; a priority that is lower stays (host/command.ts).
    for (const pid of [...holders, ...run.pids('serve-worker')])
      assert.equal(niceOf(pid), Math.max(5, getPriority()));
    // These must answer in time however many others want a core; a priority that was chosen stays.
    const answering = [run.child.pid!, ...run.pids('agent')];
    assert.equal(answering.length, 2);
    for (const pid of answering) assert.equal(niceOf(pid), answeringNice());
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
const refused = (how: string): CliOptions => ({
  wrap: `shift 2; exec '${process.execPath}' '${entry}' ${how} -- "$@"`,
});
const REFUSED = refused('eperm-setup');
/** A user without privileges, whose processes may lock this much memory; files go to a folder of theirs. */
const asNobody = (before: string): CliOptions => ({
  wrap: `${before}; cd /tmp; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`,
});
const isRoot = process.getuid?.() === 0;

/** Each way in which a host refuses io_uring, made for real, and the words for it. */
const REFUSALS: readonly {
  readonly what: string;
  readonly options: CliOptions;
  readonly why: RegExp;
  readonly skip?: string | false;
}[] = [
  { what: 'a seccomp filter', options: REFUSED, why: /^io_uring: not permitted \(seccomp/ },
  {
    what: 'a seccomp filter that hides the call',
    options: refused('enosys-setup'),
    why: /^io_uring: the system call is missing \(seccomp hides it/,
  },
  {
    what: 'a seccomp filter that forgot one of the three calls',
    options: refused('eperm-enter'),
    why: /^io_uring: not permitted \(seccomp/,
  },
  {
    what: 'a limit of locked memory',
    options: asNobody('ulimit -l 16'),
    why: /^io_uring: no memory for the rings \(ulimit -l: 16384 bytes may be locked/,
    skip: isRoot && isAtLeast('6.14') ? false : 'needs root, and a kernel that counts rings (6.14)',
  },
];

/** Whether this kernel is that one or newer. */
function isAtLeast(version: string): boolean {
  const [[major = 0, minor = 0] = [], [wantedMajor = 0, wantedMinor = 0] = []] = [release(), version].map(
    (text) => text.split('.').map(Number),
  );
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

for (const { what, options, why, skip = false } of REFUSALS)
  test(`where ${what} refuses io_uring a plan and a run use epoll, and say why`, {
    skip: URING_SKIP || skip,
  }, async () => {
    // What else may refuse it here is away meanwhile.
    const alone: (action: () => Promise<void>) => Promise<void> = isRoot
      ? (action) => withKernelSetting(SYSCTL, '0', action)
      : (action) => action();
    await alone(async () => {
      const target = ['--target', 'self', '--conns', '500', '--engine', 'auto', '--json', '-', '--quiet'];
      const plan = await runCli(['plan', ...target], options);
      assert.equal(plan.code, 0, plan.stderr);
      const planned = (JSON.parse(plan.stdout) as { engine: AgentEngine }).engine;
      const run = await runCli([...target, '--duration', '1s'], options);
      assert.equal(run.code, 0, run.stderr);
      const [agent] = (JSON.parse(run.stdout) as RunReport).agents;
      assert(agent?.engine);
      assert.equal(agent.engine.name, 'epoll');
      assert.match(agent.engine.why, why);
      assert.deepEqual(planned, agent.engine, 'the plan says the same');
      assert.equal(agent.held, 500);
    });
  });

test('where kernel.io_uring_disabled refuses io_uring a run uses epoll and says why', {
  skip: URING_SKIP || (isRoot ? false : 'only root may set it'),
}, async () => {
  // 1 leaves root's rings alone, other tests' among them.
  await withKernelSetting(SYSCTL, '1', async () => {
    const args = ['--target', 'self', '--conns', '500', '--engine', 'auto', '--duration', '1s'];
    const { code, stdout, stderr } = await runCli(args, asNobody('true'));
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^engine +epoll: io_uring: not permitted \(kernel\.io_uring_disabled is 1/m);
  });
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
