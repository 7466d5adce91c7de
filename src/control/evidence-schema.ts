/**
 * Owns what an agent may say of its evidence (stats/evidence.ts): the bound of every list and table. What passes is safe to add up and to
 * show. Must never judge it.
 */
import * as v from 'valibot';
import { addCounts, type Counts, DropReason, FailReason } from '../base/outcome.ts';
import { STAGES_MAX } from '../run/schedule.ts';
import { type Evidence, GAPS_MAX } from '../stats/evidence.ts';
import { COUNTS_LENGTH, LOSS_TIMES_MAX } from '../stats/histogram.ts';
import type { LoadCounts } from '../stats/load-counts.ts';
import { PLACES_MAX, type PlaceTable, PORT_BLOCKS } from '../stats/place-outcomes.ts';
import { SAID_CHARACTERS_MAX, SAID_TEXTS_MAX } from '../stats/target-texts.ts';
import { SERIES_BUCKETS, SERIES_FOLDS_MAX } from '../stats/time-series.ts';
import {
  connections,
  eventCount as count,
  counts,
  countsList,
  histogram,
  KEY,
  milliseconds,
  REASON,
  sparse,
  wordOf,
  wordsOf,
} from './schema-part.ts';

const REASONS_MAX = 64;
const PLACE_CHARACTERS_MAX = 64;
/** What escapeBytes (stats/target-texts.ts) writes. */
const ESCAPED = /^[\x20-\x7e]*$/;

const seriesList = countsList(SERIES_BUCKETS);
const folds = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(SERIES_FOLDS_MAX));
const lossTimes = v.object({
  histogram: sparse(COUNTS_LENGTH, LOSS_TIMES_MAX),
  leastMs: milliseconds,
  mostMs: milliseconds,
});
const timesOfBoth = v.object({ fin: lossTimes, rst: lossTimes });

/** Reasons of a later version count as `other`. */
const reasonsOf = <Reason extends string>(known: readonly Reason[], other: NoInfer<Reason>) => {
  const words = wordsOf(known);
  return v.pipe(
    counts({ keysMax: REASONS_MAX, keyCharactersMax: REASONS_MAX, pattern: REASON }),
    v.transform((said): Counts<Reason> => {
      let result: Counts<Reason> = {};
      for (const [reason, each] of Object.entries(said)) {
        const one: Counts<Reason> = {};
        one[words.get(reason) ?? other] = each;
        result = addCounts<Reason>(result, one);
      }
      return result;
    }),
  );
};

const outcomes = v.object({
  asked: count,
  established: count,
  failed: reasonsOf(Object.values(FailReason), FailReason.other),
  dropped: reasonsOf(Object.values(DropReason), DropReason.other),
});
const places = v.pipe(
  v.record(v.pipe(v.string(), v.maxLength(PLACE_CHARACTERS_MAX), v.regex(KEY)), outcomes),
  v.check((table) => Object.keys(table).length <= PLACES_MAX + 1, 'too many places'),
  v.transform((table): PlaceTable => Object.assign(Object.create(null), table)),
);
const blocks = countsList(PORT_BLOCKS);
const saidText = v.object({
  text: v.pipe(v.string(), v.maxLength(SAID_CHARACTERS_MAX), v.regex(ESCAPED)),
  first: count,
  last: count,
});
const finalCheck = v.object({ asked: count, answered: count, reset: count, silent: count });

/** Checks the evidence of an agent. */
export const evidenceSchema = v.object({
  connectsAt: v.object({
    folds,
    counts: v.object({ established: seriesList, answeredNo: seriesList, silent: seriesList }),
  }),
  lossesAt: v.object({
    folds,
    counts: v.object({ fin: seriesList, rst: seriesList, silent: seriesList, other: seriesList }),
  }),
  lossAgeMs: timesOfBoth,
  lossSilenceMs: timesOfBoth,
  byEndpoint: places,
  bySourceOutcome: places,
  byPortBlock: v.object({ asked: blocks, established: blocks, answeredNo: blocks, silent: blocks }),
  gapsBetweenFailures: countsList(GAPS_MAX + 1),
  said: v.object({ texts: v.pipe(v.array(saidText), v.maxLength(SAID_TEXTS_MAX)), other: count }),
  notSent: count,
  notAcknowledged: count,
  acknowledged: count,
  lostUnanswered: v.exactOptional(v.object({ fin: count, rst: count })),
  finalCheck: v.object({ rampEnd: finalCheck, holdEnd: finalCheck }),
}) satisfies v.GenericSchema<unknown, Evidence>;

const socketName = v.pipe(v.string(), v.minLength(1), v.maxLength(PLACE_CHARACTERS_MAX), v.regex(KEY));
const names = v.pipe(v.array(socketName), v.maxLength(PLACES_MAX));
const byName = <Value extends v.GenericSchema>(value: Value) =>
  v.pipe(
    v.record(socketName, value),
    v.check((table) => Object.keys(table).length <= PLACES_MAX, 'too many names'),
    v.transform(
      (table): Readonly<Record<string, v.InferOutput<Value>>> => Object.assign(Object.create(null), table),
    ),
  );

const farSide = v.object({
  waitingMax: count,
  waitingLast: count,
  takenLast: count,
  halfOpenMax: count,
  halfOpenLast: v.exactOptional(count),
  isQueueFull: v.boolean(),
  queuedMax: v.exactOptional(count),
  queueDrops: v.exactOptional(v.nullable(count)),
  isOwnerGone: v.nullable(v.boolean()),
  descriptorsUsed: v.nullable(count),
  descriptorsMax: v.nullable(count),
});

const icmpByte = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255));
const ANSWERS = ['taken', 'refused', 'unreachable', 'silent'] as const;
const aftermath = v.object({
  connect: wordOf(ANSWERS, 'silent'),
  planConnect: v.nullable(wordOf(ANSWERS, 'silent')),
  isRouted: v.nullable(v.boolean()),
  isNeighbourThere: v.nullable(v.boolean()),
  rejected: v.exactOptional(v.object({ by: socketName, type: icmpByte, code: icmpByte, isOwn: v.boolean() })),
});

/** What an agent's kernel may say further (host/kernel-evidence.ts); each absent from an agent that did not look. */
export const kernelFurther = {
  othersBefore: v.exactOptional(count),
  ownNetwork: v.exactOptional(
    v.object({
      linksDown: byName(wordOf(['administrative', 'carrier'], 'carrier')),
      routesLost: names,
      addressesLost: names,
    }),
  ),
  farSide: v.exactOptional(byName(farSide)),
  aftermath: v.exactOptional(byName(aftermath)),
};

const stageCounts = v.object({
  openMin: connections,
  waiting: count,
  open: connections,
  reachedMs: milliseconds,
  established: count,
  failed: count,
  dropped: count,
  lowered: count,
  churned: count,
  connectUs: histogram,
});

/** What a load that changes has done (stats/load-counts.ts). */
export const loadSchema = v.object({
  churned: count,
  lowered: count,
  openedLater: count,
  stages: v.pipe(v.array(stageCounts), v.maxLength(STAGES_MAX)),
}) satisfies v.GenericSchema<unknown, LoadCounts>;
