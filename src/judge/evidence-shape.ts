/**
 * Owns what a diagnosis may rest on, each part of which an older agent may not have sent, and the shapes in it that name no party by
 * themselves: whether successes stopped before failures began, how alike ages are, one place of several. Must never take an absent
 * part for zero or for a shape.
 */
import { type Counts, type DropReason, type FailReason, totalOf } from '../base/outcome.ts';
import type { KernelEvidence } from '../host/kernel-evidence.ts';
import {
  histogramCount,
  mergeHistograms,
  type SparseHistogram,
  valueUsAt,
  valueUsAtRank,
} from '../stats/histogram.ts';
import { SERIES_BUCKET_MS } from '../stats/time-series.ts';
import type { RunReport, TimelinePoint } from './report.ts';

/** Counts over time by kind, buckets of `2^folds` units each since the run's start. */
interface Series<Kind extends string> {
  readonly folds: number;
  readonly counts: Readonly<Record<Kind, readonly number[]>>;
}

/** Lengths of time in milliseconds, with their exact least and most. */
interface Durations {
  readonly histogram: SparseHistogram;
  readonly leastMs: number;
  readonly mostMs: number;
}

/** What shapes are seen in. */
type Lengths = Pick<Durations, 'histogram'>;

/** What became of the connects to one endpoint, or of one source. */
interface PlaceCounts {
  readonly asked: number;
  readonly established: number;
  readonly failed: Counts<FailReason>;
  readonly dropped: Counts<DropReason>;
}

interface Words {
  readonly asked: number;
  readonly answered: number;
  readonly reset: number;
  readonly silent: number;
}

type ByEnd = { readonly fin: Durations; readonly rst: Durations };

/** When, where, how old, what was said, what was sent: see stats/evidence.ts, which sends it. */
interface DiagnosisEvidence {
  /** by the time of the call */
  readonly connectsAt?: Series<'established' | 'answeredNo' | 'silent'>;
  readonly lossesAt?: Series<'fin' | 'rst' | 'silent'>;
  readonly lossAgeMs?: ByEnd;
  readonly lossSilenceMs?: ByEnd;
  readonly byEndpoint?: Readonly<Record<string, PlaceCounts>>;
  readonly bySourceOutcome?: Readonly<Record<string, PlaceCounts>>;
  /** by block of 1,024 source ports */
  readonly byPortBlock?: Readonly<
    Record<'asked' | 'established' | 'answeredNo' | 'silent', readonly number[]>
  >;
  /** refusals by the number of successes since the refusal before, in the order of the calls; the last one: so many or more */
  readonly gapsBetweenFailures?: readonly number[];
  readonly said?: {
    readonly texts: readonly { readonly text: string; readonly first: number; readonly last: number }[];
  };
  readonly notSent?: number;
  readonly notAcknowledged?: number;
  readonly acknowledged?: number;
  /** lost before their application had ever answered, where it is asked */
  readonly lostUnanswered?: { readonly fin: number; readonly rst: number };
  readonly finalCheck?: { readonly rampEnd: Words; readonly holdEnd: Words };
}

/** What a diagnosis rests on; a report has it all. */
export type DiagnosisFacts = Pick<
  RunReport,
  'asked' | 'connections' | 'probes' | 'losses' | 'hold' | 'kernel' | 'target' | 'agents'
> & {
  readonly generator: Pick<RunReport['generator'], 'limits' | 'loopLagMsMax'>;
  /** only where a whoami target was asked */
  readonly seen?: RunReport['seen'];
  readonly evidence?: DiagnosisEvidence | null;
  readonly timeline?: readonly TimelinePoint[];
  readonly connectMs?: Pick<RunReport['connectMs'], 'max'>;
  readonly ramp?: Pick<RunReport['ramp'], 'retransmittedConnects'>;
  readonly echoMs?: Pick<RunReport['echoMs'], 'p90'>;
  readonly troubles?: RunReport['troubles'];
};

type Aftermath = NonNullable<KernelEvidence['aftermath']>[string];
type FarSide = NonNullable<KernelEvidence['farSide']>[string];

/** A counter of the kernel, summed over hosts. */
export function counterOf(facts: DiagnosisFacts, name: string): number {
  return facts.kernel.counters[name] ?? 0;
}

/** What was found of the listeners of this host that are endpoints. */
export function farSidesOf(facts: DiagnosisFacts): readonly FarSide[] {
  return facts.kernel.hosts.flatMap(({ farSide }) => Object.values(farSide ?? {}));
}

