/**
 * Owns how an engine's connections are begun: when the next connect is due, and what becomes of one that cannot be.
 * Must never decide what happens to a connection that is on its way (engine.ts).
 *
 * All times are milliseconds since the engine's start, where nothing else is said.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../base/clock.ts';
import { DropReason, FailReason } from '../base/outcome.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { LatencyRecorder } from '../stats/histogram.ts';
import { Backlog } from './backlog.ts';
import { type ConnectionTable, SlotFlag } from './connection-table.ts';
import { Dial, Dialer } from './dialer.ts';
import { failReasonOf } from './errno-reason.ts';
import { Pacer } from './pacer.ts';
import { type Poller, WATCHED } from './poller.ts';
import type { ProtocolHost } from './protocols/protocol.ts';
import type { Tally } from './tally.ts';
import type { TimerWheel } from './timer-wheel.ts';
import { TupleSupply } from './tuple-supply.ts';

/** Tries to connect in one turn, skips included. */
const DIALS_PER_TURN_MAX = 128;

/** What the engine and its opener both work on. */
export interface OpenerParts {
  readonly clock: Clock;
  readonly table: ConnectionTable;
  readonly wheel: TimerWheel;
  readonly poller: Poller;
  readonly tally: Tally;
  /** gets the slot of a connect that the kernel would not watch */
  readonly engine: Pick<ProtocolHost, 'lost'>;
  /** one line for a person; each kind of trouble once */
  readonly onWarning: (message: string) => void;
}

/** Opens the connections of one quota. No method allocates per connection. */
export class Opener {
  readonly supply: TupleSupply;
  readonly #spec: HolderSpec;
  readonly #parts: OpenerParts;
  readonly #dialer: Dialer;
  readonly #backlog: Backlog;
  readonly #pacer: Pacer;
  readonly #lateUs = new LatencyRecorder();
  readonly #warned = new Set<string>();
  /** on the clock itself */
  #originMs = 0;
  /** on the clock itself */
  #openUntilMs = Number.POSITIVE_INFINITY;

  /** @param spec what to open; `sliceTo` at most the size of its tuple space */
  constructor(spec: HolderSpec, parts: OpenerParts) {
    this.#spec = spec;
    this.#parts = parts;
    this.supply = new TupleSupply({ from: spec.sliceFrom, to: spec.sliceTo });
    this.#dialer = new Dialer(spec, this.supply);
    this.#backlog = new Backlog(spec.connections);
    this.#pacer = new Pacer(spec.ratePerSec);
    assert(spec.sliceTo <= this.#dialer.map.size, 'the slice lies inside the tuple space');
  }

  /** What a tuple stands for. */
  get map(): Dialer['map'] {
    return this.#dialer.map;
  }

  /** Whether nothing is left to begin; what waits for another try is not meant. */
  get isDone(): boolean {
    return this.#backlog.size === 0;
  }

  /** 99 % of the connects were called no later than this after their intended time, milliseconds. */
  get lateMsP99(): number {
    return this.#lateUs.percentileUs(99) / 1_000;
  }

  /** By how much connects were put off because this process was late, milliseconds: in all, and at once. */
  get scheduleShiftMs(): number {
    return this.#pacer.shiftMs;
  }

  get scheduleShiftMsMax(): number {
    return this.#pacer.shiftMsMax;
  }

  /** The engine starts. @param originMs its 0 on the clock */
  begin(originMs: number): void {
    this.#originMs = originMs;
  }

  /**
   * Opens nothing from a moment on, until a later one is given.
   * @param atMs on the clock
   * @returns whether that moment had come already: then something may be due at once
   */
  openUntil(atMs: number): boolean {
    const wasOver = this.#isLeaseOver();
    this.#openUntilMs = atMs;
    return wasOver;
  }

  /** @param ratePerSec at least 0; null: no limit */
  setRate(ratePerSec: number | null): void {
    this.#pacer.setRate(ratePerSec, this.#parts.clock.monotonicMs() - this.#originMs);
  }

  /** Asks the clock itself: a process that was stopped wakes up with an old idea of now. */
  #isLeaseOver(): boolean {
    return (
      this.#openUntilMs !== Number.POSITIVE_INFINITY && this.#parts.clock.monotonicMs() >= this.#openUntilMs
    );
  }

