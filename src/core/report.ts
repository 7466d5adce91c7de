/**
 * Owns the shape of the final numbers (schemaVersion is semver; docs/report.schema.json describes it).
 * Must never format (report/) or measure (coordinator/).
 */
import type { Finding } from './finding.ts';
import type { Counts, DropReason, FailReason, Party, SkipReason } from './outcome.ts';
import type { HolderHealth } from './stats.ts';

export const REPORT_SCHEMA_VERSION = '1.0.0';

export type VerdictName = 'pass' | 'fail' | 'incomplete' | 'refused';

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

/** What one kernel counted of our sockets, beside what our own books said at that moment. */
export interface KernelCount {
  readonly agent: string;
  readonly when: 'ramp-end' | 'hold-end';
  /** sockets that the kernel calls ESTABLISHED between our sources and the endpoints; null: could not be asked */
  readonly established: number | null;
  /** what our own books said then */
  readonly open: number;
  readonly method: 'ss' | 'proc-net-tcp' | 'none';
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
  readonly hold: { readonly seconds: number };
  readonly bySource: Readonly<Record<string, number>>;
  readonly byEndpoint: Readonly<Record<string, number>>;
  readonly agents: readonly AgentReport[];
  readonly kernel: {
    /** summed over agents at the end of the hold; null when no kernel could be asked */
    readonly established: number | null;
    readonly counts: readonly KernelCount[];
  };
  readonly generator: {
    readonly holders: number;
    readonly cpuMs: number;
    readonly cpuPercentOfOneCoreWhileHolding: number | null;
    readonly loopLagMsMax: number;
    readonly residentBytesMax: number;
    readonly descriptorHeadroomMin: number;
    readonly tupleFillRatio: number;
  };
  readonly findings: readonly Finding[];
  readonly timeline: readonly TimelinePoint[];
  /** one line each, for a person */
  readonly notes: readonly string[];
}