/** One more connect to each endpoint, over all agents. */
export function aftermathsOf(facts: DiagnosisFacts): readonly Aftermath[] {
  return facts.kernel.hosts.flatMap(({ aftermath }) => Object.values(aftermath ?? {}));
}

/** An ICMP error that answered a further connect to an endpoint. */
interface Rejected extends NonNullable<Aftermath['rejected']> {
  readonly endpoint: string;
}

/** Every endpoint that answered a further connect with an ICMP error. */
export function rejectedBy(facts: DiagnosisFacts): readonly Rejected[] {
  return facts.kernel.hosts.flatMap(({ aftermath }) =>
    Object.entries(aftermath ?? {}).flatMap(([endpoint, { rejected }]) =>
      rejected === undefined ? [] : [{ endpoint, ...rejected }],
    ),
  );
}

/** ICMP errors that our kernels received during the run, of whatever connection; 0 where they are not counted. */
export function icmpErrors(facts: DiagnosisFacts, family: 4 | 6): number {
  const group = family === 4 ? 'Icmp' : 'Icmp6';
  return counterOf(facts, `${group}InDestUnreachs`) + counterOf(facts, `${group}InTimeExcds`);
}

/** How all further connects ended; null: none was made, or they differ. */
export function newConnects(facts: DiagnosisFacts): Aftermath['connect'] | null {
  const all = new Set(aftermathsOf(facts).map(({ connect }) => connect));
  return all.size === 1 ? ([...all][0] ?? null) : null;
}

/** Whether a router is on the way to every endpoint (or to none); null: not known, or they differ. */
export function isRouted(facts: DiagnosisFacts): boolean | null {
  const all = new Set(aftermathsOf(facts).map((one) => one.isRouted));
  return all.size === 1 ? ([...all][0] ?? null) : null;
}

/**
 * Whether only the target's own host can have sent a RST for it: it is this host, or no router is between. A filter of a router that rejects
 * by reset sends it from the target's address, and no TCP socket sees its time to live.
 */
export function isNear(facts: DiagnosisFacts): boolean {
  const { length } = farSidesOf(facts);
  return isRouted(facts) === false || (length > 0 && length >= facts.asked.endpoints.length);
}

/** What tells a RST of the target from one of a filter on the way, as a command. */
export const WHO_RESETS =
  "at the target, while one connect is made: tcpdump -n 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0' (a SYN that does not arrive there was rejected on the way); from here the same with -v: the ttl of the RST beside that of ping";

/** A share of connects that needed a further SYN from which packets get lost all along, and of losses that is no accident. */
const LOSSY_SHARE = 0.02;
const HEAVY_SHARE = 0.2;
const MIXED_SHARE = 0.1;
const FEW_SHARE = 0.05;

/**
 * Whether packets get lost at random while connections live on: connects needed further SYNs, and of the probes without an answer some were
 * acknowledged and some were not. Then an acknowledgement without an answer says nothing about the application, and silence is no cut.
 */
export function isLossy(facts: DiagnosisFacts): boolean {
  const { established, open } = facts.connections;
  const again = facts.ramp?.retransmittedConnects ?? 0;
  if (again >= Math.max(1, established * HEAVY_SHARE)) return true;
  if (again < established * LOSSY_SHARE || again === 0) return false;
  const { acknowledged = 0, notAcknowledged = 0 } = facts.evidence ?? {};
  const isMixed = notAcknowledged >= (acknowledged + notAcknowledged) * MIXED_SHARE;
  return (
    open >= established * MIXED_SHARE && (isMixed || acknowledged <= Math.max(again, established * FEW_SHARE))
  );
}

/** The share of failures from which they have begun, and of successes after it that is none. */
const BEGUN = 0.1;
const NONE_AFTER = 0.02;
const SOME_AFTER = 0.1;
/** Ages are equal when nearly all of them differ by no more than this share of the median, and what a busy machine adds. */
const EQUAL_SHARE = 0.05;
const EQUAL_SLACK_MS = 50;
/** Shorter ones are closed young, and no timeout. */
const LENGTH_MS_MIN = 300;
/** How many times the one spread must be the other. */
const CLEARLY = 2.5;
/** The same where a full queue let some wait before they were taken. */
const ALIKE_SHARE = 0.25;
/** The same where the least half of them are equal. */
const LATE_SHARE = 0.5;
/** Fewer losses have no shape. */
const SHAPE_COUNT_MIN = 10;

function sumOf(list: readonly number[], from = 0, to = list.length): number {
  let sum = 0;
  for (let at = from; at < Math.min(to, list.length); at++) sum += list[at] ?? 0;
  return sum;
}

