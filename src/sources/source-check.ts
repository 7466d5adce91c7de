/**
 * Owns proving the sources of a plan before the ramp: aliases added, one connect per (source, endpoint), sources that do
 * not work named and left out, further ones taken in their place.
 * Must never open a connection that is held (holder.ts), and never refuse a target that answers no source: that is counted.
 */

import { isLoopback } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import type { Finding } from '../base/errors.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import { type RunProgram, runProgram } from '../host/command.ts';
import { readAddressesNow, readSourceDevices } from '../host/ip-command.ts';
import { isOnThisHost } from '../plan/capacity.ts';
import type { RunSpec } from '../run/run-spec.ts';
import type { AliasLease } from './alias-lease.ts';
import { type Preparation, planSources } from './preparation.ts';
import {
  ConnectTurns,
  checkRoutes,
  type DuplicateAddress,
  findDuplicates,
  portsAtEnd,
  type RoutePair,
  type RouteProblem,
} from './route-check.ts';
import { isInScope } from './source-addresses.ts';

/** Pairs of one check, each asked from both ends of the plan's ports. Of more sources an even sample is asked. */
const PAIRS_MAX = 1_024;
const ROUNDS_MAX = 4;
/** Where the owner of the host limits the rate, a round of checks is a sample that takes no longer. */
const ROUND_SEC_MAX = 20;
const NAMES_MAX = 8;

/** Why a source was left out. */
interface BadSource {
  readonly address: string;
  readonly why: string;
}

/**
 * Makes the sources of a plan ready: adds what is missing, checks every source, and plans again without the bad ones.
 * @param prepared the plan; its `blocked` must be empty
 * @param lease what the aliases are added through; it holds them until it is released
 * @param turns at the rate that this host's owner allows
 * @returns a plan whose sources all work, or the findings that refuse the run
 */
export async function secureSources(
  spec: RunSpec,
  prepared: Preparation,
  lease: AliasLease,
  run: RunProgram = runProgram,
  turns = new ConnectTurns(Number.POSITIVE_INFINITY),
): Promise<Preparation | readonly Finding[]> {
  const { wanted, found } = prepared;
  const bad = new Map<string, BadSource>();
  const checked = new Set<string>();
  const findings: Finding[] = [];
  const notes = new Set<string>();
  let current = prepared;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const acquired = await lease.acquire(current.choice.aliases);
    for (const note of acquired.notes) notes.add(note);
    for (const { alias, why } of acquired.failed) bad.set(alias.address, { address: alias.address, why });
    const fresh = current.choice.addresses.filter((address) => !bad.has(address) && !checked.has(address));
    const aliases = current.choice.aliases.filter((alias) => !checked.has(alias.address));
    const [{ bad: failing, silent, filtered }, duplicates] = await Promise.all([
      checkSources(spec, current, fresh, run, turns),
      findDuplicates(run, aliases),
    ]);
    if (duplicates.length > 0) findings.push(duplicateFinding(duplicates));
    if (silent !== null) findings.push(silent);
    if (filtered !== null) findings.push(filtered);
    for (const address of fresh) checked.add(address);
    for (const one of failing) bad.set(one.address, one);
    if (failing.length === 0 && acquired.failed.length === 0) break;
    await lease.give(lease.held.filter((alias) => bad.has(alias.address)));
    current = planSources(spec, wanted, found, new Set(bad.keys()));
    if (current.choice.addresses.length === 0) break;
  }
  if (bad.size > 0) findings.unshift(leftOutFinding([...bad.values()], current));
  const all = [...current.plan.findings, ...findings];
  const refusals = all.filter((finding) => finding.severity === 'refuse');
  if (refusals.length > 0)
    return [...findings.filter((finding) => finding.severity !== 'refuse'), ...refusals];
  await lease.watch(current.choice.addresses);
  return { ...current, plan: { ...current.plan, findings: all }, notes: [...current.notes, ...notes] };
}

interface SourceCheck {
  readonly bad: readonly BadSource[];
  /** the target answers no source of this host at all */
  readonly silent: Finding | null;
  /** the same source is answered from one port, and not from another */
  readonly filtered: Finding | null;
}

