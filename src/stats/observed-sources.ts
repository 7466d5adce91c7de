/**
 * Owns what a whoami target said that it sees of our connections: source and port as they arrived beside those that we
 * bound, as counts that add up. Must never judge the path (path-verdict.ts).
 */
import { addBounded } from '../base/outcome.ts';

/** The most pairs that each record below holds; what goes beyond is counted under `SEEN_OTHER`. */
export const SEEN_PAIRS_MAX = 1_024;

/** The key of what no longer has a key of its own. */
export const SEEN_OTHER = 'other';

/** Cumulative; each connection counts once, when the target has reported it. */
export interface SeenCounts {
  /** connections that arrived from the address that we bound */
  readonly sourceKept: number;
  /** connections that arrived from another address */
  readonly sourceChanged: number;
  readonly portKept: number;
  readonly portChanged: number;
  /** the lowest and the highest source port that the target saw; null: it reported nothing */
  readonly portMin: number | null;
  readonly portMax: number | null;
  /** connections by `bound address>address that the target saw` */
  readonly bySource: Readonly<Record<string, number>>;
  /** connections by `endpoint>address that the target saw` */
  readonly byEndpoint: Readonly<Record<string, number>>;
}

/** The key of one pair. */
export function seenKey(ours: string, seen: string): string {
  return `${ours}>${seen}`;
}

/**
 * The two sides of a key; null for `SEEN_OTHER`.
 * @param key from `bySource` or `byEndpoint`
 */
export function seenPair(key: string): { readonly ours: string; readonly seen: string } | null {
  const at = key.indexOf('>');
  return at < 0 ? null : { ours: key.slice(0, at), seen: key.slice(at + 1) };
}

function leastOf(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.min(a, b);
}

function mostOf(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.max(a, b);
}

/** A key that finds no room is counted under `SEEN_OTHER`, so the sum stays true. */
function addPairs(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> {
  return addBounded(a, b, SEEN_PAIRS_MAX, SEEN_OTHER);
}

/** The sum of two parts of a run that have no connection in common. */
export function mergeSeen(a: SeenCounts, b: SeenCounts): SeenCounts {
  return {
    sourceKept: a.sourceKept + b.sourceKept,
    sourceChanged: a.sourceChanged + b.sourceChanged,
    portKept: a.portKept + b.portKept,
    portChanged: a.portChanged + b.portChanged,
    portMin: leastOf(a.portMin, b.portMin),
    portMax: mostOf(a.portMax, b.portMax),
    bySource: addPairs(a.bySource, b.bySource),
    byEndpoint: addPairs(a.byEndpoint, b.byEndpoint),
  };
}

/** Addresses that the target saw and that are not the one that we had bound. */
export function translatedAddresses(seen: SeenCounts): string[] {
  const pairs = Object.keys(seen.bySource).map(seenPair);
  return [...new Set(pairs.flatMap((pair) => (pair !== null && pair.ours !== pair.seen ? [pair.seen] : [])))];
}

/** Each endpoint with each translated address that was seen there: every such pair has ports of its own at the hop. */
export function translatedPairs(seen: SeenCounts): string[] {
  const translated = new Set(translatedAddresses(seen));
  return Object.keys(seen.byEndpoint).filter((key) => {
    const pair = seenPair(key);
    return pair !== null && translated.has(pair.seen);
  });
}
