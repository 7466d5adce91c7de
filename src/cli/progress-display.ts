/**
 * Owns the display of a run in motion on stderr: a picture that is drawn again and again on a terminal, plain lines elsewhere.
 * Must never write to stdout, and must never change a terminal setting that a kill would leave changed.
 */
import cliProgress from 'cli-progress';
import { cleanLines } from '../base/clean-text.ts';
import type { Progress } from '../coordinator/run-progress.ts';
import { noPaint, type Paint } from '../report/layout.ts';
import type { Phase } from '../stats/stats.ts';
import { isBusy, LiveView, logLine, viewSize } from './live-view.ts';

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
  /** absent: without colours */
  readonly paint?: Paint;
}

/** The part of a terminal stream that a display needs. */
type DisplayStream = Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'rows' | 'write' | 'on' | 'off'>;

/**
 * Chooses the display: a picture when the stream is a terminal that can move its cursor, lines otherwise.
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
  const isTerminal = stream.isTTY === true && environment.TERM !== 'dumb';
  if (isTerminal && options.periodic) return new LiveDisplay(stream, options.paint ?? noPaint);
  return new LineDisplay(stream, options);
}

function nothing(): void {}

const SILENT: ProgressDisplay = { show: nothing, note: nothing, stop: nothing };

/** Plain lines: one at each change of phase that opens or closes something, and one every few seconds. */
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
    const changed = isBusy(progress) && progress.phase !== this.#phase;
    const due = this.#options.periodic && progress.elapsedMs - this.#shownMs >= this.#options.everyMs;
    if (progress.phase === 'ended' || (!changed && !due)) return;
    this.#phase = progress.phase;
    this.#shownMs = progress.elapsedMs;
    this.#stream.write(`${logLine(progress, this.#options.paint ?? noPaint)}\n`);
  }

  note(line: string): void {
    this.#stream.write(`${cleanLines(line)}\n`);
  }

  stop(): void {}
}

type Payload = { line: string };

/**
 * The lines of the live view, each a bar of cli-progress that draws them again in place. What each says is laid out in
 * live-view.ts; when there are fewer lines than before, or the terminal has another size, all are erased and begun anew.
 */
class LiveDisplay implements ProgressDisplay {
  readonly #stream: DisplayStream;
  readonly #paint: Paint;
  readonly #view = new LiveView();
  #bars: cliProgress.MultiBar;
  #lines: cliProgress.SingleBar[] = [];
  /** the lines without colours, as they stand on the terminal or will at the next drawing */
  #plain: readonly string[] = [];
  #drawn: readonly string[] = [];
  #note: string | null = null;
  #stopped = false;

  constructor(stream: DisplayStream, paint: Paint) {
    this.#stream = stream;
    this.#paint = paint;
    this.#bars = this.#newBars();
    stream.on('resize', this.#onResize);
  }

  show(progress: Progress): void {
    if (this.#stopped) return;
    if (progress.note !== null && progress.note !== this.#note) this.note(progress.note);
    this.#note = progress.note;
    this.#view.add(progress);
    this.#layOut();
  }

  note(given: string): void {
    const line = cleanLines(given);
    if (this.#stopped || this.#lines.length === 0) this.#stream.write(`${line}\n`);
    // The rest of the line is erased: a line of the picture was there before.
    else this.#bars.log(`${line.replaceAll('\n', '\u001b[K\n')}\u001b[K\n`);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#stream.off('resize', this.#onResize);
    this.#erase();
  }

  #newBars(): cliProgress.MultiBar {
    const { write } = this.#stream;
    // Its own cut at the terminal's width would count the bytes of colours too; our lines are narrower already.
    const wide = { isTTY: true, columns: Number.MAX_SAFE_INTEGER, write: write.bind(this.#stream) };
    const bars = new cliProgress.MultiBar({
      stream: wide as NodeJS.WriteStream,
      format: (_options, _params, payload: Payload) => payload.line,
      fps: 5,
      // Neither the cursor nor the wrapping is switched off, so there is nothing to put back after a kill.
      hideCursor: false,
      linewrap: true,
      clearOnComplete: true,
      stopOnComplete: false,
      gracefulExit: false,
      // A note scrolls the lines down; without this those that did not change would not be drawn again.
      forceRedraw: true,
    });
    bars.on('redraw-post', () => {
      this.#drawn = this.#plain;
    });
    return bars;
  }

  #layOut(): void {
    const { columns = 80, rows = 24 } = this.#stream;
    const lines = this.#view.lines(viewSize({ columns, rows }), this.#paint);
    if (lines.length < this.#lines.length) this.#erase();
    this.#plain = lines.map(({ plain }) => plain);
    lines.forEach(({ painted }, index) => {
      const payload = { line: painted } satisfies Payload;
      const bar = this.#lines[index];
      if (bar === undefined) this.#lines.push(this.#bars.create(1, 0, payload));
      else bar.update(0, payload);
    });
  }

  /** Erases the picture, with notes that still wait above it. */
  #erase(): void {
    if (this.#lines.length === 0) return;
    // Notes that still wait are drawn by an update; `stop` alone would lose them.
    this.#bars.update();
    this.#bars.stop();
    this.#bars = this.#newBars();
    this.#lines = [];
    this.#plain = [];
    this.#drawn = [];
  }

  /**
   * A terminal of less than 60 columns has broken our lines, and stands at the end of the last of them: all their rows are above the
   * cursor. One that does not break them (xterm) cuts them, and then a few lines above the picture are erased with it.
   */
  readonly #onResize = (): void => {
    if (this.#stopped || this.#lines.length === 0) return;
    const columns = Math.max(1, this.#stream.columns ?? 80);
    const broken = this.#drawn.reduce(
      (sum, line) => sum + Math.max(0, Math.ceil(line.length / columns) - 1),
      0,
    );
    if (broken > 0) this.#stream.write(`\u001b[${broken}A`);
    // What was laid out for the old width is not drawn again.
    for (const line of this.#lines) line.update(0, { line: '' } satisfies Payload);
    this.#erase();
    this.#layOut();
  };
}
