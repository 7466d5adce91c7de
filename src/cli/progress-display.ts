/**
 * Owns the display of a run in motion on stderr: bars on a terminal, plain lines elsewhere.
 * Must never write to stdout, and must never change a terminal setting that a kill would leave changed.
 */
import cliProgress from 'cli-progress';
import { cleanLines, cleanText, cutText } from '../base/clean-text.ts';
import { formatCount } from '../base/units.ts';
import type { AgentProgress, Phase, Progress } from '../stats/stats.ts';

/** What shows a run; `stop` leaves the cursor on an empty line. */
export interface ProgressDisplay {
  show(progress: Progress): void;
  /** one line that stays, such as who is missing */
  note(line: string): void;
  stop(): void;
}

interface DisplayOptions {
  readonly quiet: boolean;
  /** false: only each change of phase */
  readonly periodic: boolean;
  /** time between lines when there is no terminal, in milliseconds */
  readonly everyMs: number;
}

/** The part of a terminal stream that a display needs. */
type DisplayStream = Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'rows' | 'write'>;

/**
 * Chooses the display: bars when the stream is a terminal that can move its cursor, lines otherwise.
 * @param stream where to show; stderr
 * @param options what the user asked for
 * @param environment for `TERM`
 */
export function createDisplay(
  stream: DisplayStream,
  options: DisplayOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ProgressDisplay {
  if (options.quiet) return SILENT;
  if (stream.isTTY === true && options.periodic && environment.TERM !== 'dumb') return new BarDisplay(stream);
  return new LineDisplay(stream, options);
}

function nothing(): void {}

const SILENT: ProgressDisplay = { show: nothing, note: nothing, stop: nothing };

/** Plain lines: one at each change of phase, and one every few seconds. */
class LineDisplay implements ProgressDisplay {
  readonly #stream: DisplayStream;
  readonly #options: DisplayOptions;
  #phase: Phase | null = null;
  #shownMs = 0;
  #note: string | null = null;

  constructor(stream: DisplayStream, options: DisplayOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  show(progress: Progress): void {
    if (progress.note !== null && progress.note !== this.#note) this.note(progress.note);
    this.#note = progress.note;
    const changed = progress.phase !== this.#phase;
    const due = this.#options.periodic && progress.elapsedMs - this.#shownMs >= this.#options.everyMs;
    if (!isBusy(progress.phase)) return;
    if (!changed && !due) return;
    this.#phase = progress.phase;
    this.#shownMs = progress.elapsedMs;
    this.note(logLine(progress));
  }

  note(line: string): void {
    this.#stream.write(`${cleanLines(line)}\n`);
  }

  stop(): void {}
}

/** Lines that an unusual terminal still shows, whatever it says of its height. */
const ROWS_MIN = 4;

/** Agents that have a bar of their own at most; with more, the total and the first of them are shown. */
const AGENT_BARS_MAX = 12;

/** The terminal echoes `^C` behind the last line: if that wrapped, the lines above would stay behind. */
const CTRL_C_COLUMNS = 2;

type Payload = { line: string };

/** One cli-progress bar per agent under the total. Every line is cut to the terminal's width here. */
class BarDisplay implements ProgressDisplay {
  readonly #stream: DisplayStream;
  readonly #bars: cliProgress.MultiBar;
  readonly #lines: cliProgress.SingleBar[] = [];
  #note: string | null = null;
  #stopped = false;

  constructor(stream: DisplayStream) {
    this.#stream = stream;
    this.#bars = new cliProgress.MultiBar({
      stream: stream as NodeJS.WriteStream,
      format: (_options, _params, payload: Payload) => payload.line,
      fps: 5,
      // Neither the cursor nor the wrapping is switched off, so there is nothing to put back after a kill.
      hideCursor: false,
      linewrap: true,
      clearOnComplete: true,
      stopOnComplete: false,
      // A note scrolls the bars down; without this those that did not change would not be drawn again.
      forceRedraw: true,
    });
  }

  show(progress: Progress): void {
    if (this.#stopped) return;
    if (progress.note !== null && progress.note !== this.#note) this.note(progress.note);
    this.#note = progress.note;
    const columns = (this.#stream.columns ?? 80) - CTRL_C_COLUMNS;
    const rows = Math.max(ROWS_MIN, this.#stream.rows ?? 24);
    const shownMax = Math.min(AGENT_BARS_MAX, rows - 3);
    const shown = progress.agents.slice(0, shownMax);
    // Before the quotas are handed out the total is what was asked.
    const total = { ...progress.total, quota: Math.max(progress.total.quota, progress.asked) };
    const lines = terminalLines([total, ...shown], progress, columns);
    const more = progress.agents.length - shown.length;
    if (more > 0) lines.push(`and ${more} more agents`);
    lines.forEach((line, index) => {
      const bar = this.#lines[index];
      if (bar === undefined) this.#lines.push(this.#bars.create(1, 0, { line } satisfies Payload));
      else bar.update(0, { line } satisfies Payload);
    });
  }

  note(given: string): void {
    const line = cleanLines(given);
    if (this.#stopped || this.#lines.length === 0) this.#stream.write(`${line}\n`);
    // The rest of the line is erased: a bar was there before.
    else this.#bars.log(`${line}\u001b[K\n`);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#lines.length === 0) return;
    // Notes that still wait are drawn by an update; `stop` alone would lose them.
    this.#bars.update();
    this.#bars.stop();
  }
}

const BAR_MIN = 6;
const BAR_MAX = 30;

/** The name's share of a terminal line, in characters. */
const NAME_WIDTH = 8;

/** One column of numbers: columns with a higher rank leave first when the lines are too narrow. */
interface Column {
  readonly rank: number;
  readonly cell: (agent: AgentProgress) => string;
}

/** Everything but the rank 0 column, which is never left out. */
const RANK_MAX = 5;

/**
 * One line for each agent and the total, with common columns: name, bar, open of asked, and as many other numbers
 * as fit.
 * @param rows the total and the agents to show
 * @param progress the snapshot that they belong to
 * @param widthColumns the width of the terminal, in characters; every line is shorter
 */
function terminalLines(rows: readonly AgentProgress[], progress: Progress, widthColumns: number): string[] {
  const room = Math.max(1, widthColumns - 1);
  let columns = columnsOf(rows, progress);
  let texts = joined(rows, columns);
  const widthOf = (): number => Math.max(...texts.map((text) => text.length));
  for (let rank = RANK_MAX; rank > 0 && NAME_WIDTH + 4 + BAR_MIN + widthOf() > room; rank--) {
    columns = columns.filter((column) => column.rank < rank);
    texts = joined(rows, columns);
  }
  const barWidth = Math.min(BAR_MAX, room - NAME_WIDTH - 4 - widthOf());
  return rows.map((agent, index) => {
    const name = fit(cleanText(agent.name), NAME_WIDTH).padEnd(NAME_WIDTH);
    const drawn = barWidth < BAR_MIN ? '' : ` ${bar(agent, barWidth)}`;
    return fit(`${name}${drawn} ${texts[index] ?? ''}`.trimEnd(), room);
  });
}

/** The cells of each row, each column as wide as its widest cell. */
function joined(rows: readonly AgentProgress[], columns: readonly Column[]): string[] {
  const widths = columns.map((column) => Math.max(...rows.map((row) => column.cell(row).length)));
  return rows.map((row) =>
    columns.map((column, index) => column.cell(row).padStart(widths[index] ?? 0)).join(' '),
  );
}

function columnsOf(rows: readonly AgentProgress[], progress: Progress): Column[] {
  const ramping = progress.phase === 'ramping';
  const columns: Column[] = [
    { rank: 0, cell: (agent) => `${formatCount(agent.open)}/${formatCount(agent.quota)}` },
  ];
  if (ramping) {
    columns.push({ rank: 3, cell: (agent) => `${compact(agent.ratePerSec)}/s` });
    columns.push({ rank: 5, cell: (agent) => `${compact(agent.pending)} pend` });
  }
  columns.push({ rank: 2, cell: (agent) => `${compact(agent.failed)} fail` });
  if (!ramping || rows.some((agent) => agent.dropped > 0)) {
    columns.push({ rank: 4, cell: (agent) => `${compact(agent.dropped)} drop` });
  }
  columns.push({ rank: 1, cell: (agent) => (agent.lost ? 'LOST' : phaseText(progress)) });
  return columns;
}

/** `ramping`, or `holding 12 s left`. */
function phaseText(progress: Progress): string {
  if (progress.phase !== 'holding' || progress.holdLeftMs === null) return progress.phase;
  return `holding ${secondsLeft(progress.holdLeftMs)}`;
}

function secondsLeft(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes}m${String(seconds % 60).padStart(2, '0')}s`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, '0')}m`;
}

function bar(agent: AgentProgress, width: number): string {
  const ratio = agent.quota === 0 ? 0 : Math.min(1, Math.max(0, agent.open / agent.quota));
  // A bar is full only when nothing is missing.
  const filled = Math.floor(ratio * width);
  return `[${'='.repeat(filled)}${' '.repeat(width - filled)}]`;
}

/** A number in at most four characters and a letter: `999`, `26.1k`, `1.2m`. */
function compact(value: number): string {
  if (value < 1000) return String(Math.round(value));
  if (value < 999_950) return `${trimZero((value / 1000).toFixed(value < 99_950 ? 1 : 0))}k`;
  return `${trimZero((value / 1_000_000).toFixed(1))}m`;
}

function trimZero(text: string): string {
  return text.endsWith('.0') ? text.slice(0, -2) : text;
}

function fit(text: string, width: number): string {
  return text.length <= width ? text : `${cutText(text, Math.max(0, width - 1))}~`;
}

/**
 * One line for a log, such as `  5 s  ramping   65,000 of 130,000 open   26,100/s   512 pending   0 failed   0 dropped`.
 * @param progress the snapshot
 */
function logLine(progress: Progress): string {
  const { total, phase } = progress;
  const pieces = [
    `${(progress.elapsedMs / 1000).toFixed(0).padStart(4)} s  ${phase.padEnd(9)}`,
    `${formatCount(total.open)} of ${formatCount(progress.asked)} open`,
  ];
  if (phase === 'ramping') {
    pieces.push(`${formatCount(Math.round(total.ratePerSec))}/s`, `${formatCount(total.pending)} pending`);
  }
  pieces.push(`${formatCount(total.failed)} failed`, `${formatCount(total.dropped)} dropped`);
  if (phase === 'holding' && progress.holdLeftMs !== null)
    pieces.push(`${secondsLeft(progress.holdLeftMs)} left`);
  const lost = progress.agents.filter((agent) => agent.lost).length;
  if (lost > 0) pieces.push(`${formatCount(lost)} ${lost === 1 ? 'agent' : 'agents'} lost`);
  return pieces.join('  ');
}

/** Whether connections exist in this phase, so that a line about them says something. */
function isBusy(phase: Phase): boolean {
  return phase === 'ramping' || phase === 'holding' || phase === 'draining';
}
