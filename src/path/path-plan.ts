/**
 * Owns the port arithmetic of a path: how many connections each hop between us and the server lets through, which one
 * binds, and what to change. Must never measure (path-verdict.ts judges what a target saw) or ask a host.
 *
 * A hop that rewrites the source needs one of its own 4-tuples for each connection, and it has
 * addresses x ports x destinations of them. One that leaves the source alone needs none.
 */
import assert from 'node:assert/strict';
import { parseCidr } from '../base/address.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import { type PortRange, portCount } from '../base/tuple-space.ts';
import { counted, formatCount } from '../base/units.ts';
import { freeName } from '../plan/alias-command.ts';
import { NR_OPEN_DEFAULT } from '../plan/cost.ts';
import { haproxyDescriptors, haproxyProcesses, haproxyServerLines } from './haproxy.ts';

/** One hop of `--via`. */
export type Hop =
  | { readonly kind: 'direct' }
  | { readonly kind: 'dnat' }
  | { readonly kind: 'masquerade'; readonly addresses: number }
  | { readonly kind: 'snat'; readonly addresses: number }
  | { readonly kind: 'haproxy'; readonly sources: number; readonly endpoints: number };

/** What NAT chooses from for a source port of 1024 or more (nf_nat_core.c). */
export const NAT_PORTS: PortRange = { from: 1_024, to: 65_535 };
/** What a program gets that does not name its source port: the default `ip_local_port_range`. */
export const KERNEL_PORTS: PortRange = { from: 32_768, to: 60_999 };

const ADDRESSES_MAX = 65_536;
/** The hop is another host: which device of it the addresses go on, only its owner knows. */
const UNKNOWN_DEVICE = 'DEVICE';
/** Of a segment whose prefix length is not named. */
const LAN_PREFIX = 24;

interface PathPlanRequest {
  /** connections that are wanted */
  readonly connections: number;
  /** endpoints that the client connects to; behind a router each must be a port or an address of its own */
  readonly endpoints: number;
  /** in the order from the client to the server */
  readonly hops: readonly Hop[];
  /** ports of each address of a rewriting hop; null: what its kind uses by default */
  readonly ports: readonly PortRange[] | null;
  /** the first address, with prefix length, that the rewriting hop has towards the server */
  readonly firstAddress: string;
  /** `address:port` of the server as the hop sees it, for lines to copy */
  readonly server: string;
}

/** What one hop lets through. */
interface HopCeiling {
  /** as `--via` names it */
  readonly hop: string;
  /** null: it leaves the source alone and sets no ceiling */
  readonly ceiling: number | null;
  /** `1 address x 64,512 ports x 1 destination = 64,512` */
  readonly arithmetic: string;
}

/** One way to let more through. */
interface PathChange {
  readonly what: string;
  /** lines to type or to put into a configuration, ready to copy; may be empty */
  readonly lines: readonly string[];
}

export interface PathPlan {
  readonly hops: readonly HopCeiling[];
  /** the lowest ceiling; null: the path sets none */
  readonly ceiling: number | null;
  /** the hop that sets it */
  readonly boundBy: string | null;
  /** connections that the server will hold */
  readonly predicted: number;
  readonly suffices: boolean;
  readonly changes: readonly PathChange[];
}

function badHop(text: string): Error {
  return usageError(
    ErrorCode.usage,
    `--via "${text}" is not a hop that I know`,
    'use masquerade:1, snat:<addresses>, haproxy:<sources>x<endpoints>, dnat or direct',
  );
}

function countOf(text: string | undefined, whole: string): number {
  const value = Number(text ?? '1');
  if (!/^\d{1,5}$/.test(text ?? '1') || value < 1 || value > ADDRESSES_MAX) throw badHop(whole);
  return value;
}

/**
 * Reads one `--via`.
 * @param text `masquerade:1`, `snat:3`, `haproxy:3x1`, `dnat`, `direct`; a number that is left out is 1
 * @throws BenchError `usage`, exit code 2
 */
export function parseHop(text: string): Hop {
  const [kind, rest, ...more] = text.trim().toLowerCase().split(':');
  if (more.length > 0) throw badHop(text);
  if (kind === 'direct' || kind === 'dnat') {
    if (rest !== undefined) throw badHop(text);
    return { kind };
  }
  if (kind === 'masquerade' || kind === 'snat') return { kind, addresses: countOf(rest, text) };
  if (kind !== 'haproxy') throw badHop(text);
  const [sources, endpoints, ...others] = (rest ?? '1').split('x');
  if (others.length > 0) throw badHop(text);
  return { kind, sources: countOf(sources, text), endpoints: countOf(endpoints, text) };
}

