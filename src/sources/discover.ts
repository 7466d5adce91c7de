/**
 * Owns finding out which sources a run can have on this host: those that are there, those that can be added, and how many
 * of these a quota needs. Must never add an address (alias-lease.ts) or send a packet (source-check.ts).
 */
import { cidrContains, isLoopback, networkEnds, parseAddress, withZone } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { BenchError, ErrorCode, ExitCode, type Finding } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import { type RunProgram, runProgram } from '../host/command.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { readAddressesNow, readGateway, readSourceDevices } from '../host/ip-command.ts';
import { type NetworkSettings, readNetworkSettings } from '../host/kernel-evidence.ts';
import { hasCapability } from '../host/proc-file.ts';
import {
  ANY_SOURCE,
  allowsDevice,
  allowsSource,
  noSourceAllowed,
  type SourceLimits,
} from '../plan/allowance.ts';
import { choosePorts, slackOf } from '../plan/capacity.ts';
import {
  type Alias,
  aliasKey,
  hostAlias,
  parseSourcePrefix,
  prefixAliases,
  prefixText,
  type SourcePrefix,
} from '../run/alias.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { AliasRecords } from './alias-records.ts';
import { chooseSources, findMissing } from './source-addresses.ts';

/** One network that becomes local, and what must be added for it: nothing when it is local already. */
interface PrefixSource {
  readonly prefix: SourcePrefix;
  readonly aliases: readonly Alias[];
}

/** What this host has to offer as sources. */
export interface FoundSources {
  readonly facts: HostFacts;
  readonly settings: NetworkSettings;
  /** the device that packets of a source leave by, where that is in doubt: it is on another one than the route */
  readonly leavesBy: ReadonlyMap<string, string>;
  readonly canChangeAddresses: boolean;
  /** source ports that each address has, outside the ephemeral range where that has some */
  readonly portsEach: number;
  /** can be used as they are */
  readonly present: readonly string[];
  /** can be added, in order of preference */
  readonly candidates: readonly Alias[];
  readonly prefixes: readonly PrefixSource[];
  /** why the owner of this host leaves no source for this run; null: some are left, or there was none */
  readonly forbidden: Finding | null;
  readonly notes: readonly string[];
}

/** The sources of a plan. */
export interface SourceChoice {
  readonly addresses: readonly string[];
  /** to be added before the addresses can be used */
  readonly aliases: readonly Alias[];
  /** candidates that are not needed */
  readonly spare: number;
}

/**
 * What runs of ours have added belongs to them: it is shared through its record, or not used at all. One that ends removes its addresses, and
 * then its record; so the addresses are looked at between two looks at the records, and none of a run that has just ended passes for another program's.
 */
async function readOwners(
  facts: HostFacts,
  isSharing: boolean,
  run: RunProgram,
): Promise<{ readonly facts: HostFacts; readonly ofRuns: readonly Alias[] }> {
  const read = (): readonly Alias[] => new AliasRecords().read().flatMap((record) => record.aliases);
  const before = read();
  const now = isSharing ? await readAddressesNow(run) : null;
  if (now === null) return { facts, ofRuns: before };
  const present = new Set(now.addresses.map(aliasKey));
  const hostAddresses = facts.hostAddresses.filter((own) => present.has(aliasKey(own)));
  return { facts: { ...facts, hostAddresses }, ofRuns: [...before, ...read()] };
}

/**
 * Looks at this host.
 * @param wanted connections that this host may have to hold
 * @param limits what the owner of this host says about sources
 * @throws BenchError `bad-address`, `not-our-address`, `bad-device`: what can never be a source here, or no device of the
 *   target's zone
 */
