/**
 * Owns counts over the time of a run as a series of fixed length: when it gets longer, two buckets become one, so a series of an hour
 * and one of a day are as small as one of a minute, and two of them add up. Must never hold a moment more exactly than its
 * bucket says: order inside a bucket is not known.
 */

/** Buckets of one series. */
export const SERIES_BUCKETS = 240;
/** The width of a bucket that was never folded, milliseconds: a ramp at full speed is over in a fifth of a second. */
export const SERIES_BUCKET_MS = 1;
/** A series folded so often spans 500 years. */
export const SERIES_FOLDS_MAX = 46;

/** Counts by kind, each bucket `SERIES_BUCKET_MS` x 2^`folds` long, from the run's start; buckets behind the last count are left out. */
export interface TimeSeries<Kind extends string> {
  readonly folds: number;
  readonly counts: Readonly<Record<Kind, readonly number[]>>;
}

function byKind<Kind extends string, Value>(
  kinds: readonly Kind[],
  countsOf: (kind: Kind, index: number) => Value,
): Record<Kind, Value> {
  return Object.fromEntries(kinds.map((kind, index) => [kind, countsOf(kind, index)])) as Record<Kind, Value>;
}

/** Each bucket and its neighbour are one. */
function folded(counts: readonly number[], times: number): readonly number[] {
  let now = counts;
  for (let fold = 0; fold < times; fold++) {
    const half: number[] = [];
    for (let at = 0; at < now.length; at += 2) half.push((now[at] ?? 0) + (now[at + 1] ?? 0));
    now = half;
  }
  return now;
}

function added(a: readonly number[], b: readonly number[]): number[] {
  const [longer, shorter] = a.length >= b.length ? [a, b] : [b, a];
  return longer.map((count, at) => count + (shorter[at] ?? 0));
}

/** The sum of two series: the finer one is folded to the coarser. */
export function mergeSeries<Kind extends string>(a: TimeSeries<Kind>, b: TimeSeries<Kind>): TimeSeries<Kind> {
  const folds = Math.max(a.folds, b.folds);
  const kinds = Object.keys(a.counts) as Kind[];
  const counts = byKind(kinds, (kind) =>
    added(folded(a.counts[kind], folds - a.folds), folded(b.counts[kind], folds - b.folds)),
  );
  return { folds, counts };
}

/**
 * A series of a part of the run that began later, on the run's own time.
 * @param laterMs at least 0; less than a bucket changes nothing
 */
export function laterSeries<Kind extends string>(
  series: TimeSeries<Kind>,
  laterMs: number,
): TimeSeries<Kind> {
  const kinds = Object.keys(series.counts) as Kind[];
  let { folds } = series;
  let counts: Readonly<Record<Kind, readonly number[]>> = series.counts;
  for (;;) {
    const buckets = Math.floor(laterMs / (SERIES_BUCKET_MS * 2 ** folds));
    if (buckets === 0) return { folds, counts };
    const longest = Math.max(...kinds.map((kind) => counts[kind].length));
    const before = counts;
    if (buckets + longest <= SERIES_BUCKETS) {
      const empty = Array.from({ length: buckets }, () => 0);
      counts = byKind(kinds, (kind) => (before[kind].length === 0 ? [] : [...empty, ...before[kind]]));
      return { folds, counts };
    }
    counts = byKind(kinds, (kind) => folded(before[kind], 1));
    folds++;
  }
}

/** Counts in one process. `add` allocates nothing. */
export class SeriesCounter<Kind extends string> {
  readonly #kinds: readonly Kind[];
  readonly #counts: readonly Float64Array[];
  #folds = 0;
  #width = SERIES_BUCKET_MS;

  constructor(kinds: readonly Kind[]) {
    this.#kinds = kinds;
    this.#counts = kinds.map(() => new Float64Array(SERIES_BUCKETS));
  }

  /**
   * Counts one event.
   * @param kind an index of the kinds
   * @param atMs since the run's start; before it counts as at it
   */
  add(kind: number, atMs: number): void {
    let bucket = Math.max(0, Math.floor(atMs / this.#width));
    while (bucket >= SERIES_BUCKETS) {
      this.#fold();
      bucket = Math.floor(atMs / this.#width);
    }
    this.#counts[kind]![bucket]!++;
  }

  #fold(): void {
    this.#folds++;
    this.#width *= 2;
    for (const counts of this.#counts) {
      for (let at = 0; at < SERIES_BUCKETS / 2; at++) counts[at] = counts[2 * at]! + counts[2 * at + 1]!;
      counts.fill(0, SERIES_BUCKETS / 2);
    }
  }

  /** A snapshot. */
  series(): TimeSeries<Kind> {
    const counts = byKind(this.#kinds, (_, index) => {
      const all = this.#counts[index]!;
      let length = SERIES_BUCKETS;
      while (length > 0 && all[length - 1] === 0) length--;
      return Array.from(all.subarray(0, length));
    });
    return { folds: this.#folds, counts };
  }
}
