/**
 * Owns what is left of each process of the program when it is stopped (SIGSTOP) and its parent is killed: nothing. Asked of
 * /proc and `ss`, never of the program.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type BenchRun, type Role, startBench, until } from '../support/bench-run.ts';
import { clientEnds, socketsOnPort } from '../support/kernel-view.ts';
import { startNetTarget } from '../support/net-target.ts';
import { cliPath, startProcess } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

const CONNECTIONS = 2_000;

function stop(pid: number): void {
  process.kill(pid, 'SIGSTOP');
}

function isStopped(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && /\) T/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
}

async function holding(t: TestContext, target: string, ...args: string[]): Promise<BenchRun> {
  const run = startBench(
    t,
    ['--target', target, '--conns', String(CONNECTIONS), '--duration', '10m', '--holders', '2', ...args],
    { timeoutMs: 120_000 },
  );
  await run.saw(/holding/);
  return run;
}

/** Stops one process, kills another with SIGKILL, and looks until nothing of the run is left. */
async function stopAndKill(run: BenchRun, stopped: number, killed: number, port: number): Promise<void> {
  stop(stopped);
  await until('it is stopped', HANG_MS, () => isStopped(stopped));
  assert(clientEnds(port).count > 0, 'there are connections');
  process.kill(killed, 'SIGKILL');
  await run.gone(HANG_MS);
  await until('no client end is left', HANG_MS, () => clientEnds(port).count === 0);
}

test('a stopped holder goes with its agent, and the command line reports', async (t) => {
  const target = await startNetTarget(t);
  const run = await holding(t, `127.0.0.1:${target.port}`);
  await stopAndKill(run, run.pids('holder')[0]!, run.pids('agent')[0]!, target.port);
  const { code, stderr } = await run.result;
  assert.equal(code, 4, stderr);
  assert.equal(run.report().exitCode, 4);
});

test('a stopped agent goes when the command line is killed, and its holders with it', async (t) => {
  const target = await startNetTarget(t);
  const run = await holding(t, `127.0.0.1:${target.port}`);
  await stopAndKill(run, run.pids('agent')[0]!, run.pid, target.port);
});

test('a stopped holder goes when the command line is killed', async (t) => {
  const target = await startNetTarget(t);
  const run = await holding(t, `127.0.0.1:${target.port}`);
  await stopAndKill(run, run.pids('holder')[0]!, run.pid, target.port);
});

test('a stopped worker of the built-in target goes when the command line is killed', async (t) => {
  const run = await holding(t, 'self');
  const port = await run.selfPort();
  await stopAndKill(run, run.pids('serve-worker')[0]!, run.pid, port);
  await until('nobody listens', HANG_MS, () => socketsOnPort(port).length === 0);
});

test('everything of a run stopped at once goes when the command line is killed', async (t) => {
  const run = await holding(t, 'self');
  const port = await run.selfPort();
  for (const { pid } of run.processes()) stop(pid);
  process.kill(run.pid, 'SIGKILL');
  await run.gone(HANG_MS);
  await until('no socket is left', HANG_MS, () => socketsOnPort(port).length === 0);
});

/** What the kernel's table of a process has open on pipes, and how. */
function pipesOf(pid: number): { link: string; isRead: boolean }[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
      const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1'))![1]!;
      return link.startsWith('pipe:') ? [{ link, isRead: (Number.parseInt(flags, 8) & 3) === 0 }] : [];
    } catch {
      return []; // closed meanwhile
    }
  });
}

/**
 * Whether the parent has bound the child: it has closed its own end of the pipe that the child reads and it may write. Between
 * the fork and that lies a moment that no parent can avoid, as the kernel names a child only once it is there.
 */
function isBound(parent: number, child: number): boolean {
  const own = pipesOf(parent);
  return pipesOf(child).some(
    ({ link, isRead }) =>
      isRead &&
      own.some((each) => each.link === link && !each.isRead) &&
      !own.some((each) => each.link === link && each.isRead),
  );
}

/**
 * The first moment at which there is a process of a role: it is stopped while Node still loads it, and its parent has bound it.
 * @returns false: this host was slower than Node, and the process had loaded already
 */
async function stoppedWhileLoading(run: BenchRun, role: Role): Promise<boolean> {
  let pid: number | undefined;
  while (pid === undefined) {
    [pid] = run.pids(role);
    assert(run.child.exitCode === null, `the run ended before there was a ${role}`);
    if (pid === undefined) await nextTurn();
  }
  stop(pid);
  await until('it is stopped', HANG_MS, () => isStopped(pid));
  const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]);
  await until('its parent has bound it', HANG_MS, () => isBound(parent, pid));
  return !hasLoaded(pid);
}

/** On a busy host the look at its processes may come too late. */
const TRIES = 20;

for (const role of ['agent', 'holder', 'serve-worker'] as const) {
  const parent = role === 'holder' ? 'agent' : 'command line';
  test(`${role}: one that is stopped while it loads goes when its ${parent} is killed`, async (t) => {
    for (let tries = 1; ; tries++) {
      const args = ['--target', 'self', '--conns', '100', '--holders', '2', '--duration', '10m'];
      const run = startBench(t, args, { timeoutMs: 120_000 });
      const isInTime = await stoppedWhileLoading(run, role);
      process.kill(role === 'holder' ? run.pids('agent')[0]! : run.pid, 'SIGKILL');
      await run.gone(HANG_MS);
      if (isInTime) return t.diagnostic(`stopped while it loaded at try ${tries}`);
      assert(tries < TRIES, `the ${role} had loaded already in each of ${TRIES} tries`);
    }
  });
}

test('a stopped worker of serve goes with serve; serve itself, stopped, goes on when its parent is killed', async (t) => {
  // A shell between, as a script has it: `serve` outlives its parent, but not as a stopped process.
  const shell = startProcess(
    [
      'bash',
      '-c',
      '"$@" & echo "serve is $!" >&2; wait',
      'bash',
      process.execPath,
      cliPath,
      'serve',
      '--port',
      '0',
      '--workers',
      '2',
    ],
    { timeoutMs: 120_000 },
  );
  await shell.saw(/serve is \d+/);
  const servePid = Number(/serve is (\d+)/.exec(shell.stderr())![1]);
  const children = (pid: number): number[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);
  let workers: readonly number[] = [];
  t.after(() => {
    // A worker that is stopped would keep this test's own output open.
    for (const pid of [servePid, ...workers]) if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
  });
  await until('two workers', HANG_MS, () => {
    workers = children(servePid);
    return workers.length === 2;
  });
  stop(servePid);
  await until('serve is stopped', HANG_MS, () => isStopped(servePid));
  process.kill(shell.child.pid!, 'SIGKILL');
  await until('serve goes on', HANG_MS, () => !isStopped(servePid));
  stop(workers[0]!);
  await until('the worker is stopped', HANG_MS, () => isStopped(workers[0]!));
  process.kill(servePid, 'SIGKILL');
  await until('no worker is left', HANG_MS, () => workers.every((pid) => !existsSync(`/proc/${pid}`)));
});

/** koffi is loaded: the bond is made in the same turn of the process. */
function hasLoaded(pid: number): boolean {
  return readFileSync(`/proc/${pid}/maps`, 'latin1').includes('koffi');
}
