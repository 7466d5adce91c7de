/**
 * Owns one run of the real program in which one thing fails (torture-plan.ts), in a network of its own, and what is wrong afterwards: an
 * end without a name, a stack, an exit code that the manual does not give for it, or anything left behind. Must never believe the
 * program about its processes, sockets and addresses.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { RunReport } from '../../src/judge/report.ts';
import { processesWith } from '../support/kernel-view.ts';
import { createNetwork, type Host } from '../support/network.ts';
import { cliPath } from '../support/run-cli.ts';
import {
  describeFailure,
  type Failure,
  type Order,
  OWN_ERRORS,
  TORTURE_VARIABLE,
  type Uses,
} from './torture-plan.ts';

const FILLER = join(import.meta.dirname, 'filler-entry.js');
const PRELOAD = pathToFileURL(join(import.meta.dirname, 'preload.js')).href;
const MARK_VARIABLE = 'TEST_RUN_MARK';
const RECORDS = '/run/c100k-bench';
const SERVER = '10.9.0.1';
const PORT = 8_000;
const OWN_PORT = 9_000;
export const CONNECTIONS = 200;
/** What the program waits for at most (a program 15 s and more, a worker 30 s, closing 55 s), on a machine that is busy. */
const ENDS_WITHIN_MS = 150_000;
const GONE_WITHIN_MS = 30_000;
const POLL_MS = 50;
const BUG = 70;

type After = Parameters<typeof createNetwork>[0];

/** Where runs take place: a client and a target that nothing fails in. */
export interface Lab {
  readonly client: Host;
  readonly server: Host;
  /** fills a target of the client's host with connections, and closes them */
  readonly fill: () => Promise<void>;
}

/** What is run. */
export interface Scenario {
  readonly name: string;
  /** exit codes that the manual has for what may come of it */
  readonly codes: readonly number[];
  readonly args: readonly string[];
  /** a run fills it with connections, and a signal ends it */
  readonly isServe?: boolean;
  /** an address that a dead agent left is there, with its record */
  readonly hasLeftover?: boolean;
}

const RUN_CODES = [0, 1, 3, 4];
const LOAD = ['--conns', String(CONNECTIONS), '--rate', '1000/s', '--duration', '600ms', '--holders', '1'];
const ALIASES = ['--source-ip', '10.9.0.101-10.9.0.102', '--alias-dev', 'auto', '--alias-lease', '5s'];
const JSON_OUT = ['--json', 'report.json'];

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'run with io_uring',
    codes: RUN_CODES,
    args: ['--target', 'self', ...LOAD, '--engine', 'uring', ...JSON_OUT],
  },
  {
    name: 'run with epoll',
    codes: RUN_CODES,
    args: ['--target', 'echo://self', ...LOAD, '--probe-every', '200ms', '--engine', 'epoll', ...JSON_OUT],
  },
  {
    name: 'run with addresses that it adds',
    codes: RUN_CODES,
    args: ['--target', `${SERVER}:${PORT}`, ...LOAD, ...ALIASES, ...JSON_OUT],
  },
  {
    name: 'plan',
    codes: [0, 3],
    args: ['plan', '--target', `${SERVER}:${PORT}`, '--conns', String(CONNECTIONS), ...ALIASES, ...JSON_OUT],
  },
  {
    name: 'path',
    codes: RUN_CODES,
    args: ['path', '--target', `${SERVER}:${PORT}`, '--samples', '40', ...JSON_OUT],
  },
  { name: 'cleanup', codes: [0, 3], args: ['cleanup'], hasLeftover: true },
  ...(['uring', 'epoll'] as const).map((engine) => ({
    name: `serve with ${engine}`,
    codes: [0, 3, 4],
    args: ['serve', '--port', String(OWN_PORT), '--mode', 'echo', '--workers', '1', '--engine', engine],
    isServe: true,
  })),
];

