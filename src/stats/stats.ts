/**
 * Owns the cumulative numbers of a run and their addition, those of TLS sessions among them; which histograms of a stats
 * message are worth sending again, and what came to one that has grown. The same addition merges holders into an agent and agents into the run.
 * Must never hold anything that cannot be added (percentiles, rates, averages), a certificate or a key.
 *
 * Histograms are most of the bytes of a stats message, and in a silent hold none of them changes for hours. When a message
 * was lost is not known here: the sender sends everything again after contact was cut.
 */

import { BACKENDS_MAX, OTHER_BACKENDS } from '../base/backend-pattern.ts';
import {
  addBounded,
  addCounts,
  type Counts,
  type DropReason,
  type FailReason,
  type SkipReason,
} from '../base/outcome.ts';
import { type Evidence, mergeEvidence } from './evidence.ts';
import {
  compactHistogram,
  emptyHistogram,
  grownBy,
  grownHistogram,
  histogramCount,
  mergeHistograms,
  type SparseHistogram,
} from './histogram.ts';
import {
  changedLoad,
  type LoadCounts,
  loadAllLost,
  loadOfBoth,
  type MessageCounts,
  messagesOfBoth,
} from './load-counts.ts';
import { newestLosses, type RecentLosses, withSourcesLost } from './loss.ts';
import { mergeSeen, type SeenCounts } from './observed-sources.ts';
import { withDrops } from './place-outcomes.ts';
import { addProtocolErrors, type ProtocolErrors } from './protocol-errors.ts';
import { mergeReturns, type RecentReturns } from './returns.ts';

/** Cumulative since the start of the run; a lost snapshot costs nothing. */
export interface Stats {
  /** connects started (local skips not included) */
  readonly attempted: number;
  /** connections that were ever established */
  readonly established: number;
  /** connections that are open now */
  readonly open: number;
  /** `open` when the hold phase began; 0 before it */
  readonly openAtHold: number;
  /** the lowest `open` since the hold phase began; 0 before it */
  readonly openMin: number;
  /** connections whose far application has answered and whose probes are not overdue, now */
  readonly verified: number;
  /** the lowest `verified` since the hold phase began; 0 before it */
  readonly verifiedMin: number;
  /** open connections whose far application has answered since the hold began, now */
  readonly verifiedInHold: number;
  /** connects in flight now */
  readonly pending: number;
  /** connections that we closed ourselves */
  readonly closed: number;
  /** quota that was given up without a connect: stopped, stalled, or no tuple left */
  readonly unattempted: number;
  readonly failed: Counts<FailReason>;
  readonly dropped: Counts<DropReason>;
  readonly localSkips: Counts<SkipReason>;
  /** losses by reason, source and endpoint; keys as `lossKey` (loss.ts) writes them */
  readonly droppedBy: Readonly<Record<string, number>>;
  /** losses whose details were cut because too many came together */
  readonly lossDetailsCut: number;
  /** losses within a second after the connection was opened */
  readonly youngDrops: number;
  /** losses by RST while a probe was out: the RST is the answer to it */
  readonly resetsOnProbe: number;
  /** probes that timed out although the far kernel had acknowledged their bytes: the application is silent */
  readonly probeTimeoutsAcked: number;
  /** losses of the last half minute by quarter of a second since the start (loss.ts) */
  readonly recentLosses: RecentLosses;
  /** open connections by back end (`--backend-from`), now; absent: nothing is looked for */
  readonly backends?: Readonly<Record<string, number>>;
  /** how lost connections came back, of the last half minute by quarter of a second; absent: none is opened again, or it is not reported */
  readonly recentReturns?: RecentReturns;
  /** connections that were opened in place of lost ones (`--on-drop reopen`); part of `established` */
  readonly reopened: number;
  /** tries to do so that failed, to be tried again; neither in `attempted` nor in `failed` */
  readonly reopenFailed: number;
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
  /** what a whoami target saw of us; absent where there was no such target */
  readonly seen?: SeenCounts;
  /** what protocols said of connections that they gave up; absent: nothing */
  readonly troubles?: ProtocolErrors;
  /** absent where no TLS is spoken */
  readonly tls?: TlsCounts;
  /** absent where none was sent; those that were answered rightly are `probesAnswered` */
  readonly messages?: MessageCounts;
  /** absent: the load does not change */
  readonly load?: LoadCounts;
  /** what a diagnosis rests on; absent: an agent of an earlier version does not tell, and then the sum is not known */
  readonly evidence?: Evidence;
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
  /** the same since the hold began; 0 from an agent of an older version, which does not tell */
  readonly holdLagMsMax: number;
  readonly descriptorsUsed: number;
  readonly descriptorsMax: number;
  readonly tuplesUsed: number;
  readonly tuplesMax: number;
  /** of the turns of the loop, 99 % were no later than this */
  readonly loopLagMsP99: number;
  /** connects were called no later than this after they were intended, for 99 % of them */
  readonly scheduleLagMsP99: number;
  /** by how much connects were put off because the process was late for its rate: in all, and the longest in one piece */
  readonly scheduleShiftMs: number;
  readonly scheduleShiftMsMax: number;
  /** time that garbage collection has stopped this process for */
  readonly gcMs: number;
  /** time that this process was ready to run and had no core, as the kernel's scheduler counts it; null: not reported */
  readonly cpuWaitMs: number | null;
  readonly ramp: PhaseLoad;
  readonly hold: PhaseLoad;
}

