/** Tests that no process which the program starts has the token in its environment or its arguments, as the kernel shows them. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatToken, generateToken } from '../src/control/token.ts';
import { startCli } from './support/run-cli.ts';
import { until } from './support/waiting.ts';

interface Seen {
  readonly pid: number;
  readonly args: string;
  readonly environment: string;
}

function readOf(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}

/** Every process below one, from the kernel's own list. */
function descendantsOf(root: number): Seen[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? readOf(Number(name), 'stat') : '';
    const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
    if (parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === root || isBelow(parent));
  };
  return [...parents.keys()].filter(isBelow).map((pid) => ({
    pid,
    args: readOf(pid, 'cmdline').replaceAll('\0', ' '),
    environment: readOf(pid, 'environ'),
  }));
}

/** Programs of these names that write down what they were given, in front of the real ones. */
function spies(
  t: TestContext,
  names: readonly string[],
): { folder: string; path: string; seen: () => string } {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-travel-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const log = join(folder, 'log');
  for (const name of names) {
    // The shell's own variables are those that it got: /proc/self/environ of the shell.
    const real = `PATH="\${PATH#*:}" exec ${name} "$@"`;
    const rest = name === 'ssh' ? 'exec sleep 60' : real;
    const text = `#!/bin/sh\n{ echo "## ${name} $*"; tr '\\0' '\\n' < /proc/$$/environ; } >> '${log}'\n${rest}\n`;
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), 0o755);
  }
  const seen = (): string => {
    try {
      return readFileSync(log, 'utf8');
    } catch {
      return '';
    }
  };
  return { folder, path: `${folder}:${process.env.PATH}`, seen };
}

test('with C100K_TOKEN set no process of a run has it: agent, holders, workers, ip and ss', async (t) => {
  const { path, seen } = spies(t, ['ip', 'ss']);
  const token = generateToken();
  const key = token.key.toString('base64url');
  const run = startCli(['-t', 'self', '-c', '200', '-d', '60s', '--holders', '2'], {
    env: { C100K_TOKEN: formatToken(token), PATH: path },
    timeoutMs: 120_000,
  });
  t.after(() => run.child.kill('SIGKILL'));
  const kinds = ['agent --join', ' holder', ' serve-worker'] as const;
  await until('every kind of process is there, and the run holds', () => {
    const all = descendantsOf(run.child.pid ?? 0);
    return (
      / holding /.test(run.stderr()) && kinds.every((kind) => all.some(({ args }) => args.includes(kind)))
    );
  });
  for (const { args, environment } of descendantsOf(run.child.pid ?? 0)) {
    assert.ok(!environment.includes('C100K_TOKEN='), args);
    assert.ok(!environment.includes(key) && !args.includes(key), 'a key where others can read it');
  }
  run.child.kill('SIGINT');
  await run.result;
  assert.match(seen(), /^## (?:ip|ss) /m);
  assert.ok(!seen().includes('C100K_TOKEN'), 'ip and ss did not get it');
  assert.ok(!seen().includes(key));
});

test('ssh gets the token of its agent on standard input alone, and not that of the run', async (t) => {
  const { path, seen } = spies(t, ['ssh']);
  const token = generateToken();
  const run = startCli(
    ['-t', '127.0.0.1:9', '-c', '10', '--ssh', 'nobody@127.0.0.1', '--wait-agents', '60s'],
    {
      env: { C100K_TOKEN: formatToken(token), PATH: path },
      timeoutMs: 120_000,
    },
  );
  t.after(() => run.child.kill('SIGKILL'));
  await until('ssh was started', () => seen().includes('## ssh '));
  run.child.kill('SIGTERM');
  await run.result;
  assert.match(seen(), /--token-stdin/);
  assert.doesNotMatch(seen(), /C100K_TOKEN|c100k1\./);
  assert.ok(!seen().includes(token.key.toString('base64url')));
});