export async function findSources(
  spec: RunSpec,
  hostFacts: HostFacts,
  wanted: number,
  run: RunProgram = runProgram,
  limits: SourceLimits = ANY_SOURCE,
): Promise<FoundSources> {
  await checkZone(spec, hostFacts, run);
  const mayChange = hasCapability('CAP_NET_ADMIN');
  const { facts, ofRuns } = await readOwners(hostFacts, spec.sources.aliasDevice !== null, run);
  const keys = new Set(ofRuns.map(aliasKey));
  // With another prefix or on another device it was added by another program, whatever a record says: that of a run that was killed may be of
  // a network namespace that is gone, whose number the kernel has used again.
  const ofOthers = new Set(
    facts.hostAddresses.filter((own) => !keys.has(aliasKey(own))).map(({ address }) => address),
  );
  const recorded = new Map(
    ofRuns.filter(({ address }) => !ofOthers.has(address)).map((alias) => [alias.address, alias] as const),
  );
  const ownFacts = {
    ...facts,
    hostAddresses: facts.hostAddresses.filter((own) => !recorded.has(own.address)),
  };
  // Nothing is wanted yet: that keeps the choice outside the ephemeral range, as long as further addresses can be had.
  const { portCount: portsEach } = choosePorts({
    ...{ explicit: spec.sources.ports, facts, tuplesPerPort: 1, wanted: 0 },
  });
  const chosen = await chooseSources(spec.sources, spec.endpoints, ownFacts, { wanted, portsEach });
  const shared = mayChange ? chosen.addresses.filter((address) => recorded.has(address)) : [];
  const isShared = new Set(shared);
  const toAdd = [...chosen.missing, ...shared];
  const device = await deviceFinder(spec, facts, run);
  // A UDP socket can be bound to a broadcast address: that it can is no proof of a source.
  if (spec.sources.addresses.length > 0) checkNamed([...chosen.addresses, ...chosen.missing], spec, facts);
  const candidates = toAdd.map((address) => recorded.get(address) ?? hostAlias(address, device(address)));
  const prefixes = await Promise.all(
    spec.sources.prefixes.map((text) =>
      findPrefix(parseSourcePrefix(text), spec, facts, [...recorded.values()], run),
    ),
  );
  const devices = [...new Set([...facts.hostAddresses, ...candidates].map((one) => one.device))];
  const present = chosen.addresses.filter((address) => !isShared.has(address));
  return {
    facts,
    settings: readNetworkSettings(devices),
    leavesBy: await askDoubtful(present, facts, run),
    canChangeAddresses: mayChange,
    portsEach,
    ...withinLimits({ present, candidates, prefixes, notes: chosen.notes }, limits),
  };
}

type Found = Pick<FoundSources, 'present' | 'candidates' | 'prefixes' | 'notes'>;

/** Leaves out what the owner of this host does not allow, whatever the target, and so the route, of a run. */
function withinLimits(found: Found, limits: SourceLimits): Found & Pick<FoundSources, 'forbidden'> {
  const leftOut: string[] = [];
  const isAllowed = (address: string): boolean => {
    if (allowsSource(limits, address)) return true;
    leftOut.push(address);
    return false;
  };
  const present = found.present.filter(isAllowed);
  const inNetwork = found.candidates.filter((alias) => isAllowed(alias.address));
  const candidates = inNetwork.filter((alias) => allowsDevice(limits, alias.device));
  const devices = [
    ...new Set(inNetwork.filter((alias) => !candidates.includes(alias)).map((one) => one.device)),
  ];
  const prefixes = found.prefixes.map((source) => {
    const addresses = source.prefix.addresses.filter(isAllowed);
    return { ...source, prefix: { ...source.prefix, addresses } };
  });
  const left = present.length + candidates.length + prefixes.flatMap((one) => one.prefix.addresses).length;
  const isCut = leftOut.length > 0 || devices.length > 0;
  return {
    present,
    candidates,
    prefixes,
    forbidden: isCut && left === 0 ? noSourceAllowed(limits, leftOut, devices) : null,
    notes: isCut ? [...found.notes, leftOutNote(leftOut, devices)] : found.notes,
  };
}

function leftOutNote(leftOut: readonly string[], devices: readonly string[]): string {
  const named = leftOut.slice(0, 3).join(', ');
  const more = leftOut.length > 3 ? ` and ${formatCount(leftOut.length - 3)} more` : '';
  return leftOut.length > 0
    ? `the source address ${named}${more} is left out: --allow-source does not have it`
    : `nothing is added to ${devices.join(', ')}: --allow-alias-dev does not name it`;
}

/** Asks the routing table about the IPv4 sources that are on another device than the one towards the target. */
async function askDoubtful(
  present: readonly string[],
  facts: HostFacts,
  run: RunProgram,
): Promise<ReadonlyMap<string, string>> {
  const route = facts.routes.find((one) => !one.local && !one.address.includes(':'));
  if (route === undefined) return new Map();
  const deviceOf = new Map(facts.hostAddresses.map((own) => [own.address, own.device]));
  const doubtful = present.filter((address) => {
    const device = deviceOf.get(address) ?? 'lo';
    return !address.includes(':') && device !== 'lo' && device !== route.device;
  });
  return readSourceDevices(run, doubtful, route.address);
}

