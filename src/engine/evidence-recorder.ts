/**
 * Owns what one engine notes for a diagnosis beside its counts: when and where connects and losses were, how old and how silent connections
 * were, what the target said last, what became of probes that timed out. Must never decide anything, or allocate per connection:
 * columns by slot, counters of fixed size.
 */
import { formatEndpoint } from '../base/endpoint.ts';
import { DropReason, FailReason } from '../base/outcome.ts';
import type { TupleMap } from '../base/tuple-space.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import {
  CONNECT_KINDS,
  type Evidence,
  type FinalCheck,
  GAPS_MAX,
  LOSS_KINDS,
  type LossTimes,
} from '../stats/evidence.ts';
import { coarseMs, emptyHistogram, LatencyRecorder } from '../stats/histogram.ts';
import { DROP_REASONS } from '../stats/loss.ts';
import {
  boundedPlaces,
  OTHER_PLACES,
  type PlaceOutcomes,
  type PlaceTable,
  PORT_BLOCKS,
  PORTS_OF_BLOCK,
  placesKept,
} from '../stats/place-outcomes.ts';
import { SeriesCounter } from '../stats/time-series.ts';
import { type ConnectionTable, SlotFlag } from './connection-table.ts';
import { SaidColumns } from './said-columns.ts';
import type { Delivery } from './tcp-info.ts';

const FAIL_REASONS: readonly FailReason[] = Object.values(FailReason);

const CONNECT = { established: 0, answeredNo: 1, silent: 2 } as const;
const LOSS = { fin: 0, rst: 1, silent: 2, other: 3 } as const;

