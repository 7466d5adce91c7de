/**
 * Owns agents and coordinators of the real program for tests: started on this host or on one of a test network, with a
 * token, and ended after the test. Must never leave a process behind.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatToken, generateToken, type Token } from '../../src/control/token.ts';
import type { RunReport } from '../../src/judge/report.ts';
import type { Host } from './network.ts';
import { type CliOptions, cliPath, type RunningCli, startProcess } from './run-cli.ts';

/** The part of a test's context that is needed here. */
interface Cleanup {
  after(callback: () => void): void;
}

/** A folder that is removed after the test. */
export function temporaryFolder(t: Cleanup): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-agents-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface Place {
  /** default: this host */
  readonly host?: Host;
  /** `ulimit -n` */
  readonly descriptorsMax?: number;
}

/** Starts the command line in a place; it is killed after the test. */
export function startAt(
  t: Cleanup,
  place: Place,
  args: readonly string[],
  options: CliOptions = {},
): RunningCli {
  const { host, descriptorsMax } = place;
  const command = [process.execPath, cliPath, ...args];
  const limited =
    descriptorsMax === undefined
      ? command
      : ['bash', '-c', 'ulimit -n "$0" && exec "$@"', String(descriptorsMax), ...command];
  const running =
    host === undefined
      ? startProcess(limited, options)
      : host.spawn(limited, { timeoutMs: 240_000, ...options });
  t.after(() => {
    running.child.kill('SIGCONT');
    running.child.kill('SIGKILL');
  });
  return running;
}

/** A coordinator that waits for agents. */
export interface Coordinator extends RunningCli {
  readonly token: Token;
  readonly tokenText: string;
  /** where it listens, once it says so */
  port(): Promise<number>;
  report(): RunReport;
}

/**
 * Starts a run with `--listen`, a token in the environment, and `--json`.
 * @param args without `--listen`; `--listen 127.0.0.1:0` unless they have one
 */
export function startCoordinator(
  t: Cleanup,
  args: readonly string[],
  options: CliOptions & { readonly place?: Place; readonly token?: Token } = {},
): Coordinator {
  const token = options.token ?? generateToken();
  const tokenText = formatToken(token);
  const reportPath = join(temporaryFolder(t), 'report.json');
  const listen = args.includes('--listen') ? [] : ['--listen', '127.0.0.1:0'];
  const running = startAt(t, options.place ?? {}, [...args, ...listen, '--json', reportPath], {
    timeoutMs: 240_000,
    ...options,
    // `--engine` is a host's: where all agents are elsewhere the run refuses it. An empty variable is none.
    env: {
      C100K_TOKEN: tokenText,
      ...(args.some((arg) => arg.includes('local')) ? {} : { C100K_ENGINE: '' }),
      ...options.env,
    },
  });
  return {
    ...running,
    token,
    tokenText,
    port: async () => {
      await running.saw(/join with: .*--join \S+:\d+/);
      return Number(/--join \S+:(\d+)/.exec(running.stderr())?.[1]);
    },
    report: () => JSON.parse(readFileSync(reportPath, 'utf8')) as RunReport,
  };
}

/** Starts an agent with a token in its environment. Its partial report goes to a folder of the test's. */
export function startAgent(
  t: Cleanup,
  join: string,
  name: string,
  tokenText: string,
  args: readonly string[] = [],
  options: CliOptions & { readonly place?: Place } = {},
): RunningCli {
  const partial = args.includes('--partial-report')
    ? []
    : ['--partial-report', `${temporaryFolder(t)}/${name}.json`];
  return startAt(t, options.place ?? {}, ['agent', '--join', join, '--name', name, ...partial, ...args], {
    timeoutMs: 240_000,
    ...options,
    env: { C100K_TOKEN: tokenText, ...options.env },
  });
}

/** Waits for a line on stderr; rejects when the process ends without, or when it takes too long. */
export async function says(running: RunningCli, pattern: RegExp, withinMs = 120_000): Promise<void> {
  const limit = new AbortController();
  const late = sleep(withinMs, 'late' as const, { signal: limit.signal, ref: false }).catch(
    () => 'seen' as const,
  );
  const outcome = await Promise.race([running.saw(pattern), late]);
  limit.abort();
  if (outcome === 'late') throw new Error(`after ${withinMs} ms no ${pattern}: ${running.stderr()}`);
}
