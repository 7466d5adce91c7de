/**
 * Owns a process that runs one command line after another, each as if it were the whole process: for tests of many that
 * end at once, where starting Node costs fifty times what the command does. Must never be used for what lives by being a
 * process: signals, limits, pipes that close.
 *
 * A line on stdin is one command: `{ args, env }`. A line on descriptor 3 is its result: `{ stdout, stderr, code }`.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { main } from '../../src/main.ts';
import { cliPath } from './run-cli.ts';

/** What a command may leave on the process, and the next one must not find. */
const EVENTS = ['uncaughtException', 'SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2'] as const;

type Write = NodeJS.WriteStream['write'];

/** Stands in for a stream's `write` and keeps the text. */
function keeping(parts: string[]): Write {
  return ((chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
    parts.push(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString());
    const done = rest.find((each) => typeof each === 'function') as (() => void) | undefined;
    if (done !== undefined) setImmediate(done);
    return true;
  }) as Write;
}

async function runOne(args: readonly string[], env: Readonly<Record<string, string>>): Promise<object> {
  const [stdout, stderr]: [string[], string[]] = [[], []];
  process.stdout.write = keeping(stdout);
  process.stderr.write = keeping(stderr);
  Object.assign(process.env, env);
  const code = await main([process.execPath, cliPath, ...args]);
  for (const name of Object.keys(env)) delete process.env[name];
  for (const event of EVENTS) process.removeAllListeners(event);
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners('error');
  return { stdout: stdout.join(''), stderr: stderr.join(''), code };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { args, env } = JSON.parse(line) as { args: string[]; env: Record<string, string> };
  writeSync(3, `${JSON.stringify(await runOne(args, env))}\n`);
}