/** The evidence of one engine. Moments are milliseconds since the engine's start. */
export class EvidenceRecorder {
  readonly said: SaidColumns;
  readonly finalCheck = { rampEnd: new FinalCheckCount(), holdEnd: new FinalCheckCount() };
  readonly #table: ConnectionTable;
  readonly #map: TupleMap;
  readonly #connectsAt = new SeriesCounter(CONNECT_KINDS);
  readonly #lossesAt = new SeriesCounter(LOSS_KINDS);
  readonly #age = { fin: new TimesRecorder(), rst: new TimesRecorder() };
  readonly #silence = { fin: new TimesRecorder(), rst: new TimesRecorder() };
  readonly #endpoints: PlaceCounter;
  readonly #sources: PlaceCounter;
  readonly #ports = {
    asked: new Float64Array(PORT_BLOCKS),
    established: new Float64Array(PORT_BLOCKS),
    answeredNo: new Float64Array(PORT_BLOCKS),
    silent: new Float64Array(PORT_BLOCKS),
  };
  readonly #gaps = new Float64Array(GAPS_MAX + 1);
  /** when the last byte went either way, by slot */
  readonly #byteAtMs: Float64Array;
  /** the number of the connect's call, by slot */
  readonly #call: Uint32Array;
  #calls = 0;
  /** the call of the newest connect that was answered with a no; 0: none */
  #refusedCall = 0;
  readonly #deliveries = new Float64Array(3);
  readonly #unanswered = { fin: 0, rst: 0 };
  /** how much later than the run this engine has started */
  #laterMs = 0;

  constructor(spec: Pick<HolderSpec, 'addresses' | 'endpoints'>, map: TupleMap, table: ConnectionTable) {
    this.#table = table;
    this.#map = map;
    this.#endpoints = new PlaceCounter(spec.endpoints.map(formatEndpoint));
    this.#sources = new PlaceCounter(spec.addresses);
    this.#byteAtMs = new Float64Array(table.capacity);
    this.#call = new Uint32Array(table.capacity);
    this.said = new SaidColumns(table.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 8 + 4 + this.said.bytesPerSlot;
  }

  /** Times are given since the run's start. @param laterMs how much later this engine has started */
  startsLater(laterMs: number): void {
    this.#laterMs = Math.max(0, laterMs);
  }

  /** The slot's connect was called. */
  called(slot: number): void {
    this.#calls++;
    this.#call[slot] = this.#calls;
    this.#place(slot, Column.asked, 1);
    this.#ports.asked[this.#block(slot)]!++;
  }

  /** Connects that failed before they were on their way. @param tuple what one was meant for; -1: not said */
  notCalled(tuple: number, reason: FailReason, count: number, nowMs: number): void {
    if (tuple >= 0) this.#connectsAt.add(CONNECT.answeredNo, nowMs + this.#laterMs);
    const column = Column.failed + FAIL_REASONS.indexOf(reason);
    const endpoint = tuple < 0 ? -1 : this.#map.endpointIndexAt(tuple);
    const source = tuple < 0 ? -1 : this.#map.addressIndexAt(tuple);
    this.#endpoints.add(endpoint, Column.asked, count);
    this.#endpoints.add(endpoint, column, count);
    this.#sources.add(source, Column.asked, count);
    this.#sources.add(source, column, count);
  }

  /** The slot's connection is open; before anything of its next exchange is written into the table. */
  opened(slot: number, nowMs: number): void {
    this.#byteAtMs[slot] = nowMs;
    this.#connectsAt.add(CONNECT.established, this.#calledAtMs(slot) + this.#laterMs);
    this.#place(slot, Column.established, 1);
    this.#ports.established[this.#block(slot)]!++;
  }

  /**
   * The slot's connect failed.
   * @param isSilent nothing answered in time
   * @param isReopening it stood in for a lost one: it is tried again, and counts as neither asked nor failed
   */
  failed(slot: number, reason: FailReason, isSilent: boolean, isReopening: boolean): void {
    this.#connectsAt.add(
      isSilent ? CONNECT.silent : CONNECT.answeredNo,
      this.#calledAtMs(slot) + this.#laterMs,
    );
    if (!isSilent) this.#noteGap(slot);
    this.said.ended(slot);
    if (isReopening) {
      this.givenUp(slot);
      return;
    }
    this.#place(slot, Column.failed + FAIL_REASONS.indexOf(reason), 1);
    this.#ports[isSilent ? 'silent' : 'answeredNo'][this.#block(slot)]!++;
  }

  /** The slot's connect is given up before it was decided. */
  givenUp(slot: number): void {
    this.#place(slot, Column.asked, -1);
    this.#ports.asked[this.#block(slot)]!--;
  }

  /** A byte came or went. */
  moved(slot: number, nowMs: number): void {
    this.#byteAtMs[slot] = nowMs;
  }

  /** The slot's open connection was lost. */
  lost(slot: number, reason: DropReason, nowMs: number): void {
    this.#lossesAt.add(lossKindOf(reason), nowMs + this.#laterMs);
    this.#place(slot, Column.dropped + DROP_REASONS.indexOf(reason), 1);
    if (reason !== DropReason.aliasLost) this.said.ended(slot);
    if (reason !== DropReason.fin && reason !== DropReason.rst) return;
    if ((this.#table.flags[slot]! & SlotFlag.verified) === 0) this.#unanswered[reason]++;
    this.#age[reason].add(nowMs - this.#table.openedAtMs[slot]!);
    this.#silence[reason].add(nowMs - this.#byteAtMs[slot]!);
  }

  /** A probe timed out. */
  probeTimedOut(delivery: Delivery): void {
    this.#deliveries[delivery]!++;
  }

  /** How many connects were called between this one and the one before it that was answered with a no. */
  #noteGap(slot: number): void {
    const call = this.#call[slot]!;
    // Answers may come in another order than the calls: the pair that they belong to has been counted by the later one.
    if (call <= this.#refusedCall) return;
    if (this.#refusedCall > 0) this.#gaps[Math.min(GAPS_MAX, call - this.#refusedCall - 1)]!++;
    this.#refusedCall = call;
  }

  #calledAtMs(slot: number): number {
    return this.#table.intendedAtMs[slot]! + this.#table.calledLateMs[slot]!;
  }

  #block(slot: number): number {
    return Math.floor(this.#map.portAt(this.#table.tuple[slot]!) / PORTS_OF_BLOCK);
  }

  #place(slot: number, column: number, count: number): void {
    const tuple = this.#table.tuple[slot]!;
    this.#endpoints.add(this.#map.endpointIndexAt(tuple), column, count);
    this.#sources.add(this.#map.addressIndexAt(tuple), column, count);
  }

  /** A snapshot that later changes do not touch. */
  evidence(): Evidence {
    const [notSent = 0, notAcknowledged = 0, acknowledged = 0] = this.#deliveries;
    return {
      connectsAt: this.#connectsAt.series(),
      lossesAt: this.#lossesAt.series(),
      lossAgeMs: { fin: this.#age.fin.times(), rst: this.#age.rst.times() },
      lossSilenceMs: { fin: this.#silence.fin.times(), rst: this.#silence.rst.times() },
      byEndpoint: this.#endpoints.table(),
      bySourceOutcome: this.#sources.table(),
      byPortBlock: {
        asked: Array.from(this.#ports.asked),
        established: Array.from(this.#ports.established),
        answeredNo: Array.from(this.#ports.answeredNo),
        silent: Array.from(this.#ports.silent),
      },
      gapsBetweenFailures: Array.from(this.#gaps),
      said: this.said.texts(),
      notSent,
      notAcknowledged,
      acknowledged,
      lostUnanswered: { ...this.#unanswered },
      finalCheck: {
        rampEnd: this.finalCheck.rampEnd.words(),
        holdEnd: this.finalCheck.holdEnd.words(),
      },
    };
  }
}

function lossKindOf(reason: DropReason): number {
  switch (reason) {
    case DropReason.fin:
      return LOSS.fin;
    case DropReason.rst:
      return LOSS.rst;
    case DropReason.probeTimeout:
    case DropReason.timeout:
      return LOSS.silent;
    default:
      return LOSS.other;
  }
}

/** Answers to the last question of a phase. */
class FinalCheckCount {
  asked = 0;
  answered = 0;
  reset = 0;
  silent = 0;

  words(): FinalCheck {
    const { asked, answered, reset, silent } = this;
    return { asked, answered, reset, silent };
  }
}

/** Milliseconds of one kind of loss; nothing is held before the first. */
class TimesRecorder {
  #recorder: LatencyRecorder | null = null;
  #leastMs = 0;
  #mostMs = 0;

  add(ms: number): void {
    const isFirst = this.#recorder === null;
    this.#recorder ??= new LatencyRecorder();
    // The scale of latencies, whose unit is here the millisecond: up to 41 days.
    const wholeMs = Math.max(0, Math.round(ms));
    this.#recorder.record(coarseMs(wholeMs));
    this.#leastMs = isFirst ? wholeMs : Math.min(this.#leastMs, wholeMs);
    this.#mostMs = Math.max(this.#mostMs, wholeMs);
  }

  times(): LossTimes {
    const histogram = this.#recorder?.sparse() ?? emptyHistogram();
    return { histogram, leastMs: this.#leastMs, mostMs: this.#mostMs };
  }
}

/** What is counted of a place, then one column for each reason. */
const Column = { asked: 0, established: 1, failed: 2, dropped: 2 + FAIL_REASONS.length } as const;
const COLUMNS = Column.dropped + DROP_REASONS.length;

/** Counts by place. */
class PlaceCounter {
  readonly #names: readonly string[];
  /** the row of each place */
  readonly #rows: Int32Array;
  readonly #counts: Float64Array;

  constructor(names: readonly string[]) {
    const kept = placesKept(names);
    this.#names = [...kept, OTHER_PLACES];
    const rowOf = new Map(this.#names.map((name, row) => [name, row]));
    const other = this.#names.length - 1;
    this.#rows = Int32Array.from(names, (name) => rowOf.get(name) ?? other);
    this.#counts = new Float64Array(this.#names.length * COLUMNS);
  }

  /** @param place an index of the names; -1: none of them */
  add(place: number, column: number, count: number): void {
    const row = place < 0 ? this.#names.length - 1 : this.#rows[place]!;
    this.#counts[row * COLUMNS + column]! += count;
  }

  /** Places without a connect are left out. */
  table(): PlaceTable {
    const entries: (readonly [string, PlaceOutcomes])[] = [];
    for (const [row, name] of this.#names.entries()) {
      const outcomes = this.#outcomes(row * COLUMNS);
      if (outcomes.asked > 0) entries.push([name, outcomes]);
    }
    return boundedPlaces(entries);
  }

  #outcomes(at: number): PlaceOutcomes {
    return {
      asked: this.#counts[at + Column.asked]!,
      established: this.#counts[at + Column.established]!,
      failed: this.#byReason(at + Column.failed, FAIL_REASONS),
      dropped: this.#byReason(at + Column.dropped, DROP_REASONS),
    };
  }

  #byReason<Reason extends string>(at: number, reasons: readonly Reason[]): Partial<Record<Reason, number>> {
    const counts: Partial<Record<Reason, number>> = {};
    for (const [index, reason] of reasons.entries()) {
      const count = this.#counts[at + index]!;
      if (count > 0) counts[reason] = count;
    }
    return counts;
  }
}
