/**
 * Owns the one record of an agent: its stage, its quota, and what it last said. Must never be changed in place: each step
 * of the reducer (run-state.ts) makes a new one, and whoever holds the old one may keep it. The table of all of them is as immutable.
 */
import type { Finding } from '../base/errors.ts';
import { DropReason } from '../base/outcome.ts';
import type { KernelCount, KernelEvidence } from '../host/kernel-evidence.ts';
import {
  emptyStats,
  type HolderHealth,
  type Stats,
  type StatsDelta,
  withAllLost,
  withDelta,
} from '../stats/stats.ts';
import { cutShares, type LoadShare } from './schedule.ts';

export interface AgentRecord {
  /** unique within the run: one that comes back after its lease has a new one */
  readonly id: string;
  readonly stage: 'joined' | 'offered' | 'quoted' | 'ready' | 'running' | 'done' | 'lost';
  /** monotonic milliseconds, as every moment here */
  readonly lastSeenMs: number;
  /** its channel is gone, and it has not come back */
  readonly isCut: boolean;
  /** when it was first sent `start`; null: not yet */
  readonly startedMs: number | null;
  readonly capacity: number;
  readonly boundBy: string;
  /** null: not known yet, or an agent that does not say it */
  readonly engine: AgentEngine | null;
  readonly sources: readonly string[];
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
  readonly quota: number;
  /** which connections of the run its quota is, as it came to it */
  readonly shares: readonly LoadShare[];
  /** what others could take of its quota was handed to them; what is left waits for an agent that comes */
  readonly isReplaced: boolean;
  /** each connection of its quota is open, failed or given up */
  readonly settled: boolean;
  readonly stats: Stats;
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
  /** null until it is done */
  readonly evidence: KernelEvidence | null;
}

/** How an agent drives its sockets, in its own words: a later version may know others. */
export interface AgentEngine {
  readonly name: string;
  readonly why: string;
}

/** What an agent says of its share again and again. */
export interface AgentSnapshot {
  /** histograms that it leaves out have not changed */
  readonly stats: StatsDelta;
  readonly holders: readonly HolderHealth[];
  readonly kernel: readonly KernelCount[];
}

/** What an agent says of its host before it starts. */
export type AgentPreparation = Pick<AgentRecord, 'sources' | 'findings' | 'notes'>;

const NO_STATS = emptyStats();

/** Holders that have a process. */
export function holdersBegun({ holders }: Pick<AgentRecord, 'holders'>): number {
  return holders.reduce((sum, { pid }) => (pid === 0 ? sum : sum + 1), 0);
}

/** One that has just joined: it has said nothing yet. @param atMs monotonic */
export function newAgent(id: string, atMs: number): AgentRecord {
  return {
    id,
    stage: 'joined',
    lastSeenMs: atMs,
    isCut: false,
    startedMs: null,
    capacity: 0,
    boundBy: 'none',
    engine: null,
    sources: [],
    findings: [],
    notes: [],
    quota: 0,
    shares: [],
    isReplaced: false,
    settled: false,
    stats: NO_STATS,
    holders: [],
    kernel: [],
    evidence: null,
  };
}

/** Whether the run still has to do with it. */
export function isLive(agent: AgentRecord): boolean {
  return agent.stage !== 'lost' && agent.stage !== 'done';
}

/** Live and with a quota: neither a spare nor one that is still offering. */
export function isCarrying(agent: AgentRecord): boolean {
  return agent.stage === 'running' || agent.stage === 'quoted' || agent.stage === 'ready';
}

/** With its newest numbers. */
export function withSnapshot(agent: AgentRecord, snapshot: AgentSnapshot, atMs: number): AgentRecord {
  const { holders, kernel } = snapshot;
  return { ...agent, lastSeenMs: atMs, stats: withDelta(agent.stats, snapshot.stats), holders, kernel };
}

/** Lost: everything that it held counts as `dropped: agent-lost`. @param agent is not lost yet */
export function withLoss(agent: AgentRecord): AgentRecord {
  return {
    ...agent,
    stage: 'lost',
    stats: withAllLost(agent.stats, DropReason.agentLost, agent.quota),
    holders: agent.holders.map((holder) => ({ ...holder, alive: false })),
  };
}

/** A lost one after others took so much of its quota, the first of it: they attempt now what it did not. */
export function withHandedOver(agent: AgentRecord, given: number): AgentRecord {
  const quota = agent.quota - given;
  const [, shares = []] = cutShares(agent.shares, [given, quota]);
  const { unattempted: before, attempted, reopened } = agent.stats;
  const unattempted = Math.min(before, Math.max(0, quota - (attempted - reopened)));
  return { ...agent, quota, shares, isReplaced: true, stats: { ...agent.stats, unattempted } };
}

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
