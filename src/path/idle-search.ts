/**
 * Owns the search for an idle timeout as arithmetic: which gaps to try next, when a round is over, what its answers say.
 * Must never open a connection or wait (idle-finder.ts).
 */
import assert from 'node:assert/strict';
import { formatDuration } from '../base/units.ts';

/** Where a search looks, and how closely. */
export interface IdleBounds {
  /** the shortest gap that is tried, ms */
  readonly minMs: number;
  /** the longest gap that is tried, ms; at least `minMs` */
  readonly maxMs: number;
  /** how narrow the interval must become, ms */
  readonly precisionMs: number;
  /** gaps of one round at most, 1 or more */
  readonly gapsMax: number;
}

/** What is known: connections idle for `aliveMs` lived, those idle for `forgottenMs` did not. */
export interface IdleInterval {
  /** 0: none lived so far */
  readonly aliveMs: number;
  /** null: none was forgotten so far */
  readonly forgottenMs: number | null;
  /** how the shortest gap that did not live ended: closed or reset by the far side, or without an answer; absent: none did */
  readonly ended?: IdleEnd;
}

/** How idle connections end. */
export type IdleEnd = 'fin' | 'rst' | 'silence';

/** What became of the connections of one gap. */
export interface IdleAnswer {
  readonly gapMs: number;
  readonly alive: boolean;
  /** absent: it lived */
  readonly ended?: IdleEnd;
}

/** Before anything was tried. */
export const NOTHING_KNOWN: IdleInterval = { aliveMs: 0, forgottenMs: null };

/**
 * The gaps of the next round, shortest first; empty when the search is over.
 * @param known what earlier rounds found
 */
export function nextGaps(known: IdleInterval, bounds: IdleBounds): number[] {
  assert(bounds.minMs > 0 && bounds.maxMs >= bounds.minMs && bounds.gapsMax >= 1, 'bounds of an idle search');
  const { aliveMs, forgottenMs } = known;
  if (forgottenMs === null) return aliveMs === 0 ? doublingGaps(bounds) : [];
  const widthMs = forgottenMs - aliveMs;
  if (widthMs <= bounds.precisionMs || forgottenMs <= bounds.minMs) return [];
  const parts = Math.min(bounds.gapsMax + 1, Math.ceil(widthMs / bounds.precisionMs));
  const gaps = Array.from({ length: parts - 1 }, (_, index) =>
    Math.round(aliveMs + (widthMs * (index + 1)) / parts),
  );
  return [...new Set(gaps)].filter((gapMs) => gapMs > aliveMs && gapMs < forgottenMs);
}

function doublingGaps({ minMs, maxMs }: IdleBounds): number[] {
  const gaps: number[] = [];
  for (let gapMs = minMs; gapMs < maxMs; gapMs *= 2) gaps.push(gapMs);
  gaps.push(maxMs);
  return gaps;
}

/**
 * Whether a round can end: a gap was forgotten and every shorter one has its answer, or all have.
 * @param gaps of the round, shortest first
 */
export function isRoundOver(gaps: readonly number[], answers: readonly IdleAnswer[]): boolean {
  const answerOf = new Map(answers.map((answer) => [answer.gapMs, answer.alive]));
  for (const gapMs of gaps) {
    const alive = answerOf.get(gapMs);
    if (alive === undefined) return false;
    if (!alive) return true;
  }
  return true;
}

/**
 * What is known after a round. The shortest forgotten gap counts; a longer one that lived after all is not believed.
 */
export function withAnswers(known: IdleInterval, answers: readonly IdleAnswer[]): IdleInterval {
  const forgotten = answers.filter((answer) => !answer.alive).map((answer) => answer.gapMs);
  const forgottenMs =
    forgotten.length === 0 ? known.forgottenMs : Math.min(known.forgottenMs ?? Infinity, ...forgotten);
  const alive = answers
    .filter((answer) => answer.alive && (forgottenMs === null || answer.gapMs < forgottenMs))
    .map((answer) => answer.gapMs);
  const ended = answers.find((answer) => answer.gapMs === forgottenMs)?.ended ?? known.ended;
  return {
    aliveMs: Math.max(known.aliveMs, ...alive),
    forgottenMs,
    ...(ended === undefined ? {} : { ended }),
  };
}

/** One line: what the search has found so far, or in the end. */
export function formatInterval({ aliveMs, forgottenMs, ended }: IdleInterval): string {
  if (forgottenMs === null) {
    return aliveMs === 0
      ? 'nothing is known yet'
      : `the path still knew connections that were idle for ${formatDuration(aliveMs)}`;
  }
  // A FIN comes from an end of the connection: a device on the way that forgets sends none.
  const who =
    ended === 'fin' ? 'the target or a proxy closes idle connections' : 'the path forgets idle connections';
  if (aliveMs === 0) return `${who} within ${formatDuration(forgottenMs)}`;
  return `${who} after ${formatDuration(aliveMs)} to ${formatDuration(forgottenMs)}`;
}
