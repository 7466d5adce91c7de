/**
 * Owns real faults: each sets up a target, a path or a generator that gives out in one known way, runs the command line
 * against it and returns the report. The recorder keeps such reports as fixtures, the system tests run them anew.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerEntry } from '../../src/coordinator/run-watch.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { createNetwork, type Host } from './network.ts';
import {
  type CliOptions,
  type CliResult,
  cliPath,
  type RunningCli,
  startCli,
  startProcess,
} from './run-cli.ts';
import { checkEngine } from './test-engine.ts';

export type After = Pick<TestContext, 'after'>;

/** One run against a fault. */
export interface FaultRun {
  /** what was typed */
  readonly command: string;
  readonly report: RunReport;
  readonly result: CliResult;
  readonly losses: readonly LedgerEntry[];
  /** when the fault was made, in milliseconds since 1970; not every fault has such a moment */
  readonly faultAtMs?: number;
}

const RUN_TIMEOUT_MS = 90_000;

/** A folder that is gone after the test. */
export function temporaryFolder(t: After): string {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-fault-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A run that goes on. */
export interface StartedRun {
  readonly cli: RunningCli;
  finish(): Promise<FaultRun>;
}

/** Starts a run with `--json` and `--events`, on this host or in a namespace. */
export function startRun(
  t: After,
  args: readonly string[],
  where: { readonly host?: Host; readonly options?: CliOptions } = {},
): StartedRun {
  const folder = temporaryFolder(t);
  const json = join(folder, 'report.json');
  const events = join(folder, 'events.ndjson');
  const all = [...args, '--json', json, '--events', events];
  const options = { timeoutMs: RUN_TIMEOUT_MS, ...where.options };
  const cli = where.host === undefined ? startCli(all, options) : where.host.startBench(all, options);
  return {
    cli,
    finish: async () => {
      const result = await cli.result;
      assert.equal(result.timedOut, false, result.stderr);
      const report = JSON.parse(readReport(json, result)) as RunReport;
      checkEngine(report, args);
      const losses = readFileSync(events, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as LedgerEntry);
      return { command: `c100k-bench ${args.join(' ')}`, report, result, losses };
    },
  };
}

function readReport(path: string, result: CliResult): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw new Error(`no report (exit ${result.code}): ${result.stderr}${result.stdout}`);
  }
}

/** Runs to the end. */
export function run(
  t: After,
  args: readonly string[],
  where: { readonly host?: Host; readonly options?: CliOptions } = {},
): Promise<FaultRun> {
  return startRun(t, args, where).finish();
}

/** The built-in target in a process of its own. */
export interface ServeProcess {
  readonly port: number;
  readonly statsUrl: string;
  readonly child: ChildProcess;
  /** the workers, which accept */
  workers(): number[];
}

