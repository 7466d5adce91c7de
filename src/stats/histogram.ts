/**
 * Owns latencies as mergeable histograms: recording without allocation, sparse counts to send, percentiles.
 * Must never import the complete hdr-histogram-js (15 MB resident in every holder; histogram-encoding.ts does that).
 */
import int32Histogram from 'hdr-histogram-js/dist/Int32Histogram.js';

/** The shortest latency that is distinguished, in microseconds; shorter ones count as this. */
export const LATENCY_US_MIN = 1;
/** The longest latency that is distinguished, in microseconds: one hour; longer ones count as this. */
export const LATENCY_US_MAX = 3_600_000_000;
/** Decimal digits that every recorded value keeps. */
export const SIGNIFICANT_DIGITS = 3;

/**
 * The counts of an HdrHistogram with the three constants above: `[countsIndex, count, countsIndex, count, ...]`,
 * indexes ascending, counts above 0. A list where it is made, said or heard; where many are kept, numbers of as few bytes as
 * they need (`compactHistogram`).
 */
export type SparseHistogram = Readonly<ArrayLike<number>>;

/** Percentiles in microseconds; null when nothing was recorded. */
interface LatencySummary {
  readonly count: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
}

// A CommonJS module with an `exports.default`: Node gives an importing ES module the exports object.
const Int32Histogram = int32Histogram.default;

/** The value scale alone; nothing is ever recorded in it. */
const SCALE = new Int32Histogram(LATENCY_US_MIN, LATENCY_US_MAX, SIGNIFICANT_DIGITS);

/** The length of the counts array: indexes of a `SparseHistogram` are 0 to this - 1. */
export const COUNTS_LENGTH = SCALE.countsArrayLength;

/** Different values that `coarseMs` makes of those in range. */
export const LOSS_TIMES_MAX = 2_048;
const COARSE_BITS = 7;

/**
 * The largest value of 7 binary digits that is not above it: within 1.6 %, so that a histogram of ages stays short whatever they are.
 * @param ms 0 to LATENCY_US_MAX
 */
export function coarseMs(ms: number): number {
  const whole = Math.min(LATENCY_US_MAX, Math.floor(ms));
  const step = 2 ** Math.max(0, 32 - Math.clz32(whole) - COARSE_BITS);
  return Math.floor(whole / step) * step;
}

/** Nothing recorded; neutral for `mergeHistograms`. */
const EMPTY_HISTOGRAM: readonly number[] = [];

/** A histogram with nothing recorded. */
export function emptyHistogram(): readonly number[] {
  return EMPTY_HISTOGRAM;
}

/** log2 of the values in the first half of a bucket: 1,024 for three digits (HdrHistogram's subBucketHalfCountMagnitude). */
const HALF_BITS = SCALE.subBucketHalfCountMagnitude;

/**
 * Where a value is counted: countsArrayIndex() of HdrHistogram in whole numbers. The library's takes a logarithm and two powers, and
 * three latencies are recorded for each connect.
 * @param us whole, LATENCY_US_MIN to LATENCY_US_MAX, which is below 2^32
 */
function countsIndexOf(us: number): number {
  const bucket = Math.max(0, 31 - Math.clz32(us) - HALF_BITS);
  return (bucket << HALF_BITS) + (us >>> bucket);
}

/** Nothing is counted yet. */
const NO_COUNTS = new Int32Array(0);

/** Records latencies of one kind; about 100 KiB whatever their number, and next to nothing for none. */
export class LatencyRecorder {
  /** of full length from the first latency on: most runs have a kind of which there is none, such as probes */
  #counts = NO_COUNTS;
  #count = 0;
  /** of those that were recorded: indexes of the counts */
  #first = COUNTS_LENGTH;
  #last = -1;
  #sparse: readonly number[] = EMPTY_HISTOGRAM;
  #sparseCount = 0;

  /** how many latencies were recorded */
  get count(): number {
    return this.#count;
  }

  /**
   * Counts one latency. Allocates nothing but for the first one.
   * @param us microseconds; a fraction is rounded, and a value out of range is taken as the nearest in range
   */
  record(us: number): void {
    const rounded = Math.round(us);
    // Written so that NaN, which compares with nothing, becomes the minimum and not a crash in the hot loop.
    if (!(rounded >= LATENCY_US_MIN)) this.#add(LATENCY_US_MIN);
    else this.#add(rounded > LATENCY_US_MAX ? LATENCY_US_MAX : rounded);
  }

