/**
 * Owns what became of connections by place: endpoint, source address, block of source ports. Must never hold more places than its bound:
 * what goes beyond is counted under `*`, so that sums stay true.
 */
import { addCounts, type Counts, type DropReason, type FailReason } from '../base/outcome.ts';

/** Endpoints, or sources, that are counted one by one: the first ones in sorted order, so that all parts of a run choose the same. */
export const PLACES_MAX = 256;
/** The place of all others. */
export const OTHER_PLACES = '*';

/** Blocks of source ports, and ports of one. */
export const PORT_BLOCKS = 64;
export const PORTS_OF_BLOCK = 1_024;

/** Cumulative. asked = established + failed + what is in flight. */
export interface PlaceOutcomes {
  /** connects that were called */
  readonly asked: number;
  readonly established: number;
  readonly failed: Counts<FailReason>;
  readonly dropped: Counts<DropReason>;
}

export type PlaceTable = Readonly<Record<string, PlaceOutcomes>>;

/** By block of source ports: `at` 0 is ports 0 to 1,023. */
export interface PortBlocks {
  readonly asked: readonly number[];
  readonly established: readonly number[];
  /** failed, and something answered: refused, reset, unreachable, an answer that is none of the protocol */
  readonly answeredNo: readonly number[];
  /** failed without any answer */
  readonly silent: readonly number[];
}

const NOTHING: PlaceOutcomes = { asked: 0, established: 0, failed: {}, dropped: {} };

/** The sum of two parts. */
function addOutcomes(a: PlaceOutcomes, b: PlaceOutcomes): PlaceOutcomes {
  return {
    asked: a.asked + b.asked,
    established: a.established + b.established,
    failed: addCounts(a.failed, b.failed),
    dropped: addCounts(a.dropped, b.dropped),
  };
}

/** Places that keep a row of their own, of any number: sorted by code units, which every part of a run does alike. */
export function placesKept(names: readonly string[]): ReadonlySet<string> {
  const own = names.filter((name) => name !== OTHER_PLACES);
  if (own.length <= PLACES_MAX) return new Set(own);
  return new Set(own.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0)).slice(0, PLACES_MAX));
}

/** A table within the bound. */
export function boundedPlaces(entries: Iterable<readonly [string, PlaceOutcomes]>): PlaceTable {
  const list = [...entries];
  const kept = placesKept([...new Set(list.map(([name]) => name))]);
  const table: Record<string, PlaceOutcomes> = Object.create(null);
  for (const [name, outcomes] of list) {
    const into = kept.has(name) ? name : OTHER_PLACES;
    table[into] = addOutcomes(table[into] ?? NOTHING, outcomes);
  }
  return table;
}

/** The sum of two tables. */
export function mergePlaces(a: PlaceTable, b: PlaceTable): PlaceTable {
  return boundedPlaces([...Object.entries(a), ...Object.entries(b)]);
}

/** The same counts under `*` alone. */
export function asOnePlace(table: PlaceTable): PlaceTable {
  return boundedPlaces(Object.values(table).map((outcomes) => [OTHER_PLACES, outcomes]));
}

/**
 * With everything lost that was open.
 * @param openBy by place; a place without a row is one of the others
 * @param open in all: what no place says is lost at the others
 */
export function withDrops(
  table: PlaceTable,
  openBy: Readonly<Record<string, number>>,
  open: number,
  reason: DropReason,
): PlaceTable {
  let rest = open;
  const drops: [string, PlaceOutcomes][] = [];
  const drop = (name: string, count: number): void => {
    drops.push([name, { ...NOTHING, dropped: { [reason]: count } }]);
  };
  for (const [name, count] of Object.entries(openBy)) {
    if (count === 0) continue;
    drop(table[name] === undefined ? OTHER_PLACES : name, count);
    rest -= count;
  }
  if (rest > 0) drop(OTHER_PLACES, rest);
  return boundedPlaces([...Object.entries(table), ...drops]);
}

/** The sum of two lists of counts by index. */
export function addByIndex(a: readonly number[], b: readonly number[]): number[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, at) => (a[at] ?? 0) + (b[at] ?? 0));
}

/** The sum of two parts. */
export function mergePortBlocks(a: PortBlocks, b: PortBlocks): PortBlocks {
  return {
    asked: addByIndex(a.asked, b.asked),
    established: addByIndex(a.established, b.established),
    answeredNo: addByIndex(a.answeredNo, b.answeredNo),
    silent: addByIndex(a.silent, b.silent),
  };
}
