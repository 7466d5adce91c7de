/**
 * Owns the shape of the final numbers (schemaVersion is semver; docs/report.schema.json describes it).
 * Must never format (report/) or measure (coordinator/).
 */

import type { Finding } from '../base/errors.ts';
import type { Counts, DropReason, FailReason, Party, SkipReason } from '../base/outcome.ts';
import type { KernelCount, KernelEvidence } from '../host/kernel-evidence.ts';
import type { AgentEngine } from '../run/agent-record.ts';
import type { CloseOrder, DropPolicy } from '../run/run-spec.ts';
import type { Balance } from '../stats/balance.ts';
import type { Evidence } from '../stats/evidence.ts';
import type { Incident } from '../stats/incident-log.ts';
import type { LossCount } from '../stats/loss.ts';
import type { SeenCounts } from '../stats/observed-sources.ts';
import type { OverTime } from '../stats/over-time.ts';
import type { ProtocolErrors } from '../stats/protocol-errors.ts';
import type { HolderHealth } from '../stats/stats.ts';
import type { RequirementResult } from './requirement.ts';

export const REPORT_SCHEMA_VERSION = '1.4.0';

export type VerdictName = 'pass' | 'fail' | 'incomplete' | 'refused';

/** One thing that ran out. */
export interface Diagnosis {
  readonly party: Party;
  /** stable name of the rule, such as `path-ports` */
  readonly what: string;
  /** connections that it explains */
  readonly count: number;
  /** one sentence with the evidence */
  readonly message: string;
  /** what to type or look at next */
  readonly next: string;
}

/** Percentiles in milliseconds, null when nothing was measured; `histogram` is HdrHistogram V2, compressed base64, in microseconds. */
export interface Latency {
  readonly count: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
  readonly histogram: string | null;
}

export interface AgentReport {
  readonly name: string;
  readonly quota: number;
  readonly established: number;
  readonly open: number;
  readonly held: number;
  readonly verified: number;
  readonly failed: Counts<FailReason>;
  readonly dropped: Counts<DropReason>;
  readonly capacity: number;
  readonly boundBy: string;
  readonly sources: readonly string[];
  readonly lost: boolean;
  /** how its holders drive sockets, and why; null: it did not say (an agent of an older version) */
  readonly engine: AgentEngine | null;
  readonly holders: readonly HolderHealth[];
}

export interface TimelinePoint {
  /** seconds since the barrier */
  readonly atSec: number;
  readonly phase: string;
  readonly open: number;
  readonly established: number;
  readonly pending: number;
  readonly failed: number;
  readonly dropped: number;
  readonly verified: number;
  /** what the target itself said it holds (`--target-stats`, `--target self`); null: it was not asked or did not answer */
  readonly seenByTarget: number | null;
}

/** Messages that were sent again and again; their latency is `echoMs`. */
export interface MessageReport {
  readonly everyMs: number;
  /** false: none was asked to be answered, and nothing but `sent` says anything */
  readonly areAnswered: boolean;
  readonly sent: number;
  /** in the hold, per second */
  readonly ratePerSec: number;
  /** rightly */
  readonly answered: number;
  readonly wrong: number;
  /** of those answered rightly, those whose answer came after the next message was due */
  readonly late: number;
  /** not answered when their connection was lost */
  readonly missing: number;
}

/** Figures of the TLS sessions. */
export interface TlsReport {
  readonly sessions: number;
  /** taken up from an earlier session */
  readonly resumed: number;
  /** with a certificate that would not have passed */
  readonly unverified: number;
  /** from the kernel's connect to the agreed session */
  readonly handshakeMs: Latency;
  /** sessions by protocol and cipher */
  readonly ciphers: Readonly<Record<string, number>>;
  /** sessions by what the target chose by ALPN, `none` where it chose nothing; absent: an agent of an earlier version does not tell */
  readonly alpn?: Readonly<Record<string, number>>;
}

/** What the target said of itself. */
export interface TargetReport {
  /** who was asked */
  readonly source: string;
  /** at the end of the hold */
  readonly openNow: number;
  /** during this run */
  readonly openMax: number;
  /** since it was started */
  readonly acceptedTotal: number;
  /** of several targets that of the one that saw the most: the same source may connect to each */
  readonly sourceAddresses: number;
  /** how many times in this run it stopped accepting because it had no descriptor left */
  readonly descriptorsFull: number;
  readonly workersLost: number;
  /** questions that it did not answer */
  readonly unanswered: number;
}

/** What an established connection has proven by the end of the hold. */
export type ProofName = 'probes' | 'since-ramp' | 'kernel-only';

/** What a report says of itself: what tells it from others, and where it was made. */
export interface RunAbout {
  /** `--name`; null: not given */
  readonly name: string | null;
  /** the command line that does the same again; no token is in it */
  readonly command: string;
  /** of the host of the coordinator */
  readonly host: {
    readonly kernel: string;
    readonly node: string;
    readonly cpus: number;
    readonly memoryBytes: number;
  };
}

/** One stage, from 1. */
export interface StageReport {
  readonly stage: number;
  readonly durationMs: number;
  /** asked for at its end */
  readonly connections: number;
  readonly isFlat: boolean;
  /** the lowest number open, once as many as it asks for were; null: it is not flat, or has not begun */
  readonly held: number | null;
  /** open at its end; null: it has not begun */
  readonly open: number | null;
  /** seconds from its begin until as many as it asks for were open; null: that never was, or it is not flat */
  readonly reachedSec: number | null;
  readonly established: number;
  readonly failed: number;
  readonly dropped: number;
  /** closed by us because the line went down */
  readonly lowered: number;
  /** closed by us in its turn */
  readonly churned: number;
  readonly connectMs: Latency;
}