/** Starts `serve`, on this host or in a namespace, on a free port where none is given; ended after the test. */
export async function startServe(
  t: After,
  args: readonly string[],
  place: {
    readonly host?: Host;
    readonly address?: string;
    readonly descriptorsMax?: number;
    readonly port?: number;
  } = {},
): Promise<ServeProcess> {
  const address = place.address ?? '127.0.0.1';
  const asked = String(place.port ?? 0);
  const all = ['serve', '--host', address, '--port', asked, '--stats-listen', `${address}:0`, ...args];
  const options = { timeoutMs: 600_000 };
  const limited =
    place.descriptorsMax === undefined
      ? [process.execPath, cliPath, ...all]
      : [
          'bash',
          '-c',
          'ulimit -n "$0" && exec "$@"',
          String(place.descriptorsMax),
          process.execPath,
          cliPath,
          ...all,
        ];
  const cli = place.host === undefined ? startProcess(limited, options) : place.host.spawn(limited, options);
  t.after(async () => {
    for (const pid of childrenOf(cli.child.pid ?? 0)) resume(pid);
    cli.child.kill('SIGTERM');
    await cli.result;
  });
  let said = '';
  cli.child.stdout?.on('data', (text: string) => {
    said += text;
  });
  await cli.saw(/counts at http:\/\/\S+/);
  const statsUrl = /counts at (http:\/\/\S+)/.exec(cli.stderr())?.[1] ?? '';
  await until(() => /^listening on .*\n/.test(said), 60_000, 'the target listens');
  const port = Number(/:(\d+) \(/.exec(said)?.[1]);
  return { port, statsUrl, child: cli.child, workers: () => childrenOf(cli.child.pid ?? 0) };
}

/** Direct children of a process; `ip netns exec` and `exec` replace themselves, so these are the workers. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function resume(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {
    // It is gone.
  }
}

/** A small server in JavaScript of its own, which shares nothing with the program; prints its port. */
export async function startScript(
  t: After,
  script: string,
  options: { readonly descriptorsMax?: number; readonly host?: Host; readonly core?: number } = {},
): Promise<{ readonly port: number; readonly child: ChildProcess }> {
  const file = join(temporaryFolder(t), 'server.mjs');
  writeFileSync(file, script);
  const limit = options.descriptorsMax === undefined ? '' : `ulimit -n ${options.descriptorsMax};`;
  const command = [
    'bash',
    '-c',
    `${limit} exec ${options.core === undefined ? '' : `taskset -c ${options.core} `}"$0" "$1"`,
    process.execPath,
    file,
  ];
  const [program = '', ...args] =
    options.host === undefined ? command : ['ip', 'netns', 'exec', options.host.namespace, ...command];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => {
    child.kill('SIGKILL');
  });
  let text = '';
  for await (const chunk of child.stdout) {
    text += String(chunk);
    const port = /^(\d+)\n/.exec(text)?.[1];
    if (port !== undefined) return { port: Number(port), child };
  }
  throw new Error(`the server ended: ${text}`);
}

/** Echoes what comes; `host` and further code as given. */
export function echoScript(
  onSocket = 'socket.pipe(socket);',
  backlog = 4_096,
  address = '127.0.0.1',
  port = 0,
): string {
  return `import net from 'node:net';
const server = net.createServer((socket) => { socket.on('error', () => {}); ${onSocket} });
server.listen({ port: ${port}, host: '${address}', backlog: ${backlog} }, () => console.log(server.address().port));
`;
}

/** Resolves once `check` holds; rejects after `timeoutMs`. */
export async function until(check: () => boolean, timeoutMs: number, what: string): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!check()) {
    assert(performance.now() < deadline, `not in ${timeoutMs} ms: ${what}`);
    await sleep(50);
  }
}

/** What a client, a router that masquerades, and a server are made of. */
export interface NatNetwork {
  readonly client: Host;
  readonly router: Host;
  readonly server: Host;
}

export const SERVER_ADDRESS = '10.98.2.2';

/**
 * A client behind a masquerading router in front of a server.
 * @param masquerade what follows `masquerade` in the rule, such as `to :40000-40099`
 */
export async function natNetwork(t: After, masquerade: string, routerRules = ''): Promise<NatNetwork> {
  const network = await createNetwork(t, {
    client: { on: { lan: ['10.98.1.2/24'] }, routes: ['default via 10.98.1.1'] },
    router: {
      on: { lan: ['10.98.1.1/24'], wan: ['10.98.2.1/24'] },
      sysctls: { 'net.ipv4.ip_forward': 1 },
      nft: `table ip nat {
  chain post {
    type nat hook postrouting priority 100;
    oifname "eth1" meta l4proto tcp masquerade ${masquerade}
  }
}
${routerRules}`,
    },
    server: { on: { wan: [`${SERVER_ADDRESS}/24`] }, sysctls: { 'net.core.somaxconn': 8_192 } },
  });
  return { client: network.host('client'), router: network.host('router'), server: network.host('server') };
}

/** A namespace with loopback alone: whatever is killed or counted in it is the test's own. */
export async function loneHost(t: After): Promise<Host> {
  const network = await createNetwork(t, { lone: { on: {} } });
  return network.host('lone');
}