/** The hop as `--via` names it. */
export function formatHop(hop: Hop): string {
  switch (hop.kind) {
    case 'direct':
    case 'dnat':
      return hop.kind;
    case 'masquerade':
    case 'snat':
      return `${hop.kind}:${hop.addresses}`;
    case 'haproxy':
      return `haproxy:${hop.sources}x${hop.endpoints}`;
  }
}

/** Addresses, ports and destinations of a hop that rewrites the source; null for one that does not. */
function factorsOf(
  hop: Hop,
  request: PathPlanRequest,
): { addresses: number; ports: number; destinations: number } | null {
  if (hop.kind === 'direct' || hop.kind === 'dnat') return null;
  const byDefault = hop.kind === 'haproxy' ? KERNEL_PORTS : NAT_PORTS;
  const ports = portCount(request.ports ?? [byDefault]);
  return hop.kind === 'haproxy'
    ? { addresses: hop.sources, ports, destinations: hop.endpoints }
    : { addresses: hop.addresses, ports, destinations: request.endpoints };
}

function ceilingOf(hop: Hop, request: PathPlanRequest): HopCeiling {
  const factors = factorsOf(hop, request);
  if (factors === null) {
    const why = hop.kind === 'dnat' ? 'only the destination is rewritten' : 'nothing is rewritten';
    return {
      hop: formatHop(hop),
      ceiling: null,
      arithmetic: `${why}: the client's own ports are the only limit`,
    };
  }
  const { addresses, ports, destinations } = factors;
  const ceiling = addresses * ports * destinations;
  const product = [
    counted(addresses, 'address', 'addresses'),
    counted(ports, 'port'),
    counted(destinations, 'destination'),
  ];
  return { hop: formatHop(hop), ceiling, arithmetic: `${product.join(' x ')} = ${formatCount(ceiling)}` };
}

/**
 * What the path lets through, and what to change where that is too little.
 * @param request at least one connection, one endpoint (asserted)
 */
export function planPath(request: PathPlanRequest): PathPlan {
  assert(request.connections >= 1 && request.endpoints >= 1, 'a path is planned for something');
  const hops = request.hops.map((hop) => ceilingOf(hop, request));
  let ceiling: number | null = null;
  let boundBy: string | null = null;
  for (const hop of hops) {
    if (hop.ceiling === null || (ceiling !== null && hop.ceiling >= ceiling)) continue;
    ({ ceiling, hop: boundBy } = hop);
  }
  const suffices = ceiling === null || ceiling >= request.connections;
  return {
    hops,
    ceiling,
    boundBy,
    predicted: ceiling === null ? request.connections : Math.min(request.connections, ceiling),
    suffices,
    changes: request.hops.flatMap((hop) => changesOf(hop, request)),
  };
}

function changesOf(hop: Hop, request: PathPlanRequest): PathChange[] {
  const factors = factorsOf(hop, request);
  if (factors === null) return [];
  const { addresses, ports, destinations } = factors;
  if (addresses * ports * destinations >= request.connections) {
    return hop.kind === 'haproxy' ? [sourceLines(hop, request, hop.sources)] : [];
  }
  return hop.kind === 'haproxy'
    ? haproxyChanges(hop, request)
    : natChanges(request, { addresses, ports, destinations });
}

function natChanges(
  request: PathPlanRequest,
  { addresses, ports, destinations }: { addresses: number; ports: number; destinations: number },
): PathChange[] {
  const needed = Math.ceil(request.connections / (ports * destinations));
  const endpoints = Math.ceil(request.connections / (ports * addresses));
  const pool = firstAndFree(request.firstAddress, needed);
  const map = pool.map((address, index) => `${index} : ${address}`).join(', ');
  return [
    {
      what: 'forward without masquerading: DNAT alone keeps the source, and the ceiling is gone',
      lines: [],
    },
    {
      what: `or a pool of ${counted(needed, 'SNAT address', 'SNAT addresses')} (now ${formatCount(addresses)})${forNames(needed)}`,
      lines: [
        ...addressCommands(request.firstAddress, needed),
        `nft: snat to numgen inc mod ${needed} map { ${map} }`,
      ],
    },
    {
      what:
        `or ${counted(endpoints, 'endpoint')} (now ${formatCount(destinations)}): forward as many public ports to as ` +
        'many server ports, and name them in --target as host:8000-80xx',
      lines: [],
    },
    {
      what: `or ${counted(endpoints, 'DNS record')}: as many public addresses, each masqueraded to an address of its own`,
      lines: [],
    },
  ];
}

