/**
 * Owns what one holder has done in each stage of a schedule: connects, losses, closes, and on flat stages the lowest number open.
 * Must never open or close anything, or read a clock: moments are milliseconds since the common start.
 */
import { totalOf } from '../base/outcome.ts';
import type { ShareOfLine } from '../run/schedule.ts';
import { LatencyRecorder } from '../stats/histogram.ts';
import type { StageCounts } from '../stats/load-counts.ts';
import type { Tally } from './tally.ts';

/** Holders of one start begin no further apart than this. */
const LATE_MS = 1_000;

/** Counts of the tally when a stage has begun. */
interface Base {
  readonly established: number;
  readonly failed: number;
  readonly dropped: number;
  readonly lowered: number;
  readonly churned: number;
}

/** The stages of one engine. Only what begins or ends a stage allocates. */
export class StageLedger {
  readonly #line: ShareOfLine;
  readonly #tally: Tally;
  readonly #over: StageCounts[] = [];
  #index = -1;
  #base: Base;
  #recorder = new LatencyRecorder();
  /** this engine was not there when the stage began: what it opens was missing until then */
  #isLate = false;
  /** since the stage's begin; -1: as many as are asked for have not been open yet */
  #reachedMs = -1;
  /** how many were open at its end, where it was not reached until then; -1: it is not over */
  #openAtEnd = -1;

  constructor(line: ShareOfLine, tally: Tally) {
    this.#line = line;
    this.#tally = tally;
    this.#base = baseOf(tally);
    tally.stageConnectUs = this.#recorder;
  }

  /** Whether the stage that goes on is flat and waits for its number. */
  get isApproaching(): boolean {
    return this.#reachedMs < 0 && this.#line.spans[this.#index]?.isFlat === true;
  }

  /** When the stage begins that follows the one that goes on; Infinity: none does. */
  get nextBeginsMs(): number {
    return this.#line.spans[this.#index + 1]?.fromMs ?? Number.POSITIVE_INFINITY;
  }

  /** Begins the stage of a moment, before anything of it is opened or closed. */
  advanceTo(atMs: number): void {
    const { spans } = this.#line;
    const isFirst = this.#index < 0;
    while (this.#index + 1 < spans.length && atMs >= (spans[this.#index + 1]?.fromMs ?? 0)) {
      this.#next();
      this.#isLate = isFirst && atMs - (spans[this.#index]?.fromMs ?? 0) > LATE_MS;
    }
  }

  /** A turn begins, and nothing of it has happened: what is on its way may end after the stage, and was not open in it then. */
  turnBegins(atMs: number): void {
    const span = this.#line.spans[this.#index];
    if (span !== undefined && atMs >= span.toMs && this.#openAtEnd < 0) this.#openAtEnd = this.#tally.open;
  }

  /**
   * The state at a moment of the stage that goes on, once in a turn.
   * @param isQuiet nothing is on its way, and as many are asked for as at this moment
   */
  turn(atMs: number, isQuiet: boolean): void {
    const span = this.#line.spans[this.#index];
    if (this.#reachedMs >= 0 || span?.isFlat !== true || atMs >= span.toMs || !isQuiet) return;
    this.#reachedMs = Math.max(0, atMs - span.fromMs);
    this.#tally.worstMissing = this.#tally.missing;
  }

  /** Whether the next stage asks for what the one before had, and has it from its begin. */
  get #goesOn(): boolean {
    const { spans } = this.#line;
    const [before, next] = [spans[this.#index], spans[this.#index + 1]];
    return (
      this.#reachedMs >= 0 &&
      this.#tally.missing === 0 &&
      next?.isFlat === true &&
      this.#line.of(next.connections) === this.#line.of(before?.connections ?? -1)
    );
  }

  #next(): void {
    const goesOn = this.#goesOn;
    if (this.#index >= 0) this.#over.push(this.#counts());
    this.#index++;
    this.#base = baseOf(this.#tally);
    this.#recorder = new LatencyRecorder();
    this.#tally.stageConnectUs = this.#recorder;
    this.#reachedMs = goesOn ? 0 : -1;
    if (goesOn) this.#tally.worstMissing = 0;
    this.#openAtEnd = -1;
  }

  #counts(): StageCounts {
    const span = this.#line.spans[this.#index];
    const now = baseOf(this.#tally);
    const { open, worstMissing } = this.#tally;
    const isFlat = span?.isFlat === true;
    const isReached = this.#reachedMs >= 0;
    const asked = this.#line.of(span?.connections ?? 0);
    const atMost = this.#openAtEnd < 0 ? open : Math.min(open, this.#openAtEnd);
    return {
      openMin:
        !isFlat || this.#isLate ? 0 : isReached ? Math.max(0, asked - worstMissing) : Math.min(asked, atMost),
      waiting: isFlat && !isReached ? 1 : 0,
      open,
      reachedMs: Math.max(0, this.#reachedMs),
      established: now.established - this.#base.established,
      failed: now.failed - this.#base.failed,
      dropped: now.dropped - this.#base.dropped,
      lowered: now.lowered - this.#base.lowered,
      churned: now.churned - this.#base.churned,
      connectUs: this.#recorder.sparse(),
    };
  }

  /** The stages that have begun. */
  stages(): StageCounts[] {
    return this.#index < 0 ? [] : [...this.#over, this.#counts()];
  }
}

function baseOf(tally: Tally): Base {
  const { established, lowered, churned } = tally;
  return {
    established,
    failed: totalOf(tally.failedBy),
    dropped: totalOf(tally.droppedBy),
    lowered,
    churned,
  };
}