/** Whether successes stop for good before failures begin (`stops`), or go on beside them; null: it cannot be seen. */
export function orderOf(facts: DiagnosisFacts, kind: 'answeredNo' | 'silent'): 'stops' | 'goes-on' | null {
  const counts = facts.evidence?.connectsAt?.counts;
  if (counts === undefined) return null;
  const { established } = counts;
  const failures = counts[kind];
  const all = sumOf(established);
  const begun = sumOf(failures) * BEGUN;
  if (all === 0 || begun === 0) return null;
  let at = 0;
  for (let seen = failures[0] ?? 0; seen < begun; seen += failures[at] ?? 0) at++;
  const after = sumOf(established, at + 1);
  if (after >= all * SOME_AFTER) return 'goes-on';
  return after <= all * NONE_AFTER && sumOf(established, 0, at) >= all / 2 ? 'stops' : null;
}

interface Length {
  readonly count: number;
  readonly medianMs: number;
  /** below which next to none are: what a busy host closes late is older */
  readonly lowMs: number;
  /** between which nearly all are */
  readonly spreadMs: number;
  /** how far half of them are above the least: a busy host closes late, and never early */
  readonly edgeMs: number;
}

/** How long, and how alike; null: too few. */
function lengthOf(durations: Lengths | undefined): Length | null {
  const histogram = durations?.histogram ?? [];
  const count = histogramCount(histogram);
  if (count < SHAPE_COUNT_MIN) return null;
  const at = (share: number): number => valueUsAtRank(histogram, Math.max(1, Math.ceil(count * share)));
  return {
    count,
    medianMs: at(0.5),
    lowMs: at(0.05),
    spreadMs: at(0.95) - at(0.05),
    edgeMs: at(0.5) - at(0.05),
  };
}

/** The length that nearly all have in common; null: they differ, or are too short to be a timeout. */
export function equalLength(durations: Lengths | undefined): Length | null {
  const length = lengthOf(durations);
  if (length === null || length.medianMs < LENGTH_MS_MIN) return null;
  return length.spreadMs <= length.medianMs * EQUAL_SHARE + EQUAL_SLACK_MS ? length : null;
}

/** The same, less strictly: what waited in a queue before it was taken is older by that. */
export function alikeLength(durations: Lengths | undefined): Length | null {
  const length = lengthOf(durations);
  if (length === null || length.medianMs < LENGTH_MS_MIN) return null;
  const isLate = length.spreadMs <= length.medianMs * LATE_SHARE;
  if (isLate && length.edgeMs <= length.medianMs * EQUAL_SHARE) return length;
  return length.spreadMs <= length.medianMs * ALIKE_SHARE ? length : null;
}

/** The median; null: too few. */
export function medianMs(durations: Lengths | undefined): number | null {
  return lengthOf(durations)?.medianMs ?? null;
}

