/**
 * Owns what a person sees of a run in motion: its lines on a terminal, its line in a log. The same facts stand in both.
 * Must never write anywhere, or make a line that is wider than the terminal or lacks a part of a number or a name.
 */
import { cleanText } from '../base/clean-text.ts';
import { totalOf } from '../base/outcome.ts';
import { counted, formatCount, formatMs } from '../base/units.ts';
import type { AgentProgress, Progress } from '../coordinator/run-progress.ts';
import { chartRow, openOverTime } from '../report/chart.ts';
import { countPieces, type Paint, wrapText } from '../report/layout.ts';

/** Agents that have a line of their own at most; those that are lost or awaited come first. */
const AGENTS_MAX = 12;
/** Labels take so many columns, as those of the report. */
const LABEL_WIDTH = 11;
const BAR_MIN = 6;
const BAR_MAX = 30;
/** Points of the chart that are kept: with more, each stands for twice the time. */
const POINTS_MAX = 512;
/** Between words that stay on one line. */
const NO_BREAK = '\u00a0';

type Style = Parameters<Paint>[0];
type Point = Parameters<typeof openOverTime>[0][number];

/** A line before it is coloured. */
interface Line {
  /** null: a line without a label's column */
  readonly label: string | null;
  readonly text: string;
  readonly style: Style | null;
}

/** In characters. */
interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** The terminal echoes `^C` behind the last line: if that wrapped, the lines above would stay behind. And the last column. */
const COLUMNS_SPARE = 3;
/**
 * No line is laid out for a wider terminal: one that is made narrower, down to so many columns, breaks none of them
 * (docs/decisions/live-view.md).
 */
const TERMINAL_COLUMNS_MAX = 60;
/** Lines that an unusual terminal still shows, whatever it says of its height. */
const ROWS_MIN = 4;
/** Below the picture: what the terminal echoes, and a line of what was there before. */
const ROWS_SPARE = 2;

/** How much of a terminal the view takes at most. */
export function viewSize({ columns, rows }: Size): Size {
  return {
    columns: Math.max(1, Math.min(TERMINAL_COLUMNS_MAX, columns) - COLUMNS_SPARE),
    rows: Math.max(ROWS_MIN, rows - ROWS_SPARE),
  };
}

/** What a run has shown so far, and its picture now. */
export class LiveView {
  #open: readonly Point[] = [];
  /** a point stands for so long, and is as low as it was in that time */
  #stepSec = 1;
  #last: Progress | null = null;

