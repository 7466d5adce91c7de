/**
 * Owns the pictures of a report: points of its line charts, thinned to what a screen shows, and the loss raster and the heat
 * map as SVG, each with the rows of the table behind it. Must never leave a peak or a trough of what was open out.
 */
import { cutText } from '../../base/clean-text.ts';
import { formatCount, formatMs } from '../../base/units.ts';
import { latencySpectrum } from '../../judge/latency-spectrum.ts';
import type { RunReport, TimelinePoint } from '../../judge/report.ts';
import { type LatencyMap, type LossRow, stepStartMs } from '../../stats/over-time.ts';
import { type Cell, type Markup, markup } from './markup.ts';

/** Points that a line is drawn from at most: a screen has about so many columns. */
const POINTS_MAX = 900;
/** Rows of a table behind a chart. */
export const ROWS_MAX = 100;
/** Rows of a raster. */
const PLACES_SHOWN_MAX = 24;

/**
 * Points with no peak and no trough lost: of each bucket the lowest, the highest and the last stay, and each change of phase.
 * @param pointsMax at least 4
 */
export function thinned(points: readonly TimelinePoint[], pointsMax: number): readonly TimelinePoint[] {
  if (points.length <= pointsMax) return points;
  const size = Math.ceil((4 * points.length) / pointsMax);
  const kept = new Set<TimelinePoint>();
  for (let from = 0; from < points.length; from += size) {
    const bucket = points.slice(from, from + size);
    const first = bucket[0];
    if (first === undefined) break;
    let [low, high] = [first, first];
    for (const point of bucket) {
      if (point.open < low.open) low = point;
      if (point.open > high.open) high = point;
    }
    for (const point of [low, high, bucket.at(-1) ?? first]) kept.add(point);
  }
  return points.filter(
    (point, at) => kept.has(point) || (point.phase !== points[at - 1]?.phase && kept.size < pointsMax),
  );
}

/** Where the kernel counted our sockets, as points of the timeline; summed over agents. */
function kernelPoints(report: RunReport): { readonly atSec: number; readonly established: number }[] {
  const holding = report.timeline.filter(({ phase }) => phase === 'holding');
  const at = { 'ramp-end': holding[0]?.atSec, 'hold-end': holding.at(-1)?.atSec } as const;
  return (['ramp-end', 'hold-end'] as const).flatMap((when) => {
    const counts = report.kernel.counts.filter((count) => count.when === when && count.established !== null);
    const atSec = at[when];
    if (counts.length === 0 || atSec === undefined) return [];
    return [{ atSec, established: counts.reduce((sum, { established }) => sum + (established ?? 0), 0) }];
  });
}

/** What the page's script draws lines from; also what a live page is sent. */
export interface ChartData {
  readonly asked: number;
  readonly timeline: {
    readonly atSec: readonly number[];
    readonly open: readonly number[];
    readonly verified: readonly number[];
    readonly failed: readonly number[];
    readonly dropped: readonly number[];
    readonly seenByTarget: readonly (number | null)[];
    readonly kernel: readonly (number | null)[];
  };
  /** by name, `[percent, milliseconds, ...]` */
  readonly spectrum: Readonly<Record<string, readonly number[]>>;
}

/** The spectra that were measured, by what they are of. */
export function spectraOf(report: RunReport): Readonly<Record<string, readonly number[]>> {
  const all = { connect: report.connectMs, intended: report.connectFromIntendedMs, probe: report.echoMs };
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, latency]) => {
      const points = latencySpectrum(latency);
      return points === null ? [] : [[name, points.flatMap(({ percent, ms }) => [percent, ms])]];
    }),
  );
}

/** Everything that is drawn as lines. @param spectrum of `spectraOf` */
export function chartData(report: RunReport, spectrum: ChartData['spectrum']): ChartData {
  const points = thinned(report.timeline, POINTS_MAX);
  const kernel = new Map(kernelPoints(report).map(({ atSec, established }) => [atSec, established]));
  return {
    asked: report.asked.connections,
    timeline: {
      atSec: points.map(({ atSec }) => atSec),
      open: points.map(({ open }) => open),
      verified: points.map(({ verified }) => verified),
      failed: points.map(({ failed }) => failed),
      dropped: points.map(({ dropped }) => dropped),
      seenByTarget: points.map(({ seenByTarget }) => seenByTarget),
      kernel: points.map(({ atSec }) => kernel.get(atSec) ?? null),
    },
    spectrum,
  };
}

/** A raster of rows and columns in SVG; pixels. */
const CELL_WIDTH_MAX = 24;
const CELLS_WIDTH_MAX = 720;
const CELLS_WIDTH_MIN = 60;
const CELL_HEIGHT = 14;
const LABEL_CHARACTERS = 24;
const LABEL_WIDTH = 170;
const AXIS_HEIGHT = 20;

