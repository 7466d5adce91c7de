/**
 * Owns what one run is started with, and the terms that follow from it. Must never hold what becomes of the run.
 */

import type { Clock } from '../base/clock.ts';
import type { AgentMessage, CoordinatorMessage } from '../control/message.ts';
import type { Token } from '../control/token.ts';
import type { RunAbout, RunReport } from '../judge/report.ts';
import { HOLDERS_MAX } from '../plan/cost.ts';
import { LEASE_TIMES, type LeaseTimes } from '../run/lease.ts';
import {
  FIRST_PROBE_WITHIN_MS,
  finalCheckMsMax,
  type LossPolicy,
  type RunSpec,
  type RunTerms,
} from '../run/run-spec.ts';
import type { Progress } from './run-progress.ts';
import type { RunWatchOptions } from './run-watch.ts';

const PREPARE_MS = 120_000;
/** Holders load a few at a time: what each may add to the time that an agent takes to get ready. */
const PREPARE_MS_PER_HOLDER = 2_000;
/** A holder for so many connections, where it is not given how many: few descriptors make many holders. */
const CONNECTIONS_PER_HOLDER_GUESS = 1_000;
const DRAIN_MS = 60_000;
const STALL_MS_MIN = 10_000;
/** What the agent that is forked on this host is called. */
export const LOCAL_AGENT = 'local';

/** How agents on other hosts are started through ssh. */
export interface SshAgentsOptions {
  /** `user@host` each */
  readonly hosts: readonly string[];
  /** the remote command, such as `npx c100k-bench` */
  readonly command: string;
  /** further arguments of ssh, such as `-p`, `2222` */
  readonly sshArguments: readonly string[];
  /** further arguments of each agent, such as `--holders`, `4` */
  readonly agentArguments: readonly string[];
  /** where agents reach us, `host:port`; null: the address that their ssh connection comes from */
  readonly advertise: string | null;
}

/** One message of the run, for a check of its history. */
export interface RecordedMessage {
  readonly atMs: number;
  readonly agent: string;
  readonly epoch: number;
  readonly message: AgentMessage | CoordinatorMessage;
}

export interface RunOptions {
  readonly spec: RunSpec;
  /** the targets as the user typed them */
  readonly targetText: readonly string[];
  /** the script that agents are forked from */
  readonly entryPath: string;
  readonly toolVersion: string;
  /** what the report says of itself and its host; absent: nothing */
  readonly about?: RunAbout;
  readonly clock: Clock;
  /** where agents join; port 0: a free one */
  readonly listen: { readonly host: string; readonly port: number };
  readonly token: Token;
  /** whether this host takes a quota too */
  readonly hasLocalAgent: boolean;
  /** agents that join from elsewhere, those started by ssh included */
  readonly remoteAgents: number;
  readonly waitAgentsMs: number;
  readonly onAgentLoss: LossPolicy;
  /** absent: `LEASE_TIMES`; tests of lost agents take shorter ones */
  readonly lease?: LeaseTimes;
  /** how long the final reports of all agents may take, milliseconds; absent: one minute */
  readonly drainMs?: number;
  /** null: none */
  readonly ssh: SshAgentsOptions | null;
  readonly onProgress: (progress: Progress) => void;
  /** one line for a person */
  readonly onNote: (line: string) => void;
  /** gets what the local agent and its holders write to stderr, line by line; absent or null: they write to ours */
  readonly onChildLine?: ((line: string) => void) | null;
  /** the control channel listens */
  readonly onListening: (address: { host: string; port: number }) => void;
  /** absent: everything asked for must be held, and the target is not asked */
  readonly watch?: RunWatchOptions;
  /**
   * at each tick and each change of phase, with a function that makes the report so far: whoever calls it pays for it.
   * Absent: not wanted
   */
  readonly onTick?: ((report: () => RunReport) => void) | undefined;
  /** every agent has said its last, or is given up: nothing more is asked of the target. The report follows */
  readonly onFinished?: (() => void) | undefined;
  /** every quota, stats and other message, in order */
  readonly onRecord?: (entry: RecordedMessage) => void;
}

/**
 * The silence after which a ramp counts as stalled: two connect timeouts, or ten intervals of a slow rate; and no less than
 * what the first probes may take, because a ramp ends when every connection has answered one.
 */
function stallMsOf(spec: RunSpec): number {
  const slow = spec.ratePerSec === null ? 0 : 10_000 / spec.ratePerSec;
  const proof = spec.probeEveryMs === null ? 0 : FIRST_PROBE_WITHIN_MS + 2 * spec.probeTimeoutMs;
  return Math.max(STALL_MS_MIN, 2 * spec.connectTimeoutMs, slow, proof);
}

/** How long an agent that lives may take to get ready. One that does not live is lost by its lease long before. */
function prepareMsOf(spec: RunSpec): number {
  const guess = Math.min(HOLDERS_MAX, Math.ceil(spec.connections / CONNECTIONS_PER_HOLDER_GUESS));
  return PREPARE_MS + (spec.holders ?? guess) * PREPARE_MS_PER_HOLDER;
}

/** How it waits for its agents. */
export function termsOf(options: RunOptions): RunTerms {
  const { spec } = options;
  const { leaseMs, marginMs } = options.lease ?? LEASE_TIMES;
  return {
    agentsExpected: options.remoteAgents + (options.hasLocalAgent ? 1 : 0),
    gatherMs: options.waitAgentsMs,
    prepareMs: prepareMsOf(spec),
    stallMs: stallMsOf(spec),
    drainMs: options.drainMs ?? DRAIN_MS + finalCheckMsMax(spec),
    leaseMs: leaseMs + marginMs,
    onAgentLoss: options.onAgentLoss,
  };
}