/** What one phase asked of a holder, cumulative; all 0 before the phase. */
export interface PhaseLoad {
  readonly wallMs: number;
  readonly cpuMs: number;
  /** ready to run without a core; 0 where the kernel does not tell */
  readonly waitMs: number;
}

/** A phase that has not begun. */
export const NO_LOAD: PhaseLoad = { wallMs: 0, cpuMs: 0, waitMs: 0 };

/** A holder that has said nothing yet. */
export function newHolderHealth(id: string, pid: number, tuplesMax: number): HolderHealth {
  return {
    id,
    pid,
    alive: true,
    cpuUserMs: 0,
    cpuSystemMs: 0,
    residentBytes: 0,
    loopLagMsMax: 0,
    holdLagMsMax: 0,
    descriptorsUsed: 0,
    descriptorsMax: 0,
    tuplesUsed: 0,
    tuplesMax,
    loopLagMsP99: 0,
    scheduleLagMsP99: 0,
    scheduleShiftMs: 0,
    scheduleShiftMsMax: 0,
    gcMs: 0,
    cpuWaitMs: null,
    ramp: NO_LOAD,
    hold: NO_LOAD,
  };
}

const EMPTY_STATS: Stats = {
  attempted: 0,
  established: 0,
  open: 0,
  openAtHold: 0,
  openMin: 0,
  verified: 0,
  verifiedMin: 0,
  verifiedInHold: 0,
  pending: 0,
  closed: 0,
  unattempted: 0,
  failed: {},
  dropped: {},
  localSkips: {},
  droppedBy: {},
  lossDetailsCut: 0,
  youngDrops: 0,
  resetsOnProbe: 0,
  probeTimeoutsAcked: 0,
  recentLosses: emptyHistogram(),
  reopened: 0,
  reopenFailed: 0,
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
  return {
    ...EMPTY_STATS,
    failed: {},
    dropped: {},
    localSkips: {},
    droppedBy: {},
    openBySource: {},
    openByEndpoint: {},
  };
}

/**
 * The sum of two parts of a run that have no connection in common. `rampMs` is the longer one; `openMin` and
 * `verifiedMin` add up to a number that the whole never fell below.
 */
