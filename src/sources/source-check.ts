/**
 * Owns proving the sources of a plan before the ramp: aliases added, one connect per (source, endpoint), sources that do
 * not work named and left out, further ones taken in their place.
 * Must never open a connection that is held (holder.ts), and never refuse a target that answers nobody: that is counted.
 */

import { connect, type Socket } from 'node:net';
import pLimit from 'p-limit';
import { isLoopback } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import type { Finding } from '../base/errors.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import { Pacer } from '../engine/pacer.ts';
import { type RunProgram, runProgram } from '../host/command.ts';
import { readAddressesNow, readSourceDevices } from '../host/ip-command.ts';
import { isOnThisHost } from '../plan/capacity.ts';
import type { Alias } from '../run/alias.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { after, pause, systemClock } from '../time/timer.ts';
import type { AliasLease } from './alias-lease.ts';
import { type Preparation, planSources } from './preparation.ts';

/** Connects of one check. With more sources than this, each still gets one, evenly spread over the endpoints. */
const PAIRS_MAX = 2_048;
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
  const { wanted, sourcing } = prepared;
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
    const [{ bad: found, silent }, duplicates] = await Promise.all([
      checkSources(spec, current, fresh, run, turns),
      findDuplicates(run, aliases),
    ]);
    if (duplicates.length > 0) findings.push(duplicateFinding(duplicates));
    if (silent !== null) findings.push(silent);
    for (const address of fresh) checked.add(address);
    for (const one of found) bad.set(one.address, one);
    if (found.length === 0 && acquired.failed.length === 0) break;
    await lease.give(lease.held.filter((alias) => bad.has(alias.address)));
    current = planSources(spec, wanted, sourcing, new Set(bad.keys()));
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
}

/** Sources on loopback, and endpoints on this host, have no route that could fail. */
async function checkSources(
  spec: RunSpec,
  prepared: Preparation,
  addresses: readonly string[],
  run: RunProgram,
  turns: ConnectTurns,
): Promise<SourceCheck> {
  const { facts } = prepared.sourcing;
  const sources = addresses.filter((address) => !isLoopback(address));
  const endpoints = spec.endpoints.filter((endpoint) => !isOnThisHost(endpoint.address, facts));
  const most = Math.max(1, Math.min(PAIRS_MAX, Math.floor(turns.ratePerSec * ROUND_SEC_MAX)));
  const pairs = pairsToCheck(sources, endpoints, most);
  if (pairs.length === 0) return { bad: [], silent: null };
  const [troubles, astray] = await Promise.all([
    checkRoutes(pairs, prepared.plan.ports, undefined, turns),
    leavingElsewhere(sources, endpoints, run),
  ]);
  const bad = new Map<string, BadSource>(astray.map((one) => [one.address, one]));
  const answering = new Set(
    pairs.filter((_, index) => troubles[index] === null).map(({ endpoint }) => formatEndpoint(endpoint)),
  );
  // Nobody got an answer: is it the sources, or is the target down? This host's own address tells.
  const someoneWorks = answering.size > 0 || (await hostItselfReaches(spec, prepared, sources, turns));
  if (!someoneWorks) return { bad: [...bad.values()], silent: silentFinding(pairs, troubles) };
  for (const [index, { source, endpoint }] of pairs.entries()) {
    const trouble = troubles[index] ?? null;
    // An endpoint that answers no source is the target's matter: the run counts it.
    const isTargets = answering.size > 0 && !answering.has(formatEndpoint(endpoint));
    if (trouble === null || isTargets || bad.has(source)) continue;
    bad.set(source, { address: source, why: `${trouble} from ${formatEndpoint(endpoint)}` });
  }
  return { bad: [...bad.values()], silent: null };
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
    const target = endpoints.find((endpoint) => endpoint.family === family)?.address;
    if (target === undefined) continue;
    const asked = sources.filter((source) => own.get(source)?.family === family);
    const devices = await readSourceDevices(run, asked, target);
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
  { sourcing, plan }: Preparation,
  sources: readonly string[],
  turns: ConnectTurns,
): Promise<boolean> {
  const tried = new Set(sources);
  const { routes, hostAddresses } = sourcing.facts;
  const pairs = routes.flatMap(({ address, source, device, local }) => {
    const endpoint = spec.endpoints.find((one) => one.address === address);
    if (local || endpoint === undefined) return [];
    const onDevice = hostAddresses.filter(
      (own) =>
        own.device === device &&
        own.family === endpoint.family &&
        own.usable &&
        (own.scope === 'global' || own.scope === 'site'),
    );
    const witnesses = new Set([...(source === null ? [] : [source]), ...onDevice.map((own) => own.address)]);
    return [...witnesses].filter((one) => !tried.has(one)).map((one) => ({ source: one, endpoint }));
  });
  const troubles = await checkRoutes(pairs.slice(0, NAMES_MAX), plan.ports, undefined, turns);
  return troubles.some((trouble) => trouble === null);
}

