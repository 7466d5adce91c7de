/**
 * Owns what a picture of a run needs and no total says: losses by time, place and reason, and latencies by time. Both have a
 * bounded size: when there are too many cells, two buckets of time become one. Must never hold a moment more exactly than
 * its bucket, and never be taken for the complete count: details of losses may have been cut (losses.detailsCut).
 */
import { COUNTS_LENGTH, LATENCY_US_MAX, type SparseHistogram, valueUsAt } from './histogram.ts';
import type { Loss } from './loss.ts';
import { OTHER_PLACES } from './place-outcomes.ts';

/** Losses of one place and one reason: `[bucket, count, bucket, count, ...]`, buckets ascending. */
export interface LossRow {
  readonly place: string;
  readonly reason: string;
  readonly at: readonly number[];
}

/** Losses by time and place; buckets count from the start of the ramp. */
interface LossRaster {
  readonly bucketMs: number;
  readonly sources: readonly LossRow[];
  readonly endpoints: readonly LossRow[];
}

/**
 * Latencies by time: for each bucket `[step, count, step, count, ...]`. A step is half an octave: step s counts what took
 * at least 2^(s/2) microseconds and less than 2^((s+1)/2).
 */
export interface LatencyMap {
  readonly bucketMs: number;
  readonly columns: readonly (readonly number[])[];
}

export interface OverTime {
  readonly losses: LossRaster;
  readonly connect: LatencyMap;
  readonly probe: LatencyMap;
}

/** The width of a bucket at the start, milliseconds; and of a series, at most. */
const BUCKET_MS = 250;
const BUCKETS_MAX = 120;
/** Places with a row of their own: the first ones that lose something. */
const RASTER_PLACES_MAX = 64;
/** Counts that are kept of all rows together. */
const CELLS_MAX = 4_096;
const STEPS_MAX = 2 * Math.ceil(Math.log2(LATENCY_US_MAX)) + 1;

/** Counts by time and key. */
class FoldingTable {
  readonly #rows = new Map<string, Map<number, number>>();
  #bucketMs = BUCKET_MS;
  #cells = 0;

  get bucketMs(): number {
    return this.#bucketMs;
  }

