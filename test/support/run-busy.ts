/**
 * Owns the proof that the unit tests do not rest on a quiet machine: `npm run test:busy [-- loops]` runs them beside
 * processes that compute without end, and tells how long it took. Must never leave one of those behind: they end with
 * this process, however it ends, and by themselves when it was killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const LOOPS_DEFAULT = 20;
const LOOPS_MAX = 1_000;

/** Computes, and looks once in a while whether it is an orphan: `process.ppid` asks the kernel each time. */
const LOOP = `
const parent = ${process.pid};
for (let turn = 0; ; turn++) if (turn % 1e8 === 0 && process.ppid !== parent) process.exit();
`;

/** The number of loops that was typed; null: none. */
function loopsOf(text: string | undefined): number | null {
  const loops = text === undefined ? LOOPS_DEFAULT : Number(text);
  return Number.isInteger(loops) && loops >= 0 && loops <= LOOPS_MAX ? loops : null;
}

/** Resolves to the exit code of the unit tests. */
function runUnitTests(filter: string, onStarted: (child: ChildProcess) => void): Promise<number> {
  const runner = join(dirname(fileURLToPath(import.meta.url)), 'run-tests.js');
  const child = spawn(process.execPath, [runner, 'unit', filter], { stdio: 'inherit' });
  onStarted(child);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
  });
}

async function main(loopsText: string | undefined, filter: string): Promise<number> {
  const count = loopsOf(loopsText);
  if (count === null) {
    console.error(`"${loopsText}" is not a number of loops from 0 to ${LOOPS_MAX}: npm run test:busy -- 20`);
    return 2;
  }
  const loops = Array.from({ length: count }, () =>
    spawn(process.execPath, ['-e', LOOP], { stdio: 'ignore' }),
  );
  const endLoops = (): void => {
    for (const loop of loops) loop.kill('SIGKILL');
  };
  process.on('exit', endLoops);
  let tests: ChildProcess | null = null;
  // Ctrl-C in a terminal reaches the tests too; their end is ours.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => tests?.kill(signal));
  const beganMs = performance.now();
  const code = await runUnitTests(filter, (child) => {
    tests = child;
  }).finally(endLoops);
  const seconds = ((performance.now() - beganMs) / 1_000).toFixed(0);
  console.log(`\nbeside ${loops.length} busy loops: ${code === 0 ? 'passed' : 'FAILED'} after ${seconds} s`);
  return code;
}

process.exitCode = await main(process.argv[2], process.argv[3] ?? '');