/** Says on which device a missing address goes. Asks nothing when none is missing. */
async function deviceFinder(
  spec: RunSpec,
  facts: HostFacts,
  run: RunProgram,
): Promise<(address: string) => string> {
  const { aliasDevice } = spec.sources;
  if (aliasDevice === null) return () => 'lo';
  const known = (await readAddressesNow(run))?.devices ?? null;
  if (aliasDevice !== 'auto') {
    if (known !== null && !known.includes(aliasDevice)) throw noDevice(aliasDevice, known);
    return () => aliasDevice;
  }
  return (address) => {
    const family = address.includes(':') ? 6 : 4;
    const endpoint = spec.endpoints.find((one) => one.family === family);
    const route = facts.routes.find((one) => one.address === endpoint?.address);
    if (route?.device !== undefined && route.device !== null) return route.device;
    throw noDevice('auto', known ?? []);
  };
}

function noDevice(asked: string, known: readonly string[]): BenchError {
  const message =
    asked === 'auto'
      ? 'no device of this host routes to the target, so --alias-dev auto has nothing to choose'
      : `this host has no device ${asked}`;
  const names = known.filter((name) => name !== 'lo').join(', ');
  return new BenchError(
    ErrorCode.badDevice,
    ExitCode.refused,
    message,
    names === '' ? 'ip -br link' : `--alias-dev with one of: ${names}`,
  );
}

/** Refuses a zone that this host does not have. */
async function checkZone(spec: RunSpec, facts: HostFacts, run: RunProgram): Promise<void> {
  const zoned = spec.endpoints.find(({ zone }) => zone !== undefined);
  if (zoned === undefined) return;
  const known = (await readAddressesNow(run))?.devices ?? [
    ...new Set(facts.hostAddresses.map(({ device }) => device)),
  ];
  const { address, port, zone = '' } = zoned;
  if (known.includes(zone)) return;
  const names = known.filter((name) => name !== 'lo');
  const isLinked = (name: string): boolean =>
    facts.hostAddresses.some(({ device, scope }) => device === name && scope === 'link');
  const first = names.find(isLinked) ?? names[0];
  throw new BenchError(
    ErrorCode.badDevice,
    ExitCode.refused,
    `this host has no device ${zone}, the zone of the target ${formatEndpoint(zoned)}`,
    first === undefined
      ? 'ip -br link'
      : `--target [${address}%${first}]:${port}; devices of this host: ${names.join(', ')}`,
  );
}

/** Refuses an address that names a network, is its broadcast address, or belongs to the target. */
function checkNamed(named: readonly string[], spec: RunSpec, facts: HostFacts): void {
  const endpoints = new Set(spec.endpoints.map((endpoint) => endpoint.address));
  const reserved = reservedAddresses(facts);
  const own = new Set(facts.hostAddresses.map((one) => one.address));
  for (const address of named) {
    if (own.has(address) || isLoopback(address)) continue;
    const network = reserved.get(address);
    if (network !== undefined) {
      throw badSource(`the source address ${address} is ${network}`, 'leave it out of --source-ip');
    }
    if (endpoints.has(address)) {
      throw badSource(
        `the source address ${address} is the target itself`,
        'leave it out of --source-ip: an address belongs to one host',
      );
    }
  }
}

function badSource(message: string, hint: string): BenchError {
  return new BenchError(ErrorCode.badAddress, ExitCode.refused, message, hint);
}

/** Network and broadcast addresses of the subnets that this host is on. */
function reservedAddresses(facts: HostFacts): Map<string, string> {
  const reserved = new Map<string, string>();
  for (const own of facts.hostAddresses) {
    if (own.family !== 4 || own.prefix >= 31 || own.prefix < 1 || own.device === 'lo') continue;
    const { first, last } = networkEnds(`${own.address}/${own.prefix}`);
    const network = `${first}/${own.prefix}`;
    reserved.set(first, `the address of the network ${network} on ${own.device}`);
    reserved.set(last, `the broadcast address of ${network} on ${own.device}`);
  }
  return reserved;
}

/** What makes a network local here; refuses one that would cut the host off. */
async function findPrefix(
  prefix: SourcePrefix,
  spec: RunSpec,
  facts: HostFacts,
  recorded: readonly Alias[],
  run: RunProgram,
): Promise<PrefixSource> {
  const text = prefixText(prefix);
  const swallowed = await swallowedBy(prefix, spec, facts, run);
  if (swallowed !== null) {
    throw badSource(
      `--source-prefix ${text} contains ${swallowed}: this host would connect to itself instead`,
      'choose a network that holds no other host, such as one that is routed to this host',
    );
  }
  const ofOurs = recorded.find(
    (alias) =>
      alias.family === prefix.family && alias.prefix === prefix.bits && cidrContains(text, alias.address),
  );
  if (prefix.family === 4 && ofOurs !== undefined) return { prefix, aliases: [ofOurs] };
  const owned = new Set(facts.hostAddresses.map((own) => own.address));
  const ends = [prefix.addresses[0], prefix.addresses.at(-1)].flatMap((one) =>
    one === undefined ? [] : [one],
  );
  const isLocal = prefix.family === 4 && (await findMissing(ends, facts)).length === 0;
  const aliases = isLocal ? [] : prefixAliases(prefix, (address) => owned.has(address));
  const missing =
    prefix.family === 6
      ? aliases.filter((alias) => !owned.has(alias.address) || isRecorded(alias, recorded))
      : aliases;
  return { prefix, aliases: missing };
}

