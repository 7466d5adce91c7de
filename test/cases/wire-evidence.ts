/**
 * Owns what a run looked like on the wire, in the form in which rules may use it: when, where, what was said, how old at
 * loss. Everything but `said` and the maxima adds up over holders and agents. Must never use what the program reports about
 * itself: it is the second opinion.
 */
import type { Capture, Rejection, Segment } from './pcap.ts';

/** Connections of one endpoint, one source address or one block of source ports. */
export interface PlaceCounts {
  readonly asked: number;
  readonly established: number;
  /** RST instead of SYN-ACK */
  readonly refused: number;
  /** an ICMP error, and nothing better */
  readonly rejected: number;
  /** SYN-ACKs came, and our kernel never took one */
  readonly unheard: number;
  /** no answer at all */
  readonly silent: number;
  /** established, and then ended by the far side */
  readonly ended: number;
}

/** Milliseconds in buckets of powers of two: `[lower bound, count, ...]`, ascending; the same buckets everywhere. */
export type LogBuckets = readonly number[];

export interface Spread {
  readonly count: number;
  readonly minMs: number;
  readonly medianMs: number;
  readonly maxMs: number;
  readonly buckets: LogBuckets;
}

export interface Said {
  readonly when: 'first' | 'last';
  readonly text: string;
  readonly count: number;
}

export interface WireEvidence {
  /** SYNs to the endpoints before the ramp: the check of sources */
  readonly before: number;
  readonly total: PlaceCounts;
  /** since the first SYN of the ramp; null: never */
  readonly lastSuccessMs: number | null;
  /** the first SYN after which none succeeded; null: the last one succeeded */
  readonly finalFailureMs: number | null;
  readonly successesPerSec: readonly number[];
  /** losses by the far side, by second since the first SYN: `[second, count, ...]` */
  readonly lossesPerSec: readonly number[];
  /** from our ACK of the SYN-ACK to the end by the far side */
  readonly ageAtLoss: Spread | null;
  /** from the last byte of either side to the end by the far side */
  readonly silenceBeforeLoss: Spread | null;
  readonly endedByFin: number;
  readonly endedByRst: number;
  /** a RST that came after a segment of ours that was not answered otherwise */
  readonly rstOnOurBytes: number;
  readonly endpoints: Readonly<Record<string, PlaceCounts>>;
  readonly sources: Readonly<Record<string, PlaceCounts>>;
  /** by the first port of each block */
  readonly portBlocks: Readonly<Record<string, PlaceCounts>>;
  /** ICMP errors: who, type/code, how many */
  readonly rejections: Readonly<Record<string, number>>;
  /** connections that the target ended or never took, by the words that it sent; at most `SAID_MAX` */
  readonly said: readonly Said[];
  /** the outcome of every connect in the order of its SYN, run by run: `[letter, count, ...]`; at most `RUNS_MAX` runs */
  readonly order: readonly (string | number)[];
}

const PORT_BLOCK = 4_096;
const SAID_MAX = 16;
const SAID_BYTES_MAX = 120;
const SOURCES_MAX = 16;
const RUNS_MAX = 64;

interface Connection {
  readonly from: string;
  readonly to: string;
  readonly synUs: number;
  answeredUs: number | null;
  establishedUs: number | null;
  isRefused: boolean;
  isRejected: boolean;
  end: 'fin' | 'rst' | 'ours' | null;
  endUs: number;
  lastBytesUs: number;
  lastBytesAreOurs: boolean;
  first: Uint8Array | null;
  last: Uint8Array | null;
}

function open(segment: Segment): Connection {
  return {
    from: segment.from,
    to: segment.to,
    synUs: segment.atUs,
    answeredUs: null,
    establishedUs: null,
    isRefused: false,
    isRejected: false,
    end: null,
    endUs: 0,
    lastBytesUs: segment.atUs,
    lastBytesAreOurs: false,
    first: null,
    last: null,
  };
}

