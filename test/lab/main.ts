/**
 * Owns `npm run lab -- <name>|all [--short] [--write]`: which networks are run, the table, the exit code; `document`
 * writes the documents from the figures that were kept.
 * Must never know what a network is made of.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { performance } from 'node:perf_hooks';
import process from 'node:process';
import { formatCount } from '../../src/base/units.ts';
import { whyNoNetwork } from '../support/network.ts';
import { findProgram } from '../support/targets.ts';
import { FULL, type LabNetwork, SHORT } from './description.ts';
import { NETWORKS } from './networks/all.ts';
import { type CaseResult, runNetwork } from './runner.ts';
import { writeTopologies } from './topologies.ts';

const USAGE = `usage: npm run lab -- ${NETWORKS.map(({ name }) => name).join('|')}|all [--short] [--write], or document`;

/** Debian's names of the real parts. */
const PACKAGES = 'haproxy nginx-light nftables dnsmasq-base iproute2 procps';
const NETNS_FOLDER = '/run/netns';
/** Shrunk networks that stand at the same time. */
const SHORT_AT_ONCE = 3;

function rowOf(result: CaseResult): string {
  const cells = [
    result.network.padEnd(4),
    formatCount(result.asked).padStart(8),
    formatCount(result.onServer).padStart(9),
    formatCount(result.held).padStart(9),
    formatCount(result.predicted).padStart(9),
    (result.conntrack === null ? '-' : formatCount(result.conntrack)).padStart(9),
    String(result.sources.length).padStart(7),
    `${result.verdict}${result.whoRanOut === null ? '' : ` (${result.whoRanOut})`}`.padEnd(12),
    `${result.seconds.toFixed(1)} s`.padStart(7),
    result.problems.length === 0 ? 'ok' : 'NOT OK',
    result.label?.en ?? '',
  ];
  return cells.join('  ').trimEnd();
}

const HEAD = 'net      asked  on server   report      plan  conntrack  sources  verdict          time';

/** Networks one after the other, because each takes the whole machine; shrunk ones a few at a time. */
async function runAll(
  chosen: readonly LabNetwork[],
  isShort: boolean,
  isWrite: boolean,
): Promise<CaseResult[]> {
  const results = new Map<LabNetwork, readonly CaseResult[]>();
  const waiting = [...chosen];
  const work = async (): Promise<void> => {
    for (let network = waiting.shift(); network !== undefined; network = waiting.shift()) {
      const shown = await runNetwork(network, isShort ? SHORT : FULL);
      results.set(network, shown);
      for (const result of shown) show(result);
      const isWell = shown.every(({ problems }) => problems.length === 0);
      if (isWrite && isWell) console.log(`      wrote ${writeTopologies(shown).join(', ')}`);
    }
  };
  await Promise.all(Array.from({ length: isShort ? SHORT_AT_ONCE : 1 }, work));
  return chosen.flatMap((network) => results.get(network) ?? []);
}

function show(result: CaseResult): void {
  console.log(rowOf(result));
  if (result.pathSentence !== null) {
    console.log(`      path (${result.pathSeconds?.toFixed(1)} s): ${result.pathSentence}`);
  }
  for (const problem of result.problems) console.log(`      ! ${problem}`);
}

/** Real parts that are not installed. */
function missingPrograms(): string[] {
  const commands = ['nft', 'ss', 'sysctl', 'dnsmasq'].filter(
    (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
  );
  return [...(['haproxy', 'nginx'] as const).filter((name) => findProgram(name) === null), ...commands];
}

/** Namespaces and folders of this process that are still there when all networks are gone. */
function leftBehind(): string[] {
  const namespaces = existsSync(NETNS_FOLDER) ? readdirSync(NETNS_FOLDER) : [];
  const folders = readdirSync(tmpdir()).filter((name) => name.startsWith(`c100k-lab-${process.pid}-`));
  return [...namespaces.filter((name) => name.startsWith(`c100k-${process.pid}-`)), ...folders];
}

async function main(args: readonly string[]): Promise<number> {
  const names = args.filter((arg) => !arg.startsWith('--'));
  if (args.length === 1 && args[0] === 'document') {
    console.log(`wrote ${writeTopologies([]).join(', ')}`);
    return 0;
  }
  const isShort = args.includes('--short');
  const chosen = NETWORKS.filter(
    ({ name }) => names.includes('all') || names.some((one) => one.toUpperCase() === name),
  );
  if (chosen.length === 0 || args.some((arg) => arg.startsWith('--') && !/^--(short|write)$/.test(arg))) {
    console.error(USAGE);
    return 2;
  }
  const isWrite = args.includes('--write');
  if (isWrite && isShort) {
    console.error('--write goes not with --short: the document shows full runs');
    return 2;
  }
  const why = whyNoNetwork();
  if (why !== null) {
    console.log(`SKIPPED the lab: it ${why}`);
    return 0;
  }
  const missing = missingPrograms();
  if (missing.length > 0) {
    console.error(`the lab needs ${missing.join(', ')}: apt-get install -y ${PACKAGES}`);
    return 1;
  }
  console.log(HEAD);
  const beganMs = performance.now();
  const results = await runAll(chosen, isShort, isWrite);
  const failed = results.filter(({ problems }) => problems.length > 0);
  const seconds = (performance.now() - beganMs) / 1000;
  console.log(
    `${results.length - failed.length} of ${results.length} cases as expected in ${seconds.toFixed(0)} s` +
      `${isShort ? ' (port ranges shrunk)' : ''}`,
  );
  const left = leftBehind();
  for (const what of left) console.log(`! left behind: ${what}`);
  return failed.length + left.length === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
