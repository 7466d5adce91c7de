/**
 * Owns incidents: many connections that are lost within a second, and how they come back, over all agents by the run's own time.
 * Times are as exact as a quarter of a second, and coarser where an incident lasts for minutes. Must never count what an agent took with it when it
 * was lost: that says nothing of the target.
 */
import { QUARTER_MS, QUARTERS_OF_SECOND, type RecentLosses } from './loss.ts';
import { RETURN_KINDS, type RecentReturns } from './returns.ts';

/** Parts of a drop, in thousandths, whose return is timed. */
export const RECOVERY_PARTS = { p50: 500, p90: 900, p99: 990, p999: 999, all: 1_000 } as const;
export type RecoveryPart = keyof typeof RECOVERY_PARTS;

/** A drop and what followed. Times in seconds. */
export interface Incident {
  /** since the start of the ramp */
  readonly atSec: number;
  readonly openBefore: number;
  /** connections that were missing at the worst moment */
  readonly missingMax: number;
  /** those that still are: 0 when it has ended */
  readonly missing: number;
  readonly hasEnded: boolean;
  /** until it had ended, or until now */
  readonly lastedSec: number;
  /** losses, those of connections that had come back included */
  readonly lost: number;
  /** until so much of `missingMax` was back and stayed so; null: not yet */
  readonly backSec: Readonly<Record<RecoveryPart, number | null>>;
  /** the most connects that were called within one second, and the most that were open again within one */
  readonly connectsPerSecMax: number;
  readonly backPerSecMax: number;
  /** connects on the way that were refused, and that failed otherwise */
  readonly refused: number;
  readonly failed: number;
  /** from its beginning on, by buckets */
  readonly curve: {
    readonly bucketMs: number;
    /** at the end of each */
    readonly missing: readonly number[];
    /** called in each */
    readonly connects: readonly number[];
  };
}

/** A drop of so much of what was open, within one second, begins an incident. */
export const INCIDENT_SHARE = 1 / 100;
/** Incidents that are kept; further ones are counted as none. */
const INCIDENTS_MAX = 64;
/** Quarters that are remembered for agents that are apart (a minute), twice what each reports. */
const QUARTERS_KEPT = 240;
/** What was open before a drop is looked for in so many quarters. */
const LEVEL_QUARTERS = 12;
/** An incident that has been over for so many quarters is closed; what is nearly over for as long gives way to the next. */
const CALM_QUARTERS = 40;
/** Above it two buckets become one: four minutes by quarters of a second. */
const BUCKETS_MAX = 960;
/** Of the curve in a report. */
const CURVE_BUCKETS_MAX = 240;

const KINDS = ['lost', ...RETURN_KINDS] as const;
type Kind = (typeof KINDS)[number];
type Counts = Record<Kind, number>;

const noCounts = (): Counts => ({ lost: 0, calls: 0, back: 0, refused: 0, failed: 0 });

/** One incident while it grows. */
class Growing {
  readonly from: number;
  readonly openBefore: number;
  readonly sum = noCounts();
  callsPerSecMax = 0;
  backPerSecMax = 0;
  /** nothing from this quarter on belongs to it; Infinity: it is the last one */
  to = Number.POSITIVE_INFINITY;
  /** quarters of a bucket */
  #width = 1;
  #lost: number[] = [];
  #back: number[] = [];
  #calls: number[] = [];

  constructor(from: number, openBefore: number) {
    this.from = from;
    this.openBefore = openBefore;
  }

  add(quarter: number, kind: Kind, count: number): void {
    this.sum[kind] += count;
    if (kind === 'refused' || kind === 'failed') return;
    const into = kind === 'lost' ? this.#lost : kind === 'back' ? this.#back : this.#calls;
    const bucket = this.#bucketOf(quarter);
    into[bucket] = (into[bucket] ?? 0) + count;
  }

