/**
 * Owns running the real command line as a child process: `bin/c100k-bench.js` of the repository, with a time limit.
 * Must never leave a process behind: one that outlives its limit is killed by its pid.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { engineVariable } from './test-engine.ts';
import { HANG_MS } from './waiting.ts';

/** The repository: the nearest folder above this file whose package.json is ours. */
export const repositoryRoot = findRoot();

/** The script that users start. */
export const cliPath = join(repositoryRoot, 'bin', 'c100k-bench.js');

const CLI_HANG_MS = 4 * HANG_MS;

export interface CliOptions {
  /** added to the environment, which has no `C100K_*` variable otherwise */
  readonly env?: Readonly<Record<string, string>>;
  /** default 4 minutes: it only ends what hangs */
  readonly timeoutMs?: number;
  /** `ulimit -n` of the process, hard and soft; default: as the test has it */
  readonly descriptorsMax?: number;
  /** the Node to use; default: the one that runs the test */
  readonly runtime?: string;
  /** a bash script around the command, which is `"$@"` in it: `exec "$@" >&-` */
  readonly wrap?: string;
  /** a process group of its own, as a terminal gives it: `process.kill(-pid)` is Ctrl-C then */
  readonly ownGroup?: boolean;
}

export interface CliResult {
  readonly stdout: string;
  readonly stderr: string;
  /** null when a signal ended it */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly timedOut: boolean;
}

/** A command line that runs. */
export interface RunningCli {
  readonly child: ChildProcess;
  /** what it has written to stderr so far */
  stderr(): string;
  /** resolves when stderr matches; rejects when the process ends without */
  saw(pattern: RegExp): Promise<void>;
  readonly result: Promise<CliResult>;
}

/** Runs the command line to its end. */
export function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).result;
}

/** Starts the command line. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const command = [options.runtime ?? process.execPath, cliPath, ...args];
  const limited =
    options.descriptorsMax === undefined
      ? command
      : ['bash', '-c', 'ulimit -n "$0" && exec "$@"', String(options.descriptorsMax), ...command];
  return startProcess(
    options.wrap === undefined ? limited : ['bash', '-c', options.wrap, 'bash', ...limited],
    options,
  );
}

/**
 * Runs a bash script in which `$CLI` is the command line, for pipes and redirections:
 * `runShell('$CLI --version | head -c 1')`.
 */
export function runShell(script: string, options: CliOptions = {}): Promise<CliResult> {
  const cli = `'${options.runtime ?? process.execPath}' '${cliPath}'`;
  return startProcess(['bash', '-c', script.replaceAll('$CLI', cli)], options).result;
}

/** Our environment without what the command line or its colours would take from it, and with the engine of the test. */
export function inheritedEnvironment(): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(C100K_|FORCE_COLOR|NODE_TEST)/.test(name));
  return { ...Object.fromEntries(kept), ...engineVariable() };
}

/** Starts any program the way the command line is started. */
export function startProcess(command: readonly string[], options: CliOptions): RunningCli {
  const [file, ...args] = command;
  const child = spawn(file ?? '', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: options.ownGroup ?? false,
    env: { ...inheritedEnvironment(), ...options.env },
  });
  let stdout = '';
  let stderr = '';
  let timedOut = false;
  const watchers = new Set<() => void>();
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    for (const watch of watchers) watch();
  });
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, options.timeoutMs ?? CLI_HANG_MS);
  const result = new Promise<CliResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ stdout, stderr, code, signal, timedOut });
    });
  });
  return {
    child,
    stderr: () => stderr,
    result,
    saw: (pattern) =>
      new Promise((resolve, reject) => {
        const watch = (): void => {
          if (!pattern.test(stderr)) return;
          watchers.delete(watch);
          resolve();
        };
        watchers.add(watch);
        watch();
        void result.then(
          () =>
            pattern.test(stderr)
              ? resolve()
              : reject(new Error(`ended without ${pattern}: ${stderr}${stdout}`)),
          reject,
        );
      }),
  };
}

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let depth = 0; depth < 10; depth++) {
    const file = join(folder, 'package.json');
    if (
      existsSync(file) &&
      (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'c100k-bench'
    ) {
      return folder;
    }
    folder = dirname(folder);
  }
  throw new Error('no package.json of c100k-bench above the tests');
}
