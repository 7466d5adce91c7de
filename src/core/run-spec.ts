/**
 * Owns what a run asks for, as plain data that crosses the control channel.
 * Must never hold host facts or results.
 */
import type { Endpoint, ProtocolName } from './endpoint.ts';
import type { PortRange } from './tuple-space.ts';

export type CloseMode = 'fin' | 'rst';

/** What to open where, how fast, for how long, from which sources. */
export interface RunSpec {
  readonly endpoints: readonly Endpoint[];
  readonly protocol: ProtocolName;
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
}

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

/** What an alias lives for when nobody renews it, unless the user says otherwise. */
export const ALIAS_LEASE_DEFAULT_MS = 60_000;

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
  readonly probeEveryMs: number | null;
  readonly probeTimeoutMs: number;
}