  #bucketOf(quarter: number): number {
    let bucket = Math.floor((quarter - this.from) / this.#width);
    while (bucket >= BUCKETS_MAX) {
      this.#width *= 2;
      this.#lost = folded(this.#lost, 2);
      this.#back = folded(this.#back, 2);
      this.#calls = folded(this.#calls, 2);
      bucket = Math.floor((quarter - this.from) / this.#width);
    }
    return bucket;
  }

  /**
   * What is missing at the end of each bucket up to a quarter, and the most at any moment.
   * @param isAll what came later counts too
   */
  #missing(quarter: number, isAll: boolean): { readonly at: number[]; readonly most: number } {
    const last = Math.min(this.to - 1, Math.max(this.from, quarter));
    const until = this.#bucketOf(last) + 1;
    const buckets = isAll ? Math.max(this.#lost.length, this.#back.length, until) : until;
    const at: number[] = [];
    let most = 0;
    let now = 0;
    for (let bucket = 0; bucket < buckets; bucket++) {
      const lost = now + (this.#lost[bucket] ?? 0);
      most = Math.max(most, lost);
      now = lost - (this.#back[bucket] ?? 0);
      at.push(Math.max(0, now));
    }
    return { at, most };
  }

  /** How long nothing, or next to nothing, has been missing, in quarters. @param share of the worst that is next to nothing */
  calmFor(quarter: number, share: number): number {
    const { at, most } = this.#missing(quarter, false);
    const last = at.findLastIndex((missing) => missing > most * share);
    return (at.length - 1 - last) * this.#width;
  }

  value(quarter: number): Incident {
    const { at, most } = this.#missing(quarter, true);
    const bucketMs = this.#width * QUARTER_MS;
    const backSec = (part: RecoveryPart): number | null => {
      const allowed = (most * (1_000 - RECOVERY_PARTS[part])) / 1_000;
      const last = at.findLastIndex((missing) => missing > allowed);
      return last === at.length - 1 ? null : ((last + 2) * bucketMs) / 1_000;
    };
    const missing = at.at(-1) ?? 0;
    const all = backSec('all');
    const step = Math.ceil(at.length / CURVE_BUCKETS_MAX);
    const calls = Array.from({ length: at.length }, (_, bucket) => this.#calls[bucket] ?? 0);
    return {
      atSec: (this.from * QUARTER_MS) / 1_000,
      openBefore: this.openBefore,
      missingMax: most,
      missing,
      hasEnded: all !== null,
      lastedSec: all ?? (at.length * bucketMs) / 1_000,
      lost: this.sum.lost,
      backSec: {
        p50: backSec('p50'),
        p90: backSec('p90'),
        p99: backSec('p99'),
        p999: backSec('p999'),
        all,
      },
      connectsPerSecMax: this.callsPerSecMax,
      backPerSecMax: this.backPerSecMax,
      refused: this.sum.refused,
      failed: this.sum.failed,
      curve: {
        bucketMs: bucketMs * step,
        missing: at.filter((_, bucket) => bucket % step === step - 1 || bucket === at.length - 1),
        connects: folded(calls, step),
      },
    };
  }
}

/** So many neighbours become one. */
function folded(counts: readonly number[], size: number): number[] {
  const sums: number[] = [];
  for (const [at, count] of counts.entries()) {
    const into = Math.floor(at / size);
    sums[into] = (sums[into] ?? 0) + (count ?? 0);
  }
  return Array.from(sums, (sum) => sum ?? 0);
}

/** The incidents of one run. */
export class IncidentLog {
  readonly #all = new Map<number, Counts>();
  readonly #reported = new Map<string, Map<number, Counts>>();
  readonly #levels: { readonly quarter: number; readonly open: number }[] = [];
  readonly #incidents: Growing[] = [];
  #now = 0;

  /** How many are open over all agents. @param nowMs since the run's start, never less than before */
  level(open: number, nowMs: number): void {
    const quarter = Math.floor(nowMs / QUARTER_MS);
    this.#now = Math.max(this.#now, quarter);
    this.#levels.push({ quarter, open });
    const oldest = quarter - QUARTERS_KEPT;
    while ((this.#levels[0]?.quarter ?? quarter) < oldest) this.#levels.shift();
    const last = this.#incidents.at(-1);
    if (last === undefined || last.to !== Number.POSITIVE_INFINITY) return;
    // Reports of agents are as old as a second or two, so that what is over by them now may not be.
    if (last.calmFor(this.#now, 0) > CALM_QUARTERS) last.to = this.#now;
  }

  /**
   * Takes what one agent reports; what it reported before counts once.
   * @param returns absent: it opens nothing again
   * @param laterMs how much later than the run it has started
   * @param nowMs since the run's start: nothing can have happened after it, but for a second in which messages overtake
   */
  take(
    agent: string,
    lost: RecentLosses,
    returns: RecentReturns | undefined,
    laterMs: number,
    nowMs: number,
  ): void {
    const shift = Math.floor(laterMs / QUARTER_MS);
    const newest = Math.floor(nowMs / QUARTER_MS) + QUARTERS_OF_SECOND;
    const oldest = newest - QUARTERS_KEPT;
    const known = this.#reported.get(agent);
    // Most of thousands of agents never lose anything: nothing is kept of them.
    if (known === undefined && lost.length === 0 && returns === undefined) {
      forget(this.#all, oldest);
      return;
    }
    const reported = known ?? new Map<number, Counts>();
    if (known === undefined) this.#reported.set(agent, reported);
    const lists: Partial<Record<Kind, RecentLosses>> = { lost, ...returns };
    for (const kind of KINDS) {
      const list = lists[kind] ?? [];
      for (let at = 0; at < list.length; at += 2) {
        const quarter = (list[at] ?? 0) + shift;
        if (quarter > newest || quarter <= oldest) continue;
        const before = countsOf(reported, quarter);
        const more = (list[at + 1] ?? 0) - before[kind];
        if (more <= 0) continue;
        before[kind] += more;
        this.#add(quarter, kind, more);
      }
    }
    forget(reported, oldest);
    forget(this.#all, oldest);
  }

  #add(quarter: number, kind: Kind, count: number): void {
    countsOf(this.#all, quarter)[kind] += count;
    const last = this.#incidents.at(-1);
    const isOf = last !== undefined && quarter >= last.from && quarter < last.to;
    if (isOf) last.add(quarter, kind, count);
    if (kind === 'lost') this.#look(quarter);
    else if (isOf && kind === 'calls')
      last.callsPerSecMax = Math.max(last.callsPerSecMax, this.#mostPerSec(quarter, 'calls'));
    else if (isOf && kind === 'back')
      last.backPerSecMax = Math.max(last.backPerSecMax, this.#mostPerSec(quarter, 'back'));
  }

  #within(first: number, kind: Kind): number {
    let sum = 0;
    for (let each = first; each < first + QUARTERS_OF_SECOND; each++) sum += this.#all.get(each)?.[kind] ?? 0;
    return sum;
  }

  /** The most within any second that has this quarter in it. */
  #mostPerSec(quarter: number, kind: Kind): number {
    let most = 0;
    for (let first = quarter - QUARTERS_OF_SECOND + 1; first <= quarter; first++)
      most = Math.max(most, this.#within(first, kind));
    return most;
  }

  /** Whether what was lost in this quarter begins an incident. */
  #look(quarter: number): void {
    const last = this.#incidents.at(-1);
    const isOpen = last !== undefined && quarter < last.to;
    if (isOpen && (quarter < last.from + CALM_QUARTERS || !this.#isNearlyOver(last, quarter))) return;
    if (this.#incidents.length >= INCIDENTS_MAX) return;
    for (let first = quarter - QUARTERS_OF_SECOND + 1; first <= quarter; first++) {
      const level = this.#levelBefore(first);
      if (this.#within(first, 'lost') < Math.max(1, level * INCIDENT_SHARE)) continue;
      let from = first;
      while ((this.#all.get(from)?.lost ?? 0) === 0) from++;
      this.#begin(Math.max(from, isOpen ? last.from + 1 : from), level);
      return;
    }
  }

  #isNearlyOver(last: Growing, quarter: number): boolean {
    return last.calmFor(quarter - QUARTERS_OF_SECOND, INCIDENT_SHARE) > CALM_QUARTERS;
  }

  #begin(from: number, level: number): void {
    const last = this.#incidents.at(-1);
    const incident = new Growing(from, level);
    this.#incidents.push(incident);
    for (const [quarter, counts] of this.#all) {
      if (quarter < from) continue;
      for (const kind of KINDS) {
        if (counts[kind] === 0) continue;
        incident.add(quarter, kind, counts[kind]);
        // What made this one has counted for the one before until now.
        if (last !== undefined && quarter < last.to) last.add(quarter, kind, -counts[kind]);
      }
      incident.callsPerSecMax = Math.max(incident.callsPerSecMax, this.#mostPerSec(quarter, 'calls'));
      incident.backPerSecMax = Math.max(incident.backPerSecMax, this.#mostPerSec(quarter, 'back'));
    }
    if (last !== undefined) last.to = Math.min(last.to, from);
  }

  /** The most that was open in the last seconds before. */
  #levelBefore(quarter: number): number {
    let level = 0;
    for (const { quarter: when, open } of this.#levels.toReversed()) {
      if (when > quarter) continue;
      if (when < quarter - LEVEL_QUARTERS && level > 0) break;
      level = Math.max(level, open);
    }
    return level;
  }

  /** All of them, the first one first. */
  incidents(): Incident[] {
    return this.#incidents.map((incident) => incident.value(this.#now));
  }
}

function countsOf(table: Map<number, Counts>, quarter: number): Counts {
  let counts = table.get(quarter);
  if (counts === undefined) {
    counts = noCounts();
    table.set(quarter, counts);
  }
  return counts;
}

function forget(table: Map<number, Counts>, oldest: number): void {
  for (const quarter of table.keys()) if (quarter <= oldest) table.delete(quarter);
}