function mergeStats(a: Stats, b: Stats): Stats {
  return {
    attempted: a.attempted + b.attempted,
    established: a.established + b.established,
    open: a.open + b.open,
    openAtHold: a.openAtHold + b.openAtHold,
    openMin: a.openMin + b.openMin,
    verified: a.verified + b.verified,
    verifiedMin: a.verifiedMin + b.verifiedMin,
    verifiedInHold: a.verifiedInHold + b.verifiedInHold,
    pending: a.pending + b.pending,
    closed: a.closed + b.closed,
    unattempted: a.unattempted + b.unattempted,
    failed: addCounts(a.failed, b.failed),
    dropped: addCounts(a.dropped, b.dropped),
    localSkips: addCounts(a.localSkips, b.localSkips),
    droppedBy: addCounts(a.droppedBy, b.droppedBy) as Record<string, number>,
    lossDetailsCut: a.lossDetailsCut + b.lossDetailsCut,
    youngDrops: a.youngDrops + b.youngDrops,
    resetsOnProbe: a.resetsOnProbe + b.resetsOnProbe,
    probeTimeoutsAcked: a.probeTimeoutsAcked + b.probeTimeoutsAcked,
    recentLosses: newestLosses(mergeHistograms(a.recentLosses, b.recentLosses)),
    reopened: a.reopened + b.reopened,
    reopenFailed: a.reopenFailed + b.reopenFailed,
    synRetransmits: a.synRetransmits + b.synRetransmits,
    retransmittedConnects: a.retransmittedConnects + b.retransmittedConnects,
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
    probesSent: a.probesSent + b.probesSent,
    probesAnswered: a.probesAnswered + b.probesAnswered,
    connectUs: mergeHistograms(a.connectUs, b.connectUs),
    connectFromIntendedUs: mergeHistograms(a.connectFromIntendedUs, b.connectFromIntendedUs),
    probeUs: mergeHistograms(a.probeUs, b.probeUs),
    openBySource: addCounts(a.openBySource, b.openBySource) as Record<string, number>,
    openByEndpoint: addCounts(a.openByEndpoint, b.openByEndpoint) as Record<string, number>,
    rampMs: Math.max(a.rampMs, b.rampMs),
    ...returnsOfBoth(a, b),
    ...backendsOfBoth(a.backends, b.backends),
    ...seenOfBoth(a.seen, b.seen),
    ...protocolsOfBoth(a, b),
    ...messagesOfBoth(a.messages, b.messages),
    ...loadOfBoth(a.load, b.load),
    ...evidenceOfBoth(a, b),
  };
}

/** A part that has attempted something and has no evidence makes that of the whole unknown: it is not zero. */
function evidenceOfBoth(a: Stats, b: Stats): Pick<Stats, 'evidence'> {
  if (a.evidence !== undefined && b.evidence !== undefined)
    return { evidence: mergeEvidence(a.evidence, b.evidence) };
  const [known, unknown] = a.evidence === undefined ? [b, a] : [a, b];
  return known.evidence === undefined || unknown.attempted > 0 ? {} : { evidence: known.evidence };
}

function returnsOfBoth(a: Stats, b: Stats): Pick<Stats, 'recentReturns'> {
  const recentReturns = mergeReturns(a.recentReturns, b.recentReturns);
  return recentReturns === undefined ? {} : { recentReturns };
}

function backendsOfBoth(a: Stats['backends'], b: Stats['backends']): Pick<Stats, 'backends'> {
  if (a === undefined || b === undefined)
    return a === undefined && b === undefined ? {} : { backends: a ?? b ?? {} };
  return { backends: addBounded(a, b, BACKENDS_MAX, OTHER_BACKENDS) };
}

function protocolsOfBoth(a: Stats, b: Stats): Pick<Stats, 'troubles' | 'tls'> {
  const errors = a.troubles === undefined ? b.troubles : addProtocolErrors(a.troubles, b.troubles ?? {});
  const tls = a.tls === undefined || b.tls === undefined ? (a.tls ?? b.tls) : mergeTls(a.tls, b.tls);
  return { ...(errors === undefined ? {} : { troubles: errors }), ...(tls === undefined ? {} : { tls }) };
}

function seenOfBoth(a: SeenCounts | undefined, b: SeenCounts | undefined): Pick<Stats, 'seen'> {
  if (a === undefined) return b === undefined ? {} : { seen: b };
  return { seen: b === undefined ? a : mergeSeen(a, b) };
}