function fromTarget(connection: Connection, segment: Segment): void {
  const { isSyn, isAck, isFin, isRst, length, atUs } = segment;
  if (isSyn && isAck) connection.answeredUs ??= atUs;
  if (length > 0) {
    connection.first ??= segment.payload.slice(0, SAID_BYTES_MAX);
    connection.last = segment.payload.slice(0, SAID_BYTES_MAX);
    connection.lastBytesUs = atUs;
    connection.lastBytesAreOurs = false;
  }
  if (connection.end !== null || !(isFin || isRst)) return;
  if (connection.establishedUs === null) {
    connection.isRefused = true;
    return;
  }
  connection.end = isRst ? 'rst' : 'fin';
  connection.endUs = atUs;
}

function fromUs(connection: Connection, segment: Segment): void {
  if (
    connection.establishedUs === null &&
    connection.answeredUs !== null &&
    segment.isAck &&
    !segment.isRst
  ) {
    connection.establishedUs = segment.atUs;
    connection.lastBytesUs = segment.atUs;
  }
  if (segment.length > 0) {
    connection.lastBytesUs = segment.atUs;
    connection.lastBytesAreOurs = true;
  }
  if (connection.end === null && (segment.isFin || segment.isRst)) {
    connection.end = 'ours';
    connection.endUs = segment.atUs;
  }
}

/** Every connect to one of the endpoints, in the order of their first SYN. */
function connectionsOf(capture: Capture, endpoints: ReadonlySet<string>): Connection[] {
  const all: Connection[] = [];
  const latest = new Map<string, Connection>();
  for (const segment of capture.segments) {
    const isOurs = endpoints.has(segment.to);
    const key = isOurs ? `${segment.from} ${segment.to}` : `${segment.to} ${segment.from}`;
    let connection = latest.get(key);
    const isFresh = connection === undefined || connection.end !== null || connection.isRefused;
    if (isOurs && segment.isSyn && !segment.isAck && isFresh) {
      connection = open(segment);
      latest.set(key, connection);
      all.push(connection);
    } else if (connection !== undefined) {
      if (isOurs) fromUs(connection, segment);
      else fromTarget(connection, segment);
    }
  }
  for (const { from, to } of capture.rejections) {
    const connection = latest.get(`${from} ${to}`);
    if (connection !== undefined && connection.establishedUs === null) connection.isRejected = true;
  }
  return all;
}

type Outcome = keyof Omit<PlaceCounts, 'asked' | 'ended'>;

function outcomeOf(connection: Connection): Outcome {
  if (connection.establishedUs !== null) return 'established';
  if (connection.isRefused) return 'refused';
  if (connection.answeredUs !== null) return 'unheard';
  return connection.isRejected ? 'rejected' : 'silent';
}

function isEndedByTarget(connection: Connection): boolean {
  return connection.end === 'fin' || connection.end === 'rst';
}

const LETTERS: Readonly<Record<Outcome, string>> = {
  established: 'e',
  refused: 'r',
  rejected: 'i',
  unheard: 'u',
  silent: 's',
};

function countPlaces(list: readonly Connection[]): PlaceCounts {
  const counts = {
    asked: list.length,
    established: 0,
    refused: 0,
    rejected: 0,
    unheard: 0,
    silent: 0,
    ended: 0,
  };
  for (const connection of list) {
    counts[outcomeOf(connection)] += 1;
    if (isEndedByTarget(connection)) counts.ended += 1;
  }
  return counts;
}

function grouped(
  list: readonly Connection[],
  keyOf: (connection: Connection) => string,
): Record<string, PlaceCounts> {
  const groups = new Map<string, Connection[]>();
  for (const connection of list) {
    const key = keyOf(connection);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [connection]);
    else group.push(connection);
  }
  return Object.fromEntries([...groups].map(([key, group]) => [key, countPlaces(group)]));
}

function spreadOf(valuesMs: readonly number[]): Spread | null {
  if (valuesMs.length === 0) return null;
  const sorted = [...valuesMs].sort((a, b) => a - b);
  const counts = new Map<number, number>();
  for (const value of sorted) {
    const lower = value < 1 ? 0 : 2 ** Math.floor(Math.log2(value));
    counts.set(lower, (counts.get(lower) ?? 0) + 1);
  }
  const round = (value: number): number => Math.round(value * 10) / 10;
  return {
    count: sorted.length,
    minMs: round(sorted[0]!),
    medianMs: round(sorted[Math.floor(sorted.length / 2)]!),
    maxMs: round(sorted.at(-1)!),
    buckets: [...counts].flat(),
  };
}