/** Sources on loopback, and endpoints on this host, have no route that could fail. */
async function checkSources(
  spec: RunSpec,
  prepared: Preparation,
  addresses: readonly string[],
  run: RunProgram,
  turns: ConnectTurns,
): Promise<SourceCheck> {
  const { facts } = prepared.found;
  const sources = addresses.filter((address) => !isLoopback(address));
  const endpoints = spec.endpoints.filter((endpoint) => !isOnThisHost(endpoint, facts));
  const most = Math.max(1, Math.min(PAIRS_MAX, Math.floor((turns.ratePerSec * ROUND_SEC_MAX) / 2)));
  const pairs = pairsToCheck(sources, endpoints, most);
  if (pairs.length === 0) return { bad: [], silent: null, filtered: null };
  const [asked, astray] = await Promise.all([
    askFromBothEnds(pairs, prepared, turns),
    leavingElsewhere(sources, endpoints, run),
  ]);
  const { problems, filtered } = asked;
  const bad = new Map<string, BadSource>(astray.map((one) => [one.address, one]));
  const answering = new Set(
    pairs.filter((_, index) => problems[index] === null).map(({ endpoint }) => formatEndpoint(endpoint)),
  );
  // No source got an answer: is it the sources, or is the target down? This host's own address shows it.
  const anyWorks = answering.size > 0 || (await hostItselfReaches(spec, prepared, sources, turns));
  if (!anyWorks) return { bad: [...bad.values()], silent: silentFinding(pairs, problems), filtered };
  for (const [index, { source, endpoint }] of pairs.entries()) {
    const problem = problems[index] ?? null;
    // An endpoint that answers no source is for the target to answer for: the run counts it.
    const isTargets = answering.size > 0 && !answering.has(formatEndpoint(endpoint));
    if (problem === null || isTargets || bad.has(source)) continue;
    bad.set(source, { address: source, why: `${problem} from ${formatEndpoint(endpoint)}` });
  }
  return { bad: [...bad.values()], silent: null, filtered };
}

interface AskedPairs {
  /** null: answered from some port */
  readonly problems: readonly RouteProblem[];
  readonly filtered: Finding | null;
}

/** How one pair is answered by the source port. */
interface ByPort {
  readonly pair: RoutePair;
  /** first and last port of the plan */
  readonly answered: readonly number[];
  readonly silent: readonly number[];
  /** from a port of the kernel's choice */
  readonly isFreeAnswered: boolean;
}

/** Asks pairs from the first and from the last port of the plan, and the first few from one of the kernel's choice. */
async function askByPort(
  pairs: readonly RoutePair[],
  { plan }: Preparation,
  turns: ConnectTurns,
): Promise<{ readonly problems: readonly RouteProblem[]; readonly byPort: readonly ByPort[] }> {
  const ends = [portsAtEnd(plan.ports, 'first'), portsAtEnd(plan.ports, 'last')];
  const ask = (some: readonly RoutePair[], ports: readonly number[]): Promise<RouteProblem[]> =>
    checkRoutes(
      some.map((pair) => ({ ...pair, ports })),
      undefined,
      turns,
    );
  const [free, ...answers] = await Promise.all([
    ask(pairs.slice(0, NAMES_MAX), [0]),
    ...ends.map((ports) => ask(pairs, ports)),
  ]);
  const endsThat = (isAnswered: boolean, index: number): number[] =>
    ends.flatMap(([port = 0], end) => ((answers[end]?.[index] === null) === isAnswered ? [port] : []));
  const byPort = pairs.map((pair, index) => ({
    pair,
    answered: endsThat(true, index),
    silent: endsThat(false, index),
    isFreeAnswered: free?.[index] === null,
  }));
  // The last ports say why: a firewall that knows the ports of the run lets these pass.
  const problems = byPort.map(({ answered }, index) =>
    answered.length > 0 ? null : (answers[1]?.[index] ?? null),
  );
  return { problems, byPort };
}

