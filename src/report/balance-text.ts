/**
 * Owns what is said in text of how connections are spread over back ends. Must never call a spread good or bad: that is for a requirement.
 */
import { OTHER_BACKENDS } from '../base/backend-pattern.ts';
import { formatCount } from '../base/units.ts';
import type { RunReport } from '../judge/report.ts';

/** Back ends in one text. */
const SHOWN_MAX = 8;

/** A back end's name for a person. */
export function backendName(name: string): string {
  return name === OTHER_BACKENDS ? 'others' : name;
}

/** Back ends with their counts, the largest first, and those that are equal by name. */
export function backendsBySize(open: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(open).toSorted(([one, a], [other, b]) => b - a || (one < other ? -1 : 1));
}

/** A ratio for a person. */
export function ratioText(ratio: number | null): string {
  return ratio === null ? '-' : ratio.toFixed(2);
}

/** In pieces; none where nothing was looked for. */
export function balancePieces({ balance, connections }: RunReport): readonly string[] {
  const open = balance?.end?.open ?? balance?.series.at(-1)?.open;
  if (!balance || open === undefined) return [];
  const counts = backendsBySize(open);
  if (counts.length === 0) return ['none was named in the first bytes of any connection'];
  const shown = counts
    .slice(0, SHOWN_MAX)
    .map(([name, count]) => `${backendName(name)} ${formatCount(count)}`);
  const known = counts.reduce((sum, [, count]) => sum + count, 0);
  return [
    ...shown,
    ...(counts.length > SHOWN_MAX ? [`and ${formatCount(counts.length - SHOWN_MAX)} more`] : []),
    ...(connections.open > known ? [`not known ${formatCount(connections.open - known)}`] : []),
    `highest over mean ${ratioText(balance.ratioAtStart)} at the start of the hold, ${ratioText(balance.ratioAtEnd)} at its end`,
  ];
}