function perSecond(atMs: readonly number[]): number[] {
  const seconds: number[] = [];
  for (const at of atMs) {
    const index = Math.floor(at / 1_000);
    while (seconds.length <= index) seconds.push(0);
    seconds[index]! += 1;
  }
  return seconds;
}

/** Bytes as a line of text: what is not printable ASCII is escaped. */
function escaped(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    if (byte === 0x0a) text += '\\n';
    else if (byte === 0x0d) text += '\\r';
    else if (byte === 0x5c) text += '\\\\';
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return text;
}

function saidBy(list: readonly Connection[]): Said[] {
  const counts = new Map<string, number>();
  for (const connection of list.filter((one) => one.end !== 'ours' || one.first !== null)) {
    for (const when of ['first', 'last'] as const) {
      const bytes = connection[when];
      if (bytes === null) continue;
      const key = `${when} ${escaped(bytes)}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, SAID_MAX)
    .map(([key, count]) => {
      const at = key.indexOf(' ');
      return { when: key.slice(0, at) as Said['when'], text: key.slice(at + 1), count };
    });
}

function orderOf(list: readonly Connection[]): (string | number)[] {
  const runs: (string | number)[] = [];
  for (const connection of list) {
    const letter = LETTERS[outcomeOf(connection)];
    if (runs.at(-2) === letter) runs[runs.length - 1] = (runs.at(-1) as number) + 1;
    else if (runs.length < RUNS_MAX * 2) runs.push(letter, 1);
    else break;
  }
  return runs;
}

function countRejections(rejections: readonly Rejection[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { by, type, code } of rejections) {
    const key = `${by} ${type}/${code}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

/**
 * What a capture on the generator's host shows of one run.
 * @param endpoints as the report names them
 * @param attempted connects of the ramp; what was seen before them is the check of sources
 */
export function wireEvidence(
  capture: Capture,
  endpoints: readonly string[],
  attempted: number,
): WireEvidence {
  const seen = connectionsOf(capture, new Set(endpoints));
  const before = Math.max(0, seen.length - attempted);
  const list = seen.slice(before);
  const beganUs = list[0]?.synUs ?? 0;
  const sinceMs = (us: number): number => (us - beganUs) / 1_000;
  const established = list.filter(({ establishedUs }) => establishedUs !== null);
  const successesMs = established.map(({ establishedUs }) => sinceMs(establishedUs ?? 0));
  const ended = established.filter(isEndedByTarget);
  const lastGood = list.findLastIndex(({ establishedUs }) => establishedUs !== null);
  const sources = grouped(list, ({ from }) => from.slice(0, from.lastIndexOf(':')));
  const lossSeconds = perSecond(ended.map(({ endUs }) => sinceMs(endUs)));
  return {
    before,
    total: countPlaces(list),
    lastSuccessMs: successesMs.length === 0 ? null : Math.round(Math.max(...successesMs)),
    finalFailureMs: lastGood === list.length - 1 ? null : Math.round(sinceMs(list[lastGood + 1]!.synUs)),
    successesPerSec: perSecond(successesMs),
    lossesPerSec: lossSeconds.flatMap((count, second) => (count === 0 ? [] : [second, count])),
    ageAtLoss: spreadOf(ended.map((one) => (one.endUs - (one.establishedUs ?? 0)) / 1_000)),
    silenceBeforeLoss: spreadOf(ended.map((one) => (one.endUs - one.lastBytesUs) / 1_000)),
    endedByFin: ended.filter(({ end }) => end === 'fin').length,
    endedByRst: ended.filter(({ end }) => end === 'rst').length,
    rstOnOurBytes: ended.filter((one) => one.end === 'rst' && one.lastBytesAreOurs).length,
    endpoints: grouped(list, ({ to }) => to),
    sources: Object.fromEntries(Object.entries(sources).slice(0, SOURCES_MAX)),
    portBlocks: grouped(list, ({ from }) => {
      const port = Number(from.slice(from.lastIndexOf(':') + 1));
      return String(port - (port % PORT_BLOCK));
    }),
    rejections: countRejections(capture.rejections.filter(({ to }) => endpoints.includes(to))),
    said: saidBy(list),
    order: orderOf(list),
  };
}
