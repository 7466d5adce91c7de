/**
 * Owns the books of what a whoami target saw of one engine's connections.
 * Must never touch a socket or decide anything.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { SEEN_OTHER, SEEN_PAIRS_MAX, type SeenCounts, seenKey } from '../stats/observed-sources.ts';

/** Counts of the addresses that were seen for each of our own (a source, or an endpoint), bounded. */
class PairCounts {
  readonly #names: readonly string[];
  readonly #seenOf: Map<string, number>[];
  #pairs = 0;
  #other = 0;

  constructor(names: readonly string[]) {
    this.#names = names;
    this.#seenOf = names.map(() => new Map());
  }

  add(index: number, seen: string): void {
    const counts = this.#seenOf[index]!;
    const before = counts.get(seen);
    if (before === undefined && this.#pairs >= SEEN_PAIRS_MAX) {
      this.#other++;
      return;
    }
    if (before === undefined) this.#pairs++;
    counts.set(seen, (before ?? 0) + 1);
  }

  record(): Record<string, number> {
    const record: Record<string, number> = {};
    for (const [index, counts] of this.#seenOf.entries()) {
      for (const [seen, count] of counts) record[seenKey(this.#names[index]!, seen)] = count;
    }
    if (this.#other > 0) record[SEEN_OTHER] = this.#other;
    return record;
  }
}

/** One engine's `SeenCounts`. */
export class SeenTally {
  readonly #sources: readonly string[];
  readonly #bySource: PairCounts;
  readonly #byEndpoint: PairCounts;
  #sourceKept = 0;
  #sourceChanged = 0;
  #portKept = 0;
  #portChanged = 0;
  #portMin: number | null = null;
  #portMax: number | null = null;

  constructor(spec: Pick<HolderSpec, 'addresses' | 'endpoints'>) {
    this.#sources = spec.addresses;
    this.#bySource = new PairCounts(spec.addresses);
    this.#byEndpoint = new PairCounts(spec.endpoints.map(formatEndpoint));
  }

  /**
   * One connection arrived.
   * @param source index of the address that we bound
   * @param port the port that we bound
   * @param endpoint index of the endpoint
   * @param seenAddress canonical, as the target saw it
   */
  arrived(source: number, port: number, endpoint: number, seenAddress: string, seenPort: number): void {
    if (seenAddress === this.#sources[source]) this.#sourceKept++;
    else this.#sourceChanged++;
    if (seenPort === port) this.#portKept++;
    else this.#portChanged++;
    this.#portMin = Math.min(this.#portMin ?? seenPort, seenPort);
    this.#portMax = Math.max(this.#portMax ?? seenPort, seenPort);
    this.#bySource.add(source, seenAddress);
    this.#byEndpoint.add(endpoint, seenAddress);
  }

  /** A snapshot that later changes do not touch. */
  counts(): SeenCounts {
    return {
      sourceKept: this.#sourceKept,
      sourceChanged: this.#sourceChanged,
      portKept: this.#portKept,
      portChanged: this.#portChanged,
      portMin: this.#portMin,
      portMax: this.#portMax,
      bySource: this.#bySource.record(),
      byEndpoint: this.#byEndpoint.record(),
    };
  }
}