  /** The newest snapshot. */
  add(progress: Progress): void {
    this.#last = progress;
    if (!isBusy(progress)) return;
    const { open } = progress.total;
    const atSec = progress.elapsedMs / 1_000;
    const last = this.#open.at(-1);
    if (last !== undefined && Math.floor(last.atSec / this.#stepSec) === Math.floor(atSec / this.#stepSec)) {
      this.#open = this.#open.with(-1, { ...last, open: Math.min(last.open, open) });
      return;
    }
    this.#open = [...this.#open, { atSec, open }];
    if (this.#open.length <= POINTS_MAX) return;
    this.#stepSec *= 2;
    this.#open = thinned(this.#open, this.#stepSec);
  }

  /**
   * Its lines, none wider than `columns`; empty before the first snapshot.
   * @param size what may be used of the terminal (`viewSize`)
   */
  lines({ columns, rows }: Size, paint: Paint): { readonly plain: string; readonly painted: string }[] {
    const progress = this.#last;
    if (progress === null) return [];
    const above = [
      ...phaseLines(progress, columns),
      ...openLines(progress, columns),
      ...this.#chartLines(progress, columns),
      ...proofLines(progress, columns),
      ...lostLines(progress, columns),
      ...healthLines(progress, columns),
    ];
    const agents = agentLines(progress, columns, Math.max(1, rows - above.length));
    return [...above, ...agents]
      .flatMap((line) => {
        const shown = painted(line, paint);
        // Below some 30 columns not even a label and a number stand beside each other.
        if (shown.plain.length <= columns) return [shown];
        return chunks(shown.plain, columns).map((plain) => ({ plain, painted: plain }));
      })
      .slice(0, Math.max(1, rows));
  }

  /** Open connections since the ramp began: a column a second, and less once the line is full. */
  #chartLines({ asked }: Progress, columns: number): Line[] {
    const room = columns - LABEL_WIDTH;
    const points = this.#open;
    const startSec = points[0]?.atSec ?? 0;
    if (points.length < 2 || room < 1) return [];
    const since = points.map(({ atSec, open }) => ({ atSec: atSec - startSec, open }));
    const values = openOverTime(since, Math.min(room, points.length));
    return [{ label: 'over time', text: chartRow(values, asked, 0, 1).trimEnd(), style: null }];
  }
}

/** One point for each step of the time, as low as its lowest. */
function thinned(points: readonly Point[], stepSec: number): readonly Point[] {
  const kept = new Map<number, Point>();
  for (const point of points) {
    const step = Math.floor(point.atSec / stepSec);
    const before = kept.get(step) ?? point;
    kept.set(step, { ...before, open: Math.min(before.open, point.open) });
  }
  return [...kept.values()];
}

function painted({ label, text, style }: Line, paint: Paint): { plain: string; painted: string } {
  const head = label === null ? '' : label.padEnd(LABEL_WIDTH);
  const body = style === null ? text : paint(style, text);
  return { plain: `${head}${text}`, painted: `${head.trim() === '' ? head : paint('dim', head)}${body}` };
}

/** Pieces that are never broken, wrapped under their label; a name that is longer than a line goes on in the next one. */
function labelled(
  label: string,
  pieces: readonly string[],
  columns: number,
  style: Style | null = null,
): Line[] {
  const room = Math.max(1, columns - LABEL_WIDTH);
  const text = pieces.map((piece) => piece.replaceAll(' ', NO_BREAK)).join(' ');
  const lines = wrapText(text, room).flatMap((line) => chunks(line, room));
  return lines.map((line, at) => ({
    label: at === 0 ? label : '',
    text: line.replaceAll(NO_BREAK, ' ').trimEnd(),
    style,
  }));
}

function chunks(text: string, width: number): string[] {
  const parts: string[] = [];
  for (let at = 0; at < text.length; at += width) parts.push(text.slice(at, at + width));
  return parts;
}

/** With a comma behind each but the last. */
function listed(pieces: readonly string[]): string[] {
  return pieces.map((piece, at) => (at === pieces.length - 1 ? piece : `${piece},`));
}

/** The phase with its times, such as `12s, about 14s left`. */
function phaseLines(progress: Progress, columns: number): Line[] {
  const pieces = listed([spent(progress), ...remaining(progress)]);
  return [
    ...labelled(progress.phase, pieces, columns, 'bold'),
    ...labelled('waits for', waited(progress), columns),
  ];
}

/** Time in the phase, and since the start of the run where that is more. */
function spent({ phase, phaseMs, elapsedMs }: Progress): string {
  const all = elapsedMs - phaseMs >= 1_000 && phase !== 'ended' ? ` (${clockText(elapsedMs)} in all)` : '';
  return `${clockText(phaseMs)}${all}`;
}

function remaining({ phase, holdLeftMs, leftMs, total }: Progress): string[] {
  if (phase === 'holding' && holdLeftMs !== null) return [`${secondsLeft(holdLeftMs)} left`];
  if (phase === 'ramping' && leftMs !== null) return [`about ${secondsLeft(leftMs)} left`];
  if (phase === 'gathering' && leftMs !== null && !total.lost) return [`at most ${secondsLeft(leftMs)} left`];
  return [];
}

/** Who the run waits for before it opens anything; empty: for none, or it is no longer waiting. */
function waited({ phase, agents }: Progress): string[] {
  if (phase !== 'gathering' && phase !== 'preparing') return [];
  const awaited = agents.filter(({ isAwaited }) => isAwaited);
  if (awaited.length === 0) return [];
  const named = awaited.slice(0, 3).map(({ name }) => cleanText(name));
  const more = awaited.length - named.length;
  return listed([...named, ...(more > 0 ? [`and ${formatCount(more)} more`] : [])]);
}

/** Before the quotas are handed out the total is what was asked. */
function quotaOf({ total, asked }: Progress): number {
  return Math.max(total.quota, asked);
}

function openLines(progress: Progress, columns: number): Line[] {
  if (!isBusy(progress)) return [{ label: 'asked', text: formatCount(progress.asked), style: null }];
  const { total } = progress;
  const quota = quotaOf(progress);
  const text = `${formatCount(total.open)} of ${formatCount(quota)}`;
  const width = Math.min(BAR_MAX, columns - LABEL_WIDTH - text.length - 1);
  const drawn = width < BAR_MIN ? [] : [bar(total.open, quota, width)];
  const rate = ratePieces(progress);
  return [
    ...labelled('open', [...drawn, text], columns),
    ...(rate.length === 0 ? [] : labelled('rate', listed(rate), columns)),
  ];
}

function ratePieces({ phase, total }: Progress): string[] {
  if (phase !== 'ramping') return [];
  return [`${formatCount(Math.round(total.ratePerSec))}/s`, `${formatCount(total.pending)} in flight`];
}

/** Who else says that they are open. */
function proofLines(progress: Progress, columns: number): Line[] {
  const pieces = proofPieces(progress);
  return pieces.length === 0 ? [] : labelled('proof', listed(pieces), columns);
}

function proofPieces(progress: Progress): string[] {
  const { verified, target } = progress;
  if (!isBusy(progress)) return [];
  const counts =
    target === null
      ? []
      : [target.open === null ? 'the target does not say' : `the target counts ${formatCount(target.open)}`];
  return [...(verified === null ? [] : [`verified ${formatCount(verified)}`]), ...counts];
}

/** `3 failed: refused 2, timeout 1`; nothing while nothing is missing. */
function lossPieces(what: string, total: number, by: Parameters<typeof countPieces>[0]): string[] {
  if (total === 0) return [];
  const reasons = listed(countPieces(by));
  return [`${formatCount(total)} ${what}${reasons.length === 0 ? '' : ':'}`, ...reasons];
}

function lostLines(progress: Progress, columns: number): Line[] {
  if (!isBusy(progress)) return [];
  const { failedBy, droppedBy } = progress;
  const failed = lossPieces('failed', totalOf(failedBy), failedBy);
  const dropped = lossPieces('dropped', totalOf(droppedBy), droppedBy);
  if (failed.length + dropped.length === 0) return labelled('lost', ['none'], columns);
  return [
    ...labelled('lost', failed, columns, 'bad'),
    ...labelled(failed.length > 0 ? '' : 'lost', dropped, columns, 'bad'),
  ];
}

function healthLines(progress: Progress, columns: number): Line[] {
  const pieces = healthPieces(progress);
  return pieces.length === 0 ? [] : labelled('health', listed(pieces), columns);
}

/** Of the probes and of the generator. */
function healthPieces(progress: Progress): string[] {
  if (!isBusy(progress)) return [];
  const { probeP99Ms, cpuCores, agents } = progress;
  const lost = agents.filter((agent) => agent.lost).length;
  return [
    ...(probeP99Ms === null ? [] : [`probe p99 ${formatMs(probeP99Ms)}`]),
    ...(cpuCores === null
      ? []
      : [`CPU ${cpuCores.toFixed(1)} ${cpuCores.toFixed(1) === '1.0' ? 'core' : 'cores'}`]),
    ...(lost === 0 ? [] : [`${counted(lost, 'agent')} lost`]),
  ];
}

/** One cell of the agents' lines: cells with a higher rank leave first when the lines are too narrow. */
interface Column {
  readonly rank: number;
  readonly cell: (agent: AgentProgress) => string;
}

/** Everything but the rank 0 column, which is never left out. */
const RANK_MAX = 4;

/**
 * A line for each of several agents, with common columns: name, bar, open of quota, and as many other numbers as fit.
 * A single agent is the total, and has none.
 */
function agentLines(progress: Progress, columns: number, rowsMax: number): Line[] {
  const { agents } = progress;
  if (agents.length < 2) return [];
  // One row is kept for the number of those that are not shown.
  const most = Math.min(AGENTS_MAX, agents.length <= rowsMax ? rowsMax : Math.max(1, rowsMax - 1));
  const shown = mostUrgent(agents, most);
  const { cells, nameWidth, barWidth } = agentColumns(shown, progress, columns);
  const lines = shown.flatMap((agent, at): Line[] => {
    const name = cleanText(agent.name);
    const style = agent.lost ? ('bad' as const) : null;
    const drawn = barWidth < BAR_MIN ? '' : `${bar(agent.open, agent.quota, barWidth)} `;
    const numbers = `${drawn}${cells[at] ?? ''}`.trimEnd();
    if (name.length <= nameWidth)
      return [{ label: null, text: `${name.padEnd(nameWidth)} ${numbers}`, style }];
    // What is too long for the column stands above its numbers, whole.
    const above = chunks(name, columns).map((text) => ({ label: null, text, style }));
    return [...above, { label: null, text: `${' '.repeat(nameWidth)} ${numbers}`, style }];
  });
  const more = agents.length - shown.length;
  const rest = more > 0 ? [{ label: null, text: `and ${counted(more, 'more agent')}`, style: null }] : [];
  return [...lines, ...rest];
}

/** In their order, those that something is wrong with before the others. */
function mostUrgent(agents: readonly AgentProgress[], most: number): readonly AgentProgress[] {
  if (agents.length <= most) return agents;
  const urgent = agents.filter(({ lost, isAwaited }) => lost || isAwaited);
  return [...urgent, ...agents.filter((agent) => !urgent.includes(agent))].slice(0, most);
}

interface AgentColumns {
  /** the numbers of each agent, each column as wide as its widest cell */
  readonly cells: readonly string[];
  readonly nameWidth: number;
  /** below `BAR_MIN`: there is no room for one */
  readonly barWidth: number;
}

function agentColumns(agents: readonly AgentProgress[], progress: Progress, columns: number): AgentColumns {
  const longest = Math.max(...agents.map(({ name }) => cleanText(name).length));
  let chosen = columnsOf(agents, progress);
  let cells = joined(agents, chosen);
  const widthOf = (): number => Math.max(...cells.map((text) => text.length));
  for (let rank = RANK_MAX; rank > 0 && longest + 1 + widthOf() > columns; rank--) {
    chosen = chosen.filter((column) => column.rank < rank);
    cells = joined(agents, chosen);
  }
  const nameWidth = Math.max(0, Math.min(longest, columns - 1 - widthOf()));
  const barWidth = isBusy(progress) ? Math.min(BAR_MAX, columns - nameWidth - 2 - widthOf()) : 0;
  return { cells, nameWidth, barWidth };
}

function joined(agents: readonly AgentProgress[], columns: readonly Column[]): string[] {
  const widths = columns.map(({ cell }) => Math.max(...agents.map((agent) => cell(agent).length)));
  return agents.map((agent) =>
    columns
      .map(({ cell }, at) => cell(agent).padStart(widths[at] ?? 0))
      .join(' ')
      .trimEnd(),
  );
}

function columnsOf(agents: readonly AgentProgress[], progress: Progress): Column[] {
  const columns: Column[] = [
    { rank: 0, cell: ({ open, quota }) => `${formatCount(open)}/${formatCount(quota)}` },
  ];
  if (progress.phase === 'ramping') {
    columns.push({ rank: 3, cell: ({ ratePerSec }) => `${compact(ratePerSec)}/s` });
    columns.push({ rank: 4, cell: ({ pending }) => `${compact(pending)} in flight` });
  }
  if (agents.some(({ failed }) => failed > 0))
    columns.push({ rank: 2, cell: ({ failed }) => `${compact(failed)} failed` });
  if (agents.some(({ dropped }) => dropped > 0))
    columns.push({ rank: 2, cell: ({ dropped }) => `${compact(dropped)} dropped` });
  if (agents.some(({ lost }) => lost)) columns.push({ rank: 1, cell: ({ lost }) => (lost ? 'LOST' : '') });
  if (progress.phase === 'gathering' || progress.phase === 'preparing')
    columns.push({ rank: 1, cell: ({ isAwaited, lost }) => (lost ? '' : isAwaited ? 'not ready' : 'ready') });
  return columns;
}

function bar(open: number, quota: number, width: number): string {
  const inner = width - 2;
  const ratio = quota === 0 ? 0 : Math.min(1, Math.max(0, open / quota));
  // A bar is full only when nothing is missing.
  const filled = Math.floor(ratio * inner);
  return `[${'='.repeat(filled)}${' '.repeat(inner - filled)}]`;
}

/** A number in at most four characters and a letter: `999`, `26.1k`, `1.2m`. */
function compact(value: number): string {
  if (value < 999.5) return String(Math.round(value));
  if (value < 999_950) return `${trimZero((value / 1000).toFixed(value < 99_950 ? 1 : 0))}k`;
  return `${trimZero((value / 1_000_000).toFixed(1))}m`;
}

function trimZero(text: string): string {
  return text.endsWith('.0') ? text.slice(0, -2) : text;
}

/** What is left is rounded up: `0s` means that it is over. */
function secondsLeft(ms: number): string {
  return clockText(Math.max(0, Math.ceil(ms / 1_000)) * 1_000);
}

/** `12s`, `2m05s`, `3h20m`, `5d03h`. */
function clockText(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes}m${String(seconds % 60).padStart(2, '0')}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h${String(minutes % 60).padStart(2, '0')}m`;
  return `${Math.floor(hours / 24)}d${String(hours % 24).padStart(2, '0')}h`;
}

/** Whether connections exist in this phase, so that a line about them says something. */
export function isBusy({ phase }: Progress): boolean {
  return phase === 'ramping' || phase === 'holding' || phase === 'draining';
}

/** Of several agents, what each has in a line of a log: `agents a 5/10, b 4/10 LOST`. */
function agentPieces({ agents }: Progress): string[] {
  if (agents.length < 2) return [];
  const shown = mostUrgent(agents, AGENTS_MAX);
  const each = shown.map(
    ({ name, open, quota, lost }) =>
      `${cleanText(name)} ${formatCount(open)}/${formatCount(quota)}${lost ? ' LOST' : ''}`,
  );
  const more = agents.length - shown.length;
  return [`agents ${[...each, ...(more > 0 ? [`and ${counted(more, 'more agent')}`] : [])].join(', ')}`];
}

/**
 * One line for a log with the same facts, such as
 * `   5 s  ramping    65,000 of 130,000 open  26,123/s  512 in flight  none lost  CPU 1.4 cores  about 3s left`.
 */
export function logLine(progress: Progress, paint: Paint): string {
  const { total, phase, asked, failedBy, droppedBy } = progress;
  const head = `${(progress.elapsedMs / 1000).toFixed(0).padStart(4)} s  ${phase.padEnd(9)}`;
  const wanted = waited(progress);
  if (!isBusy(progress)) {
    const waiting = wanted.length === 0 ? [] : [`waits for ${wanted.join(' ')}`];
    return [head, `${formatCount(asked)} asked`, ...waiting, ...remaining(progress)].join('  ');
  }
  const failed = lossPieces('failed', totalOf(failedBy), failedBy).join(' ');
  const dropped = lossPieces('dropped', totalOf(droppedBy), droppedBy).join(' ');
  const lost = [failed, dropped].filter((text) => text !== '').map((text) => paint('bad', text));
  return [
    head,
    `${formatCount(total.open)} of ${formatCount(quotaOf(progress))} open`,
    ...ratePieces(progress),
    ...proofPieces(progress),
    ...(lost.length === 0 ? ['none lost'] : lost),
    ...healthPieces(progress),
    ...remaining(progress),
    ...agentPieces(progress),
  ].join('  ');
}