/** How many are no longer than that. */
function youngerThan(durations: Durations | undefined, ms: number): number {
  const histogram = durations?.histogram ?? [];
  let low = 0;
  let high = histogramCount(histogram);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (valueUsAtRank(histogram, middle) <= ms) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** What is closed sooner was never held. */
const YOUNG_MS = 1_000;
/** The same where a good share was closed as young: a busy target comes to the others later. */
const YOUNG_LATE_MS = 5_000;
const YOUNG_SHARE = 0.25;
/** What is older by more than this factor than those before it is no late one of them: a timeout, or another cause. */
const YOUNG_GAP = 2;

/** The ages of a histogram with their counts, the youngest first. */
function* agesOf(histogram: SparseHistogram): Generator<readonly [ms: number, index: number, count: number]> {
  for (let at = 0; at + 1 < histogram.length; at += 2) {
    const [index, count] = [histogram[at] ?? 0, histogram[at + 1] ?? 0];
    yield [valueUsAt(index), index, count];
  }
}

/** Up to which age a connection counts as closed young, milliseconds. */
function youngMs(facts: DiagnosisFacts): number {
  const { fin, rst } = facts.evidence?.lossAgeMs ?? {};
  const all = (facts.connections.dropped.fin ?? 0) + (facts.connections.dropped.rst ?? 0);
  const surely = youngerThan(fin, YOUNG_MS) + youngerThan(rst, YOUNG_MS);
  if (neverAnswered(facts) !== null || surely < all * YOUNG_SHARE) return YOUNG_MS;
  let last = YOUNG_MS;
  for (const [ms] of agesOf(mergeHistograms(fin?.histogram ?? [], rst?.histogram ?? []))) {
    if (ms <= last) continue;
    if (ms > YOUNG_LATE_MS || ms > YOUNG_GAP * last) break;
    last = ms;
  }
  return last;
}

/** Connections that the far side ended: all, those closed young, or those that had been held. */
type EndedGroup = 'all' | 'young' | 'held';

/** How old connections of one group were when the far side ended them. */
export function agesOfGroup(facts: DiagnosisFacts, kind: 'fin' | 'rst', group: EndedGroup): Lengths {
  const all = facts.evidence?.lossAgeMs?.[kind] ?? { histogram: [] };
  if (group === 'all') return all;
  const histogram: number[] = [];
  const boundMs = youngMs(facts);
  for (const [ms, index, count] of agesOf(all.histogram))
    if (ms <= boundMs === (group === 'young')) histogram.push(index, count);
  return { histogram };
}

/** Connections that were lost before their application had ever answered; null: nothing is asked, or it is not known. */
function neverAnswered({ asked, evidence }: DiagnosisFacts): { fin: number; rst: number } | null {
  return asked.probeEveryMs === null ? null : (evidence?.lostUnanswered ?? null);
}

/** The same; none where it is not known. */
export function lostUnanswered(facts: DiagnosisFacts): { fin: number; rst: number } {
  return neverAnswered(facts) ?? { fin: 0, rst: 0 };
}

/** Connections that the far side ended before they were ever held: young, or without an answer so far, at whatever age. */
export function endedYoung(facts: DiagnosisFacts): { fin: number; rst: number } {
  const { evidence, losses, connections } = facts;
  const { fin = 0, rst = 0 } = connections.dropped;
  const never = neverAnswered(facts);
  const youngerThanMs = (ms: number): { fin: number; rst: number } => ({
    fin: youngerThan(evidence?.lossAgeMs?.fin, ms),
    rst: youngerThan(evidence?.lossAgeMs?.rst, ms),
  });
  const surely = youngerThanMs(YOUNG_MS);
  // What had answered and was reset at its next probe is no young one, however soon that came.
  if (never !== null) return { fin: Math.max(surely.fin, never.fin), rst: never.rst };
  const byAge = youngerThanMs(youngMs(facts));
  // Own counts leave out what was reset at a probe; without ages they are all that is known.
  const isByAge = byAge.fin + byAge.rst >= losses.young + losses.resetsOnProbe;
  const youngFin = isByAge ? byAge.fin : Math.min(fin, losses.young);
  const youngRst = isByAge ? byAge.rst : Math.min(rst, losses.young - youngFin);
  return { fin: youngFin, rst: youngRst };
}

/**
 * When nearly all losses of a kind came, least and most that it may have taken, milliseconds; null: not known.
 * @param youngCount the first so many are left out
 */
function momentsOf(
  facts: DiagnosisFacts,
  kind: 'fin' | 'rst',
  youngCount: number,
): { low: number; high: number } | null {
  const series = facts.evidence?.lossesAt;
  const counts = series?.counts[kind];
  if (series === undefined || counts === undefined) return null;
  const all = sumOf(counts) - youngCount;
  if (all < SHAPE_COUNT_MIN) return null;
  let first = 0;
  let last = counts.length - 1;
  for (let seen = counts[0] ?? 0; seen < youngCount + all * 0.05; seen += counts[first] ?? 0) first++;
  for (let seen = counts[last] ?? 0; seen < all * 0.05; seen += counts[last] ?? 0) last--;
  const width = SERIES_BUCKET_MS * 2 ** series.folds;
  return { low: Math.max(0, last - first - 1) * width, high: (last - first + 1) * width };
}

/**
 * What made connections end: each at its own age (`age`), all in one moment whatever their age (`moment`); null: both fit, or neither.
 * @param group of those that were held alone, or of all
 */
export function endShape(
  facts: DiagnosisFacts,
  kind: 'fin' | 'rst',
  group: 'all' | 'held' = 'all',
): 'age' | 'moment' | null {
  const own = agesOfGroup(facts, kind, group);
  const ages = group === 'all' ? [own, facts.evidence?.lossSilenceMs?.[kind]] : [own];
  const count = histogramCount(agesOfGroup(facts, kind, 'all').histogram);
  const moments = momentsOf(facts, kind, count - histogramCount(own.histogram));
  const age = lengthOf(ages[0]);
  if (moments === null || age === null) return null;
  const equal = ages.map(equalLength).filter((one) => one !== null);
  if (equal.some(({ spreadMs }) => moments.low >= CLEARLY * Math.max(spreadMs, 1))) return 'age';
  return age.spreadMs >= CLEARLY * moments.high ? 'moment' : null;
}

/** One place, and the others. */
interface Outlier {
  readonly bad: readonly (readonly [name: string, counts: PlaceCounts])[];
  readonly good: readonly (readonly [name: string, counts: PlaceCounts])[];
}

const BAD_SHARE = 0.9;
const GOOD_SHARE = 0.02;

function lostShare({ asked, failed, dropped }: PlaceCounts): number {
  return asked === 0 ? 0 : (totalOf(failed) + totalOf(dropped)) / asked;
}

/** Places that have lost nearly all while all others have lost next to nothing; null: there is no such difference. */
export function outlierOf(places: Readonly<Record<string, PlaceCounts>> | undefined): Outlier | null {
  const all = Object.entries(places ?? {}).filter(([name, { asked }]) => name !== '*' && asked > 0);
  const bad = all.filter(([, counts]) => lostShare(counts) >= BAD_SHARE);
  const good = all.filter(([, counts]) => lostShare(counts) <= GOOD_SHARE);
  return bad.length > 0 && good.length > 0 && bad.length + good.length === all.length ? { bad, good } : null;
}

/** What every source holds alike while each asked for more. */
interface EqualShare {
  readonly each: number;
  readonly sources: number;
  /** they asked for different numbers, so that it is no accident of taking turns */
  readonly isProven: boolean;
}

/** The number that every source kept; null: they differ, or there is one source. */
export function equalShareOf(facts: DiagnosisFacts): EqualShare | null {
  const all = Object.entries(facts.evidence?.bySourceOutcome ?? {}).filter(
    ([name, { asked }]) => name !== '*' && asked > 0,
  );
  if (all.length < 2) return null;
  const kept = all.map(([, counts]) => counts.established - totalOf(counts.dropped));
  const asked = all.map(([, counts]) => counts.asked);
  const each = Math.max(...kept);
  if (each < SHAPE_COUNT_MIN || each - Math.min(...kept) > Math.max(1, each * 0.01)) return null;
  if (all.some(([, counts]) => counts.asked <= each)) return null;
  const isProven = Math.max(...asked) >= Math.min(...asked) * 1.1;
  return { each, sources: all.length, isProven };
}

/** Counts of the finer series in buckets of the coarser one. */
function foldedTo(counts: readonly number[], times: number): number[] {
  const folded: number[] = [];
  for (const [at, count] of counts.entries()) {
    const bucket = Math.floor(at / 2 ** times);
    folded[bucket] = (folded[bucket] ?? 0) + count;
  }
  return Array.from(folded, (count) => count ?? 0);
}

/**
 * Whether connections were closed one for one as new ones came, so that the number open stayed the same, and no longer than
 * that.
 */
export function isEviction(facts: DiagnosisFacts): boolean {
  const { connectsAt, lossesAt } = facts.evidence ?? {};
  const { open } = facts.connections;
  if (connectsAt === undefined || lossesAt === undefined || open === 0) return false;
  const folds = Math.max(connectsAt.folds, lossesAt.folds);
  const opened = foldedTo(connectsAt.counts.established, folds - connectsAt.folds);
  const lost = foldedTo(lossesAt.counts.fin, folds - lossesAt.folds).map(
    (count, at) => count + (foldedTo(lossesAt.counts.rst, folds - lossesAt.folds)[at] ?? 0),
  );
  const first = lost.findIndex((count) => count > 0);
  const widthMs = SERIES_BUCKET_MS * 2 ** folds;
  const tailMs = (lost.length - opened.length) * widthMs;
  // The oldest go: each is as old as it took the target to fill up. A limit closes the newest.
  const age = medianMs(facts.evidence?.lossAgeMs?.fin) ?? medianMs(facts.evidence?.lossAgeMs?.rst) ?? 0;
  if (age < first * widthMs * 0.5) return false;
  // At least three buckets in which both happen, and nothing is lost a second after the last one came.
  if (first < 1 || opened.length - first < 3 || tailMs > 1_000) return false;
  let now = sumOf(opened, 0, first);
  for (let at = first; at < opened.length; at++) {
    now += (opened[at] ?? 0) - (lost[at] ?? 0);
    // A busy target takes new ones late, and closes none before it has taken more than it keeps.
    const late = open * LATE_SHARE + (opened[at] ?? 0);
    if (now - open > late || open - now > open * 0.15 + (opened[at] ?? 0)) return false;
  }
  return true;
}