  /** When there is something to do again: a moment that may have passed; Infinity: not by itself. */
  nextAtMs(): number {
    const againAtMs = this.#backlog.againAtMs;
    const isHeldUp = this.#parts.tally.pending >= this.#spec.pendingMax;
    if (this.isDone || this.#isLeaseOver() || isHeldUp) return againAtMs;
    return Math.min(againAtMs, this.#pacer.nextAtMs);
  }

  /** Begins what is due, as much as fits into one turn. */
  dialBatch(nowMs: number): void {
    const isLeaseOver = this.#isLeaseOver();
    if (this.isDone || isLeaseOver) this.#pacer.idle(nowMs);
    this.#backlog.retryDue(nowMs);
    if (this.isDone || isLeaseOver) return;
    const { clock, tally } = this.#parts;
    for (let tries = 0; tries < DIALS_PER_TURN_MAX && !this.isDone; tries++) {
      // The clock itself, each time: a process may be stopped in the middle of a batch.
      const calledAtMs = clock.monotonicMs() - this.#originMs;
      if (!this.#pacer.mayBegin(calledAtMs)) return;
      if (tally.pending >= this.#spec.pendingMax) {
        this.#pacer.heldUp(calledAtMs);
        return;
      }
      this.#dialOne(calledAtMs, nowMs);
    }
  }

  #dialOne(calledAtMs: number, nowMs: number): void {
    const { table, tally, wheel, poller, engine } = this.#parts;
    const fd = this.#dialer.dial(nowMs);
    if (fd < 0) {
      this.#notDialed(fd, calledAtMs, nowMs);
      return;
    }
    if (tally.firstConnectAtMs < 0) tally.firstConnectAtMs = calledAtMs;
    const slot = table.take(fd, this.#dialer.tuple);
    assert(slot >= 0, 'the table has room for the whole quota');
    const intendedMs = this.#pacer.begin(calledAtMs);
    table.intendedAtMs[slot] = intendedMs;
    table.calledLateMs[slot] = calledAtMs - intendedMs;
    this.#lateUs.record((calledAtMs - intendedMs) * 1_000);
    if (this.#backlog.take()) table.flags[slot]! |= SlotFlag.reopening;
    tally.attempted++;
    tally.pending++;
    wheel.set(slot, Math.ceil(calledAtMs + this.#spec.connectTimeoutMs));
    const added = poller.add(fd, WATCHED, table.tokenOf(slot));
    if (added < 0) engine.lost(slot, failReasonOf(-added), DropReason.other);
  }

  /** @param why a value of `Dial` */
  #notDialed(why: number, calledAtMs: number, nowMs: number): void {
    const { table, tally } = this.#parts;
    if (why === Dial.skipped) {
      // A tuple that is tried again was counted when it was skipped first.
      if (!this.supply.isRetry) tally.skipped(this.#dialer.skipReason);
      return;
    }
    if (why === Dial.exhausted) {
      this.#failUnopened(FailReason.sourceExhausted, this.#backlog.size, nowMs);
      this.#warnExhausted();
      return;
    }
    this.#pacer.begin(calledAtMs);
    const { failReason } = this.#dialer;
    if (why === Dial.outOfDescriptors) {
      this.#warnOnce(
        `no descriptors left after ${table.used} connections: raise the limit (ulimit -n) or use more holders`,
      );
      this.#failUnopened(failReason, this.#backlog.size, nowMs);
      return;
    }
    if (failReason === FailReason.sourceLost) {
      const address = this.#spec.addresses[this.map.addressIndexAt(this.#dialer.tuple)];
      this.#warnOnce(`the source address ${address} is not on this host (any more)`);
    }
    this.#failUnopened(failReason, 1, nowMs);
  }

  /** What rests comes back by itself, for lost connections that wait to be opened again. */
  #warnExhausted(): void {
    const { resting } = this.supply;
    const rest = resting > 0 ? ` (${resting} of them were in use when they were tried, and rest)` : '';
    if (this.#backlog.hasWaiting) {
      this.#warnOnce(`no source port is free for lost connections${rest}: they are opened again when one is`);
    } else {
      this.#warnOnce(`the slice of source ports is used up${rest}: the rest of the quota cannot be opened`);
    }
  }

  /** Counts connections of the quota that never got as far as a connect of their own. */
  #failUnopened(reason: FailReason, count: number, nowMs: number): void {
    const reopenings = this.#backlog.drop(count);
    if (reopenings > 0) this.notReopened(reopenings, nowMs);
    if (reopenings === count) return;
    const { tally } = this.#parts;
    tally.attempted += count - reopenings;
    tally.failed(reason, count - reopenings);
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#parts.onWarning(message);
  }

  /** What was not begun counts as unattempted; what stood in for lost connections is forgotten. */
  giveUp(): void {
    this.#parts.tally.unattempted += this.#backlog.clear();
  }

  /** Another connection is to stand in for one that was lost; its tuple may be used again. */
  reopen(tuple: number, nowMs: number): void {
    this.supply.freed(tuple, nowMs);
    if (this.isDone) this.#pacer.idle(nowMs);
    this.#backlog.reopen();
  }

  /** `count` connections that stood in for lost ones failed; they are tried again later. */
  notReopened(count: number, nowMs: number): void {
    this.#parts.tally.reopenFailed += count;
    this.#backlog.tryAgain(count, nowMs);
  }
}
