/**
 * Owns how the suites start: `node build/test/support/run-tests.js unit|system [name-filter]` finds the compiled tests,
 * hands them to Node's own runner as a list of files (a folder fails on 22, a quoted glob on 20) and passes its exit
 * code on. Must never decide that a test does not matter: no file found is a failure.
 *
 * A system test file runs in a runner of its own, with a time limit. One that fails is run once more, because such a
 * test shares the machine with whatever else runs there; that it needed a second try is printed and counted.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/** Below test/: folders whose tests need root, namespaces or minutes, and so are no unit tests. */
const FOLDERS_BEYOND_UNIT: readonly string[] = ['system', 'lab', 'bench'];

/** A file that takes longer hangs; the longest needs about four minutes on a quiet machine. */
const FILE_TIMEOUT_MS = 12 * 60_000;

interface Suite {
  /** whether a test in this folder below test/ (empty: in test/ itself) belongs to the suite */
  readonly takes: (folder: string) => boolean;
  /** files at a time: system tests open as many connections as the host allows, so one */
  readonly filesAtOnce: number;
  /** each file in a runner of its own, with a second try */
  readonly isPerFile: boolean;
}

const SUITES: Readonly<Record<string, Suite>> = {
  unit: { takes: (folder) => !FOLDERS_BEYOND_UNIT.includes(folder), filesAtOnce: 2, isPerFile: false },
  system: { takes: (folder) => folder === 'system', filesAtOnce: 1, isPerFile: true },
};

/** The suite's compiled test files, sorted, as absolute paths. */
function filesOf(testRoot: string, suite: Suite, filter: string): string[] {
  return readdirSync(testRoot, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.js'))
    .filter((path) => suite.takes(path.includes(sep) ? (path.split(sep)[0] ?? '') : ''))
    .filter((path) => path.includes(filter))
    .sort()
    .map((path) => join(testRoot, path));
}

/** Runs the files; resolves to the exit code of Node's runner, 1 when a signal ended it. */
function run(files: readonly string[], filesAtOnce: number): Promise<number> {
  const args = ['--test', '--test-reporter=spec', `--test-concurrency=${filesAtOnce}`, ...files];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: 'inherit' });
    // Ctrl-C reaches the child too: wait for it, so that its summary is not cut off.
    const ignore = (): void => {};
    const pass = (): boolean => child.kill('SIGTERM');
    process.on('SIGINT', ignore);
    process.on('SIGTERM', pass);
    child.on('error', reject);
    const killer = setTimeout(() => child.kill('SIGTERM'), files.length * FILE_TIMEOUT_MS);
    child.on('exit', (code) => {
      clearTimeout(killer);
      process.off('SIGINT', ignore);
      process.off('SIGTERM', pass);
      resolve(code ?? 1);
    });
  });
}

/** Runs each file by itself; resolves to 0 when each has passed, at the latest at its second try. */
async function runEach(files: readonly string[]): Promise<number> {
  const failed: string[] = [];
  const flaky: string[] = [];
  for (const file of files) {
    const name = basename(file);
    console.log(`\n-- ${name}`);
    if ((await run([file], 1)) === 0) continue;
    console.log(`\n-- ${name} FAILED; second try`);
    if ((await run([file], 1)) === 0) flaky.push(name);
    else failed.push(name);
  }
  if (flaky.length > 0) console.log(`\npassed only at the second try: ${flaky.join(', ')}`);
  if (failed.length > 0) console.log(`\nfailed twice: ${failed.join(', ')}`);
  console.log(`\nfiles: ${files.length - failed.length} passed, ${failed.length} failed`);
  return failed.length === 0 ? 0 : 1;
}

async function main(suiteName: string, filter: string): Promise<number> {
  const suite = SUITES[suiteName];
  if (suite === undefined) {
    console.error(`no suite "${suiteName}"; type one of: ${Object.keys(SUITES).join(', ')}`);
    return 1;
  }
  const testRoot = dirname(dirname(fileURLToPath(import.meta.url)));
  const files = filesOf(testRoot, suite, filter);
  if (files.length === 0) {
    console.error(`no ${suiteName} test matches "${filter}" below ${relative('', testRoot) || '.'}`);
    return 1;
  }
  console.log(
    `${suiteName} tests: ${files.length} files on Node ${process.version} (${process.platform} ${process.arch})`,
  );
  return suite.isPerFile ? await runEach(files) : await run(files, suite.filesAtOnce);
}

process.exitCode = await main(process.argv[2] ?? '', process.argv[3] ?? '');
