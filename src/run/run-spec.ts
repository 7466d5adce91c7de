/**
 * Owns what a run asks for, as plain data that crosses the control channel.
 * Must never hold host facts or results.
 */
import type { Endpoint, ProtocolName, ProtocolOptions } from '../base/endpoint.ts';
import type { PortRange } from '../base/tuple-space.ts';

export type CloseMode = 'fin' | 'rst';

/** First probes are spread over at most this, so that a connection is proven soon; milliseconds. */
export const FIRST_PROBE_WITHIN_MS = 1_000;

/** What becomes of a connection that is lost while holding: counted, or counted and opened again. */
export type DropPolicy = 'count' | 'reopen';

/** What to open where, how fast, for how long, from which sources. */
export interface RunSpec {
  readonly endpoints: readonly Endpoint[];
  readonly protocol: ProtocolName;
  /** absent: the defaults */
  readonly protocolOptions?: ProtocolOptions;
  /** connections over all agents */
  readonly connections: number;
  /** connects per second over all agents; null: as fast as the target accepts */
  readonly ratePerSec: number | null;
  /** connects in flight over all agents */
  readonly pendingMax: number;
  readonly connectTimeoutMs: number;
  /** how long to hold after the ramp */
  readonly holdMs: number;
  readonly close: CloseMode;
  /** null: no probes */
  readonly probeEveryMs: number | null;
  readonly probeTimeoutMs: number;
  readonly sources: SourceSpec;
  /** holder processes per host; null: as many as descriptors and cores ask for */
  readonly holders: number | null;
  readonly onDrop: DropPolicy;
  /** whether each loss is told with its details, or only counted */
  readonly wantsLossDetails: boolean;
}

/**
 * What belongs to one host: its addresses, devices and networks, its ports, its processes. Never crosses the control
 * channel: an agent has it from the command line that started it (docs/decisions/sources-stay-at-home.md).
 */
export type HostSpec = Pick<RunSpec, 'sources' | 'holders'>;

/** What a run asks of every agent alike. */
export type SharedSpec = Omit<RunSpec, keyof HostSpec>;

/** Where connections come from, as typed by the user; each agent resolves it on its own host. */
export interface SourceSpec {
  /** addresses, ranges `a-b` and CIDR as typed; empty: the agent's default */
  readonly addresses: readonly string[];
  /** source ports in order of preference; null: outside ip_local_port_range first */
  readonly ports: readonly PortRange[] | null;
  /** the device that addresses which the host lacks are added to; `auto`: the one towards the target; null: none */
  readonly aliasDevice: string | null;
  /** the lifetime of what is added; the kernel drops it when nobody renews it; whole seconds */
  readonly aliasLeaseMs: number;
  /** networks whose every address becomes a source by one local route each (AnyIP), as typed */
  readonly prefixes: readonly string[];
}

/** One holder's part of the work, sent over IPC. */
export interface HolderSpec {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly ports: readonly PortRange[];
  readonly endpoints: readonly Endpoint[];
  readonly sliceFrom: number;
  readonly sliceTo: number;
  readonly connections: number;
  readonly ratePerSec: number | null;
  readonly pendingMax: number;
  readonly connectTimeoutMs: number;
  readonly close: CloseMode;
  readonly protocol: ProtocolName;
  /** absent: the defaults */
  readonly protocolOptions?: ProtocolOptions;
  readonly probeEveryMs: number | null;
  readonly probeTimeoutMs: number;
  /** absent: `count` */
  readonly onDrop?: DropPolicy;
  /** absent: false */
  readonly wantsLossDetails?: boolean;
  /** how often it tells its stats; absent: each second */
  readonly reportEveryMs?: number;
}
