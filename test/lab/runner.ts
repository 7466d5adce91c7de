/**
 * Owns one case of a lab network from build to removal: asks plan, asks path, runs, counts on the server and in the
 * router while it holds, and compares. Must never believe our own report without another count beside it.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { formatCount } from '../../src/base/units.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { createNetwork, type Host, type Network } from '../support/network.ts';
import { type RunningCli, startCli } from '../support/run-cli.ts';
import type { LabCase, LabNetwork, Scale } from './description.ts';
import { startParts } from './parts.ts';

/** What a case showed. */
export interface CaseResult {
  readonly network: string;
  readonly label: LabCase['label'];
  readonly asked: number;
  /** what plan said that the server will hold */
  readonly predicted: number;
  /** `ss` on the server while the run held */
  readonly onServer: number;
  readonly perServer: Readonly<Record<string, number>>;
  /** source addresses on the server */
  readonly sources: readonly string[];
  /** entries in the router's table; null: no router, or one that tracks nothing */
  readonly conntrack: number | null;
  /** `held` of the client's report */
  readonly held: number;
  readonly verdict: string;
  readonly whoRanOut: string | null;
  readonly pathSentence: string | null;
  readonly pathSeconds: number | null;
  readonly seconds: number;
  /** what is not as it must be; empty: all is well */
  readonly problems: readonly string[];
}

/** How this process can be ended with a network standing. */
const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const AGENTS_PORT = 7_100;
const RUN_WITHIN_MS = 600_000;
const PATH_WITHIN_MS = 10_000;
/** plan against measurement, and the router against the server */
const TOLERANCE = 0.01;
/** the expected number against measurement */
const EXPECTED_TOLERANCE = 0.001;

/** Runs all cases of one network, one after the other. */
export async function runNetwork(network: LabNetwork, scale: Scale): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const lab of network.cases(scale)) {
    results.push(
      await runCase(network.name, lab, scale).catch((error) => failedCase(network.name, lab, error)),
    );
  }
  return results;
}

/** A case that could not be measured at all; the others go on. */
function failedCase(network: string, lab: LabCase, error: unknown): CaseResult {
  return {
    network,
    label: lab.label,
    asked: lab.asked,
    predicted: 0,
    onServer: 0,
    perServer: {},
    sources: [],
    conntrack: null,
    held: 0,
    verdict: 'none',
    whoRanOut: null,
    pathSentence: null,
    pathSeconds: null,
    seconds: 0,
    problems: [error instanceof Error ? error.message : String(error)],
  };
}

async function runCase(name: string, lab: LabCase, scale: Scale): Promise<CaseResult> {
  const beganMs = performance.now();
  // Shrunk networks stand beside each other: how long one takes says nothing.
  const pathWithinMs = scale.isShort ? RUN_WITHIN_MS : PATH_WITHIN_MS;
  const path = lab.path === null ? null : await withNetwork(lab, (bed) => askPath(bed, lab, pathWithinMs));
  const measured = await withNetwork(lab, async (bed) => {
    const predicted = await askPlan(bed, lab);
    return { predicted, ...(await askRun(bed, lab, scale)) };
  });
  const result = {
    network: name,
    label: lab.label,
    asked: lab.asked,
    ...measured,
    pathSentence: path?.sentence ?? null,
    pathSeconds: path?.seconds ?? null,
    seconds: (performance.now() - beganMs) / 1000,
  };
  return { ...result, problems: [...problemsOf(result, lab), ...(path?.problems ?? [])] };
}

/**
 * Builds the network of a case and asks `path` alone: the sentence, and what is wrong with it or its time.
 * @param lab with a `path`
 */
export function askPathOnly(lab: LabCase): Promise<PathAnswer> {
  return withNetwork(lab, (bed) => askPath(bed, lab));
}

/** A built network with everything running on it. */
interface Bed {
  readonly network: Network;
  readonly folder: string;
  readonly client: Host;
}

async function withNetwork<Result>(lab: LabCase, use: (bed: Bed) => Promise<Result>): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), `c100k-lab-${process.pid}-`));
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true });
  const atEnd: (() => void)[] = [removeFolder];
  // The network ends this process by the same signal, so what is ours goes first.
  process.once('exit', removeFolder);
  for (const signal of END_SIGNALS) process.prependOnceListener(signal, removeFolder);
  try {
    const network = await createNetwork(
      {
        after: (...args: unknown[]) => {
          atEnd.unshift(args[0] as () => void);
        },
      },
      lab.hosts,
    );
    await startParts(network, lab, folder);
    const client = network.host(lab.agents[0] ?? 'client');
    return await use({ network, folder, client });
  } finally {
    for (const end of atEnd) end();
    process.removeListener('exit', removeFolder);
    for (const signal of END_SIGNALS) process.removeListener(signal, removeFolder);
  }
}

