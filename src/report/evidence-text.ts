/**
 * Owns what a person reads of the evidence of a run: where connections failed or were lost, and what the target said. Must never name a
 * cause (judge/diagnosis.ts).
 */
import { totalOf } from '../base/outcome.ts';
import { formatCount } from '../base/units.ts';
import type { RunReport } from '../judge/report.ts';
import type { PlaceOutcomes, PlaceTable } from '../stats/place-outcomes.ts';
import { bulleted, labelled, table } from './layout.ts';

/** Places that are listed: the worst. */
const PLACES_SHOWN_MAX = 8;
/** Texts that are quoted: the most frequent. */
const TEXTS_SHOWN_MAX = 4;

/** Nothing where nothing failed and nothing was lost. */
export function evidenceLines(evidence: RunReport['evidence']): string[] {
  if (evidence === null) return [];
  return [
    ...placeLines('endpoint', evidence.byEndpoint),
    ...placeLines('source', evidence.bySourceOutcome),
    ...saidLines(evidence.said),
  ];
}

const missing = ({ failed, dropped }: PlaceOutcomes): number => totalOf(failed) + totalOf(dropped);

/** One row for each of the worst places, where there is more than one and something is missing. */
function placeLines(what: string, places: PlaceTable): string[] {
  const rows = Object.entries(places);
  if (rows.length < 2 || rows.every(([, row]) => missing(row) === 0)) return [];
  const worst = rows.toSorted(([, a], [, b]) => missing(b) - missing(a)).slice(0, PLACES_SHOWN_MAX);
  const cells = worst.map(([name, row]) => [
    name === '*' ? 'all others' : name,
    formatCount(row.asked),
    formatCount(row.established),
    reasonText(row.failed),
    reasonText(row.dropped),
  ]);
  const more = rows.length - worst.length;
  return [
    ...table([[what, 'asked', 'established', 'failed', 'dropped'], ...cells]),
    ...(more > 0 ? [`  and ${formatCount(more)} more, none of them worse`] : []),
  ];
}

/** `12 (refused)`, or the sum and the most frequent reason where there are several. */
function reasonText(counts: Readonly<Record<string, number | undefined>>): string {
  const reasons = Object.entries(counts).toSorted(([, a = 0], [, b = 0]) => b - a);
  const [first] = reasons;
  if (first === undefined) return '0';
  const sum = formatCount(totalOf(counts));
  return reasons.length === 1
    ? `${sum} ${first[0]}`
    : `${sum} ${first[0]} ${formatCount(first[1] ?? 0)}, ...`;
}

/** Quoted, so that it is not taken for a word of the program's own. */
function saidLines({ texts, other }: NonNullable<RunReport['evidence']>['said']): string[] {
  if (texts.length === 0) return [];
  const shown = texts.slice(0, TEXTS_SHOWN_MAX);
  let rest = other;
  for (const { first, last } of texts.slice(TEXTS_SHOWN_MAX)) rest += first + last;
  return [
    ...labelled('target said', 'on connections that then failed or ended, first or last of all it said'),
    ...shown.flatMap(({ text, first, last }) => bulleted('-', `${formatCount(first + last)} x "${text}"`)),
    ...(rest > 0 ? bulleted('-', `${formatCount(rest)} x something else`) : []),
  ];
}
