/**
 * Owns what a run was asked for, as plain data, the ranges of its numbers, and the terms on which its coordinator waits
 * for agents.
 * Must never hold host facts or results.
 */
import type { Endpoint, ProtocolName, ProtocolOptions } from '../base/endpoint.ts';
import type { ProxyHeaderSpec } from '../base/proxy-header.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { DURATION_MS_MAX, formatDuration, RATE_PER_SEC_MAX } from '../base/units.ts';
import type { ReopenPolicy } from './reopen-policy.ts';
import type { LoadShare, Stage } from './schedule.ts';

/** How a holder drives its sockets (engine/drivers/). */
export type EngineName = 'uring' | 'epoll';

/** What a host was asked to use; `auto` decides there (plan/engine-choice.ts). */
export type EngineAsked = 'auto' | EngineName;

/** What a host uses, and why, for a person. */
export interface EngineChoice {
  readonly name: EngineName;
  readonly why: string;
}

type CloseMode = 'fin' | 'rst';

/** First probes are spread over at most this, so that a connection is proven soon; milliseconds. */
export const FIRST_PROBE_WITHIN_MS = 1_000;

/** What becomes of a connection that is lost while holding: counted, or counted and opened again. */
export type DropPolicy = 'count' | 'reopen';

/** Which connections are closed first. */
export type CloseOrder = 'newest' | 'oldest';

/** How connections come and go while their number stays: so many a second, over all agents, or each after a time of its own. */
export type Churn =
  | { readonly kind: 'rate'; readonly perSec: number }
  /** drawn from an exponential distribution where `kind` is `exp`, evenly from a range where it is `uniform` */
  | { readonly kind: 'fixed' | 'exp'; readonly ms: number }
  | { readonly kind: 'uniform'; readonly fromMs: number; readonly toMs: number };

/** How often a connection is closed to be opened anew, on average, of so many. */
export function closesPerSec(churn: Churn, connections: number): number {
  switch (churn.kind) {
    case 'rate':
      return churn.perSec;
    case 'uniform':
      return (connections * 2_000) / (churn.fromMs + churn.toMs);
    case 'fixed':
    case 'exp':
      return (connections * 1_000) / churn.ms;
  }
}

/** Whether a holder must know which connections of the run are its own. */
export function needsShares({ stages, proxyHeader }: Pick<SharedSpec, 'stages' | 'proxyHeader'>): boolean {
  return stages !== undefined || (proxyHeader?.clients ?? null) !== null;
}

/** Whether connections are counted by the back end that each has: by a name that is looked for, or that whoami says. */
export function namesBackends({
  backendFrom,
  protocol,
}: Pick<SharedSpec, 'backendFrom' | 'protocol'>): boolean {
  return backendFrom !== undefined || protocol === 'whoami';
}

/** Whether connections are closed and opened while the run goes on. */
export function isChanging({ stages, churn }: Pick<SharedSpec, 'stages' | 'churn'>): boolean {
  return stages !== undefined || churn !== undefined;
}

/** What a run asks of every agent alike: what to open where, how fast, for how long. It crosses the control channel. */
export interface SharedSpec {
  readonly endpoints: readonly Endpoint[];
  readonly protocol: ProtocolName;
  /** absent: the defaults */
  readonly protocolOptions?: ProtocolOptions;
  /** what each connection says first, before its protocol; absent: nothing */
  readonly proxyHeader?: ProxyHeaderSpec;
  /** connections over all agents */
  readonly connections: number;
  /** connects per second over all agents; null: as fast as the target accepts */
  readonly ratePerSec: number | null;
  /** connects in flight over all agents */
  readonly pendingMax: number;
  readonly connectTimeoutMs: number;
  /** how long to hold after the ramp; 0: until it is interrupted, which then is its end (`isEndless`) */
  readonly holdMs: number;
  readonly close: CloseMode;
  /** null: no probes */
  readonly probeEveryMs: number | null;
  readonly probeTimeoutMs: number;
  readonly onDrop: DropPolicy;
  /** where the name of a connection's back end stands (base/backend-pattern.ts); absent: nothing is looked for */
  readonly backendFrom?: string;
  /** with `reopen`: when; absent: immediately */
  readonly reopen?: ReopenPolicy;
  /** how many are open when; absent: all, as fast as can be. `connections` is their peak, and `holdMs` the time from the hold phase to their end */
  readonly stages?: readonly Stage[];
  /** which are closed where the stages go down; absent: the newest */
  readonly closeOrder?: CloseOrder;
  /** connections that are closed and opened anew since the hold began; absent: none */
  readonly churn?: Churn;
  /** whether each loss is reported with its details, or only counted */
  readonly wantsLossDetails: boolean;
}

/**
 * What belongs to one host: its addresses, devices and networks, its ports, its processes. Never crosses the control
 * channel: an agent has it from the command line that started it (docs/decisions/sources-stay-at-home.md).
 */
export interface HostSpec {
  readonly sources: SourceSpec;
  /** holder processes per host; null: as many as descriptors and cores ask for */
  readonly holders: number | null;
  /** absent: `auto` */
  readonly engine?: EngineAsked;
}