function isRecorded(alias: Alias, recorded: readonly Alias[]): boolean {
  return recorded.some((one) => one.address === alias.address);
}

/** What other host a network contains: an endpoint, the next hop, or a whole segment. null: none that is known. */
async function swallowedBy(
  prefix: SourcePrefix,
  spec: RunSpec,
  facts: HostFacts,
  run: RunProgram,
): Promise<string | null> {
  const text = prefixText(prefix);
  const endpoint = spec.endpoints.find(
    (one) => one.family === prefix.family && cidrContains(text, one.address),
  );
  if (endpoint !== undefined) return `the target ${endpoint.address}`;
  const segment = facts.hostAddresses.find(
    (own) =>
      own.family === prefix.family &&
      own.device !== 'lo' &&
      own.prefix >= prefix.bits &&
      own.prefix < (own.family === 4 ? 32 : 128) &&
      cidrContains(text, own.address),
  );
  if (segment !== undefined)
    return `the whole segment of ${segment.device} (${segment.address}/${segment.prefix})`;
  const target = spec.endpoints.find((one) => one.family === prefix.family);
  const gateway = target === undefined ? null : await readGateway(run, withZone(target.address, target.zone));
  return gateway !== null && cidrContains(text, gateway) ? `the next hop ${gateway}` : null;
}

/**
 * Picks the sources for a quota: what is there, every network, and only as many candidates as are needed.
 * @param excluded addresses that were found not to work
 */
export function chooseFrom(
  found: FoundSources,
  spec: RunSpec,
  wanted: number,
  excluded: ReadonlySet<string> = new Set(),
): SourceChoice {
  const usable = (address: string): boolean => !excluded.has(address);
  const isEndpoint = new Set(spec.endpoints.map((endpoint) => endpoint.address));
  const ofPrefixes = found.prefixes
    .flatMap(({ prefix }) => prefix.addresses)
    .filter((one) => !isEndpoint.has(one));
  const present = [...new Set([...found.present, ...ofPrefixes])].filter(usable);
  const taken = new Set(present);
  const candidates = found.candidates.filter(({ address }) => usable(address) && !taken.has(address));
  const count = aliasesNeeded({
    present,
    candidates: candidates.map((alias) => alias.address),
    endpoints: spec.endpoints,
    portsEach: found.portsEach,
    wanted,
  });
  const picked = candidates.slice(0, count);
  const ofPrefix = found.prefixes.flatMap((source) =>
    source.prefix.family === 6 ? source.aliases.filter((alias) => usable(alias.address)) : source.aliases,
  );
  return {
    addresses: [...present, ...picked.map((alias) => alias.address)],
    aliases: [...ofPrefix, ...picked],
    spare: candidates.length - count,
  };
}

interface AliasChoiceRequest {
  /** sources that are there */
  readonly present: readonly string[];
  /** addresses that may be added, in order of preference */
  readonly candidates: readonly string[];
  readonly endpoints: readonly Endpoint[];
  /** source ports of each address */
  readonly portsEach: number;
  /** connections */
  readonly wanted: number;
}

/**
 * How many candidates, from the front, make the tuple space large enough for the quota with its slack.
 * @returns all of them when even they do not suffice; 0 when what is there does
 */
function aliasesNeeded(request: AliasChoiceRequest): number {
  const { present, candidates, endpoints, portsEach } = request;
  const tuplesOf = (address: string): number => {
    const { family } = parseAddress(address);
    return portsEach * endpoints.filter((endpoint) => endpoint.family === family).length;
  };
  // All addresses of one family are worth the same: two numbers instead of a filter per address.
  const worth = new Map<boolean, number>();
  const worthOf = (address: string): number => {
    const isV6 = address.includes(':');
    const known = worth.get(isV6) ?? tuplesOf(address);
    worth.set(isV6, known);
    return known;
  };
  let missing = slackOf(request.wanted);
  for (const address of present) missing -= worthOf(address);
  let count = 0;
  for (const candidate of candidates) {
    if (missing <= 0) break;
    missing -= worthOf(candidate);
    count += 1;
  }
  return count;
}
