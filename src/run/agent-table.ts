/**
 * Owns the records of all agents by id, in the order in which they joined, as a value: a change makes a new table that
 * shares with the old one what is the same. Must never copy all records for one report: thousands of agents report each
 * second (docs/decisions/house.md has the figures).
 */
import type { AgentRecord } from './agent-record.ts';

/** Records that are copied for one change, beside one pointer for each so many. */
const CHUNK = 64;

type Chunks = readonly (readonly AgentRecord[])[];

/** An immutable map of records. */
export class AgentTable implements ReadonlyMap<string, AgentRecord> {
  /** Where each record is. Later tables may share it and have added to it: a place from `size` on is not of this table. */
  readonly #places: Map<string, number>;
  readonly #chunks: Chunks;
  readonly size: number;

  private constructor(places: Map<string, number>, chunks: Chunks, size: number) {
    this.#places = places;
    this.#chunks = chunks;
    this.size = size;
  }

  static empty(): AgentTable {
    return new AgentTable(new Map(), [], 0);
  }

  get(id: string): AgentRecord | undefined {
    const place = this.#places.get(id);
    if (place === undefined || place >= this.size) return undefined;
    return this.#chunks[Math.floor(place / CHUNK)]?.[place % CHUNK];
  }

  has(id: string): boolean {
    return this.get(id) !== undefined;
  }

  /** The table with this record: in place of the one with its id, or added at the end. */
  with(record: AgentRecord): AgentTable {
    return this.has(record.id) ? this.#replaced(record) : this.#added(record);
  }

  #replaced(record: AgentRecord): AgentTable {
    const place = this.#places.get(record.id) ?? 0;
    const at = Math.floor(place / CHUNK);
    const chunk = (this.#chunks[at] ?? []).with(place % CHUNK, record);
    return new AgentTable(this.#places, this.#chunks.with(at, chunk), this.size);
  }

  #added(record: AgentRecord): AgentTable {
    // Another table may have been made from this one, and have taken the next place.
    const isNewest = this.#places.size === this.size;
    const places = isNewest ? this.#places : placesOf(this.values());
    places.set(record.id, this.size);
    const last = this.#chunks.at(-1);
    const chunks =
      last === undefined || last.length === CHUNK
        ? [...this.#chunks, [record]]
        : this.#chunks.with(-1, [...last, record]);
    return new AgentTable(places, chunks, this.size + 1);
  }

  /** The table with each record as `change` makes it; one that stays the same object stays shared. */
  map(change: (record: AgentRecord) => AgentRecord): AgentTable {
    const chunks = this.#chunks.map((chunk) => chunk.map(change));
    return new AgentTable(this.#places, chunks, this.size);
  }

  /** The table without this one. */
  without(id: string): AgentTable {
    if (!this.has(id)) return this;
    const kept = [...this.values()].filter((record) => record.id !== id);
    const chunks: AgentRecord[][] = [];
    for (let from = 0; from < kept.length; from += CHUNK) chunks.push(kept.slice(from, from + CHUNK));
    return new AgentTable(placesOf(kept), chunks, kept.length);
  }

  *values(): Generator<AgentRecord, undefined> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  *keys(): Generator<string, undefined> {
    for (const { id } of this.values()) yield id;
  }

  *entries(): Generator<[string, AgentRecord], undefined> {
    for (const record of this.values()) yield [record.id, record];
  }

  [Symbol.iterator](): Generator<[string, AgentRecord], undefined> {
    return this.entries();
  }

  forEach(visit: (record: AgentRecord, id: string, table: ReadonlyMap<string, AgentRecord>) => void): void {
    for (const record of this.values()) visit(record, record.id, this);
  }
}

function placesOf(records: Iterable<AgentRecord>): Map<string, number> {
  const places = new Map<string, number>();
  for (const { id } of records) places.set(id, places.size);
  return places;
}
