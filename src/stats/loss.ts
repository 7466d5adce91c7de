/**
 * Owns losses as values: one lost connection, counts by reason, source and endpoint, and how many connections were lost at the same time: counts by quarter of a second, which add up over holders and
 * agents because each quarter is one of the run's. Must never be used for a connection that was closed by this program,
 * and never add maxima: those of different seconds say nothing together.
 */
import { DropReason } from '../base/outcome.ts';

/** Details in one message. */
export const LOSS_BATCH_MAX = 1_000;
/** Different keys that one holder counts losses by; above it the endpoint, and then the source, becomes `*`. */
export const LOSS_KEYS_MAX = 16_384;

/** One connection that was lost while it was held. */
export interface Loss {
  /** milliseconds since the holders were asked to start */
  readonly atMs: number;
  readonly holder: string;
  /** address and port; `*` for many together */
  readonly source: string;
  readonly endpoint: string;
  /** how long it had been open, milliseconds; null: not known */
  readonly ageMs: number | null;
  readonly reason: DropReason;
  /** more than 1 where a process died with what it held */
  readonly count: number;
}

/** Losses of one kind, as the report lists them. */
export interface LossCount {
  readonly reason: DropReason;
  readonly source: string;
  readonly endpoint: string;
  readonly count: number;
}

/** The key of `Stats.droppedBy`. */
export function lossKey(reason: DropReason, source: string, endpoint: string): string {
  return `${reason} ${source} ${endpoint}`;
}

/** The counts of `Stats.droppedBy`, the largest first. */
export function lossCounts(droppedBy: Readonly<Record<string, number>>): LossCount[] {
  return Object.entries(droppedBy)
    .map(([key, count]) => {
      const [reason = '', source = '', endpoint = ''] = key.split(' ');
      return { reason: reason as DropReason, source, endpoint, count };
    })
    .sort((a, b) => b.count - a.count || (`${a.reason}${a.source}` < `${b.reason}${b.source}` ? -1 : 1));
}

/** The reasons in a fixed order, so that a number can stand for one. */
export const DROP_REASONS: readonly DropReason[] = Object.values(DropReason);

/** Losses are counted by this much time since the run's start, milliseconds. */
export const QUARTER_MS = 250;
/** A second has so many. */
export const QUARTERS_OF_SECOND = 4;
/** Quarters that are sent again and again (32 s): longer than an agent may be out of contact and still be part of a run. */
export const QUARTERS_REPORTED = 128;

/** Counts of the last quarters as `[quarter, count, ...]`, quarters ascending; all of them complete, but for the last. */
export type RecentLosses = readonly number[];

/** Counts in one process. A loss allocates nothing. */
export class RecentLossRing {
  readonly #counts = new Float64Array(QUARTERS_REPORTED);
  #last = -1;

  /** @param atMs since the run's start; not before the one that came last, or it counts with that one */
  add(atMs: number): void {
    const quarter = Math.max(this.#last, Math.floor(Math.max(0, atMs) / QUARTER_MS));
    // What was never lost in is emptied, however long that took.
    const from = Math.max(this.#last + 1, quarter - QUARTERS_REPORTED + 1);
    for (let index = from; index <= quarter; index++) this.#counts[index % QUARTERS_REPORTED] = 0;
    this.#last = quarter;
    this.#counts[quarter % QUARTERS_REPORTED]!++;
  }

  /** What is still known. */
  list(): RecentLosses {
    const list: number[] = [];
    for (let quarter = Math.max(0, this.#last - QUARTERS_REPORTED + 1); quarter <= this.#last; quarter++) {
      const count = this.#counts[quarter % QUARTERS_REPORTED]!;
      if (count > 0) list.push(quarter, count);
    }
    return list;
  }
}

/** The newest quarters only: a holder that ended long ago sent its own when it was time. */
export function newestLosses(recent: RecentLosses): RecentLosses {
  const last = recent.at(-2) ?? 0;
  let at = 0;
  while (at < recent.length && recent[at]! <= last - QUARTERS_REPORTED) at += 2;
  return at === 0 ? recent : recent.slice(at);
}

/** Quarters that a meter remembers (a minute), twice what is sent, so that agents may be apart. */
const QUARTERS_KEPT = 240;

/** The most losses within one second, over all that tell of theirs. */
export class BurstMeter {
  readonly #all = new Map<number, number>();
  readonly #reported = new Map<string, Map<number, number>>();
  #max = 0;

  /** The most so far. */
  get max(): number {
    return this.#max;
  }

  /**
   * Takes what one agent reports; what it reported before counts once.
   * @param laterMs how much later than the run it has started
   * @param nowMs since the run's start: nothing can have happened after it, but for a second in which messages overtake
   */
  take(agent: string, recent: RecentLosses, laterMs: number, nowMs: number): void {
    const shift = Math.floor(laterMs / QUARTER_MS);
    const newest = Math.floor(nowMs / QUARTER_MS) + QUARTERS_OF_SECOND;
    const oldest = newest - QUARTERS_KEPT;
    const known = this.#reported.get(agent);
    // Most of thousands of agents never lose anything: nothing is kept of them.
    if (known === undefined && recent.length === 0) {
      forget(this.#all, oldest);
      return;
    }
    const reported = known ?? new Map<number, number>();
    if (known === undefined) this.#reported.set(agent, reported);
    for (let at = 0; at < recent.length; at += 2) {
      const quarter = recent[at]! + shift;
      const count = recent[at + 1]!;
      const before = reported.get(quarter) ?? 0;
      if (quarter > newest || quarter <= oldest || count <= before) continue;
      reported.set(quarter, count);
      this.#all.set(quarter, (this.#all.get(quarter) ?? 0) + count - before);
      this.#look(quarter);
    }
    forget(reported, oldest);
    forget(this.#all, oldest);
  }

  /** Every second that has this quarter in it. */
  #look(quarter: number): void {
    for (let first = quarter - QUARTERS_OF_SECOND + 1; first <= quarter; first++) {
      let sum = 0;
      for (let each = first; each < first + QUARTERS_OF_SECOND; each++) sum += this.#all.get(each) ?? 0;
      if (sum > this.#max) this.#max = sum;
    }
  }
}

/** Keys come in the order of time, nearly: what is left over by a late one goes with the next. */
function forget(counts: Map<number, number>, oldest: number): void {
  for (const quarter of counts.keys()) {
    if (quarter > oldest) return;
    counts.delete(quarter);
  }
}

/** Where connections are open, and what was lost before; of an agent or a holder. */
interface OpenPlaces {
  readonly open: number;
  readonly openBySource: Readonly<Record<string, number>>;
  readonly openByEndpoint: Readonly<Record<string, number>>;
  readonly droppedBy: Readonly<Record<string, number>>;
}

/**
 * Losses with everything that is open lost. Which endpoint each source's connections had is not known any more, unless there is one.
 */
export function withSourcesLost(stats: OpenPlaces, reason: DropReason): Record<string, number> {
  const droppedBy: Record<string, number> = Object.assign(Object.create(null), stats.droppedBy);
  const endpoints = Object.keys(stats.openByEndpoint);
  const endpoint = endpoints.length === 1 ? (endpoints[0] ?? '*') : '*';
  let rest = stats.open;
  const add = (source: string, count: number): void => {
    const key = lossKey(reason, source, endpoint);
    droppedBy[key] = (droppedBy[key] ?? 0) + count;
  };
  for (const [source, count] of Object.entries(stats.openBySource)) {
    add(source, count);
    rest -= count;
  }
  // Agents with very many sources leave them out of what they say each second.
  if (rest > 0) add('*', rest);
  return droppedBy;
}