/** Connections of the ramp: those that were opened in place of lost ones, or by a load that changes later, are not. */
export function firstOpened(stats: Stats): number {
  return stats.established - stats.reopened - (stats.load?.openedLater ?? 0);
}

/** Connections of the ramp by its length, per second; where it took no time, their number. */
export function rampRatePerSec(stats: Stats): number {
  const opened = firstOpened(stats);
  return stats.rampMs === 0 ? opened : (opened * 1_000) / stats.rampMs;
}

/** The sum of any number of parts; `emptyStats` for none. */
export function mergeAllStats(list: readonly Stats[]): Stats {
  // By halves: one after the other, the tables by source of thousands of agents would be copied thousands of times.
  if (list.length > 2) {
    const middle = Math.ceil(list.length / 2);
    return mergeStats(mergeAllStats(list.slice(0, middle)), mergeAllStats(list.slice(middle)));
  }
  return list.reduce(mergeStats, emptyStats());
}

/** Names of ciphers that a report tells apart; what goes beyond is counted as `other`. */
const CIPHERS_MAX = 256;

/** Cumulative. */
export interface TlsCounts {
  /** sessions that were agreed on */
  readonly sessions: number;
  /** of these, taken up from an earlier one; a full handshake costs the target more */
  readonly resumed: number;
  /** of these, with a certificate that would not have passed (`--insecure`) */
  readonly unverified: number;
  /** microseconds from the kernel's connect to the agreed session */
  readonly handshakeUs: SparseHistogram;
  /** sessions by `protocol cipher`, such as `TLSv1.3 TLS_AES_256_GCM_SHA384` */
  readonly ciphers: Readonly<Record<string, number>>;
  /** sessions by what the target chose by ALPN, `none` where it chose nothing; absent: from an agent that does not count it */
  readonly alpn?: Readonly<Record<string, number>>;
}

/** The sum of two parts. */
function mergeTls(a: TlsCounts, b: TlsCounts): TlsCounts {
  const alpn = a.alpn ?? (b.alpn === undefined ? null : {});
  return {
    sessions: a.sessions + b.sessions,
    resumed: a.resumed + b.resumed,
    unverified: a.unverified + b.unverified,
    handshakeUs: mergeHistograms(a.handshakeUs, b.handshakeUs),
    ciphers: addBounded(a.ciphers, b.ciphers, CIPHERS_MAX, 'other'),
    ...(alpn === null ? {} : { alpn: addBounded(alpn, b.alpn ?? {}, CIPHERS_MAX, 'other') }),
  };
}

export type Phase = 'gathering' | 'preparing' | 'ramping' | 'holding' | 'draining' | 'ended';

const HISTOGRAMS = [
  'connectUs',
  'connectFromIntendedUs',
  'probeUs',
] as const satisfies readonly (keyof Stats)[];
type HistogramField = (typeof HISTOGRAMS)[number];

/** Stats in which null stands for a histogram, or evidence, that has not changed since the last ones on the same channel. */
export type StatsDelta = Omit<Stats, HistogramField | 'evidence' | 'load'> & {
  readonly [Field in HistogramField]: SparseHistogram | null;
} & {
  readonly evidence?: Evidence | null;
  readonly load?: LoadCounts | null;
  /** what came to histograms that are null here, since the last ones on the same channel; absent: nothing */
  readonly grown?: Grown;
};

/** By histogram: what came to it, which is never nothing. */
type Grown = { readonly [Field in HistogramField]?: SparseHistogram };

/**
 * What of the stats the other side does not know.
 * @param sent the stats that were sent last on this channel; null: none, so everything has changed
 * @param takesGrowth whether the other side knows `grown`; without, a histogram that has changed is said whole
 */