/** What to put for the names in lines to copy; nothing where there are none. */
function forNames(addresses: number): string {
  if (addresses < 2) return '';
  const names = addresses === 2 ? freeName(2) : `${freeName(2)} to ${freeName(addresses)}`;
  return `; for ${names} put addresses that the hop has, or that no other host has, for ${UNKNOWN_DEVICE} the device that they go on`;
}

function haproxyChanges(hop: Hop & { kind: 'haproxy' }, request: PathPlanRequest): PathChange[] {
  const wide = portCount([NAT_PORTS]);
  const narrow = portCount(request.ports ?? [KERNEL_PORTS]);
  const isWide = narrow >= wide;
  const sources = Math.max(hop.sources, Math.ceil(request.connections / (wide * hop.endpoints)));
  const endpoints = Math.ceil(request.connections / (wide * hop.sources));
  const changes: PathChange[] = [];
  if (!isWide) {
    changes.push({
      what: `give each source all its ports: ${formatCount(wide)} instead of ${formatCount(narrow)}`,
      lines: haproxyServerLines(
        {
          addresses: firstAndFree(request.firstAddress, hop.sources),
          ports: NAT_PORTS,
          server: request.server,
          processes: 1,
        },
        0,
      ),
    });
  }
  if (sources > hop.sources) changes.push(sourceLines(hop, request, sources));
  if (endpoints > hop.endpoints) {
    changes.push({
      what: `or ${counted(endpoints, 'server endpoint')} behind HAProxy (now ${formatCount(hop.endpoints)})`,
      lines: [],
    });
  }
  changes.push({
    what: `HAProxy needs two descriptors a connection: ${haproxyLimit(request.connections)}`,
    lines: [],
  });
  return changes;
}

/** One process, or where its limit would be above the kernel's default for the highest one, as many as it takes. */
function haproxyLimit(connections: number): string {
  const one = haproxyDescriptors(connections);
  if (one <= NR_OPEN_DEFAULT)
    return `ulimit -n ${one} for one process, or more processes that share the port`;
  const processes = haproxyProcesses(connections, NR_OPEN_DEFAULT);
  const each = haproxyDescriptors(Math.ceil(connections / processes));
  return (
    `ulimit -n ${each} for each of ${formatCount(processes)} processes that share the port ` +
    `(fs.nr_open is ${NR_OPEN_DEFAULT} by default: no process has more)`
  );
}

function sourceLines(hop: Hop & { kind: 'haproxy' }, request: PathPlanRequest, sources: number): PathChange {
  const { firstAddress, server } = request;
  const lines = haproxyServerLines(
    { addresses: firstAndFree(firstAddress, sources), ports: NAT_PORTS, server, processes: 1 },
    0,
  );
  const added = sources - hop.sources;
  const what =
    added > 0
      ? `${hop.sources} + ${added} source addresses on the HAProxy host, each with a server line of its own${forNames(sources)}`
      : `the lines of ${counted(sources, 'source address', 'source addresses')}${forNames(sources)}`;
  return { what, lines: [...addressCommands(firstAddress, sources), ...lines] };
}

/**
 * The first address, and a name for each further one: which addresses a network has free, only its owner knows.
 * @param first address with prefix length, such as `192.168.0.102/24`
 * @param count in all, the first included
 */
function firstAndFree(first: string, count: number): string[] {
  const { address } = parseCidr(first);
  return Array.from({ length: count }, (_, index) => (index === 0 ? address : freeName(index + 1)));
}

/**
 * Commands that add further addresses beside the first.
 * @param first address with prefix length, such as `192.168.0.102/24`
 * @param count addresses in all, the first included
 */
function addressCommands(first: string, count: number): string[] {
  const { prefix, hasPrefix } = parseCidr(first);
  return firstAndFree(first, count)
    .slice(1)
    .map((address) => `ip addr add ${address}/${hasPrefix ? prefix : LAN_PREFIX} dev ${UNKNOWN_DEVICE}`);
}
