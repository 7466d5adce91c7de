/**
 * Owns the parts that the messages of the control channel are made of (agent-message.ts, message.ts): numbers with their
 * ranges, texts that are cleaned, tables without a prototype. Must never know a message.
 */
import * as v from 'valibot';
import { cleanText, isCleanText } from '../base/clean-text.ts';
import { isTable } from '../base/shape.ts';
import { COUNTS_LENGTH, HISTOGRAM_COUNT_MAX } from '../stats/histogram.ts';

/** The longest name of an agent; the ids of its holders are `<agent>/<index>`. */
export const NAME_CHARACTERS_MAX = 128;
/** What a run calls one of several agents that have the same name: a number comes behind it. */
export const RUN_NAME_CHARACTERS_MAX = NAME_CHARACTERS_MAX + 16;

/**
 * The largest numbers that are taken, so that sums over a thousand agents stay whole and every moment is a date: events
 * of any kind; connections of one agent; bytes (1 PiB); milliseconds (31 years); figures of a host, of either sign.
 */
export const NumberBound = {
  count: HISTOGRAM_COUNT_MAX,
  connections: 2 ** 36,
  bytes: 2 ** 50,
  ms: 1e12,
  figure: 2 ** 53,
  epoch: 2 ** 31,
} as const;

// One check each: most of a message are numbers, and an action for each bound would cost the coordinator of thousands of
// agents more than everything else together.
const isWhole = (value: unknown, from: number, to: number): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= from && value <= to;
const whole = (from: number, to: number) =>
  v.custom<number>((value) => isWhole(value, from, to), `expected a whole number from ${from} to ${to}`);
const between = (from: number, to: number) =>
  v.custom<number>(
    (value) => typeof value === 'number' && value >= from && value <= to,
    `expected a number from ${from} to ${to}`,
  );
/** How often something happened. */
export const eventCount = whole(0, NumberBound.count);
export const connections = whole(0, NumberBound.connections);
export const bytes = whole(0, NumberBound.bytes);
export const epoch = whole(0, NumberBound.epoch);
/** A length of time or a moment of a monotonic clock, milliseconds. */
export const milliseconds = between(0, NumberBound.ms);
/** What a host says of itself: it may be negative, and has a fraction. */
export const figure = between(-NumberBound.figure, NumberBound.figure);
export const port = whole(1, 65_535);
export const address = v.pipe(v.string(), v.ip());

/** What identifies: compared as it is, so it is refused rather than cleaned. */
export const visible = (charactersMax: number) =>
  v.pipe(
    v.string(),
    v.minLength(1),
    v.maxLength(charactersMax),
    v.check(isCleanText, 'expected visible characters'),
  );
/** An agent, a run. */
export const name = visible(NAME_CHARACTERS_MAX);

/** What a person reads. @param charactersMax before it is cleaned, which makes it no longer */
export const cleanedText = (charactersMax: number) =>
  v.pipe(v.string(), v.maxLength(charactersMax), v.transform(cleanText));

/** A word that a later version may add to: letters, digits, `-`. */
const WORD = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** A closed list of words, by themselves. */
export function wordsOf<Known extends string>(known: readonly Known[]): ReadonlyMap<string, Known> {
  return new Map(known.map((each) => [each, each]));
}

/** A word of a closed list; one that this version does not know is taken as `instead`. */
export const wordOf = <Known extends string>(known: readonly Known[], instead: NoInfer<Known>) => {
  const words = wordsOf(known);
  return v.pipe(
    v.pipe(v.string(), v.regex(WORD)),
    v.transform((given) => words.get(given) ?? instead),
  );
};

/** Addresses, endpoints and a kernel's names: visible, without a space. */
export const KEY = /^[\x21-\x7e]+$/;
export const REASON = WORD;

// The long parts of a message are checked by one loop each.
const isCount = (value: unknown): boolean => isWhole(value, 0, NumberBound.count);

/** What a table may be like. */
export interface TableShape {
  readonly keysMax: number;
  readonly keyCharactersMax: number;
  /** what keys look like */
  readonly pattern: RegExp;
}

function isCountTable(value: unknown, { keysMax, keyCharactersMax, pattern }: TableShape): boolean {
  if (!isTable(value)) return false;
  let keys = 0;
  for (const [key, each] of Object.entries(value)) {
    keys += 1;
    if (keys > keysMax || key.length > keyCharactersMax || !pattern.test(key) || !isCount(each)) return false;
  }
  return true;
}

/** For all tables of thousands of agents that have nothing in them, which most have: an empty one of its own is 300 bytes. */
export const NO_COUNTS: Readonly<Record<string, never>> = Object.freeze(Object.create(null));

function isEmpty(table: object): boolean {
  for (const _ in table) return false;
  return true;
}

/** Counts by key, as a table without a prototype. */
export const counts = (shape: TableShape) =>
  v.pipe(
    v.custom<Readonly<Record<string, number>>>((value) => isCountTable(value, shape), 'expected counts'),
    v.transform(
      (table): Readonly<Record<string, number>> =>
        isEmpty(table) ? NO_COUNTS : Object.assign(Object.create(null), table),
    ),
  );

/** Counts by a text that came from elsewhere: the texts are cleaned, and those that become the same are added up. */
export const countsByText = (shape: TableShape) =>
  v.pipe(
    v.custom<Record<string, number>>((value) => isCountTable(value, shape), 'expected counts'),
    v.transform((table) => {
      const clean: Record<string, number> = Object.create(null);
      for (const [key, each] of Object.entries(table)) {
        const text = cleanText(key);
        clean[text] = (clean[text] ?? 0) + each;
      }
      return clean;
    }),
  );

/** Numbers of a host by name: a kernel's counters may go back when an interface goes. */
export const figures = (keysMax: number, keyCharactersMax: number) =>
  v.pipe(
    v.custom<Record<string, number>>((value) => {
      if (!isTable(value)) return false;
      const entries = Object.entries(value);
      const isGood = ([key, each]: [string, unknown]): boolean =>
        key.length <= keyCharactersMax && KEY.test(key) && v.is(figure, each);
      return entries.length <= keysMax && entries.every(isGood);
    }, 'expected numbers by name'),
    v.transform((table): Record<string, number> => Object.assign(Object.create(null), table)),
  );

/** Pairs of index and count: indexes ascend and are below a bound, and every index has a count above 0. */
function isSparse(value: unknown, indexEnd: number, pairsMax: number): boolean {
  if (!Array.isArray(value) || value.length % 2 !== 0 || value.length > 2 * pairsMax) return false;
  let before = -1;
  for (let at = 0; at < value.length; at += 2) {
    const index: unknown = value[at];
    if (!isWhole(index, before + 1, indexEnd - 1)) return false;
    if (!isWhole(value[at + 1], 1, NumberBound.count)) return false;
    before = index;
  }
  return true;
}

/** Counts by index: `[index, count, ...]`. @param indexEnd the first index that there is not */
export const sparse = (indexEnd: number, pairsMax: number) =>
  v.custom<readonly number[]>((value) => isSparse(value, indexEnd, pairsMax), 'expected counts by index');

/** Counts one after the other. */
export const countsList = (most: number) =>
  v.custom<readonly number[]>(
    (value) => Array.isArray(value) && value.length <= most && value.every(isCount),
    'expected a list of counts',
  );

/** A sparse histogram (stats/histogram.ts), on the scale that both sides have. */
export const histogram = sparse(COUNTS_LENGTH, COUNTS_LENGTH);
