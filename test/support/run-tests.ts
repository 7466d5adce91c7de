/**
 * Owns how the suites start: `node build/test/support/run-tests.js unit|system [name-filter]` finds the compiled tests,
 * hands them to Node's own runner as a list of files (a folder fails on 22, a quoted glob on 20) and passes its exit
 * code on. Must never decide that a test does not matter: no file found is a failure.
 *
 * System test files run three at a time, each in a runner of its own with a time limit; those that need the machine for
 * themselves run alone, after the others. One that fails is run once more at the end, alone, because such a test shares
 * the machine with whatever else runs there; that it needed a second try is printed by name.
 *
 * The files of the matrix run once with each engine. `TEST_ENGINE=uring` or `TEST_ENGINE=epoll` runs every file, and only
 * with that one.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import pLimit from 'p-limit';
import { URING_SKIP } from '../engine/drivers/driver-harness.ts';
import { ENGINES, environmentFor, type TestEngine, testEngine } from './test-engine.ts';

/** Below test/: folders whose tests need root, namespaces or minutes, and so are no unit tests. */
const FOLDERS_BEYOND_UNIT: readonly string[] = ['system', 'lab', 'bench'];

/** A file that takes longer hangs; the longest needs about four minutes on a quiet machine. */
const FILE_TIMEOUT_MS = 12 * 60_000;
/** Files that do more on a busy machine than that allows. */
const LONG_TIMEOUT_MS: Readonly<Record<string, number>> = { 'injections.test.js': 20 * 60_000 };

/** System tests that need the machine for themselves, and why. The others mostly wait. */
const ALONE: Readonly<Record<string, string>> = {
  'control-flood.test.ts': 'messages of 6 MB, each of which must come within its time',
  'injections.test.ts': 'eight runs at a time of up to 20,000 connections, with signals at given moments',
  'agents-history.test.ts': 'keeps eight runs of up to six processes busy, with timed faults',
  'agents-lan.test.ts': '100,000 connections',
  'coordinator-scale.test.ts': 'measures CPU and memory of 2,000 agents',
  'diagnosis-alone.test.ts':
    'lowers nf_conntrack_max, which all namespaces share, and starves a holder of CPU',
  'main-run.test.ts': '130,000 connections',
  'node-versions.test.ts': '130,000 connections',
  'protocols-cost.test.ts': 'measures CPU and memory of a holder',
  'report-page.test.ts': '130,000 connections',
  'sources-many.test.ts': '130,000 connections',
  'starved.test.ts': 'leaves no core to others',
  'targets.test.ts': '130,000 connections',
  'torture.test.ts': 'tries as many failures as fit into its time, three at a time',
};

/** System tests of what an engine does: holding, losing, faults, ledger and protocols. Each runs with each engine. */
const MATRIX: readonly string[] = [
  'faults.test.ts',
  'ledger.test.ts',
  'main-run.test.ts',
  'protocols.test.ts',
  'recovery.test.ts',
  'reopen.test.ts',
  'short-hold.test.ts',
  'target-start.test.ts',
];

/** Unit test files that run at the same time: many of them wait, and beside others each gets a share of its own. */
const UNIT_FILES_AT_ONCE = 6;

/** System test files that run at the same time, and the one that takes longest, so that it begins first. */
const FILES_AT_ONCE = 3;
const LONGEST = 'soak.test.ts';

interface Suite {
  /** whether a test in this folder below test/ (empty: in test/ itself) belongs to the suite */
  readonly takes: (folder: string) => boolean;
  /** each file in a runner of its own, with a second try */
  readonly isPerFile: boolean;
}

const SUITES: Readonly<Record<string, Suite>> = {
  unit: { takes: (folder) => !FOLDERS_BEYOND_UNIT.includes(folder), isPerFile: false },
  system: { takes: (folder) => folder === 'system', isPerFile: true },
};

/** A file, and the engine that it is run with; null: what `auto` takes. */
interface Job {
  readonly file: string;
  readonly engine: TestEngine | null;
}

/** The file's name after compiling. */
function compiled(name: string): string {
  return name.replace(/\.ts$/, '.js');
}

/** The suite's compiled test files whose path has one of the filters, sorted, as absolute paths. */
function filesOf(testRoot: string, suite: Suite, filters: readonly string[]): string[] {
  return readdirSync(testRoot, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.js'))
    .filter((path) => suite.takes(path.includes(sep) ? (path.split(sep)[0] ?? '') : ''))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort()
    .map((path) => join(testRoot, path));
}

interface Ran {
  /** the exit code of Node's runner, 1 when a signal ended it */
  readonly code: number;
  /** what it printed; empty when that went to our own output at once */
  readonly output: string;
}

/** Runs the files in one runner. */
function run(files: readonly string[], engine: TestEngine | null, output: 'shown' | 'kept'): Promise<Ran> {
  const args = ['--test', '--test-reporter=spec', `--test-concurrency=${UNIT_FILES_AT_ONCE}`, ...files];
  return new Promise((resolve, reject) => {
    const pipe = output === 'kept' ? 'pipe' : 'inherit';
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', pipe, pipe],
      env: environmentFor(engine),
    });
    const kept: Buffer[] = [];
    const keep = (data: Buffer): number => kept.push(data);
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    // Ctrl-C reaches the child too: wait for it, so that its summary is not cut off.
    const ignore = (): void => {};
    const pass = (): boolean => child.kill('SIGTERM');
    process.on('SIGINT', ignore);
    process.on('SIGTERM', pass);
    child.on('error', reject);
    const limitMs = files.reduce(
      (sum, file) => sum + (LONG_TIMEOUT_MS[basename(file)] ?? FILE_TIMEOUT_MS),
      0,
    );
    const killer = setTimeout(() => child.kill('SIGTERM'), limitMs);
    child.on('exit', (code) => {
      clearTimeout(killer);
      process.off('SIGINT', ignore);
      process.off('SIGTERM', pass);
      const done = (): void => resolve({ code: code ?? 1, output: Buffer.concat(kept).toString() });
      child.on('close', done);
      // A process that a test left behind keeps the pipe open: that must not hold up all others.
      setTimeout(done, 2_000).unref();
    });
  });
}