/** Starts c100k-bench on a host of the network. */
function benchOn(host: Host, args: readonly string[]): RunningCli {
  return startCli(args, { wrap: host.wrap, timeoutMs: RUN_WITHIN_MS });
}

/** What a person types to repeat a case, in words of the network: the run, its agents, the plan, the look at the path. */
export function commandsOf(lab: LabCase): string[] {
  const isJoined = lab.agents.length > 0;
  const listen = `${addressOf(lab, lab.agents[0] ?? '')}:${AGENTS_PORT}`;
  const run = [...lab.run, '--conns', String(lab.asked)];
  if (isJoined) run.push(...joinedArgs(lab, 'run.token'));
  const lists = [run, ['plan', ...planArgs(lab)]];
  if (lab.path !== null) lists.push(['path', ...lab.run.slice(0, 2), ...lab.path.args]);
  const commands = lists.map((args) => `c100k-bench ${args.join(' ')}`);
  if (isJoined) {
    commands.splice(
      1,
      0,
      `c100k-bench agent --join ${listen} --token-file run.token    # on each of ${lab.agents.length} hosts`,
    );
  }
  return commands;
}

/** What makes a run wait for agents at its first host. */
function joinedArgs(lab: LabCase, tokenPath: string): string[] {
  const listen = `${addressOf(lab, lab.agents[0] ?? '')}:${AGENTS_PORT}`;
  return ['--expect-agents', String(lab.agents.length), '--listen', listen, '--token-file', tokenPath];
}

function planArgs(lab: LabCase): string[] {
  const target = lab.run.slice(0, 2);
  return [...target, '--conns', String(Math.ceil(lab.asked / lab.plan.hosts)), ...lab.plan.args];
}

/** What plan predicts for the whole network. */
async function askPlan(bed: Bed, lab: LabCase): Promise<number> {
  const { stdout, stderr, code } = await benchOn(bed.client, [
    'plan',
    ...planArgs(lab),
    '--json',
    '-',
    '--quiet',
  ]).result;
  const plan = JSON.parse(stdout || '{}') as { path?: { predicted: number }; wouldStart?: boolean };
  if (plan.path === undefined || plan.wouldStart !== true)
    throw new Error(`plan ended with ${code}: ${stdout}${stderr}`);
  return plan.path.predicted * lab.plan.hosts;
}

/** What `path` said; `problems` is empty when the sentence is right and came in time. */
export interface PathAnswer {
  readonly sentence: string;
  readonly seconds: number;
  readonly problems: readonly string[];
}

async function askPath(bed: Bed, lab: LabCase, withinMs: number = PATH_WITHIN_MS): Promise<PathAnswer> {
  const { args = [], says = /^/ } = lab.path ?? {};
  const beganMs = performance.now();
  const { stdout, stderr, code } = await benchOn(bed.client, ['path', ...lab.run.slice(0, 2), ...args])
    .result;
  const ms = performance.now() - beganMs;
  // The text is wrapped for a terminal; the sentence is its first paragraph.
  const sentence = (stdout.split('\n\n')[0] ?? '').replaceAll('\n', ' ');
  const problems: string[] = [];
  if (code !== 0 || !says.test(sentence)) problems.push(`path (exit ${code}) says "${sentence}": ${stderr}`);
  if (ms > withinMs) problems.push(`path took ${(ms / 1000).toFixed(1)} s`);
  return { sentence, seconds: ms / 1000, problems };
}

type Measured = Pick<
  CaseResult,
  'onServer' | 'perServer' | 'sources' | 'conntrack' | 'held' | 'verdict' | 'whoRanOut'
>;

