/**
 * Owns the display of a run in motion on stderr: bars on a terminal, plain lines elsewhere.
 * Must never write to stdout, and must never change a terminal setting that a kill would leave changed.
 */
import cliProgress from 'cli-progress';
import { cleanLines } from '../base/clean-text.ts';
import type { Phase, Progress } from '../stats/stats.ts';
import { isBusy, logLine, terminalLines } from './progress-line.ts';

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