/** Where a cell is. `half`: in the lower half of a place that another class has already. */
interface RasterCell {
  readonly column: number;
  readonly row: number;
  readonly half: boolean;
}

interface Raster {
  readonly label: string;
  /** from the top */
  readonly rows: readonly string[];
  readonly columns: number;
  readonly bucketMs: number;
  /** by class */
  readonly cells: ReadonlyMap<string, readonly RasterCell[]>;
  /** how a run of cells is drawn: `boxes` have an outline, `lines` are shorter to write */
  readonly shape: 'boxes' | 'lines';
}

/** Neighbours of one class in a row as one run, in the order of rows and columns. */
function runsOf(cells: readonly RasterCell[]): (RasterCell & { length: number })[] {
  const runs: (RasterCell & { length: number })[] = [];
  const ordered = cells.toSorted(
    (a, b) => a.row - b.row || Number(a.half) - Number(b.half) || a.column - b.column,
  );
  for (const cell of ordered) {
    const last = runs.at(-1);
    if (last?.row === cell.row && last.half === cell.half && last.column + last.length === cell.column)
      last.length += 1;
    else runs.push({ ...cell, length: 1 });
  }
  return runs;
}

/** Runs of one class as the data of a path: thousands of elements would be most of the page, and long numbers most of the file. */
function pathOf(cells: readonly RasterCell[], cellWidth: number, shape: Raster['shape']): string {
  let [row, end] = [-1, 0];
  const parts = runsOf(cells).map((run) => {
    const x = LABEL_WIDTH + run.column * cellWidth;
    const y = run.row * CELL_HEIGHT + 1 + (run.half ? CELL_HEIGHT / 2 - 1 : 0);
    const width = run.length * cellWidth - 1;
    if (shape === 'boxes') {
      const height = run.half ? CELL_HEIGHT / 2 - 1 : CELL_HEIGHT - 2;
      return `M${x} ${y}h${width}v${height}h-${width}z`;
    }
    const begin = run.row === row ? `m${x - end} 0` : `M${x} ${y + CELL_HEIGHT / 2 - 1}`;
    [row, end] = [run.row, x + width];
    return `${begin}h${width}`;
  });
  return parts.join('');
}

function rasterSvg({ label, rows, columns, bucketMs, cells, shape }: Raster): Markup {
  const cellWidth = Math.max(
    1,
    Math.min(CELL_WIDTH_MAX, Math.floor(CELLS_WIDTH_MAX / Math.max(1, columns))),
    Math.ceil(CELLS_WIDTH_MIN / Math.max(1, columns)),
  );
  const width = LABEL_WIDTH + cellWidth * Math.max(1, columns);
  const height = rows.length * CELL_HEIGHT;
  const paths = [...cells].map(
    ([name, list]) => markup`<path class="${name}" d="${pathOf(list, cellWidth, shape)}"/>`,
  );
  const labels = rows.map(
    (text, at) =>
      markup`<text x="0" y="${at * CELL_HEIGHT + 11}">${text.length > LABEL_CHARACTERS ? `${cutText(text, LABEL_CHARACTERS - 1)}~` : text}</text>`,
  );
  const seconds = String(Math.round((columns * bucketMs) / 100) / 10);
  return markup`<div class="scroll" role="region" tabindex="0" aria-label="${label}"><svg role="img" aria-label="${label}" viewBox="0 0 ${width} ${height + AXIS_HEIGHT}" width="${width}" height="${height + AXIS_HEIGHT}">
${paths}${labels}<text x="${LABEL_WIDTH}" y="${height + 14}">0 s</text><text x="${width}" y="${height + 14}" text-anchor="end">${seconds} s</text></svg></div>`;
}

/** The last bucket of rows, plus one. */
function bucketsOf(rows: readonly LossRow[]): number {
  return Math.max(0, ...rows.map(({ at }) => (at.at(-2) ?? -1) + 1));
}

function sumOf(at: readonly number[]): number {
  return at.reduce((sum, value, index) => (index % 2 === 1 ? sum + value : sum), 0);
}

/** A picture with the table behind it. */
export interface Picture {
  readonly picture: Markup;
  readonly heads: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  /** what was left out of the table or the picture, in words; empty: nothing */
  readonly left: string;
  /** classes with their meaning */
  readonly legend: readonly (readonly [name: string, text: string])[];
}

