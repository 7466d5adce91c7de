/**
 * Owns one run of the real program under a test's eyes: every process of it, found by a mark in its environment that
 * children inherit, and its report. Must never believe the program about its processes, nor leave one of them behind.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from '../../src/judge/report.ts';
import { listeningPort, type ProcessView, processesWith } from './kernel-view.ts';
import { type CliOptions, type RunningCli, startCli } from './run-cli.ts';
import { checkEngine } from './test-engine.ts';

const MARK_VARIABLE = 'TEST_RUN_MARK';
const POLL_MS = 20;

/** What a process of the program is for: the first argument after the script. */
export type Role = 'agent' | 'holder' | 'serve-worker';

export interface BenchRun extends RunningCli {
  /** the CLI's process */
  readonly pid: number;
  /** where `--json` was sent */
  readonly reportPath: string;
  /** every living process of the run, the CLI included */
  processes(): ProcessView[];
  /** pids of the living processes of one role */
  pids(role: Role): number[];
  /** the port of `--target self`; waits until it listens */
  selfPort(): Promise<number>;
  /** milliseconds until no process of the run was left; fails after `withinMs` */
  gone(withinMs: number): Promise<number>;
  /** the report file, parsed */
  report(): RunReport;
}

/**
 * Starts the program with `--json <temporary file>` added. Whatever the test does, no process outlives it.
 * @param t removes the file and kills what is left
 */
export function startBench(t: TestContext, args: readonly string[], options: CliOptions = {}): BenchRun {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-test-'));
  const reportPath = join(folder, 'report.json');
  const mark = randomUUID();
  const env = { ...options.env, [MARK_VARIABLE]: mark };
  const cli = startCli([...args, '--json', reportPath], { ...options, env });
  const marked = `${MARK_VARIABLE}=${mark}`;
  const processes = (): ProcessView[] => processesWith(marked);
  const pids = (role: Role): number[] =>
    processes()
      .filter((each) => each.args.includes(role))
      .map((each) => each.pid);
  t.after(() => {
    for (const { pid } of processes()) killQuietly(pid);
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    ...cli,
    pid: cli.child.pid ?? 0,
    reportPath,
    processes,
    pids,
    selfPort: async () => {
      let port: number | null = null;
      await until('the built-in target listens', 60_000, () => {
        port = listeningPort(pids('serve-worker'));
        return port !== null;
      });
      return port ?? 0;
    },
    gone: async (withinMs) => {
      const beganMs = performance.now();
      for (;;) {
        const left = processes();
        const tookMs = performance.now() - beganMs;
        if (left.length === 0) return tookMs;
        const names = left.map(({ pid, args }) => `${pid} ${args.slice(2).join(' ')}`);
        if (tookMs > withinMs) throw new Error(`left after ${Math.round(tookMs)} ms: ${names.join('; ')}`);
        await sleep(POLL_MS);
      }
    },
    report: () => {
      const report = JSON.parse(readFileSync(reportPath, 'utf8')) as RunReport;
      checkEngine(report, args);
      return report;
    },
  };
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}

/**
 * Waits until something that is seen from outside is so.
 * @returns the milliseconds that it took
 * @throws Error naming it after `withinMs`
 */
export async function until(
  what: string,
  withinMs: number,
  isSo: () => boolean | Promise<boolean>,
): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    if (await isSo()) return performance.now() - beganMs;
    const waitedMs = performance.now() - beganMs;
    if (waitedMs > withinMs) throw new Error(`after ${Math.round(waitedMs)} ms still not so: ${what}`);
    await sleep(POLL_MS);
  }
}
