/**
 * Owns how many connections one host can hold: its source ports, its tuples, and the bound that each resource sets.
 * Must never gather a fact (host/host-facts.ts) or word a finding (preflight.ts).
 */
import { isLoopback, parseAddress } from '../base/address.ts';
import { type Endpoint, isTls } from '../base/endpoint.ts';
import { type PortRange, portCount, subtractPorts } from '../base/tuple-space.ts';
import type { HostFacts } from '../host/host-facts.ts';
import type { EngineChoice, RunSpec } from '../run/run-spec.ts';
import {
  bufferPagesSure,
  DESCRIPTORS_RESERVED,
  descriptorsBound,
  holdersRoom,
  largestThatFits,
  memoryBytes,
  NR_OPEN_DEFAULT,
  type Shape,
  systemFiles,
  TLS_BYTES_PER_SESSION,
  tasksNeeded,
  URING_SLOTS_MAX,
} from './cost.ts';
import { chooseEngine } from './engine-choice.ts';
import { tuplesPerConnection } from './resting.ts';

/** The kernel's default, used where the setting cannot be read. */
const LOCAL_PORT_RANGE_DEFAULT: PortRange = { from: 32_768, to: 60_999 };
const PORT_FIRST = 1_024;
const PORT_LAST = 65_535;

/** The facts that decide which source ports can be used. */
type PortFacts = Pick<
  HostFacts,
  'localPortRange' | 'reservedPorts' | 'listenPortsAny' | 'unprivilegedPortStart' | 'canBindPrivileged'
>;

interface PortRequest {
  /** ranges as typed by the user; null: choose */
  readonly explicit: readonly PortRange[] | null;
  /**
   * Reserved ports are left out, though an explicit bind could take them (fact P6), and ports with a listener at the
   * wildcard address too, because no bind succeeds there (fact P3).
   */
  readonly facts: PortFacts;
  /** (source address, endpoint) pairs that each port serves */
  readonly tuplesPerPort: number;
  /** connections that the ports must carry */
  readonly wanted: number;
}

interface PortChoice {
  /** disjoint, in order of preference; never a reserved port, nor one that cannot be bound */
  readonly ports: readonly PortRange[];
  /** how many these are: with the pairs they make the tuple space, which slices are cut from */
  readonly portCount: number;
  /** whether some are inside ip_local_port_range, from which the rest of the host takes its ports */
  readonly usesEphemeral: boolean;
}

/** Tuples that a quota should have, so that ports which turn out to be busy do not use it up: 2 % and 64. */
export function slackOf(wanted: number): number {
  return Math.ceil(wanted * 1.02) + 64;
}

/**
 * Which source ports to use. Outside ip_local_port_range first (1024-32767 and 61000-65535 by default), so that the
 * rest of the host keeps its ephemeral ports (facts P2 and P5); the whole inside too when the quota with its slack
 * needs it. Explicit ranges keep their order, whatever the ephemeral range.
 * @param request ports that are to be avoided, and how many tuples are needed
 * @returns ranges in order of preference; they suffice whenever all ports together suffice
 */
export function choosePorts(request: PortRequest): PortChoice {
  const { localPortRange, reservedPorts, listenPortsAny, unprivilegedPortStart, canBindPrivileged } =
    request.facts;
  const inside = localPortRange ?? LOCAL_PORT_RANGE_DEFAULT;
  const firstPort = canBindPrivileged ? 1 : (unprivilegedPortStart ?? PORT_FIRST);
  const unbindable: PortRange[] = listenPortsAny.map((port) => ({ from: port, to: port }));
  if (firstPort > 1) unbindable.push({ from: 1, to: firstPort - 1 });
  const base = request.explicit ?? [{ from: PORT_FIRST, to: PORT_LAST }];
  const all = subtractPorts(base, [...reservedPorts, ...unbindable]);
  const outsidePorts = subtractPorts(all, [inside]);
  const suffices = portCount(outsidePorts) * request.tuplesPerPort >= slackOf(request.wanted);
  const preferred = suffices ? outsidePorts : [...outsidePorts, ...subtractPorts(all, outsidePorts)];
  const ports = request.explicit === null ? preferred : all;
  return {
    ports,
    portCount: portCount(ports),
    usesEphemeral: portCount(ports) > portCount(outsidePorts),
  };
}

/** What can bound a host's capacity. */
export type BoundName =
  | 'tuples'
  | 'descriptors'
  | 'system-descriptors'
  | 'memory'
  | 'processes'
  | 'tcp-mem'
  | 'conntrack';

/** Connections that each resource allows; a resource that is not known or not used allows any number. */
type HostBounds = Readonly<Record<BoundName, number>>;

export interface PlanRequest {
  readonly spec: RunSpec;
  /** connections that this host may have to hold: all of the run's, or its quota */
  readonly wanted: number;
  readonly facts: HostFacts;
  /** from sources/source-addresses.ts */
  readonly addresses: readonly string[];
}

/** Everything that a plan and its findings are worded from. */
export interface PlanBasis extends PlanRequest {
  readonly choice: PortChoice;
  readonly engine: EngineChoice;
  /** (source address, endpoint) pairs of one family */
  readonly pairs: number;
  /** ports x pairs */
  readonly tuples: number;
  /** tuples that cannot be used because they sit in TIME_WAIT */
  readonly tuplesInTimeWait: number;
  /** tuples that each connection takes, those that rest meanwhile included; at least 1 */
  readonly perConnection: number;
  readonly shape: Shape;
  readonly bounds: HostBounds;
}

