/**
 * Owns what an agent knows of one holder: where it stands, and what it said last. Must never start or end a process (holder-pool.ts).
 */
import type { ChildProcess } from 'node:child_process';
import { DropReason } from '../base/outcome.ts';
import type { EngineRamp } from '../engine/engine.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import type { Loss } from '../stats/loss.ts';
import { emptyStats, type HolderHealth, newHolderHealth, type Stats } from '../stats/stats.ts';
import type { Checked } from './process-pipe.ts';

/** Where one holder stands, with what exists then. */
export type HolderPhase =
  /** others load before it; no process yet */
  | { readonly name: 'queued' }
  | { readonly name: 'loading' | 'ready' | 'finished'; readonly process: ChildProcess }
  /** its process ended, or could not be started, before it had said `done` */
  | { readonly name: 'gone'; readonly process: ChildProcess }
  /** it was silent for too long and killed: what it still says does not count */
  | { readonly name: 'given-up'; readonly process: ChildProcess };

/** One holder, and what it said last. */
export interface HolderEntry {
  readonly spec: HolderSpec;
  phase: HolderPhase;
  /** it was to start: sent, or to be sent as soon as it has a process and it is its turn */
  hasStart: boolean;
  /** when it opened, as it reported last; null: not yet */
  ramp: EngineRamp | null;
  isSettled: boolean;
  stats: Stats;
  health: HolderHealth;
  /** the last phase at whose end it has asked each connection once more; null: none yet */
  checked: Checked | null;
  /** which tuples of its slice were open when that was asked last */
  openTuples: string;
  /** why it cannot go on, in its own words; its process ends then */
  failure: string | null;
  /** the last `report` that it has answered: stats may be on their way when one is asked for */
  answered: number;
  /** when it said something last, in attended time */
  heardMs: number;
}

/** Its process; null: it has none yet. */
export function processOf({ phase }: HolderEntry): ChildProcess | null {
  return phase.name === 'queued' ? null : phase.process;
}

/** Whether it has ended before it had said `done`, or was given up. */
export function isLost({ phase }: HolderEntry): boolean {
  return phase.name === 'gone' || phase.name === 'given-up';
}

/** Whether it has a process that is to say something still. */
export function isAtWork({ phase }: HolderEntry): boolean {
  return phase.name === 'loading' || phase.name === 'ready';
}

/** One that has no process yet. @param heardMs now, in attended time */
export function newHolderEntry(spec: HolderSpec, heardMs: number): HolderEntry {
  return {
    spec,
    phase: { name: 'queued' },
    hasStart: false,
    ramp: null,
    isSettled: false,
    stats: emptyStats(),
    health: newHolderHealth(spec.id, 0, spec.sliceTo - spec.sliceFrom),
    checked: null,
    openTuples: '',
    failure: null,
    answered: 0,
    heardMs,
  };
}

/** A process that died cannot say which connections it had, only how many it last reported; the time is the agent's. */
export function lossOf(holder: string, count: number): Loss {
  return { atMs: -1, holder, source: '*', endpoint: '*', ageMs: null, reason: DropReason.holderLost, count };
}
