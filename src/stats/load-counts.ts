/**
 * Owns what a load has done: the messages that it sent, and of one that changes, stage by stage, our own closes apart from losses. Must
 * never hold anything that cannot be added.
 */
import { histogramCount, mergeHistograms, type SparseHistogram } from './histogram.ts';

/** One stage, from its begin to its end, or so far. */
export interface StageCounts {
  /**
   * Of a flat stage: the lowest number open since as many as it asks for were, a connection that is opened anew in its turn included; where
   * that never was, as many as are open. 0 of a stage that is not flat.
   */
  readonly openMin: number;
  /** of a flat stage: holders in which as many as it asks for have not been open */
  readonly waiting: number;
  /** open at its end, or now */
  readonly open: number;
  /** milliseconds from its begin until as many as it asks for were open, in the last of the holders */
  readonly reachedMs: number;
  readonly established: number;
  readonly failed: number;
  readonly dropped: number;
  /** closed by us because the line went down */
  readonly lowered: number;
  /** closed by us in its turn */
  readonly churned: number;
  /** microseconds from connect() to established */
  readonly connectUs: SparseHistogram;
}

/** Cumulative. */
export interface LoadCounts {
  /** closed by us in its turn, to be opened anew */
  readonly churned: number;
  /** closed by us because the line went down */
  readonly lowered: number;
  /** opened since the hold began in place of none that was lost: they are not of the ramp */
  readonly openedLater: number;
  /** those that have begun, in order */
  readonly stages: readonly StageCounts[];
}

function mergeStage(a: StageCounts, b: StageCounts): StageCounts {
  return {
    openMin: a.openMin + b.openMin,
    waiting: a.waiting + b.waiting,
    open: a.open + b.open,
    reachedMs: Math.max(a.reachedMs, b.reachedMs),
    established: a.established + b.established,
    failed: a.failed + b.failed,
    dropped: a.dropped + b.dropped,
    lowered: a.lowered + b.lowered,
    churned: a.churned + b.churned,
    connectUs: mergeHistograms(a.connectUs, b.connectUs),
  };
}

/** The sum of two parts. A stage that only one has begun is that one's. */
function mergeLoad(a: LoadCounts, b: LoadCounts): LoadCounts {
  const [long, short] = a.stages.length < b.stages.length ? [b, a] : [a, b];
  return {
    churned: a.churned + b.churned,
    lowered: a.lowered + b.lowered,
    openedLater: a.openedLater + b.openedLater,
    stages: long.stages.map((stage, index): StageCounts => {
      const other = short.stages[index];
      return other === undefined ? stage : mergeStage(stage, other);
    }),
  };
}

/** The sum of two parts, each of which may have none. */
export function loadOfBoth(a: LoadCounts | undefined, b: LoadCounts | undefined): { load?: LoadCounts } {
  const load = a === undefined || b === undefined ? (a ?? b) : mergeLoad(a, b);
  return load === undefined ? {} : { load };
}

/** Of a part that is lost nothing is open in the stage that goes on. */
export function loadAllLost(load: LoadCounts): LoadCounts {
  const last = load.stages.at(-1);
  if (last === undefined) return load;
  return { ...load, stages: [...load.stages.slice(0, -1), { ...last, open: 0, openMin: 0, waiting: 0 }] };
}

/** The counts again only where they have changed. */
export function changedLoad(now: LoadCounts, sent: LoadCounts | undefined): LoadCounts | null {
  return sent !== undefined && sent.stages.length === now.stages.length && keyOf(sent) === keyOf(now)
    ? null
    : now;
}

function keyOf({ churned, lowered, openedLater, stages }: LoadCounts): string {
  const last = stages.at(-1);
  const parts =
    last === undefined ? [] : Object.values({ ...last, connectUs: histogramCount(last.connectUs) });
  return [churned, lowered, openedLater, ...parts].join(' ');
}

/** Messages that the user asked for (`--send`), cumulative. */
export interface MessageCounts {
  readonly sent: number;
  /** of these, between the begin and the end of the hold */
  readonly sentInHold: number;
  /** answered with something else than was expected */
  readonly wrong: number;
  /** answered rightly, after the next one was due */
  readonly late: number;
  /** without an answer when their connection was lost */
  readonly missing: number;
}

/** The sum of two parts; one that has none counts for nothing. */
export function messagesOfBoth(
  a: MessageCounts | undefined,
  b: MessageCounts | undefined,
): { readonly messages?: MessageCounts } {
  if (a === undefined) return b === undefined ? {} : { messages: b };
  if (b === undefined) return { messages: a };
  const messages = {
    sent: a.sent + b.sent,
    sentInHold: a.sentInHold + b.sentInHold,
    wrong: a.wrong + b.wrong,
    late: a.late + b.late,
    missing: a.missing + b.missing,
  };
  return { messages };
}