/** Losses by time and place; null: there are none. @param what such as `source address` */
export function lossRaster(rows: readonly LossRow[], bucketMs: number, what: string): Picture | null {
  if (rows.length === 0) return null;
  const totals = new Map<string, number>();
  for (const { place, at } of rows) totals.set(place, (totals.get(place) ?? 0) + sumOf(at));
  const places = [...totals].toSorted(([, a], [, b]) => b - a).map(([place]) => place);
  const shown = places.slice(0, PLACES_SHOWN_MAX);
  const reasons = [...new Set(rows.map(({ reason }) => reason))];
  const cells = new Map<string, RasterCell[]>();
  const taken = new Set<string>();
  const listed: { place: string; reason: string; bucket: number; count: number }[] = [];
  for (const { place, reason, at } of rows) {
    const row = shown.indexOf(place);
    for (let index = 0; index < at.length; index += 2) {
      const bucket = at[index] ?? 0;
      listed.push({ place, reason, bucket, count: at[index + 1] ?? 0 });
      if (row < 0) continue;
      const name = `loss r${reasons.indexOf(reason) % 8}`;
      // Two causes at the same time and place share the cell.
      const half = taken.has(`${bucket} ${row}`);
      taken.add(`${bucket} ${row}`);
      const list = cells.get(name) ?? [];
      list.push({ column: bucket, row, half });
      cells.set(name, list);
    }
  }
  const columns = bucketsOf(rows);
  const label = `losses by time and ${what}: ${formatCount(listed.reduce((sum, { count }) => sum + count, 0))} in all`;
  const picture = rasterSvg({ label, rows: shown.map(placeText), columns, bucketMs, cells, shape: 'boxes' });
  const largest = listed.toSorted((a, b) => b.count - a.count).slice(0, ROWS_MAX);
  return {
    picture,
    heads: [what, 'seconds', 'reason', 'lost'],
    rows: largest
      .toSorted((a, b) => a.bucket - b.bucket || b.count - a.count)
      .map(({ place, reason, bucket, count }) => [
        placeText(place),
        span(bucket, bucketMs),
        reason,
        formatCount(count),
      ]),
    left: leftOut(listed.length, largest.length, places.length, shown.length),
    legend: reasons.map((reason, at) => [`loss r${at % 8}`, reason]),
  };
}

function placeText(place: string): string {
  return place === '*' ? 'others' : place;
}

function leftOut(rows: number, rowsShown: number, places: number, placesShown: number): string {
  const parts = [
    ...(rows > rowsShown ? [`the table has the ${rowsShown} largest of ${formatCount(rows)} cells`] : []),
    ...(places > placesShown ? [`the picture has the ${placesShown} largest of ${places} places`] : []),
  ];
  return parts.join('; ');
}

function span(bucket: number, bucketMs: number): string {
  const text = (value: number): string => String(Math.round(value) / 1_000);
  return `${text(bucket * bucketMs)} to ${text((bucket + 1) * bucketMs)}`;
}

/** Classes of a heat map, by share of the fullest cell. */
const HEAT_LEVELS = 5;

/** Latencies by time; null: none were noted. */
export function heatMap(map: LatencyMap, what: string): Picture | null {
  const cells: { column: number; step: number; count: number }[] = [];
  for (const [column, pairs] of map.columns.entries())
    for (let at = 0; at < pairs.length; at += 2)
      cells.push({ column, step: pairs[at] ?? 0, count: pairs[at + 1] ?? 0 });
  if (cells.length === 0) return null;
  const most = Math.max(...cells.map(({ count }) => count));
  const low = Math.min(...cells.map(({ step }) => step));
  const high = Math.max(...cells.map(({ step }) => step));
  // By the logarithm: one slow connect among thousands must be seen.
  const level = (count: number): number =>
    Math.min(HEAT_LEVELS - 1, Math.floor((HEAT_LEVELS * Math.log1p(count)) / Math.log1p(most)));
  const paths = new Map<string, RasterCell[]>();
  for (const { column, step, count } of cells) {
    const name = `heat h${level(count)}`;
    const list = paths.get(name) ?? [];
    list.push({ column, row: high - step, half: false });
    paths.set(name, list);
  }
  const steps = Array.from({ length: high - low + 1 }, (_, at) => high - at);
  const largest = cells.toSorted((a, b) => b.count - a.count || b.step - a.step).slice(0, ROWS_MAX);
  return {
    picture: rasterSvg({
      label: `${what} latency by time, slow above`,
      rows: steps.map((step) => `from ${formatMs(stepStartMs(step))}`),
      columns: map.columns.length,
      bucketMs: map.bucketMs,
      cells: paths,
      shape: 'lines',
    }),
    heads: ['seconds', 'latency', 'count'],
    rows: largest
      .toSorted((a, b) => a.column - b.column || a.step - b.step)
      .map(({ column, step, count }) => [
        span(column, map.bucketMs),
        `${formatMs(stepStartMs(step))} to ${formatMs(stepStartMs(step + 1))}`,
        formatCount(count),
      ]),
    left: leftOut(cells.length, largest.length, 0, 0),
    legend: Array.from({ length: HEAT_LEVELS }, (_, at) => [
      `heat h${at}`,
      at === 0 ? 'few' : at === HEAT_LEVELS - 1 ? `up to ${formatCount(most)}` : '',
    ]),
  };
}
