/**
 * Owns a comparison of runs as text, JSON and Markdown for a pull request. Must never compare.
 */
import { cleanDeep, cleanJson, withoutOrders } from '../base/clean-text.ts';
import { counted, formatCount, formatMs } from '../base/units.ts';
import type { Comparison, MetricChange, PairComparison } from '../judge/comparison.ts';
import { markdownText } from './formats.ts';
import { bulleted, noPaint, type Paint, TEXT_WIDTH, table, wrapText } from './layout.ts';

/** The comparison as JSON, ending in a line break. */
export function comparisonJson(comparison: Comparison): string {
  return `${cleanJson(JSON.stringify({ schemaVersion: '1.0.0', ...comparison }, null, 2))}\n`;
}

function valueText(kind: MetricChange['kind'], value: number | null): string {
  if (value === null) return '-';
  switch (kind) {
    case 'latency':
      return formatMs(value);
    case 'rate':
      return `${formatCount(Math.round(value))}/s`;
    case 'seconds':
      return `${value.toFixed(2)} s`;
    default:
      return formatCount(Math.round(value));
  }
}

/** Columns of a label in a table: of a path the end tells more. */
const HEAD_CHARACTERS = 16;

function headOf(label: string): string {
  return label.length <= HEAD_CHARACTERS ? label : `~${[...label].slice(1 - HEAD_CHARACTERS).join('')}`;
}

function sidesOf({ base, other, baseRuns, otherRuns }: PairComparison): string {
  return `${other} (${counted(otherRuns, 'run')}) against ${base} (${counted(baseRuns, 'run')})`;
}

function changeText({ base, other, changePercent }: MetricChange): string {
  if (base === null || other === null) return '-';
  if (changePercent === null) return 'was 0';
  return `${changePercent > 0 ? '+' : ''}${changePercent.toFixed(1)} %`;
}

function noiseText({ isBeyondNoise, direction }: MetricChange): string {
  if (direction === 'same') return 'no change';
  if (isBeyondNoise === null) return 'not known';
  if (!isBeyondNoise) return 'noise';
  return direction === 'other' ? 'changed' : direction;
}

function rowsOf({ changes, base, other }: PairComparison): (readonly string[])[] {
  return [
    ['metric', headOf(base), headOf(other), 'change', 'beyond noise'],
    ...changes.map((change) => [
      change.metric,
      valueText(change.kind, change.base),
      valueText(change.kind, change.other),
      changeText(change),
      noiseText(change),
    ]),
  ];
}

function foundIn({ changes }: PairComparison): string {
  const found = changes.filter(({ isBeyondNoise }) => isBeyondNoise === true);
  const names = found.map(({ metric, direction }) => `${metric} ${direction}`);
  return names.length === 0 ? 'nothing changed beyond noise' : `beyond noise: ${names.join(', ')}`;
}

function isNoiseKnown({ baseRuns, otherRuns }: PairComparison, runsMin: number): boolean {
  return Math.min(baseRuns, otherRuns) >= runsMin;
}

function rateText({ errorRate }: Comparison): string {
  return (
    `Beyond noise: rank test over all metrics shown (Holm); at most ${100 * errorRate} % of comparisons of equal runs ` +
    'find anything.'
  );
}

/** The last line: what a caller acts on. */
function verdictOf({ pairs, failed }: Comparison): string {
  const asked = pairs.flatMap((pair) => pair.tolerances);
  const broken = asked.filter((result) => result.failed);
  if (failed) return `FAIL ${broken.map(({ text }) => text).join(', ')}`;
  return asked.length === 0
    ? 'no tolerance was given (--fail-on): nothing can fail'
    : `PASS ${asked.length} of ${asked.length} tolerances hold`;
}

/** The comparison for a person, ending in a line break; the last line is the verdict. */
export function renderComparison(given: Comparison, paint: Paint = noPaint): string {
  const comparison = cleanDeep(given);
  const lines: string[] = [];
  for (const pair of comparison.pairs) {
    lines.push(
      ...wrapText(`${sidesOf(pair)}, medians`, TEXT_WIDTH),
      ...table(rowsOf(pair)),
      ...(isNoiseKnown(pair, comparison.runsMin) ? wrapText(foundIn(pair), TEXT_WIDTH) : []),
      ...pair.notes.flatMap((note) => bulleted('!', note)),
      ...pair.tolerances.flatMap(({ failed, text, why }) => bulleted(failed ? '✗' : '✓', `${text}: ${why}`)),
      '',
    );
  }
  if (comparison.pairs.some((pair) => isNoiseKnown(pair, comparison.runsMin)))
    lines.push(...wrapText(rateText(comparison), TEXT_WIDTH));
  const verdict = verdictOf(comparison);
  lines.push(verdict.startsWith('no ') ? verdict : paint(comparison.failed ? 'bad' : 'good', verdict));
  return `${withoutOrders(lines.join('\n'))}\n`;
}

/** The comparison for a comment of a pull request, ending in a line break. */
export function comparisonMarkdown(given: Comparison): string {
  const comparison = cleanDeep(given);
  const row = (cells: readonly string[]): string => `| ${cells.map(markdownText).join(' | ')} |`;
  const isAsked = comparison.pairs.some(({ tolerances }) => tolerances.length > 0);
  const mark = comparison.failed ? '❌' : isAsked ? '✅' : 'ℹ️';
  const lines = [`### ${mark} ${markdownText(verdictOf(comparison))}`, ''];
  for (const pair of comparison.pairs) {
    const [head = [], ...rows] = rowsOf(pair);
    lines.push(
      markdownText(sidesOf(pair)),
      '',
      row(head),
      '| --- | ---: | ---: | ---: | --- |',
      ...rows.map(row),
      '',
      ...(isNoiseKnown(pair, comparison.runsMin) ? [markdownText(foundIn(pair)), ''] : []),
      ...pair.notes.map((note) => `- ⚠️ ${markdownText(note)}`),
      ...pair.tolerances.map(
        ({ failed, text, why }) => `- ${failed ? '❌' : '✅'} ${markdownText(text)}: ${markdownText(why)}`,
      ),
      '',
    );
  }
  if (comparison.pairs.some((pair) => isNoiseKnown(pair, comparison.runsMin)))
    lines.push(markdownText(rateText(comparison)), '');
  return lines.join('\n');
}