/** A load that changes while the run goes on. */
export interface LoadReport {
  /** how connections come and go, as typed; null: they stay */
  readonly churn: string | null;
  /** which are closed where the stages go down; null: there are no stages */
  readonly closeOrder: CloseOrder | null;
  readonly churned: number;
  readonly lowered: number;
  readonly stages: readonly StageReport[];
}

export interface RunReport {
  readonly schemaVersion: string;
  readonly toolVersion: string;
  readonly startedAt: string;
  readonly endedAt: string;
  readonly verdict: VerdictName;
  readonly exitCode: number;
  /** one line: why the verdict is what it is */
  readonly reason: string;
  readonly whoRanOut: Party | null;
  /** the run still went on when this was written */
  readonly isPartial: boolean;
  readonly requirements: readonly RequirementResult[];
  /** what ran out, with the evidence; what explains most first */
  readonly diagnoses: readonly Diagnosis[];
  /** whether the latencies measure the target rather than the generator */
  readonly latencyTrustworthy: boolean;
  readonly asked: {
    readonly connections: number;
    readonly target: readonly string[];
    readonly protocol: string;
    readonly endpoints: readonly string[];
    readonly ratePerSec: number | null;
    readonly pendingMax: number;
    readonly connectTimeoutMs: number;
    readonly holdMs: number;
    readonly close: string;
    readonly probeEveryMs: number | null;
    readonly probeTimeoutMs: number;
    readonly onDrop: DropPolicy;
  };
  readonly connections: {
    readonly attempted: number;
    readonly established: number;
    readonly open: number;
    readonly verified: number;
    readonly held: number;
    readonly closed: number;
    readonly unattempted: number;
    readonly failed: Counts<FailReason>;
    readonly dropped: Counts<DropReason>;
    readonly localSkips: Counts<SkipReason>;
    /** opened in place of lost ones; part of `established` */
    readonly reopened: number;
  };
  readonly probes: {
    readonly sent: number;
    readonly answered: number;
    readonly timedOutAcknowledged: number;
  };
  /** messages that the user asked for (`--send`); null: none; absent: an older version made this report */
  readonly messages?: MessageReport | null;
  readonly losses: {
    /** complete by reason, source and endpoint */
    readonly counts: readonly LossCount[];
    /** lost within a second after they were opened */
    readonly young: number;
    /** reset in answer to a probe */
    readonly resetsOnProbe: number;
    /** the most within one second, by quarters of a second; null: an agent of an earlier version did not tell */
    readonly burstMax: number | null;
    /** losses without a line in the events file, because too many came at once */
    readonly detailsCut: number;
  };
  readonly connectMs: Latency;
  readonly connectFromIntendedMs: Latency;
  readonly echoMs: Latency;
  readonly ramp: {
    readonly seconds: number;
    readonly ratePerSec: number;
    readonly synRetransmits: number;
    readonly retransmittedConnects: number;
  };
  readonly hold: {
    readonly seconds: number;
    /** what held connections have proven: by probes, by an answer in the ramp, or by the far kernel alone */
    readonly proof: ProofName;
  };
  readonly bySource: Readonly<Record<string, number>>;
  readonly byEndpoint: Readonly<Record<string, number>>;
  /** what a whoami target saw of our addresses and ports; null where there was no such target */
  readonly seen: SeenCounts | null;
  /** what protocols said of connections that they gave up, by detail */
  readonly troubles: ProtocolErrors;
  /** null where no TLS is spoken */
  readonly tls: TlsReport | null;
  /** null: the number of connections does not change, nor do they come and go */
  readonly load: LoadReport | null;
  /** when, where, what was said, what was sent: what diagnoses rest on; null: an agent of an earlier version does not tell */
  readonly evidence: Evidence | null;
  readonly agents: readonly AgentReport[];
  readonly kernel: {
    /** summed over agents at the end of the hold; null when no kernel could be asked */
    readonly established: number | null;
    readonly counts: readonly KernelCount[];
    /** summed over agents, since the ramp began */
    readonly counters: Readonly<Record<string, number>>;
    readonly hosts: readonly (KernelEvidence & { readonly agent: string })[];
  };
  readonly target: TargetReport | null;
  readonly generator: {
    readonly holders: number;
    readonly cpuMs: number;
    readonly cpuPercentOfOneCoreWhileHolding: number | null;
    readonly loopLagMsMax: number;
    readonly loopLagMsP99: number;
    readonly scheduleLagMsP99: number;
    /** the most by which the connects of one holder were put off because it was late for its rate */
    readonly scheduleShiftMs: number;
    readonly gcMs: number;
    /** the largest share of the ramp in which a holder was ready to run and had no core, 0 to 1 */
    readonly rampCpuWaitRatioMax: number;
    /** what is beyond its bound, in words */
    readonly limits: readonly string[];
    readonly residentBytesMax: number;
    readonly descriptorHeadroomMin: number;
    readonly tupleFillRatio: number;
  };
  readonly findings: readonly Finding[];
  readonly timeline: readonly TimelinePoint[];
  /** connections by back end (`--backend-from`); null: nothing was looked for */
  readonly balance: Balance | null;
  /** drops of 1 % or more within a second, and how they came back; null: an agent of an earlier version does not report that */
  readonly incidents: readonly Incident[] | null;
  /** losses and latencies by time; null: the ramp has not begun, or an older version made this report */
  readonly overTime: OverTime | null;
  /** null: an older version made this report */
  readonly about: RunAbout | null;
  /** one line each, for a person */
  readonly notes: readonly string[];
}
