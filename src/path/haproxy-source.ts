/**
 * Owns the arithmetic of HAProxy's `source` settings: which addresses and ports each process and server line uses.
 * Must never know a configuration beyond these lines.
 */
import assert from 'node:assert/strict';
import { parseCidr } from '../base/address.ts';
import { type PortRange, portCount } from '../base/tuple-space.ts';
import { freeName } from '../plan/alias-command.ts';

/** Descriptors of one forwarded connection: one towards the client, one towards the server. */
const DESCRIPTORS_PER_PROXIED = 2;
/** Of a segment whose prefix length is not named. */
const LAN_PREFIX = 24;
/** Listeners, logs, pipes, health checks of one process; with room to spare. */
const DESCRIPTORS_OF_ITS_OWN = 200;

/** What the `source` lines are made for. */
interface HaproxySources {
  /** source addresses, one server line each: a `source` setting takes one address (fact N4) */
  readonly addresses: readonly string[];
  /** ports of each address; null: the kernel chooses from ip_local_port_range */
  readonly ports: PortRange | null;
  /** `address:port` of the server */
  readonly server: string;
  /** processes that share the addresses */
  readonly processes: number;
}

/**
 * The `server` lines of one process. With explicit ports each process gets a slice of its own of every address: two
 * processes with the same range would meet on the same ports.
 * @param process 0 to processes - 1
 */
export function haproxyServerLines(sources: HaproxySources, process: number): string[] {
  assert(process >= 0 && process < sources.processes, `process ${process} of ${sources.processes}`);
  return sources.addresses.map((address, index) => {
    const ports = sources.ports === null ? '' : `:${sliceText(sources.ports, sources.processes, process)}`;
    return `server s${index + 1} ${sources.server} source ${address}${ports}`;
  });
}

function sliceText(range: PortRange, parts: number, part: number): string {
  const count = portCount([range]);
  const from = range.from + Math.floor((count * part) / parts);
  const to = range.from + Math.floor((count * (part + 1)) / parts) - 1;
  return `${from}-${to}`;
}

/**
 * How many processes (or what limit of one) it takes.
 * @param descriptors of one process (`ulimit -n`)
 */
export function haproxyProcesses(connections: number, descriptors: number): number {
  const each = Math.max(1, Math.floor((descriptors - DESCRIPTORS_OF_ITS_OWN) / DESCRIPTORS_PER_PROXIED));
  return Math.max(1, Math.ceil(connections / each));
}

/** `ulimit -n` with which one process carries them all. */
export function haproxyDescriptors(connections: number): number {
  return connections * DESCRIPTORS_PER_PROXIED + DESCRIPTORS_OF_ITS_OWN;
}

/**
 * The first address, and a name for each further one: which addresses a network has free, only its owner knows.
 * @param first address with prefix length, such as `192.168.0.102/24`
 * @param count in all, the first included
 */
export function firstAndFree(first: string, count: number): string[] {
  const { address } = parseCidr(first);
  return Array.from({ length: count }, (_, index) => (index === 0 ? address : freeName(index + 1)));
}

/**
 * Commands that add further addresses beside the first.
 * @param first address with prefix length, such as `192.168.0.102/24`
 * @param count addresses in all, the first included
 */
export function addressCommands(first: string, count: number, device: string): string[] {
  const { prefix, hasPrefix } = parseCidr(first);
  return firstAndFree(first, count)
    .slice(1)
    .map((address) => `ip addr add ${address}/${hasPrefix ? prefix : LAN_PREFIX} dev ${device}`);
}