function silentFinding(pairs: readonly RoutePair[], troubles: readonly (string | null)[]): Finding {
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
      `(${troubles[0] ?? 'no answer'}): the target or the path seems to be down, or drops what comes from here`,
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

/** Connects in flight; each is one descriptor and one local port. */
const CHECKS_AT_ONCE = 256;
/** A lost SYN is sent again after 1 s and 2 or 3 s: both tries fit. */
const CHECK_TIMEOUT_MS = 4_000;
/** Ports that are tried when one is in use. */
const PORTS_TRIED_MAX = 4;

/** One connect to make. */
interface RoutePair {
  readonly source: string;
  readonly endpoint: Endpoint;
}

/** null: it works; else why not, in a few words. */
type RouteProblem = string | null;

/** Turns of connects at a rate, one after the other; a process that stood still does not catch up (pacer.ts). */
export class ConnectTurns {
  readonly ratePerSec: number;
  readonly #clock: Clock;
  readonly #pacer: Pacer;
  readonly #originMs: number;
  #last: Promise<void> = Promise.resolve();

  /** @param ratePerSec above 0; Infinity: no limit */
  constructor(ratePerSec: number, clock: Clock = systemClock) {
    this.ratePerSec = ratePerSec;
    this.#clock = clock;
    this.#originMs = clock.monotonicMs();
    this.#pacer = new Pacer(Number.isFinite(ratePerSec) ? ratePerSec : null);
  }

  /** Resolves when the next connect may be called. */
  next(): Promise<void> {
    this.#last = this.#last.then(() => this.#wait());
    return this.#last;
  }

  async #wait(): Promise<void> {
    for (;;) {
      const nowMs = this.#clock.monotonicMs() - this.#originMs;
      if (this.#pacer.mayBegin(nowMs)) {
        this.#pacer.begin(nowMs);
        return;
      }
      await pause(Math.ceil(this.#pacer.nextAtMs - nowMs));
    }
  }
}

/**
 * Connects each source to its endpoint.
 * @param pairs of one family each
 * @param ports source ports of the run: the last ones are used, so that a firewall that knows them lets the check pass
 * @returns one answer per pair, in the same order
 */
export function checkRoutes(
  pairs: readonly RoutePair[],
  ports: readonly PortRange[],
  timeoutMs = CHECK_TIMEOUT_MS,
  turns = new ConnectTurns(Number.POSITIVE_INFINITY),
): Promise<RouteProblem[]> {
  const tried = lastPorts(ports, PORTS_TRIED_MAX);
  const limit = pLimit(CHECKS_AT_ONCE);
  return Promise.all(pairs.map((pair) => limit(() => checkOne(pair, tried, timeoutMs, turns))));
}

function lastPorts(ranges: readonly PortRange[], count: number): number[] {
  const ports: number[] = [];
  for (const { from, to } of [...ranges].reverse()) {
    for (let port = to; port >= from && ports.length < count; port -= 1) ports.push(port);
  }
  return ports;
}

async function checkOne(
  pair: RoutePair,
  ports: readonly number[],
  timeoutMs: number,
  turns: ConnectTurns,
): Promise<RouteProblem> {
  for (const port of ports) {
    await turns.next();
    const answer = await connectOnce(pair, port, timeoutMs);
    if (answer !== 'busy') return answer;
  }
  // Every port that was tried is in use: this source evidently works. The ramp skips such ports.
  return null;
}

function connectOnce(
  { source, endpoint }: RoutePair,
  localPort: number,
  timeoutMs: number,
): Promise<RouteProblem | 'busy'> {
  return new Promise((resolve) => {
    let socket: Socket;
    try {
      socket = connect({ host: endpoint.address, port: endpoint.port, localAddress: source, localPort });
    } catch (error) {
      resolve(problemOf(error as NodeJS.ErrnoException, timeoutMs));
      return;
    }
    const timer = after(timeoutMs, () => {
      socket.destroy();
      resolve(`no answer within ${timeoutMs / 1000} s`);
    });
    const finish = (answer: RouteProblem | 'busy'): void => {
      timer.cancel();
      resolve(answer);
    };
    socket.once('connect', () => {
      socket.resetAndDestroy();
      finish(null);
    });
    // Stays: a reset that comes after our own is no event any more.
    socket.on('error', (error) => finish(problemOf(error, timeoutMs)));
  });
}

function problemOf(error: NodeJS.ErrnoException, timeoutMs: number): RouteProblem | 'busy' {
  switch (error.code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return null;
    case 'EADDRINUSE':
      return 'busy';
    case 'EADDRNOTAVAIL':
      // At bind the address is not ours; at connect this very 4-tuple exists (fact P10).
      return error.syscall === 'bind' ? 'not an address of this host' : 'busy';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'no route, or nobody answers for the target there';
    case 'EACCES':
    case 'EPERM':
      return 'forbidden by a rule on this host';
    case 'ETIMEDOUT':
      return `no answer within ${timeoutMs / 1000} s`;
    default:
      return error.code ?? error.message;
  }
}

/** `arping` waits a second for an answer: all are asked together. */
const ARPINGS_AT_ONCE = 128;
const ARPING_TIMEOUT_MS = 3_000;

/** An address of ours that another host has too. */
interface DuplicateAddress {
  readonly address: string;
  /** the device on whose segment that host is */
  readonly device: string;
  /** hardware address of the other host; null: not told */
  readonly owner: string | null;
}

/**
 * Asks for each IPv4 alias who has it. Only on devices with neighbours; only the first 128.
 * @returns those that another host has; empty when `arping` is missing or may not be used
 */
export async function findDuplicates(
  run: RunProgram,
  aliases: readonly Alias[],
): Promise<DuplicateAddress[]> {
  const asked = aliases
    .filter((alias) => alias.family === 4 && alias.device !== 'lo')
    .slice(0, ARPINGS_AT_ONCE);
  const limit = pLimit(ARPINGS_AT_ONCE);
  const found = await Promise.all(asked.map((alias) => limit(() => askOne(run, alias))));
  return found.flat();
}

async function askOne(run: RunProgram, { address, device }: Alias): Promise<DuplicateAddress[]> {
  // -D: duplicate address detection. Exit code 1 and a "reply" line: another host answered.
  const result = await run('arping', ['-D', '-I', device, '-c', '1', '-w', '1', address], {
    timeoutMs: ARPING_TIMEOUT_MS,
  });
  const reply = /reply from \S+ \[([0-9A-F:]+)\]/i.exec(result.stdout);
  if (result.missing || result.code !== 1 || reply === null) return [];
  return [{ address, device, owner: reply[1]?.toLowerCase() ?? null }];
}