export function statsDelta(stats: Stats, sent: Stats | null, takesGrowth = false): StatsDelta {
  const grown: { [Field in HistogramField]?: SparseHistogram } = {};
  const changed = (field: HistogramField): SparseHistogram | null => {
    const now = stats[field];
    const before = sent?.[field];
    if (before === undefined) return now;
    // A histogram only grows, so its total tells whether it changed.
    if (before === now || histogramCount(before) === histogramCount(now)) return null;
    const added = takesGrowth ? grownBy(before, now) : null;
    if (added === null || added.length >= now.length) return now;
    grown[field] = added;
    return null;
  };
  const [connectUs, connectFromIntendedUs, probeUs] = HISTOGRAMS.map(changed) as [
    SparseHistogram | null,
    SparseHistogram | null,
    SparseHistogram | null,
  ];
  return {
    ...stats,
    connectUs,
    connectFromIntendedUs,
    probeUs,
    ...(Object.keys(grown).length === 0 ? {} : { grown }),
    ...(stats.load === undefined ? {} : { load: changedLoad(stats.load, sent?.load) }),
    ...(stats.evidence === undefined ? {} : { evidence: changedEvidence(stats.evidence, sent?.evidence) }),
  };
}

/** In a silent hold nothing of it changes for hours, and it is the longest part of a message. */
function changedEvidence(now: Evidence, sent: Evidence | undefined): Evidence | null {
  return sent !== undefined && JSON.stringify(sent) === JSON.stringify(now) ? null : now;
}

/** The whole stats again, from what was said and what was known before. They are to be kept, so their histograms are compact. */
export function withDelta(known: Stats, { evidence, load, grown, ...said }: StatsDelta): Stats {
  const keptLoad = load === null ? known.load : load;
  const kept = evidence === null ? known.evidence : evidence;
  const whole = (field: HistogramField): SparseHistogram => {
    const given = said[field];
    if (given !== null) return compactHistogram(given);
    const added = grown?.[field];
    return added === undefined ? known[field] : grownHistogram(known[field], added);
  };
  return {
    ...said,
    ...(kept === undefined ? {} : { evidence: kept }),
    ...(keptLoad === undefined ? {} : { load: keptLoad }),
    connectUs: whole('connectUs'),
    connectFromIntendedUs: whole('connectFromIntendedUs'),
    probeUs: whole('probeUs'),
  };
}

/**
 * The last known stats of a lost holder or agent, as they count from now on.
 * @param stats the last snapshot
 * @param reason `holder-lost` or `agent-lost`
 * @param quota what it was asked to hold; what it had not settled counts as unattempted
 */
export function withAllLost(stats: Stats, reason: DropReason, quota: number): Stats {
  const attempted = stats.attempted - stats.pending;
  const isOpen = stats.open > 0;
  const dropped = isOpen
    ? { ...stats.dropped, [reason]: (stats.dropped[reason] ?? 0) + stats.open }
    : stats.dropped;
  return {
    ...stats,
    attempted,
    // What was opened in place of a lost connection was attempted beyond the quota.
    unattempted: Math.max(0, quota - (attempted - stats.reopened - (stats.load?.openedLater ?? 0))),
    pending: 0,
    open: 0,
    openMin: 0,
    verified: 0,
    verifiedMin: 0,
    verifiedInHold: 0,
    dropped,
    ...(stats.load === undefined ? {} : { load: loadAllLost(stats.load) }),
    droppedBy: isOpen ? withSourcesLost(stats, reason) : stats.droppedBy,
    ...(isOpen && stats.evidence !== undefined
      ? { evidence: evidenceAllLost(stats, stats.evidence, reason) }
      : {}),
    openBySource: {},
    openByEndpoint: {},
    ...(stats.backends === undefined ? {} : { backends: {} }),
  };
}

/** The places of what was open lose it; what has no place is lost at `*`. */
function evidenceAllLost(stats: Stats, evidence: Evidence, reason: DropReason): Evidence {
  const { open, openByEndpoint, openBySource } = stats;
  return {
    ...evidence,
    byEndpoint: withDrops(evidence.byEndpoint, openByEndpoint, open, reason),
    bySourceOutcome: withDrops(evidence.bySourceOutcome, openBySource, open, reason),
  };
}
