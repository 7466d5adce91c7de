/**
 * Owns the section of the page on back ends: how many connections each has, over time. Must never draw a name outside of a template (markup.ts).
 */
import { formatCount } from '../../base/units.ts';
import type { RunReport } from '../../judge/report.ts';
import { backendName, backendsBySize, ratioText } from '../balance-text.ts';
import { htmlTable, type Markup, markup, tableBehind } from './markup.ts';

/** Back ends with a column, the largest first, and moments with a row. */
const COLUMNS_MAX = 16;
const ROWS_MAX = 60;

/** The section; empty where nothing was looked for. @param section makes one */
export function balanceSection(
  { balance }: RunReport,
  section: (id: string, title: string, body: readonly (Markup | null)[]) => Markup,
): Markup {
  const last = balance?.end ?? balance?.series.at(-1);
  if (!balance || !last) return markup``;
  const counts = backendsBySize(last.open);
  const rows = counts.map(([name, count]) => [
    backendName(name),
    balance.start === null ? '-' : formatCount(balance.start.open[name] ?? 0),
    formatCount(count),
  ]);
  const names = counts.slice(0, COLUMNS_MAX).map(([name]) => name);
  const step = Math.ceil(balance.series.length / ROWS_MAX);
  const series = balance.series
    .filter((_, at) => at % step === 0)
    .map(({ atSec, open }) => [atSec.toFixed(1), ...names.map((name) => formatCount(open[name] ?? 0))]);
  return section('balance', 'Back ends', [
    markup`<p>Highest over mean: ${ratioText(balance.ratioAtStart)} at the start of the hold, ${ratioText(balance.ratioAtEnd)} at its end.</p>`,
    htmlTable('Connections by back end', ['back end', 'start of the hold', 'end'], rows),
    tableBehind(
      'table-balance',
      'Table: back ends over time',
      htmlTable('Back ends over time', ['second', ...names.map(backendName)], series),
    ),
  ]);
}
