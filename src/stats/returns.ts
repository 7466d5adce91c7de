/**
 * Owns how lost connections come back, counted by quarter of a second as losses are (loss.ts): called, open again, refused, failed
 * otherwise. Must never know which connection one was, and allocates nothing for it.
 */
import { mergeHistograms } from './histogram.ts';
import { newestLosses, type RecentLosses, RecentLossRing } from './loss.ts';

/** What is counted of lost connections that are opened again. */
export const RETURN_KINDS = ['calls', 'back', 'refused', 'failed'] as const;
type ReturnKind = (typeof RETURN_KINDS)[number];

/** Counts of the last half minute: connects that were called, connections that are open again, refusals, other failures. */
export type RecentReturns = Readonly<Record<ReturnKind, RecentLosses>>;

/** Counts in one process. Moments are milliseconds since its engine's start. */
export class ReturnRecorder {
  readonly #calls = new RecentLossRing();
  readonly #back = new RecentLossRing();
  readonly #refused = new RecentLossRing();
  readonly #failed = new RecentLossRing();
  #laterMs = 0;

  /** Times are given since the run's start. @param laterMs how much later this engine has started */
  startsLater(laterMs: number): void {
    this.#laterMs = Math.max(0, laterMs);
  }

  called(atMs: number): void {
    this.#calls.add(atMs + this.#laterMs);
  }

  isBack(atMs: number): void {
    this.#back.add(atMs + this.#laterMs);
  }

  failed(isRefused: boolean, atMs: number): void {
    (isRefused ? this.#refused : this.#failed).add(atMs + this.#laterMs);
  }

  list(): RecentReturns {
    return {
      calls: this.#calls.list(),
      back: this.#back.list(),
      refused: this.#refused.list(),
      failed: this.#failed.list(),
    };
  }
}

/** The sum of two parts; one that has none counts for nothing. */
export function mergeReturns(
  a: RecentReturns | undefined,
  b: RecentReturns | undefined,
): RecentReturns | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const both = (kind: ReturnKind): RecentLosses => newestLosses(mergeHistograms(a[kind], b[kind]));
  return { calls: both('calls'), back: both('back'), refused: both('refused'), failed: both('failed') };
}
