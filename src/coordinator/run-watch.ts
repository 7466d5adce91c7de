/**
 * Owns what the coordinator watches beside the reducer: requirements that can no longer hold, what the target says,
 * the ledger of losses, and the report of a run that still goes on. Must never end a run itself.
 */

import { DropReason } from '../base/outcome.ts';
import type { MetricFacts } from '../judge/metric.ts';
import type { RunReport, TargetReport } from '../judge/report.ts';
import { HELD_ALL, isBroken, type Requirement } from '../judge/requirement.ts';
import type { TargetProof } from '../judge/verdict.ts';
import type { Loss } from '../stats/loss.ts';
import { TargetCountLog, type TargetWitness } from './target-stats.ts';

/** How often a run that still goes on is reported, so that a crash loses no more. */
export const PARTIAL_EVERY_MS = 60_000;

/** One line of the ledger. */
export interface LedgerEntry extends Loss {
  readonly agent: string;
  /** by the coordinator's clock at the start of the ramp, plus `atMs` */
  readonly at: string;
}

export interface RunWatchOptions {
  /** the default one included */
  readonly requirements: readonly Requirement[];
  /** whether a requirement that can no longer hold ends the run */
  readonly abortEarly: boolean;
  /** null: the target is not asked */
  readonly targetWitness: TargetWitness | null;
  /** gets every loss with its details; null: they are only counted */
  readonly onLosses: ((entries: readonly LedgerEntry[]) => void) | null;
  /** gets the report so far every `partialEveryMs`; null: it is not wanted */
  readonly onPartial: ((report: RunReport) => void) | null;
  readonly partialEveryMs: number;
}

/** Everything asked for must be held; the target is not asked, and no report is made on the way. */
export const UNWATCHED: RunWatchOptions = {
  requirements: [HELD_ALL],
  abortEarly: false,
  targetWitness: null,
  onLosses: null,
  onPartial: null,
  partialEveryMs: PARTIAL_EVERY_MS,
};

/** What an agent that is lost took with it, as losses. @param atMs since the start of the ramp */
export function lostWithAgent(atMs: number, count: number): readonly Loss[] {
  return [
    { atMs, holder: '*', source: '*', endpoint: '*', ageMs: null, reason: DropReason.agentLost, count },
  ];
}

/** One run's watch. */
export class RunWatch {
  readonly #options: RunWatchOptions;
  readonly #target: TargetCountLog | null;
  #rampWallMs = 0;
  #partialAtMs = 0;
  #entries = 0;
  #hasSaidProblem = false;

  constructor(options: RunWatchOptions) {
    this.#options = options;
    this.#target = options.targetWitness === null ? null : new TargetCountLog(options.targetWitness);
  }

  /** The ramp begins. @param wallMs for people; later times are added to it, so that a clock step does not show */
  rampBegins(atMs: number, wallMs: number): void {
    this.#rampWallMs = wallMs;
    this.#partialAtMs = atMs + this.#options.partialEveryMs;
  }

  /** What the target held when it was last asked; null: not known. */
  get seenByTarget(): number | null {
    return this.#target?.openNow ?? null;
  }

  /** Whether the target was asked, and has answered or failed to: before that nothing is to be said of it. */
  get isTargetAsked(): boolean {
    return this.#target !== null && (this.#target.openNow !== null || this.#target.problem !== null);
  }

  get target(): TargetReport | null {
    return this.#target?.report() ?? null;
  }

  /** Connections that have a line in the ledger. */
  get ledgerEntries(): number {
    return this.#entries;
  }

  /** What the target has counted before anything is opened. */
  async askTargetBefore(): Promise<void> {
    await this.#target?.askBefore();
  }

  async askTarget(): Promise<void> {
    await this.#target?.ask();
  }

  /** What was to prove the run beside our own count; null: it was not asked for. */
  get targetProof(): TargetProof | null {
    return this.#target?.proof() ?? null;
  }

  /** Why the target that was to be asked does not report its counts, in words; null once that was said, or while it does. */
  takeTargetProblem(): string | null {
    if (this.#hasSaidProblem || this.targetProof === null) return null;
    const problem = this.#target?.problem ?? null;
    this.#hasSaidProblem = problem !== null;
    return problem;
  }

  holdBegins(): void {
    void this.#target?.holdBegins();
  }

  holdEnds(): void {
    this.#target?.holdEnds();
  }

  takeLosses(agent: string, losses: readonly Loss[]): void {
    if (this.#options.onLosses === null) return;
    const entries = losses.map((loss) => ({
      at: new Date(this.#rampWallMs + loss.atMs).toISOString(),
      agent,
      ...loss,
    }));
    for (const { count } of losses) this.#entries += count;
    this.#options.onLosses(entries);
  }

  /** An agent that is lost took what it held with it. */
  agentLost(agent: string, atMs: number, count: number): void {
    if (count === 0) return;
    this.takeLosses(agent, lostWithAgent(atMs, count));
  }

  /** Whether a requirement that can no longer hold ends the run. */
  get isAbortingEarly(): boolean {
    return this.#options.abortEarly;
  }

  /** The first requirement that can no longer hold and is to end the run; null: none. */
  brokenRequirement(facts: MetricFacts): Requirement | null {
    if (!this.#options.abortEarly) return null;
    return this.#options.requirements.find((requirement) => isBroken(requirement, facts)) ?? null;
  }

  /** Hands out the report so far when it is due. */
  partial(atMs: number, report: () => RunReport): void {
    const { onPartial, partialEveryMs } = this.#options;
    if (onPartial === null || this.#partialAtMs === 0 || atMs < this.#partialAtMs) return;
    this.#partialAtMs = atMs + partialEveryMs;
    onPartial(report());
  }
}
