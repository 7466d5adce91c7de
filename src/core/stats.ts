/**
 * Owns the cumulative numbers of a run and their addition. The same addition merges holders into an agent and
 * agents into the run. Must never hold anything that cannot be added (percentiles, rates, averages).
 */
import { emptyHistogram, mergeHistograms, type SparseHistogram } from './histogram.ts';
import type { Counts, DropReason, FailReason, SkipReason } from './outcome.ts';

/** Cumulative since the start of the run; a lost snapshot costs nothing. */
export interface Stats {
  /** connects started (local skips not included) */
  readonly attempted: number;
  /** connections that were ever established */
  readonly established: number;
  /** connections that are open now */
  readonly open: number;
  /** the lowest `open` since the hold phase began; 0 before it */
  readonly openMin: number;
  /** connections whose far application has answered and whose probes are not overdue, now */
  readonly verified: number;
  /** the lowest `verified` since the hold phase began; 0 before it */
  readonly verifiedMin: number;
  /** connects in flight now */
  readonly pending: number;
  /** connections that we closed ourselves */
  readonly closed: number;
  /** quota that was given up without a connect: stopped, stalled, or no tuple left */
  readonly unattempted: number;
  readonly failed: Counts<FailReason>;
  readonly dropped: Counts<DropReason>;
  readonly localSkips: Counts<SkipReason>;
  /** SYN retransmits over all connects (TCP_INFO) */
  readonly synRetransmits: number;
  /** connects that needed at least one SYN retransmit */
  readonly retransmittedConnects: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly probesSent: number;
  readonly probesAnswered: number;
  /** microseconds from connect() to established */
  readonly connectUs: SparseHistogram;
  /** microseconds from the time that the pacer intended to established: a late generator shows here */
  readonly connectFromIntendedUs: SparseHistogram;
  /** microseconds from the time that a probe was due to its answer */
  readonly probeUs: SparseHistogram;
  /** open connections by source address, now */
  readonly openBySource: Readonly<Record<string, number>>;
  /** open connections by endpoint (`address:port`), now */
  readonly openByEndpoint: Readonly<Record<string, number>>;
  /** milliseconds from the first connect to the last established; merges by maximum */
  readonly rampMs: number;
}

/** One holder process's own health; what a user needs to trust the other numbers. */
export interface HolderHealth {
  /** unique within the run: `<agent>/<index>` */
  readonly id: string;
  readonly pid: number;
  readonly alive: boolean;
  readonly cpuUserMs: number;
  readonly cpuSystemMs: number;
  readonly residentBytes: number;
  /** the longest that one turn of the holder's loop took since the start */
  readonly loopLagMsMax: number;
  readonly descriptorsUsed: number;
  readonly descriptorsMax: number;
  readonly tuplesUsed: number;
  readonly tuplesMax: number;
}

const EMPTY_STATS: Stats = {
  attempted: 0,
  established: 0,
  open: 0,
  openMin: 0,
  verified: 0,
  verifiedMin: 0,
  pending: 0,
  closed: 0,
  unattempted: 0,
  failed: {},
  dropped: {},
  localSkips: {},
  synRetransmits: 0,
  retransmittedConnects: 0,
  bytesIn: 0,
  bytesOut: 0,
  probesSent: 0,
  probesAnswered: 0,
  connectUs: emptyHistogram(),
  connectFromIntendedUs: emptyHistogram(),
  probeUs: emptyHistogram(),
  openBySource: {},
  openByEndpoint: {},
  rampMs: 0,
};

/** Stats of a run in which nothing happened yet; neutral for `mergeStats`. */
export function emptyStats(): Stats {
  return { ...EMPTY_STATS, failed: {}, dropped: {}, localSkips: {}, openBySource: {}, openByEndpoint: {} };
}

/** Adds numbers by key; a key that only one side has keeps its number. */
function addByKey<Key extends string>(
  a: Readonly<Partial<Record<Key, number>>>,
  b: Readonly<Partial<Record<Key, number>>>,
): Partial<Record<Key, number>> {
  const sum: Partial<Record<Key, number>> = { ...a };
  for (const key of Object.keys(b) as Key[]) sum[key] = (sum[key] ?? 0) + (b[key] ?? 0);
  return sum;
}

/**
 * The sum of two parts of a run that have no connection in common. `rampMs` is the longer one; `openMin` and
 * `verifiedMin` add up to a number that the whole never fell below.
 */
export function mergeStats(a: Stats, b: Stats): Stats {
  return {
    attempted: a.attempted + b.attempted,
    established: a.established + b.established,
    open: a.open + b.open,
    openMin: a.openMin + b.openMin,
    verified: a.verified + b.verified,
    verifiedMin: a.verifiedMin + b.verifiedMin,
    pending: a.pending + b.pending,
    closed: a.closed + b.closed,
    unattempted: a.unattempted + b.unattempted,
    failed: addByKey(a.failed, b.failed),
    dropped: addByKey(a.dropped, b.dropped),
    localSkips: addByKey(a.localSkips, b.localSkips),
    synRetransmits: a.synRetransmits + b.synRetransmits,
    retransmittedConnects: a.retransmittedConnects + b.retransmittedConnects,
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
    probesSent: a.probesSent + b.probesSent,
    probesAnswered: a.probesAnswered + b.probesAnswered,
    connectUs: mergeHistograms(a.connectUs, b.connectUs),
    connectFromIntendedUs: mergeHistograms(a.connectFromIntendedUs, b.connectFromIntendedUs),
    probeUs: mergeHistograms(a.probeUs, b.probeUs),
    openBySource: addByKey(a.openBySource, b.openBySource) as Record<string, number>,
    openByEndpoint: addByKey(a.openByEndpoint, b.openByEndpoint) as Record<string, number>,
    rampMs: Math.max(a.rampMs, b.rampMs),
  };
}

/** The sum of any number of parts; `emptyStats` for none. */
export function mergeAllStats(list: readonly Stats[]): Stats {
  return list.reduce(mergeStats, emptyStats());
}