/** What came of one run. */
export interface Outcome {
  readonly faults: readonly string[];
  /** what was to fail was never used so often */
  readonly missed: boolean;
  readonly code: number | null;
  readonly uses: readonly Uses[];
  readonly said: string;
  readonly ms: number;
}

/** Makes a place for runs. @throws Error where networks cannot be made */
export async function makeLab(t: After): Promise<Lab> {
  const network = await createNetwork(t, {
    client: { on: { lan: ['10.9.0.2/24'] } },
    server: { on: { lan: [`${SERVER}/24`] } },
  });
  const [client, server] = [network.host('client'), network.host('server')];
  const serve = server.startBench(
    ['serve', '--host', SERVER, '--port', String(PORT), '--mode', 'whoami', '--workers', '1'],
    { timeoutMs: 24 * 3_600_000 },
  );
  serve.result.catch(() => {});
  await serve.saw(/engine \w+:/);
  return { client, server, fill: makeFiller(t, client) };
}

/** Its process is in the client's network for all runs there. */
function makeFiller(t: After, { namespace }: Host): () => Promise<void> {
  const filler = spawn(
    'ip',
    ['netns', 'exec', namespace, process.execPath, FILLER, String(OWN_PORT), String(CONNECTIONS)],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  t.after(() => void filler.kill());
  return () =>
    new Promise((resolve) => {
      filler.stdout.once('data', () => resolve());
      filler.stdin.write('fill\n');
    });
}

/** One run. */
class TorturedRun {
  readonly #lab: Lab;
  readonly #scenario: Scenario;
  readonly #failure: Failure | null;
  readonly #mark = randomUUID();
  readonly #folder = mkdtempSync(join(tmpdir(), 'c100k-torture-'));
  readonly #work = join(this.#folder, 'work');
  readonly #faults: string[] = [];

  constructor(lab: Lab, scenario: Scenario, failure: Failure | null) {
    this.#lab = lab;
    this.#scenario = scenario;
    this.#failure = failure;
    mkdirSync(this.#work);
  }

  async run(): Promise<Outcome> {
    const beganMs = performance.now();
    try {
      if (this.#scenario.hasLeftover === true) await leaveAlias(this.#lab);
      const before = await this.#addresses();
      const { code, stdout, stderr } = await this.#carryOut();
      await this.#lookForProcesses();
      await this.#lookAtHost(this.#scenario.hasLeftover === true ? null : before);
      const missed = this.#failure !== null && !existsSync(join(this.#folder, 'failed'));
      this.#judge(code, stdout, stderr, missed);
      return {
        faults: this.#faults,
        missed,
        code,
        uses: this.#uses(),
        said: `${stdout}${stderr}`,
        ms: performance.now() - beganMs,
      };
    } finally {
      for (const { pid } of this.#processes()) kill(pid);
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  #processes(): ReturnType<typeof processesWith> {
    return processesWith(`${MARK_VARIABLE}=${this.#mark}`);
  }

  #fault(text: string): void {
    this.#faults.push(text);
  }

  get #env(): Record<string, string> {
    const order: Order = { folder: this.#folder, failure: this.#failure };
    return {
      [MARK_VARIABLE]: this.#mark,
      [TORTURE_VARIABLE]: JSON.stringify(order),
      NODE_OPTIONS: `--import=${PRELOAD}`,
    };
  }

  async #carryOut(): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const { args, isServe } = this.#scenario;
    const command = ['sh', '-c', 'cd "$0" && exec "$@"', this.#work, process.execPath, cliPath, ...args];
    const cli = this.#lab.client.spawn(command, { env: this.#env, timeoutMs: ENDS_WITHIN_MS });
    if (isServe === true) await this.#useServe(cli.child.pid ?? 0, () => cli.stderr());
    const { code, signal, stdout, stderr, timedOut } = await cli.result;
    if (timedOut) this.#fault(`it has not ended within ${ENDS_WITHIN_MS} ms`);
    else if (code === null) this.#fault(`it was ended by ${signal}`);
    return { code, stdout, stderr };
  }

  /** Fills the target with connections once it listens, and ends it. */
  async #useServe(pid: number, said: () => string): Promise<void> {
    const isGone = (): boolean => !existsSync(`/proc/${pid}`) || stateOf(pid) === 'Z';
    await waitFor(() => /engine \w+:/.test(said()) || isGone(), ENDS_WITHIN_MS);
    if (isGone()) return;
    const workers = (): number[] =>
      this.#processes()
        .filter(({ args }) => args.includes('serve-worker'))
        .map((each) => each.pid);
    const before = descriptorsOf(workers());
    await this.#lab.fill();
    const isBack = (): boolean => isGone() || workers().length === 0 || descriptorsOf(workers()) <= before;
    if (!(await waitFor(isBack, GONE_WITHIN_MS)))
      this.#fault(`${descriptorsOf(workers()) - before} descriptors of a worker are left`);
    kill(pid, 'SIGTERM');
  }

  async #lookForProcesses(): Promise<void> {
    if (await waitFor(() => this.#processes().length === 0, GONE_WITHIN_MS)) return;
    const left = this.#processes().map(({ pid, args }) => `${pid} ${args.slice(0, 4).join(' ')}`);
    this.#fault(`processes are left: ${left.join('; ')}`);
  }

  async #addresses(): Promise<string> {
    const devices = JSON.parse(await this.#lab.client.must('ip', '-j', 'addr')) as {
      addr_info: { local: string; prefixlen: number }[];
    }[];
    const all = devices.flatMap(({ addr_info }) =>
      addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    );
    // The kernel gives a device its link-local address some time after the link is there, which is none of ours.
    return all
      .filter((address) => !address.startsWith('fe80:'))
      .sort()
      .join(' ');
  }

  /** @param before the addresses; null: they were not as they are to be */
  async #lookAtHost(before: string | null): Promise<void> {
    // Where `ip` fails, what was added has its lifetime alone, and its record stays until `cleanup`.
    const isIpGone = this.#failure?.call === 'run ip';
    if (this.#scenario.hasLeftover === true || isIpGone) {
      const sweep = (): Promise<unknown> => this.#lab.client.bench(['cleanup']);
      if (before !== null) await waitFor(async () => (await this.#addresses()) === before, GONE_WITHIN_MS);
      await sweep();
    }
    const now = await this.#addresses();
    if (before !== null && now !== before) this.#fault(`addresses are left: ${now}`);
    const records = recordsOf(this.#lab.client);
    if (records.length > 0) this.#fault(`records are left: ${records.join(', ')}`);
    for (const record of records) rmSync(record, { force: true });
    const sockets = await this.#lab.client.must(
      ...['ss', '-Htan', 'state', 'all', 'exclude', 'time-wait', 'exclude', 'fin-wait-2'],
    );
    if (sockets.trim() !== '') this.#fault(`sockets are left: ${sockets.split('\n').slice(0, 2).join('; ')}`);
    const files = readdirSync(this.#work).filter((name) => name !== 'report.json');
    if (files.length > 0) this.#fault(`files are left: ${files.join(', ')}`);
  }

  #uses(): Uses[] {
    return readdirSync(this.#folder)
      .filter((name) => name.startsWith('uses-'))
      .map((name) => JSON.parse(readFileSync(join(this.#folder, name), 'utf8')) as Uses);
  }

  #judge(code: number | null, stdout: string, stderr: string, missed: boolean): void {
    const said = `${stdout}${stderr}`;
    if (code === null) return;
    if (code === BUG || said.includes('this is a bug')) this.#fault('it says that this is a bug');
    if (/^\s+at .+[:)]\d*/m.test(said)) this.#fault('a stack');
    const odd = /AssertionError|TypeError|RangeError|Uncaught|node:internal|\bundefined\b|\[object |\bNaN\b/;
    if (odd.test(said)) this.#fault(`it says ${odd.exec(said)?.[0]}`);
    const allowed = missed || this.#failure === null ? [0] : this.#scenario.codes;
    if (!allowed.includes(code)) this.#fault(`exit code ${code}, not one of ${allowed.join(', ')}`);
    const path = join(this.#work, 'report.json');
    const report = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Partial<RunReport>) : null;
    if (report === null) this.#judgeLine(code, stderr);
    else if (report.exitCode !== undefined && report.exitCode !== code)
      this.#fault(`the report says ${report.exitCode}, the process ${code}`);
    // A plan and a look at the path have reports of another kind.
    if (report?.verdict !== undefined && report.connections !== undefined)
      this.#judgeReport(report as RunReport, code);
  }

  /** Without a report one line and a hint say why. */
  #judgeLine(code: number, stderr: string): void {
    if (code === 0) return;
    const lines = stderr.match(/^c100k-bench: .+\n {2}hint: .+$/gm) ?? [];
    if (lines.length !== 1) this.#fault(`${lines.length} lines say why it ended with ${code}`);
  }

  #judgeReport(report: RunReport, code: number): void {
    const { connections, verdict, reason } = report;
    if (code === 0 && connections.held !== CONNECTIONS) this.#fault(`passed with ${connections.held} held`);
    if (verdict !== 'pass' && (reason ?? '') === '') this.#fault('no reason');
    const isOwn = this.#failure !== null && OWN_ERRORS.has(this.#failure.how);
    const isOfTarget = this.#failure?.role === 'serve-worker';
    if (code === 1 && isOwn && !isOfTarget) this.#fault(`the target is blamed: ${reason}`);
  }
}

/** An address with a record of an agent that is dead. */
async function leaveAlias({ client }: Lab): Promise<void> {
  await client.must(
    ...'ip addr add 10.9.0.103/32 dev eth0 label eth0:c100k valid_lft 60 preferred_lft 60'.split(' '),
  );
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const link = async (name: string): Promise<string> =>
    (await client.must('readlink', `/proc/self/ns/${name}`)).trim();
  const netns = await link('net');
  // No process has this id: it is beyond the highest that the kernel gives. The records of all labs are in one folder.
  const owner = { pid: 4_194_400, startTime: netns.replace(/\D/g, ''), bootId };
  const aliases = [{ address: '10.9.0.103', prefix: 32, device: 'eth0' }];
  const record = { version: 1, ...owner, netns, pidns: await link('pid'), aliases };
  mkdirSync(RECORDS, { recursive: true, mode: 0o700 });
  writeFileSync(join(RECORDS, `${owner.pid}-${owner.startTime}.json`), JSON.stringify(record), {
    mode: 0o600,
  });
}

/** Records of a host's own network namespace. */
function recordsOf({ namespace }: Host): string[] {
  const link = `net:[${statSync(join('/run/netns', namespace)).ino}]`;
  const names = existsSync(RECORDS) ? readdirSync(RECORDS) : [];
  return names
    .map((name) => join(RECORDS, name))
    .filter((path) => {
      try {
        return readFileSync(path, 'utf8').includes(link);
      } catch {
        return false;
      }
    });
}

function stateOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .slice(0, 1);
  } catch {
    return 'X';
  }
}

function descriptorsOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    try {
      return sum + readdirSync(`/proc/${pid}/fd`).length;
    } catch {
      return sum;
    }
  }, 0);
}

function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended meanwhile.
  }
}

async function waitFor(isSo: () => boolean | Promise<boolean>, withinMs: number): Promise<boolean> {
  const beganMs = performance.now();
  while (!(await isSo())) {
    if (performance.now() - beganMs > withinMs) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Runs it with one failure, or with none, and looks for what is wrong. */
export function torture(lab: Lab, scenario: Scenario, failure: Failure | null): Promise<Outcome> {
  return new TorturedRun(lab, scenario, failure).run();
}

/** One line. */
export function describeCase(scenario: Scenario, failure: Failure): string {
  return `${scenario.name}: ${describeFailure(failure)}`;
}