async function askRun(bed: Bed, lab: LabCase, scale: Scale): Promise<Measured> {
  const reportPath = join(bed.folder, 'report.json');
  const hold = scale.isShort ? '2s' : '8s';
  const args = [
    ...lab.run,
    '--conns',
    String(lab.asked),
    '--duration',
    hold,
    '--json',
    reportPath,
    '--no-progress',
  ];
  const agents: RunningCli[] = [];
  const tokenPath = join(bed.folder, 'token');
  if (lab.agents.length > 0) args.push(...joinedArgs(lab, tokenPath));
  const run = benchOn(bed.client, args);
  if (lab.agents.length > 0) {
    await run.saw(/join with/);
    const join = [
      'agent',
      '--join',
      `${addressOf(lab, lab.agents[0] ?? '')}:${AGENTS_PORT}`,
      '--token-file',
      tokenPath,
    ];
    for (const name of lab.agents) {
      agents.push(benchOn(bed.network.host(name), [...join, '--name', name]));
    }
  }
  await run.saw(/holding/);
  const counts = await Promise.all(
    lab.servers.map(
      async (name) => [name, await established(bed.network.host(name), lab.serverPorts)] as const,
    ),
  );
  const conntrack = lab.hosts.router === undefined ? null : await tracked(bed.network.host('router'));
  if (run.child.exitCode !== null) throw new Error('the hold was over before everything was counted');
  const { stderr, code } = await run.result;
  await Promise.all(agents.map((agent) => agent.result));
  const report = readReport(reportPath, code, stderr);
  return {
    onServer: counts.reduce((sum, [, bySource]) => sum + total(bySource), 0),
    perServer: Object.fromEntries(counts.map(([name, bySource]) => [name, total(bySource)])),
    sources: [...new Set(counts.flatMap(([, bySource]) => [...bySource.keys()]))].sort(byNumber),
    conntrack,
    held: report.connections.held,
    verdict: report.verdict,
    whoRanOut: report.whoRanOut,
  };
}

function readReport(path: string, code: number | null, stderr: string): RunReport {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as RunReport;
  } catch (error) {
    throw new Error(`the run ended with ${code} and without a report: ${stderr}`, { cause: error });
  }
}

function addressOf(lab: LabCase, host: string): string {
  return Object.values(lab.hosts[host]?.on ?? {})[0]?.[0]?.split('/')[0] ?? '';
}

function byNumber(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

/** Established connections of these ports by source address, as the host's own kernel says. */
async function established(host: Host, ports: readonly number[]): Promise<Map<string, number>> {
  const filter = ports.map((port) => `sport = :${port}`).join(' or ');
  const text = await host.must('ss', '-Hnt', 'state', 'established', `( ${filter} )`);
  const bySource = new Map<string, number>();
  for (const line of text.split('\n')) {
    const peer = line.trim().split(/\s+/)[3];
    if (peer === undefined) continue;
    const address = peer.slice(0, peer.lastIndexOf(':'));
    bySource.set(address, (bySource.get(address) ?? 0) + 1);
  }
  return bySource;
}

async function tracked(router: Host): Promise<number> {
  return Number(await router.must('cat', '/proc/sys/net/netfilter/nf_conntrack_count'));
}

function total(bySource: ReadonlyMap<string, number>): number {
  return [...bySource.values()].reduce((sum, count) => sum + count, 0);
}

function isNear(a: number, b: number, tolerance: number): boolean {
  return Math.abs(a - b) <= Math.max(a, b) * tolerance;
}

type Unjudged = Omit<CaseResult, 'problems'>;

/** Everything that must agree, in words where it does not. */
function problemsOf(result: Unjudged, lab: LabCase): string[] {
  const { expected } = lab;
  const problems: string[] = [];
  const check = (isSo: boolean, words: string): void => {
    if (!isSo) problems.push(words);
  };
  const { onServer, held, predicted, conntrack } = result;
  const n = formatCount;
  check(
    isNear(onServer, expected.held, EXPECTED_TOLERANCE),
    `the server holds ${n(onServer)}, expected ${n(expected.held)}`,
  );
  check(held === onServer, `the client's report says ${n(held)}, the server ${n(onServer)}`);
  check(isNear(predicted, onServer, TOLERANCE), `plan said ${n(predicted)}, the server holds ${n(onServer)}`);
  check(result.sources.length === expected.sources, `sources on the server: ${result.sources.join(', ')}`);
  if (expected.addresses !== undefined) {
    check(
      [...expected.addresses].sort(byNumber).join() === result.sources.join(),
      `sources on the server: ${result.sources.join(', ')}, expected ${expected.addresses.join(', ')}`,
    );
  }
  for (const [server, count] of Object.entries(expected.perServer ?? {})) {
    const there = result.perServer[server] ?? 0;
    check(isNear(there, count, EXPECTED_TOLERANCE), `${server} holds ${n(there)}, expected ${n(count)}`);
  }
  if (conntrack !== null) {
    const passing = lab.parts.some((part) => part.kind === 'haproxy') ? null : onServer;
    if (passing !== null) {
      check(
        isNear(conntrack, passing, TOLERANCE),
        `the router tracks ${n(conntrack)}, the server holds ${n(onServer)}`,
      );
    }
  }
  check(
    result.whoRanOut === expected.whoRanOut,
    `who ran out: ${result.whoRanOut}, expected ${expected.whoRanOut}`,
  );
  check(
    result.verdict === (expected.whoRanOut === null ? 'pass' : 'fail'),
    `the verdict is ${result.verdict}`,
  );
  return problems;
}
