/**
 * Owns choosing the addresses that connections are bound to, and checking that they are this host's own.
 * Must never add an address, and must never send a packet: a bind to port 0 is all that it does.
 */
import { createSocket } from 'node:dgram';
import {
  addressRange,
  expandAddresses,
  isLinkLocal,
  isLoopback,
  parseAddress,
  withZone,
} from '../base/address.ts';
import { type Endpoint, zoneOf } from '../base/endpoint.ts';
import { BenchError, ErrorCode, ExitCode, usageError } from '../base/errors.ts';
import { formatCount } from '../base/units.ts';
import type { HostFacts } from '../host/host-facts.ts';
import { addAddressesCommand } from '../plan/alias-command.ts';
import { slackOf } from '../plan/capacity.ts';
import type { SourceSpec } from '../run/run-spec.ts';

/** What `chooseSources` reads of the facts. */
type SourceFacts = Pick<HostFacts, 'hostAddresses' | 'routes'>;

/** What the sources are for. */
interface SourceDemand {
  /** connections that this host may have to hold */
  readonly wanted: number;
  /** source ports of each address */
  readonly portsEach: number;
}

interface ChosenSources {
  /** canonical addresses in order of preference, each once; empty when the host has none that can reach an endpoint */
  readonly addresses: readonly string[];
  /** addresses that the user named and the host lacks; empty unless they may be added (`--alias-dev`) */
  readonly missing: readonly string[];
  /** one line each, for a person */
  readonly notes: readonly string[];
}

/** The first source on loopback: 127.0.0.1 is left to the other programs of this host. */
const LOOPBACK_FIRST = '127.0.0.2';
/** 4,096 addresses x 36,280 ports are more than any host holds. */
const LOOPBACK_ADDRESSES_MAX = 4_096;
const BINDS_AT_ONCE = 64;
const NAMES_MAX = 8;

/**
 * The source addresses of this host for a run.
 * @param spec as typed by the user
 * @param endpoints what is connected to
 * @param facts addresses, routes and port settings of this host
 * @param demand how many connections, and how many of them one address carries
 * @returns addresses, and notes about endpoints that no address can reach
 * @throws BenchError `bad-address` (2): text that is no address, or that cannot be a source for these endpoints;
 *   `not-our-address` (3): naming each address that this host does not have
 */
export async function chooseSources(
  spec: SourceSpec,
  endpoints: readonly Endpoint[],
  facts: SourceFacts,
  demand: SourceDemand,
): Promise<ChosenSources> {
  // Networks that are to be sources stand in for addresses: then nothing is chosen by itself.
  const explicit = spec.addresses.length > 0 || spec.prefixes.length > 0;
  const addresses = explicit
    ? expandAddresses(spec.addresses)
    : ([4, 6] as const).flatMap((family) =>
        defaultSources(
          endpoints.filter((endpoint) => endpoint.family === family),
          facts,
          demand,
        ),
      );
  const notes = spec.prefixes.length > 0 ? [] : unreachableNotes(addresses, endpoints);
  if (!explicit) return { addresses, missing: [], notes };
  checkFit(addresses, endpoints, facts);
  const missing = await findMissing(addresses, facts, zoneOf(endpoints));
  if (missing.length > 0 && spec.aliasDevice === null) throw notOurs(missing, endpoints, facts);
  const lacking = new Set(missing);
  return { addresses: addresses.filter((address) => !lacking.has(address)), missing, notes };
}

/**
 * The addresses that this host cannot bind to, in the order given.
 * @param zone the device on which link-local ones must be
 */
export async function findMissing(
  addresses: readonly string[],
  facts: Pick<HostFacts, 'hostAddresses'>,
  zone?: string,
): Promise<string[]> {
  const isThere = ({ usable, address, device }: HostFacts['hostAddresses'][number]): boolean =>
    usable && (!isLinkLocal(address) || zone === undefined || device === zone);
  const own = new Set(facts.hostAddresses.filter(isThere).map((one) => one.address));
  const doubtful = addresses.filter((address) => !own.has(address) && !isLoopback4(address));
  const missing: string[] = [];
  for (let from = 0; from < doubtful.length; from += BINDS_AT_ONCE) {
    const some = doubtful.slice(from, from + BINDS_AT_ONCE);
    const bindable = await Promise.all(some.map((address) => canBind(withZone(address, zone))));
    missing.push(...some.filter((_, index) => bindable[index] === false));
  }
  return missing;
}

/** Sources for the endpoints of one family when the user named none. */
function defaultSources(endpoints: readonly Endpoint[], facts: SourceFacts, demand: SourceDemand): string[] {
  if (endpoints.length === 0) return [];
  const beyond = endpoints.filter((endpoint) => !isLoopback(endpoint.address));
  // From 127.x nothing but this host can be reached, while its other addresses can reach 127.0.0.1 too.
  if (beyond.length > 0) {
    return [...new Set(beyond.flatMap((endpoint) => sourcesOnRoute(endpoint, facts)))];
  }
  if (endpoints[0]?.family === 6) return ['::1'];
  return loopbackSources(endpoints, demand);
}

/**
 * 127.0.0.2 upward, as many as the quota needs with ports outside the ephemeral range. 127.0.0.0/8 is local as a
 * whole: no alias and no root needed.
 */
function loopbackSources(endpoints: readonly Endpoint[], { wanted, portsEach }: SourceDemand): string[] {
  const tuplesPerAddress = Math.max(1, portsEach * endpoints.length);
  const count = Math.min(LOOPBACK_ADDRESSES_MAX, Math.max(1, Math.ceil(slackOf(wanted) / tuplesPerAddress)));
  // An endpoint's own address would meet itself at one port: leave it out.
  const taken = new Set(endpoints.map((endpoint) => endpoint.address));
  return addressRange(LOOPBACK_FIRST, count + taken.size)
    .filter((address) => !taken.has(address))
    .slice(0, count);
}