  #add(us: number): void {
    const index = countsIndexOf(us);
    if (this.#count === 0) this.#counts = new Int32Array(COUNTS_LENGTH);
    this.#counts[index]!++;
    this.#count++;
    if (index < this.#first) this.#first = index;
    if (index > this.#last) this.#last = index;
  }

  /**
   * A percentile of everything recorded so far, in microseconds; 0 when nothing was.
   * @param percent 0 to 100
   */
  percentileUs(percent: number): number {
    if (this.#count === 0) return 0;
    // As getValueAtPercentile() of HdrHistogram rounds.
    return valueUsAtRank(this.sparse(), Math.max(1, Math.floor((percent / 100) * this.#count + 0.5)));
  }

  /** Everything recorded so far; the same array as before when nothing was recorded since. */
  sparse(): readonly number[] {
    if (this.#count === this.#sparseCount) return this.#sparse;
    const pairs: number[] = [];
    for (let index = this.#first; index <= this.#last; index++) {
      const count = this.#counts[index]!;
      if (count > 0) pairs.push(index, count);
    }
    this.#sparse = pairs;
    this.#sparseCount = this.#count;
    return pairs;
  }
}

/**
 * The sum of two histograms; neither is changed.
 * @returns as if everything had been recorded in one
 */
export function mergeHistograms<Sparse extends SparseHistogram>(
  a: Sparse,
  b: Sparse,
): Sparse | readonly number[] {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const merged: number[] = [];
  let atA = 0;
  let atB = 0;
  while (atA < a.length || atB < b.length) {
    const indexA = atA < a.length ? a[atA]! : Number.POSITIVE_INFINITY;
    const indexB = atB < b.length ? b[atB]! : Number.POSITIVE_INFINITY;
    let count = 0;
    if (indexA <= indexB) {
      count += a[atA + 1]!;
      atA += 2;
    }
    if (indexB <= indexA) {
      count += b[atB + 1]!;
      atB += 2;
    }
    merged.push(Math.min(indexA, indexB), count);
  }
  return merged;
}

const UINT16_MAX = 2 ** 16 - 1;
const UINT32_MAX = 2 ** 32 - 1;
/** The most of one latency that is counted in what others say; so a sum of thousands of them stays whole. */
export const HISTOGRAM_COUNT_MAX = 2 ** 43;

/**
 * The same histogram to keep: 2 bytes a number in place of 8 wherever no count needs more, which is most of what an agent costs its
 * coordinator. No count is above HISTOGRAM_COUNT_MAX. It cannot be sent as it is: JSON of it is no list.
 */
export function compactHistogram(sparse: SparseHistogram): SparseHistogram {
  if (sparse.length === 0) return EMPTY_HISTOGRAM;
  let most = 0;
  for (let at = 0; at < sparse.length; at++) if (sparse[at]! > most) most = sparse[at]!;
  if (most <= UINT16_MAX) return new Uint16Array(sparse);
  if (most <= UINT32_MAX) return new Uint32Array(sparse);
  return Float64Array.from(sparse, (number) => Math.min(number, HISTOGRAM_COUNT_MAX));
}

/**
 * What has come to a histogram.
 * @returns null: it is not the same one grown
 */
export function grownBy(before: SparseHistogram, now: SparseHistogram): readonly number[] | null {
  const added: number[] = [];
  let from = 0;
  for (let at = 0; at < now.length; at += 2) {
    const index = now[at]!;
    const isKnown = from < before.length && before[from] === index;
    const more = now[at + 1]! - (isKnown ? before[from + 1]! : 0);
    if (isKnown) from += 2;
    if (more < 0) return null;
    if (more > 0) added.push(index, more);
  }
  return from === before.length ? added : null;
}

/** A histogram to keep, as `compactHistogram` makes it, with what came to it; neither is changed. */
export function grownHistogram(before: SparseHistogram, added: SparseHistogram): SparseHistogram {
  const grown = before instanceof Uint16Array ? grownCompact(before, added) : null;
  return grown ?? compactHistogram(mergeHistograms(before, added));
}

/**
 * The case of nearly every message of an agent that probes: no list between, which thousands of agents would make garbage of each second.
 * @returns null: a count needs more bytes
 */
function grownCompact(before: Uint16Array, added: SparseHistogram): Uint16Array | null {
  const grown = new Uint16Array(before.length + newIndexes(before, added) * 2);
  let from = 0;
  let to = 0;
  for (let at = 0; at < added.length; at += 2) {
    const index = added[at]!;
    while (from < before.length && before[from]! < index) {
      grown[to++] = before[from++]!;
      grown[to++] = before[from++]!;
    }
    const isKnown = from < before.length && before[from] === index;
    const count = added[at + 1]! + (isKnown ? before[from + 1]! : 0);
    if (count > UINT16_MAX || index > UINT16_MAX) return null;
    if (isKnown) from += 2;
    grown[to++] = index;
    grown[to++] = count;
  }
  while (from < before.length) grown[to++] = before[from++]!;
  return grown;
}

function newIndexes(before: Uint16Array, added: SparseHistogram): number {
  let count = 0;
  let from = 0;
  for (let at = 0; at < added.length; at += 2) {
    const index = added[at]!;
    while (from < before.length && before[from]! < index) from += 2;
    if (from >= before.length || before[from] !== index) count++;
  }
  return count;
}

/** How many latencies a histogram holds. */
export function histogramCount(sparse: SparseHistogram): number {
  let count = 0;
  for (let at = 1; at < sparse.length; at += 2) count += sparse[at]!;
  return count;
}

/** The highest value, in microseconds, that is counted at an index. */
export function valueUsAt(index: number): number {
  return SCALE.highestEquivalentValue(SCALE.valueFromIndex(index));
}

/**
 * The value that so many recorded values do not exceed, in microseconds.
 * @param rank 1 to the number of recorded values
 */
export function valueUsAtRank(sparse: SparseHistogram, rank: number): number {
  let seen = 0;
  for (let at = 0; at < sparse.length; at += 2) {
    seen += sparse[at + 1]!;
    if (seen >= rank) return valueUsAt(sparse[at]!);
  }
  return valueUsAt(sparse[sparse.length - 2]!);
}

/**
 * Percentiles as HdrHistogram defines them: the highest value equivalent to the one that so many percent of all
 * recorded values do not exceed. Within 0.1 % of what was recorded.
 * @returns microseconds; all null when nothing was recorded
 */
export function latencySummary(sparse: SparseHistogram): LatencySummary {
  const count = histogramCount(sparse);
  if (count === 0) return { count, p50: null, p90: null, p99: null, p999: null, max: null };
  const valueUs = (perMille: number): number => {
    // Thousandths are whole numbers, so no rounding error can skip a rank.
    return valueUsAtRank(sparse, Math.max(1, Math.ceil((perMille * count) / 1_000)));
  };
  return {
    count,
    p50: valueUs(500),
    p90: valueUs(900),
    p99: valueUs(990),
    p999: valueUs(999),
    max: valueUs(1_000),
  };
}
