/**
 * Owns what a diagnosis rests on beside the plain counts: when, where, what was said, what was sent, the final check; and how two parts of it add
 * up. Everything is cumulative and bounded. Must never be taken for zero where it is absent: an older agent sends none of it.
 * docs/decisions/diagnosis-evidence.md has the reasons and costs.
 */
import { mergeHistograms, type SparseHistogram } from './histogram.ts';
import {
  addByIndex,
  mergePlaces,
  mergePortBlocks,
  type PlaceTable,
  type PortBlocks,
} from './place-outcomes.ts';
import { mergeTexts, type SaidTexts } from './target-texts.ts';
import { mergeSeries, type TimeSeries } from './time-series.ts';

/** What a connect came to; it counts at the time of its call. */
export const CONNECT_KINDS = ['established', 'answeredNo', 'silent'] as const;
type ConnectKind = (typeof CONNECT_KINDS)[number];

/** How a connection was lost: closed, reset, by silence (a probe or the kernel timed out), by anything else. */
export const LOSS_KINDS = ['fin', 'rst', 'silent', 'other'] as const;
type LossKind = (typeof LOSS_KINDS)[number];

/** Times of losses of one kind, in milliseconds. */
export interface LossTimes {
  /** on the scale of stats/histogram.ts, whose unit is here the millisecond */
  readonly histogram: SparseHistogram;
  /** exact; 0 where nothing was counted */
  readonly leastMs: number;
  readonly mostMs: number;
}

/** The far side's answers to one question that each connection was asked. */
export interface FinalCheck {
  readonly asked: number;
  readonly answered: number;
  readonly reset: number;
  /** no answer in time */
  readonly silent: number;
}

/** The phases at whose end every connection is asked once more. */
export type FinalCheckName = 'rampEnd' | 'holdEnd';

/** Gaps of 0 to this - 1, and one of this or more. */
export const GAPS_MAX = 16;

export interface Evidence {
  readonly connectsAt: TimeSeries<ConnectKind>;
  readonly lossesAt: TimeSeries<LossKind>;
  /** how long a connection had been open when it was lost */
  readonly lossAgeMs: { readonly fin: LossTimes; readonly rst: LossTimes };
  /** how long no byte had gone either way when it was lost */
  readonly lossSilenceMs: { readonly fin: LossTimes; readonly rst: LossTimes };
  readonly byEndpoint: PlaceTable;
  readonly bySourceOutcome: PlaceTable;
  readonly byPortBlock: PortBlocks;
  /** connects between two that were answered with a no, in the order of the calls: `[0 between, 1, ..., GAPS_MAX or more]` */
  readonly gapsBetweenFailures: readonly number[];
  readonly said: SaidTexts;
  /** probes that timed out and had never left our own queue */
  readonly notSent: number;
  /** probes that timed out, had been sent, and were not acknowledged by the far kernel */
  readonly notAcknowledged: number;
  /** probes that timed out although the far kernel had acknowledged them: the application is silent */
  readonly acknowledged: number;
  /** lost connections that had never proven themselves; absent: an agent of an earlier version */
  readonly lostUnanswered?: { readonly fin: number; readonly rst: number };
  readonly finalCheck: Readonly<Record<FinalCheckName, FinalCheck>>;
}

function mergeTimes(a: LossTimes, b: LossTimes): LossTimes {
  if (a.histogram.length === 0) return b;
  if (b.histogram.length === 0) return a;
  return {
    histogram: mergeHistograms(a.histogram, b.histogram),
    leastMs: Math.min(a.leastMs, b.leastMs),
    mostMs: Math.max(a.mostMs, b.mostMs),
  };
}

const mergeBoth = (
  a: Evidence['lossAgeMs'],
  b: Evidence['lossAgeMs'],
): { readonly fin: LossTimes; readonly rst: LossTimes } => ({
  fin: mergeTimes(a.fin, b.fin),
  rst: mergeTimes(a.rst, b.rst),
});

function addFinalChecks(a: FinalCheck, b: FinalCheck): FinalCheck {
  return {
    asked: a.asked + b.asked,
    answered: a.answered + b.answered,
    reset: a.reset + b.reset,
    silent: a.silent + b.silent,
  };
}

/** Of agents that count it. */
function unansweredOf(a: Evidence, b: Evidence): Pick<Evidence, 'lostUnanswered'> {
  const counts = [a, b].flatMap(({ lostUnanswered }) => lostUnanswered ?? []);
  if (counts.length === 0) return {};
  const sum = (kind: 'fin' | 'rst'): number => counts.reduce((total, one) => total + one[kind], 0);
  return { lostUnanswered: { fin: sum('fin'), rst: sum('rst') } };
}

/** The sum of two parts of a run that have no connection in common. */
export function mergeEvidence(a: Evidence, b: Evidence): Evidence {
  return {
    connectsAt: mergeSeries(a.connectsAt, b.connectsAt),
    lossesAt: mergeSeries(a.lossesAt, b.lossesAt),
    lossAgeMs: mergeBoth(a.lossAgeMs, b.lossAgeMs),
    lossSilenceMs: mergeBoth(a.lossSilenceMs, b.lossSilenceMs),
    byEndpoint: mergePlaces(a.byEndpoint, b.byEndpoint),
    bySourceOutcome: mergePlaces(a.bySourceOutcome, b.bySourceOutcome),
    byPortBlock: mergePortBlocks(a.byPortBlock, b.byPortBlock),
    gapsBetweenFailures: addByIndex(a.gapsBetweenFailures, b.gapsBetweenFailures),
    said: mergeTexts(a.said, b.said),
    notSent: a.notSent + b.notSent,
    notAcknowledged: a.notAcknowledged + b.notAcknowledged,
    acknowledged: a.acknowledged + b.acknowledged,
    ...unansweredOf(a, b),
    finalCheck: {
      rampEnd: addFinalChecks(a.finalCheck.rampEnd, b.finalCheck.rampEnd),
      holdEnd: addFinalChecks(a.finalCheck.holdEnd, b.finalCheck.holdEnd),
    },
  };
}