/** Whether an address of this host can be a source for an endpoint, by its scope. */
export function isInScope(own: HostFacts['hostAddresses'][number], { family, zone }: Endpoint): boolean {
  if (own.family !== family || !own.usable) return false;
  return zone === undefined ? own.scope === 'global' || own.scope === 'site' : own.scope === 'link';
}

/** The addresses on the interface that routes to an endpoint beyond loopback. */
function sourcesOnRoute(endpoint: Endpoint, facts: SourceFacts): string[] {
  const route = facts.routes.find((one) => one.address === endpoint.address);
  // Our own address is reached through lo, which has no address of that network: the two ends share it.
  if (route === undefined || route.local) return route === undefined ? [] : [endpoint.address];
  const onDevice = facts.hostAddresses.filter(
    (one) => one.device === route.device && isInScope(one, endpoint),
  );
  if (onDevice.length > 0) return onDevice.map((one) => one.address);
  // A device without an address of its own (a tunnel, say) sends with one of another device.
  return route.source === null ? [] : [route.source];
}

/** Refuses what can never be a source for these endpoints, whatever addresses the host has. */
function checkFit(addresses: readonly string[], endpoints: readonly Endpoint[], facts: SourceFacts): void {
  const families = new Set(endpoints.map((endpoint) => endpoint.family));
  const beyond = endpoints.find((end) => end.family === 4 && !isLocal(end.address, facts));
  for (const address of addresses) {
    const family = address.includes(':') ? 6 : 4;
    if (!families.has(family)) {
      throw usageError(
        ErrorCode.badAddress,
        `the source address ${address} is IPv${family}, and the target has only IPv${family === 4 ? 6 : 4} endpoints`,
        `leave out --source-ip ${address}, or add a target with an IPv${family} address`,
      );
    }
    if (isNoSource(address)) {
      throw usageError(
        ErrorCode.badAddress,
        `${address} cannot be a source address: it is a wildcard, multicast or broadcast address`,
        'give addresses of this host; `ip -br addr` lists them',
      );
    }
    if (isLinkLocal(address) && zoneOf(endpoints) === undefined) {
      throw usageError(
        ErrorCode.badAddress,
        `the source address ${address} is link-local and cannot reach ${endpoints.find((end) => end.family === 6)?.address}`,
        'give addresses of the device that routes to the target; `ip -br addr` lists them',
      );
    }
    if (beyond !== undefined && isLoopback4(address)) {
      throw usageError(
        ErrorCode.badAddress,
        `the source address ${address} is on loopback and cannot reach ${beyond.address}`,
        'give addresses of the device that routes to the target; `ip -br addr` lists them',
      );
    }
  }
}

/** Texts are canonical, so their first characters decide; 65,536 addresses must not cost a second. */
function isNoSource(address: string): boolean {
  if (address.includes(':')) return address === '::' || /^ff[0-9a-f]{2}:/.test(address);
  const firstByte = Number.parseInt(address, 10);
  const multicast = firstByte >= 224 && firstByte <= 239;
  return firstByte === 0 || multicast || address === '255.255.255.255' || address === '127.255.255.255';
}

function isLocal(address: string, facts: SourceFacts): boolean {
  return isLoopback(address) || facts.routes.some((route) => route.address === address && route.local);
}

function isLoopback4(address: string): boolean {
  return address.startsWith('127.');
}

/**
 * Whether an address can be bound: the kernel's own answer, which also knows AnyIP routes (`ip route add local ...`)
 * that no list of addresses shows. A UDP socket and port 0: nothing is sent, and no TCP port is taken.
 */
function canBind(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const ipv6 = address.includes(':');
    const socket = createSocket(ipv6 ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' });
    const finish = (bindable: boolean): void => {
      socket.close();
      resolve(bindable);
    };
    // EINVAL: a link-local address without its device. Any other error is about us, not about the address.
    socket.once('error', (error: NodeJS.ErrnoException) =>
      finish(error.code !== 'EADDRNOTAVAIL' && error.code !== 'EINVAL'),
    );
    socket.bind({ address, port: 0, exclusive: true }, () => finish(true));
  });
}

function notOurs(missing: readonly string[], endpoints: readonly Endpoint[], facts: SourceFacts): BenchError {
  const shown = missing.slice(0, NAMES_MAX).join(', ');
  const more = missing.length > NAMES_MAX ? ` and ${formatCount(missing.length - NAMES_MAX)} more` : '';
  const device =
    facts.routes.find((route) => endpoints.some((end) => end.address === route.address))?.device ?? 'DEVICE';
  const what =
    missing.length === 1 ? 'the source address' : `${formatCount(missing.length)} source addresses:`;
  return new BenchError(
    ErrorCode.notOurAddress,
    ExitCode.refused,
    `this host does not have ${what} ${shown}${more}`,
    `let the run add what is missing: --alias-dev auto; or by hand: ${addAddressesCommand(missing, device)}`,
  );
}

/** Endpoints of a family for which there is no source get no connection: say so. */
function unreachableNotes(addresses: readonly string[], endpoints: readonly Endpoint[]): string[] {
  const sourceFamilies = new Set(addresses.map((address) => parseAddress(address).family));
  return ([4, 6] as const).flatMap((family) => {
    const without = endpoints.filter((endpoint) => endpoint.family === family);
    if (without.length === 0 || sourceFamilies.has(family)) return [];
    const names = [...new Set(without.map((endpoint) => endpoint.address))].slice(0, NAMES_MAX).join(', ');
    return [`no IPv${family} source address reaches ${names}: these endpoints get no connection`];
  });
}