/** The one record of what was asked: of every agent, and of this host. */
export type RunSpec = SharedSpec & HostSpec;

/** What becomes of the quota of an agent that is lost. */
export type LossPolicy = 'fail' | 'continue' | 'replace';

/** How the coordinator waits for its agents, fixed at the start; no agent is sent any of it. Times in milliseconds. */
export interface RunTerms {
  readonly agentsExpected: number;
  /** how long to wait for agents to join and to offer */
  readonly gatherMs: number;
  /** how long agents may take to get ready, from the last holder that any of them has started */
  readonly prepareMs: number;
  /** the ramp stops opening when nothing new was established for so long */
  readonly stallMs: number;
  /** how long closing may take */
  readonly drainMs: number;
  /** an agent that was silent for so long is lost; longer than its own lease, after which it has closed everything */
  readonly leaseMs: number;
  readonly onAgentLoss: LossPolicy;
}

/** Where connections come from, as typed by the user; each agent resolves it on its own host. */
export interface SourceSpec {
  /** addresses, ranges `a-b` and CIDR as typed; empty: the agent's default */
  readonly addresses: readonly string[];
  /** source ports in order of preference; null: outside ip_local_port_range first */
  readonly ports: readonly PortRange[] | null;
  /** the device that addresses which the host lacks are added to; `auto`: the one towards the target; null: none */
  readonly aliasDevice: string | null;
  /** the lifetime of what is added; the kernel drops it when no process renews it; whole seconds */
  readonly aliasLeaseMs: number;
  /** networks whose every address becomes a source by one local route each (AnyIP), as typed */
  readonly prefixes: readonly string[];
}

/** One holder's part of the work, sent over IPC; connections, rate and pending cap are its share. */
export interface HolderSpec extends Omit<SharedSpec, 'holdMs' | 'onDrop' | 'wantsLossDetails'> {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly ports: readonly PortRange[];
  readonly sliceFrom: number;
  readonly sliceTo: number;
  /** the number of its first connection among those of its agent; absent: 0 */
  readonly connectionsFrom?: number;
  /** absent: `count` */
  readonly onDrop?: DropPolicy;
  /** absent: false */
  readonly wantsLossDetails?: boolean;
  /** absent: epoll */
  readonly engine?: EngineName;
  /** where `needsShares`: which connections of the run are its own; absent: all */
  readonly shares?: readonly LoadShare[];
  /** how often it reports its stats; absent: each second */
  readonly reportEveryMs?: number;
}

const SEC_MS = 1_000;
const HOUR_MS = 3_600 * SEC_MS;
const DAY_MS = 24 * HOUR_MS;

/** The largest that are taken; both ends are included. Times in milliseconds. */
export const RunBound = {
  /** above this no kernel has the sockets; it also keeps every sum a safe integer */
  connections: 100_000_000,
  ratePerSec: RATE_PER_SEC_MAX,
  /** one connect in 31 years: less is a slip, and as a part of a rate it is not split off */
  ratePerSecMin: 1e-9,
  holdMs: DURATION_MS_MAX,
  /** a SYN is given up by the kernel itself after minutes (tcp_syn_retries); an answer that takes an hour is none */
  answerMs: HOUR_MS,
  answerMsMin: 1,
  /** shorter, and probes are all that a host does */
  probeEveryMsMin: 100,
  probeEveryMs: 7 * DAY_MS,
  /** how long an agent may act without contact */
  leaseMs: 600 * SEC_MS,
  /** an agent reports five times in it, and a turn of a busy event loop takes tens of milliseconds */
  quietMsMin: 50,
  endpoints: 65_536,
  /** a connection that lives for less is one that is closed as it is opened */
  lifeMsMin: 100,
} as const;

/** Whether only a signal ends the hold. */
export function isEndless({ holdMs, stages }: Pick<SharedSpec, 'holdMs' | 'stages'>): boolean {
  return holdMs === 0 && stages === undefined;
}

/** How long a run holds, after the word `held` or `holding`. @param holdMs 0: until it is interrupted */
export function holdWords(holdMs: number): string {
  return holdMs === 0 ? 'until interrupted' : `for ${formatDuration(holdMs)}`;
}

/** Connections that are asked per millisecond at the end of a phase, at least. */
const CHECKED_PER_MS = 10;
/** The rounds of keepalives with their looks, and room for a busy machine. */
const CHECK_SILENT_MS = 10 * SEC_MS;

/**
 * How long it may take at most to ask every connection once more when a phase is over: a probe that is out is waited for, then the one that
 * counts.
 * @returns milliseconds
 */
export function finalCheckMsMax({
  connections,
  probeEveryMs,
  probeTimeoutMs,
}: Pick<SharedSpec, 'connections' | 'probeEveryMs' | 'probeTimeoutMs'>): number {
  const answersMs = probeEveryMs === null ? CHECK_SILENT_MS : CHECK_SILENT_MS + 2 * probeTimeoutMs;
  return answersMs + connections / CHECKED_PER_MS;
}