/** A source of which some ports are filtered is good. */
async function askFromBothEnds(
  pairs: readonly RoutePair[],
  prepared: Preparation,
  turns: ConnectTurns,
): Promise<AskedPairs> {
  const { problems, byPort } = await askByPort(pairs, prepared, turns);
  const isFiltered = ({ answered, silent, isFreeAnswered }: ByPort): boolean =>
    silent.length > 0 && (answered.length > 0 || isFreeAnswered);
  const doubted = byPort.filter(isFiltered).map(({ pair }) => pair);
  if (doubted.length === 0) return { problems, filtered: null };
  // Asked once more: what was lost by chance comes through now.
  const again = await askByPort(doubted.slice(0, NAMES_MAX), prepared, turns);
  const one = again.byPort.find(isFiltered);
  const isGood = new Set(doubted);
  return {
    // The source is good: it is some ports that are not.
    problems: problems.map((problem, index) => {
      const pair = pairs[index];
      return pair !== undefined && isGood.has(pair) ? null : problem;
    }),
    filtered: one === undefined ? null : filterFinding(one, prepared.found.facts.localPortRange),
  };
}

/** What a filter on the way lets through of the source ports. */
function filterFinding(
  { pair, answered, silent, isFreeAnswered }: ByPort,
  localPortRange: PortRange | null,
): Finding {
  const range = localPortRange === null ? null : `${localPortRange.from}-${localPortRange.to}`;
  const through = [
    ...answered.map((port) => `port ${port}`),
    ...(isFreeAnswered ? [`one of the kernel's choice${range === null ? '' : ` (${range})`}`] : []),
  ];
  return {
    what: 'source-ports',
    severity: 'warn',
    needed: null,
    available: null,
    unit: 'ports',
    message:
      `source ports: connects from ${pair.source} to ${formatEndpoint(pair.endpoint)} are answered from ` +
      `${through.join(' and from ')}, and not from port ${silent.join(' or ')}: a filter on the way lets only some source ports through`,
    fix:
      isFreeAnswered && range !== null
        ? `--source-ports ${range}`
        : 'let the filter pass all source ports, or name those that it passes: --source-ports FROM-TO',
  };
}

/** Every pair of one family where that is not too many; else each source with one endpoint. */
function pairsToCheck(sources: readonly string[], endpoints: readonly Endpoint[], most: number): RoutePair[] {
  const familyOf = (address: string): 4 | 6 => (address.includes(':') ? 6 : 4);
  const of = (source: string): Endpoint[] =>
    endpoints.filter((endpoint) => endpoint.family === familyOf(source));
  if (sources.length * endpoints.length <= most) {
    return sources.flatMap((source) => of(source).map((endpoint) => ({ source, endpoint })));
  }
  // Thousands of sources are a network behind one route: an even sample of them tells as much.
  const step = Math.max(1, sources.length / most);
  const perSource = Math.max(1, Math.floor(most / sources.length));
  const pairs: RoutePair[] = [];
  for (let at = 0; at < sources.length && pairs.length < most; at += step) {
    const index = Math.floor(at);
    const source = sources[index];
    if (source === undefined) break;
    const reachable = of(source);
    // Another endpoint first for each source.
    const first = index % Math.max(1, reachable.length);
    const turned = [...reachable.slice(first), ...reachable.slice(0, first)];
    pairs.push(...turned.slice(0, perSource).map((endpoint) => ({ source, endpoint })));
  }
  return pairs;
}

/** Sources on a device that could carry them, whose packets the routing table sends by another one. */
async function leavingElsewhere(
  sources: readonly string[],
  endpoints: readonly Endpoint[],
  run: RunProgram,
): Promise<BadSource[]> {
  const now = await readAddressesNow(run);
  const own = new Map((now?.addresses ?? []).map((address) => [address.address, address]));
  const bad: BadSource[] = [];
  for (const family of [4, 6] as const) {
    const target = endpoints.find((endpoint) => endpoint.family === family);
    // With a zone everything leaves by its device.
    if (target === undefined || target.zone !== undefined) continue;
    const asked = sources.filter((source) => own.get(source)?.family === family);
    const devices = await readSourceDevices(run, asked, target.address);
    for (const source of asked) {
      const { device = '', isOnVirtualDevice = false } = own.get(source) ?? {};
      const leaves = devices.get(source);
      if (leaves === undefined || leaves === device || isOnVirtualDevice) continue;
      bad.push({ address: source, why: `it is on ${device} and leaves by ${leaves}` });
    }
  }
  return bad;
}