/** Whether an endpoint belongs to this host. A link-local address may be there on each link. */
export function isOnThisHost(
  { address, zone }: Pick<Endpoint, 'address' | 'zone'>,
  facts: Pick<HostFacts, 'routes' | 'hostAddresses'>,
): boolean {
  return (
    isLoopback(address) ||
    facts.routes.some((route) => route.local && route.address === address) ||
    facts.hostAddresses.some((own) => own.address === address && (zone === undefined || own.device === zone))
  );
}

/** (source address, endpoint) pairs: an IPv4 source reaches IPv4 endpoints only. */
function pairsOf(addresses: readonly string[], endpoints: readonly Endpoint[]): number {
  const addresses6 = addresses.filter((address) => parseAddress(address).family === 6).length;
  const endpoints6 = endpoints.filter((endpoint) => endpoint.family === 6).length;
  return (addresses.length - addresses6) * (endpoints.length - endpoints6) + addresses6 * endpoints6;
}

/** All numbers of a plan, before any of them is judged. */
export function planBasis(request: PlanRequest): PlanBasis {
  const { spec, facts, wanted } = request;
  const pairs = pairsOf(request.addresses, spec.endpoints);
  const perConnection = tuplesPerConnection(spec);
  const choice = choosePorts({
    explicit: spec.sources.ports,
    facts,
    tuplesPerPort: pairs,
    wanted: Math.ceil(wanted * perConnection),
  });
  const tuples = choice.portCount * pairs;
  // With timestamps on, a connect from an explicit port takes a TIME_WAIT tuple over (fact P9).
  const tuplesInTimeWait = facts.tcpTimestamps === 0 ? Math.min(tuples, facts.timeWaitOnTuples ?? 0) : 0;
  const engine = chooseEngine(spec, facts);
  const room = holdersRoom(facts.tasks);
  const shape: Shape = {
    ...(room === null ? {} : { holdersRoom: room }),
    endsHere: spec.endpoints.some((endpoint) => isOnThisHost(endpoint, facts)) ? 2 : 1,
    engine: engine.name,
    // A hard limit that cannot be read is taken to be the highest one that the kernel's defaults allow.
    perHolder:
      engine.name === 'uring'
        ? uringSlots(facts)
        : Math.max(0, (facts.nofileHard ?? NR_OPEN_DEFAULT) - DESCRIPTORS_RESERVED),
    holdersAsked: spec.holders,
    cpus: facts.cpus,
    pendingMax: spec.pendingMax,
    sessionBytes: isTls(spec.protocol) ? TLS_BYTES_PER_SESSION : 0,
  };
  const bounds = boundsOf(
    facts,
    spec.endpoints,
    shape,
    Math.floor((tuples - tuplesInTimeWait) / perConnection),
  );
  return { ...request, choice, engine, pairs, tuples, tuplesInTimeWait, perConnection, shape, bounds };
}

/** Where `--engine uring` was asked for and io_uring does not work, nothing can be opened. */
function uringSlots({ uringRefusal = null }: HostFacts): number {
  return uringRefusal === null ? URING_SLOTS_MAX : 0;
}

function boundsOf(
  facts: HostFacts,
  endpoints: readonly Endpoint[],
  shape: Shape,
  tuplesFree: number,
): HostBounds {
  const descriptors = descriptorsBound(shape);
  // Above this no search is needed: another resource binds.
  const most = Math.min(tuplesFree, descriptors);
  const search = (available: number | null, cost: (connections: number, shape: Shape) => number): number => {
    if (available === null || cost(most, shape) <= available) return Number.POSITIVE_INFINITY;
    return largestThatFits(most, (connections) => cost(connections, shape) <= available);
  };
  return {
    tuples: tuplesFree,
    descriptors,
    'system-descriptors': search(filesFree(facts), systemFiles),
    memory: search(memoryFree(facts), memoryBytes),
    processes: search(facts.tasks?.free ?? null, tasksNeeded),
    'tcp-mem': search(bufferPagesFree(facts), bufferPagesSure),
    conntrack: conntrackBinds(facts, endpoints)
      ? (conntrackFree(facts) ?? Number.POSITIVE_INFINITY)
      : Number.POSITIVE_INFINITY,
  };
}

/** Files that the whole system can still open; null: not known. */
export function filesFree(facts: HostFacts): number | null {
  return facts.fileMax === null ? null : Math.max(0, facts.fileMax - (facts.fileUsed ?? 0));
}

/** Bytes that the host, and the control group that we are in, still have; null: not known. */
export function memoryFree(facts: HostFacts): number | null {
  const host = facts.memoryAvailableBytes ?? Number.POSITIVE_INFINITY;
  const limit = facts.cgroupMemoryLimitBytes;
  const group =
    limit === null ? Number.POSITIVE_INFINITY : Math.max(0, limit - (facts.cgroupMemoryUsedBytes ?? 0));
  const free = Math.min(host, group);
  return Number.isFinite(free) ? free : null;
}

/** Pages left below the third number of `tcp_mem`; null: not known. */
export function bufferPagesFree(facts: HostFacts): number | null {
  return facts.tcpMem === null ? null : Math.max(0, facts.tcpMem[2] - (facts.sockstat.memPages ?? 0));
}

/** Entries that the conntrack table still takes; null: not known. */
export function conntrackFree(facts: HostFacts): number | null {
  const { count, max } = facts.conntrack;
  return count === null || max === null ? null : Math.max(0, max - count);
}

/**
 * Whether a full conntrack table stops this run. A tracked connection beyond the table's end cannot be opened (fact N2:
 * its SYN is dropped), so towards another host this bounds the capacity. Towards this host itself it only warns: rules
 * commonly leave `lo` untracked (`notrack`), which an entry that some other traffic made cannot tell us.
 */
export function conntrackBinds(facts: HostFacts, endpoints: readonly Endpoint[]): boolean {
  return facts.conntrack.active === true && endpoints.some((endpoint) => !isOnThisHost(endpoint, facts));
}
