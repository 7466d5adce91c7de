/**
 * Owns the parent's side of cli-series-entry.ts: asks one command line after another of one process.
 * Must never leave that process behind.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type CliOptions, type CliResult, inheritedEnvironment } from './run-cli.ts';
import { settled } from './waiting.ts';

const ENTRY = fileURLToPath(new URL('./cli-series-entry.js', import.meta.url));

/** Command lines that end at once, in one process; `close` ends it. */
export class CliSeries {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  #last: Promise<unknown> = Promise.resolve();

  constructor() {
    this.#child = spawn(process.execPath, [ENTRY], {
      stdio: ['pipe', 'inherit', 'inherit', 'pipe'],
      env: inheritedEnvironment(),
    });
    const pipe = this.#child.stdio[3] as Readable;
    this.#answers = createInterface({ input: pipe })[Symbol.asyncIterator]();
  }

  /** Runs one command line, after those that were asked for before. */
  run(args: readonly string[], { env = {} }: Pick<CliOptions, 'env'> = {}): Promise<CliResult> {
    const result = this.#last.then(() => this.#ask(args, env));
    this.#last = result.catch(() => {});
    return result;
  }

  async #ask(args: readonly string[], env: Readonly<Record<string, string>>): Promise<CliResult> {
    this.#child.stdin?.write(`${JSON.stringify({ args, env })}\n`);
    const { value, done } = await settled(`c100k-bench ${args.join(' ')}`, this.#answers.next());
    assert(done !== true, `the process of the series ended with: ${args.join(' ')}`);
    return { ...(JSON.parse(value) as CliResult), signal: null, timedOut: false };
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
