/**
 * Owns what one HAProxy needs for a number of connections: the `server` lines with their sources, descriptors, processes.
 * Must never say how many a path lets through (path-plan.ts).
 */
import assert from 'node:assert/strict';
import { type PortRange, portCount } from '../base/tuple-space.ts';

/** Descriptors of one forwarded connection: one towards the client, one towards the server. */
const DESCRIPTORS_PER_PROXIED = 2;
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