/** The jobs of these files: those of the matrix once with each engine that this machine has. */
function jobsOf(files: readonly string[]): Job[] {
  const asked = testEngine();
  const matrix = MATRIX.map(compiled);
  return files.flatMap((file): Job[] => {
    if (asked !== null || !matrix.includes(basename(file))) return [{ file, engine: asked }];
    return ENGINES.filter((engine) => engine !== 'uring' || URING_SKIP === false).map((engine) => ({
      file,
      engine,
    }));
  });
}

function titleOf({ file, engine }: Job): string {
  return engine === null ? basename(file) : `${basename(file)} with --engine ${engine}`;
}

/** Lines of a failure that are said again at the end, where a log that was cut still has them. */
const FAILURE_LINES_MAX = 25;

/** What failed, and how: the part of the reporter that begins with `failing tests`; else the last lines. */
function failureIn(output: string): string {
  const lines = output.trimEnd().split('\n');
  const begin = lines.findIndex((line) => line.includes('failing tests:'));
  return (begin < 0 ? lines.slice(-FAILURE_LINES_MAX) : lines.slice(begin + 1, begin + 1 + FAILURE_LINES_MAX))
    .join('\n')
    .trim();
}

/** Runs one file and prints what it said, in one piece; resolves to what failed, null: it passed. */
async function runOne({ file, engine }: Job, title: string): Promise<string | null> {
  const began = performance.now();
  const { code, output } = await run([file], engine, 'kept');
  const seconds = ((performance.now() - began) / 1_000).toFixed(0);
  console.log(`\n-- ${title}: ${code === 0 ? 'passed' : 'FAILED'} (${seconds} s)\n${output.trimEnd()}`);
  return code === 0 ? null : failureIn(output);
}

/** Runs each job by itself; resolves to 0 when each has passed, at the latest at its second try. */
async function runEach(jobs: readonly Job[]): Promise<number> {
  const again = new Map<Job, string>();
  const runAll = async (some: readonly Job[], atOnce: number): Promise<void> => {
    await pLimit(atOnce).map(some, async (job) => {
      const failure = await runOne(job, titleOf(job));
      if (failure !== null) again.set(job, failure);
    });
  };
  const alone = Object.keys(ALONE).map(compiled);
  const isAlone = ({ file }: Job): boolean => alone.includes(basename(file));
  const together = jobs.filter((job) => !isAlone(job));
  const isLongest = ({ file }: Job): boolean => basename(file) === compiled(LONGEST);
  await runAll([...together.filter(isLongest), ...together.filter((job) => !isLongest(job))], FILES_AT_ONCE);
  await runAll(jobs.filter(isAlone), 1);
  const failed: Job[] = [];
  for (const job of again.keys()) {
    if ((await runOne(job, `${titleOf(job)}, second try`)) !== null) failed.push(job);
  }
  for (const [job, failure] of again)
    console.log(`\n-- ${titleOf(job)}, how the first try failed:\n${failure}`);
  const names = (some: readonly Job[]): string => some.map(titleOf).join(', ');
  const flaky = [...again.keys()].filter((job) => !failed.includes(job));
  if (URING_SKIP !== false) console.log(`\nnothing was run with --engine uring: ${URING_SKIP}`);
  if (flaky.length > 0) console.log(`\npassed only at the second try: ${names(flaky)}`);
  if (failed.length > 0) console.log(`\nfailed twice: ${names(failed)}`);
  console.log(`\nfiles: ${jobs.length - failed.length} passed, ${failed.length} failed`);
  return failed.length === 0 ? 0 : 1;
}

async function main(suiteName: string, filters: readonly string[]): Promise<number> {
  const suite = SUITES[suiteName];
  if (suite === undefined) {
    console.error(`no suite "${suiteName}"; type one of: ${Object.keys(SUITES).join(', ')}`);
    return 1;
  }
  const testRoot = dirname(dirname(fileURLToPath(import.meta.url)));
  const files = filesOf(testRoot, suite, filters);
  const named = [...Object.keys(ALONE), ...MATRIX];
  const unknown = named.find((name) => !existsSync(join(testRoot, 'system', compiled(name))));
  if (unknown !== undefined) throw new Error(`ALONE or MATRIX names ${unknown}, which is not there`);
  if (files.length === 0) {
    console.error(
      `no ${suiteName} test matches ${JSON.stringify(filters)} below ${relative('', testRoot) || '.'}`,
    );
    return 1;
  }
  console.log(
    `${suiteName} tests: ${files.length} files on Node ${process.version} (${process.platform} ${process.arch})`,
  );
  return suite.isPerFile ? await runEach(jobsOf(files)) : (await run(files, null, 'shown')).code;
}

process.exitCode = await main(
  process.argv[2] ?? '',
  process.argv.slice(3).filter((filter) => filter !== ''),
);