/** Whether another address of this host gets an answer: the kernel's own choice, or one on the device towards the target. */
async function hostItselfReaches(
  spec: RunSpec,
  { found, plan }: Preparation,
  sources: readonly string[],
  turns: ConnectTurns,
): Promise<boolean> {
  const tried = new Set(sources);
  const { routes, hostAddresses } = found.facts;
  const pairs = routes.flatMap(({ address, source, device, local }) => {
    const endpoint = spec.endpoints.find((one) => one.address === address);
    if (local || endpoint === undefined) return [];
    const onDevice = hostAddresses.filter((own) => own.device === device && isInScope(own, endpoint));
    const witnesses = new Set([...(source === null ? [] : [source]), ...onDevice.map((own) => own.address)]);
    return [...witnesses].filter((one) => !tried.has(one)).map((one) => ({ source: one, endpoint }));
  });
  // A filter may know the ports of the run alone, or those of the kernel's choice.
  const tries = pairs
    .slice(0, NAMES_MAX)
    .flatMap((pair) => [portsAtEnd(plan.ports, 'last'), [0]].map((ports) => ({ ...pair, ports })));
  const problems = await checkRoutes(tries, undefined, turns);
  return problems.some((problem) => problem === null);
}

function silentFinding(pairs: readonly RoutePair[], problems: readonly (string | null)[]): Finding {
  const [first] = pairs;
  const sources = new Set(pairs.map(({ source }) => source)).size;
  return {
    what: 'route-check',
    severity: 'warn',
    needed: sources,
    available: 0,
    unit: 'addresses',
    message:
      `${first === undefined ? 'the target' : formatEndpoint(first.endpoint)} gives no address of this host an answer ` +
      `(${problems[0] ?? 'no answer'}): the target or the path seems to be down, or drops what comes from here`,
    fix: first === undefined ? null : `ip route get ${first.endpoint.address} from ${first.source}`,
  };
}

function leftOutFinding(bad: readonly BadSource[], prepared: Preparation): Finding {
  const named = bad
    .slice(0, NAMES_MAX)
    .map(({ address, why }) => `${address} (${why})`)
    .join(', ');
  const more = bad.length > NAMES_MAX ? ` and ${formatCount(bad.length - NAMES_MAX)} more` : '';
  const left = prepared.choice.addresses.length;
  const { wanted, plan } = prepared;
  const suffices = plan.capacityMax >= wanted;
  const first = bad[0]?.address ?? '';
  return {
    what: 'route-check',
    severity: suffices ? 'warn' : 'refuse',
    needed: wanted,
    available: plan.capacityMax,
    unit: 'connections',
    message:
      `left out ${formatCount(bad.length)} of ${formatCount(bad.length + left)} source addresses: ${named}${more}; ` +
      `the other ${formatCount(left)} can hold ${formatCount(plan.capacityMax)} of ${formatCount(wanted)} connections`,
    fix: `let the target route back to ${first}, or name other addresses with --source-ip`,
  };
}

function duplicateFinding(duplicates: readonly DuplicateAddress[]): Finding {
  const [first] = duplicates;
  const named = duplicates
    .slice(0, NAMES_MAX)
    .map(({ address, owner }) => (owner === null ? address : `${address} (at ${owner})`))
    .join(', ');
  return {
    what: 'duplicate-addresses',
    severity: 'warn',
    needed: 0,
    available: duplicates.length,
    unit: 'addresses',
    message: `another host on the segment already has ${named}: answers may go there`,
    fix: `choose addresses that no other host has; this asks for one: arping -D -I ${first?.device ?? 'DEVICE'} ${first?.address ?? 'ADDRESS'}`,
  };
}