  add(key: string, atMs: number, count: number): void {
    let bucket = Math.max(0, Math.floor(atMs / this.#bucketMs));
    for (; bucket >= BUCKETS_MAX; bucket = Math.floor(atMs / this.#bucketMs)) this.#fold();
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = new Map();
      this.#rows.set(key, row);
    }
    const before = row.get(bucket);
    if (before === undefined) this.#cells += 1;
    row.set(bucket, (before ?? 0) + count);
    while (this.#cells > CELLS_MAX && this.#rows.size < this.#cells) this.#fold();
  }

  foldTo(bucketMs: number): void {
    while (this.#bucketMs < bucketMs) this.#fold();
  }

  #fold(): void {
    this.#bucketMs *= 2;
    this.#cells = 0;
    for (const [key, row] of this.#rows) {
      const half = new Map<number, number>();
      for (const [bucket, count] of row) half.set(bucket >> 1, (half.get(bucket >> 1) ?? 0) + count);
      this.#rows.set(key, half);
      this.#cells += half.size;
    }
  }

  rows(): [string, number[]][] {
    return [...this.#rows].map(([key, row]) => [key, [...row].toSorted(([a], [b]) => a - b).flat()]);
  }
}

/** Between a place and a reason in a key; neither has one. */
const BETWEEN = '\n';

class PlaceTableOverTime {
  readonly #table = new FoldingTable();
  readonly #places = new Set<string>();

  add(place: string, reason: string, atMs: number, count: number): void {
    if (place !== OTHER_PLACES && this.#places.size < RASTER_PLACES_MAX) this.#places.add(place);
    const kept = this.#places.has(place) ? place : OTHER_PLACES;
    this.#table.add(`${kept}${BETWEEN}${reason}`, atMs, count);
  }

  get bucketMs(): number {
    return this.#table.bucketMs;
  }

  rows(bucketMs: number): LossRow[] {
    this.#table.foldTo(bucketMs);
    return this.#table.rows().map(([key, at]) => {
      const [place = '', reason = ''] = key.split(BETWEEN);
      return { place, reason, at };
    });
  }
}

/** An address without its port. */
function addressOf(source: string): string {
  const end = source.startsWith('[') ? source.indexOf(']') : source.lastIndexOf(':');
  if (end < 0) return source;
  return source.startsWith('[') ? source.slice(1, end) : source.slice(0, end);
}

class LatencyTable {
  readonly #table = new FoldingTable();

  /** @param grown what is in `now` and was not in `before`; absent: it is found */
  reported(before: SparseHistogram, now: SparseHistogram, atMs: number, grown?: SparseHistogram): void {
    // A histogram that did not change is the same array.
    if (before === now) return;
    if (grown === undefined) this.#add(before, now, atMs);
    else this.#add([], grown, atMs);
  }

  /** What is in `now` and was not in `before`; both ascending. */
  #add(before: SparseHistogram, now: SparseHistogram, atMs: number): void {
    let from = 0;
    const steps = new Map<number, number>();
    for (let at = 0; at < now.length; at += 2) {
      const index = now[at] ?? 0;
      while (from < before.length && (before[from] ?? 0) < index) from += 2;
      const known = before[from] === index ? (before[from + 1] ?? 0) : 0;
      const count = (now[at + 1] ?? 0) - known;
      if (count <= 0) continue;
      const step = stepAt(index);
      steps.set(step, (steps.get(step) ?? 0) + count);
    }
    for (const [step, count] of steps) this.#table.add(String(step), atMs, count);
  }

  map(): LatencyMap {
    const columns: number[][] = [];
    const rows = this.#table.rows().map(([step, at]) => [Number(step), at] as const);
    for (const [step, at] of rows.toSorted(([a], [b]) => a - b)) {
      for (let index = 0; index < at.length; index += 2) {
        const bucket = at[index] ?? 0;
        while (columns.length <= bucket) columns.push([]);
        columns[bucket]?.push(step, at[index + 1] ?? 0);
      }
    }
    return { bucketMs: this.#table.bucketMs, columns };
  }
}

/** Steps by index of a histogram, each plus one; 0: not asked for yet. With thousands of agents a logarithm each time is felt. */
const STEPS = new Uint8Array(COUNTS_LENGTH);

/** @param index of a histogram's counts */
function stepAt(index: number): number {
  const known = STEPS[index] ?? 0;
  if (known > 0) return known - 1;
  const step = stepOf(valueUsAt(index));
  STEPS[index] = step + 1;
  return step;
}

/** The half octave that a latency is in. @param us at least 0 */
function stepOf(us: number): number {
  return us <= 1 ? 0 : Math.min(STEPS_MAX, Math.floor(2 * Math.log2(us)));
}

/** Where a half octave begins, in milliseconds. */
export function stepStartMs(step: number): number {
  return 2 ** (step / 2) / 1_000;
}

/** The histograms of one agent, or what came to them. */
interface Latencies {
  readonly connectUs: SparseHistogram;
  readonly probeUs: SparseHistogram;
}

/** What one run notes over time. */
export class OverTimeLog {
  readonly #bySource = new PlaceTableOverTime();
  readonly #byEndpoint = new PlaceTableOverTime();
  readonly #connect = new LatencyTable();
  readonly #probe = new LatencyTable();

  /** Losses with their times since the start of the ramp. */
  losses(losses: readonly Loss[]): void {
    for (const { atMs, source, endpoint, reason, count } of losses) {
      this.#bySource.add(addressOf(source), reason, atMs, count);
      this.#byEndpoint.add(endpoint, reason, atMs, count);
    }
  }

  /**
   * What came to the latencies of one agent since its last report.
   * @param atMs since the start of the ramp
   * @param grown what came to them, where the agent has said that alone
   */
  latencies(before: Latencies, now: Latencies, atMs: number, grown: Partial<Latencies> = {}): void {
    this.#connect.reported(before.connectUs, now.connectUs, atMs, grown.connectUs);
    this.#probe.reported(before.probeUs, now.probeUs, atMs, grown.probeUs);
  }

  /** A snapshot. */
  value(): OverTime {
    const bucketMs = Math.max(this.#bySource.bucketMs, this.#byEndpoint.bucketMs);
    return {
      losses: {
        bucketMs,
        sources: this.#bySource.rows(bucketMs),
        endpoints: this.#byEndpoint.rows(bucketMs),
      },
      connect: this.#connect.map(),
      probe: this.#probe.map(),
    };
  }
}
