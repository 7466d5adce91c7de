/**
 * Owns the life of one holder's connections: what is done in each turn, from the first connect until all are closed.
 * Must never know what an event means for a connection (connections.ts), read a clock that was not given to it, or speak to
 * another process.
 *
 * One turn: events of the last wait, timers that are due, a batch of connects (opener.ts) or of closes; then a wait
 * (turn-loop.ts). While connects are in flight a turn's wait blocks this thread for at most SHORT_SLEEP_MS; when nothing
 * is, a worker thread waits instead, because that wait may last a second.
 */

import assert from 'node:assert/strict';
import type { Clock } from '../base/clock.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import type { FinalCheckName } from '../stats/evidence.ts';
import type { Loss } from '../stats/loss.ts';
import type { HolderHealth, Stats } from '../stats/stats.ts';
import { SlotState } from './connection-table.ts';
import { Connections } from './connections.ts';
import { type Driver, DriverEvent } from './drivers/driver.ts';
import { makeDriver } from './drivers/make-driver.ts';
import { LoopLag, TurnLoop } from './turn-loop.ts';

/** Connections closed in one turn. */
const CLOSES_PER_TURN_MAX = 512;
const SHORT_SLEEP_MS = 5;
/** A turn that is so late has more to read than the wait before it brought. */
const LATE_MS = 100;
const SLEEP_MS_MAX = 1_000;
/** Connections that one turn of the driver brings something of, at least, when more is waiting. */
const EVENTS_PER_TURN = 256;

interface EngineEvents {
  /** All of the quota has been begun, or given up. Called once, in the turn in which that is so. */
  readonly onBegun?: () => void;
  /** Nothing is left to open and nothing is in flight. Called once, before `onSettled`. */
  readonly onOpened?: () => void;
  /**
   * Besides, where probes prove connections, each one that is open has answered its first probe: what is held from now
   * on is proven, however short the hold. One that does not answer in time is lost, so this comes. Called once.
   */
  readonly onSettled: () => void;
  /** One line for a person; each kind of warning once. */
  readonly onWarning: (message: string) => void;
}

/** How late an engine was through its own fault, and how much it uses of what it has; its own part of a holder's figures. */
type EngineLoad = Pick<
  HolderHealth,
  | 'loopLagMsP99'
  | 'loopLagMsMax'
  | 'holdLagMsMax'
  | 'scheduleLagMsP99'
  | 'scheduleShiftMs'
  | 'scheduleShiftMsMax'
  | 'tuplesUsed'
  | 'tuplesMax'
  | 'descriptorsUsed'
>;

/** Moments on the host's clock. */
export interface EngineRamp {
  readonly fromMs: number;
  readonly toMs: number;
}

/** The engine's life. */
type Phase = 'idle' | 'running' | 'closing' | 'closed' | 'ended';

/** Opens, holds, proves and closes the connections of one quota. */
export class Engine {
  readonly #clock: Clock;
  readonly #events: EngineEvents;
  readonly #driver: Driver;
  readonly #loop: TurnLoop;
  readonly #lag = new LoopLag();
  readonly #connections: Connections;

  #phase: Phase = 'idle';
  #originMs = 0;
  #isGivingUp = false;
  #hasBegun = false;
  #hasOpened = false;
  #settled = false;
  /** slots below are still to be closed */
  #closeCursor = 0;
  #onClosed: (() => void) | null = null;
  #onFrozen: (() => void) | null = null;

  /**
   * @param spec what to open; `sliceTo` at most the size of its tuple space
   * @param salt 32 bits that differ between processes
   * @throws Error when the process has no descriptor left for epoll itself, or io_uring cannot have what it needs
   */
  constructor(spec: HolderSpec, clock: Clock, salt: number, events: EngineEvents) {
    this.#clock = clock;
    this.#events = events;
    this.#driver = makeDriver(spec);
    this.#loop = new TurnLoop(this.#driver, (hasEvents) => this.#turn(hasEvents));
    this.#connections = new Connections({
      spec,
      clock,
      driver: this.#driver,
      salt,
      wake: () => {
        this.#loop.wake();
        return this.#readClock();
      },
      onWarning: events.onWarning,
    });
  }

  /**
   * Begins to connect. Once.
   * @param runStartedMs when the run began on this host, on the same clock; absent: now
   * @param elapsedMs how long it had gone on for others then
   */
  start(runStartedMs?: number, elapsedMs = 0): void {
    assert(this.#phase === 'idle', 'start() is called once');
    this.#phase = 'running';
    this.#originMs = this.#clock.monotonicMs();
    const laterMs = this.#originMs - (runStartedMs ?? this.#originMs);
    this.#connections.losses.startsLater(laterMs);
    this.#connections.evidence.startsLater(laterMs);
    this.#connections.opener.returns.startsLater(laterMs);
    this.#connections.load?.begin(laterMs + elapsedMs);
    this.#connections.opener.begin(this.#originMs);
    this.#loop.begin();
  }

  /** The hold phase begins: `openMin` and `verifiedMin` are counted from now. */
  markHold(): void {
    this.#connections.tally.markHold();
    this.#connections.load?.holds(this.#readClock());
    this.#lag.markHold();
  }

  /**
   * A load that changes stays as it is: what is on its way ends, and nothing is closed or opened any more.
   * @param done called once, when nothing is on its way and each that is open has proven itself
   */
  freeze(done: () => void): void {
    this.#connections.load?.freeze(this.#readClock());
    if (this.#phase === 'idle') {
      done();
      return;
    }
    this.#onFrozen = done;
    this.#loop.interrupt();
  }

  /**
   * Asks each open connection once more, and lets go of those that do not answer: by a probe, or where none are sent by a window probe or a keepalive.
   * @param which the phase that is over; after the hold nothing is opened again
   * @param perMs connections that may be asked by a keepalive within a millisecond, above 0
   * @param done called once, unless everything is closed before
   */
  checkFinally(which: FinalCheckName, perMs: number, done: () => void): void {
    const { evidence, finalCheck, tally } = this.#connections;
    if (which === 'holdEnd') this.#connections.mayReopen = false;
    const nowMs = this.#readClock();
    const youngestMs = this.#connections.load === null ? tally.lastEstablishedAtMs : nowMs;
    finalCheck.begin(evidence.finalCheck[which], nowMs, perMs, youngestMs, done);
    this.#loop.interrupt();
  }

  /**
   * Opens nothing from a moment on, until a later one is given; connects in flight go on, and what is open stays open.
   * The time between is lost to the pacer: it catches up no faster than the pending cap allows.
   * @param atMs on the engine's clock
   */
  openUntil(atMs: number): void {
    if (this.#connections.opener.openUntil(atMs)) this.#loop.interrupt();
  }

  /**
   * From now on connects are begun at another pace.
   * @param ratePerSec at least 0; null: no limit
   * @param pendingMax connects in flight at most; 0: none is begun
   */
  setPace(ratePerSec: number | null, pendingMax: number): void {
    this.#connections.opener.setPace(ratePerSec, pendingMax);
    this.#loop.interrupt();
  }

  /** Drops every connection whose source address is no longer on this host. */
  loseSources(addresses: readonly string[]): void {
    this.#connections.loseSources(addresses);
    this.#loop.interrupt();
  }

  /** Gives up what is not open yet: the rest of the quota and the connects in flight count as unattempted. */
  stopOpening(): void {
    this.#isGivingUp = true;
    this.#loop.interrupt();
  }

  /** Closes every connection as the spec says, in batches, and opens none any more. `done` is called at the end. */
  closeAll(done: () => void): void {
    assert(this.#onClosed === null, 'closeAll() is called once');
    this.#isGivingUp = true;
    this.#onClosed = done;
    this.#closeCursor = this.#connections.table.capacity;
    const wasIdle = this.#phase === 'idle';
    this.#phase = 'closing';
    this.#connections.mayReopen = false;
    if (wasIdle) this.#loop.begin();
    else this.#loop.interrupt();
  }

  /** Stops the loop for good and the driver gives back what it has; open sockets are left to the kernel. */
  end(): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#loop.end();
    this.#connections.protocol.end?.();
  }

  /** A snapshot of the counts. */
  stats(): Stats {
    return this.#connections.stats();
  }

  /** Details of losses that were not taken yet, the oldest first. */
  takeLosses(max: number): Loss[] {
    return this.#connections.losses.take(max);
  }

  /** Which tuples of the slice are open: one bit for each that was handed out, the first one lowest; base64. */
  openTuples(): string {
    const { table, opener } = this.#connections;
    const { used, from } = opener.supply;
    const bits = Buffer.alloc(Math.ceil(used / 8));
    for (let slot = 0; slot < table.capacity; slot++) {
      if (table.state[slot] !== SlotState.open) continue;
      const at = (table.tuple[slot] ?? from) - from;
      const byte = Math.floor(at / 8);
      bits[byte] = (bits[byte] ?? 0) | (1 << (at % 8));
    }
    return bits.toString('base64');
  }

  /** How late this process was, and how much of what it has it uses. */
  load(): EngineLoad {
    return {
      loopLagMsP99: this.#lag.msP99,
      loopLagMsMax: this.#lag.msMax,
      holdLagMsMax: this.#lag.holdMsMax,
      scheduleLagMsP99: this.#connections.opener.lateMsP99,
      scheduleShiftMs: this.#connections.opener.scheduleShiftMs,
      scheduleShiftMsMax: this.#connections.opener.scheduleShiftMsMax,
      tuplesUsed: this.#connections.opener.supply.used,
      tuplesMax: this.#connections.opener.supply.size,
      // A connection of io_uring takes no number of the process's table.
      descriptorsUsed:
        this.#driver.name === 'epoll' ? this.#connections.table.used - this.#connections.opener.waiting : 0,
    };
  }

  /**
   * When the first connect was called and the last was established, on the engine's clock.
   * @returns null: none was called
   */
  get ramp(): EngineRamp | null {
    const { firstConnectAtMs, lastEstablishedAtMs } = this.#connections.tally;
    if (firstConnectAtMs < 0) return null;
    const toMs = Math.max(firstConnectAtMs, lastEstablishedAtMs);
    return { fromMs: this.#originMs + firstConnectAtMs, toMs: this.#originMs + toMs };
  }

  /** Whether all of the quota has been begun, or given up. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Whether `onSettled` was called. */
  get settled(): boolean {
    return this.#settled;
  }

  #readClock(): number {
    return this.#clock.monotonicMs() - this.#originMs;
  }

  #turn(hasEvents: boolean): void {
    const nowMs = this.#readClock();
    const lagMs = this.#lag.turnBegins(nowMs, this.#loop.sleptMs, hasEvents);
    this.#connections.nowMs = nowMs;
    this.#connections.load?.turnBegins(nowMs);
    this.#takeEvents();
    if (lagMs > LATE_MS) this.#takeWaiting();
    this.#connections.fireTimers();
    this.#connections.finalCheck.turn(this.#connections.nowMs);
    if (this.#isGivingUp) {
      this.#isGivingUp = false;
      this.#connections.giveUp();
    }
    this.#connections.load?.turn(this.#connections.nowMs, this.#isQuiet);
    this.#connections.opener.dialBatch(this.#connections.nowMs);
    this.#checkFrozen();
    this.#checkBegun();
    this.#checkSettled();
    if (this.#phase === 'closing') this.#closeBatch();
    this.#sleepNext(hasEvents);
  }

  #takeEvents(): void {
    for (let event = this.#driver.next(); event !== DriverEvent.none; event = this.#driver.next()) {
      this.#connections.onEvent(event);
    }
  }

  /**
   * What has come is read before what is overdue is judged: after a stand-still of ours answers wait behind the first turn's,
   * and behind a wait that SIGCONT has interrupted (signal(7)). At most one turn's worth for each slot.
   */
  #takeWaiting(): void {
    const turnsMax = Math.ceil(this.#connections.capacity / EVENTS_PER_TURN);
    for (let turns = 0; turns < turnsMax && this.#driver.turn(0); turns++) this.#takeEvents();
  }

  /** Whether something is left to begin or in flight. */
  get #isOpening(): boolean {
    return !this.#connections.opener.isDone || this.#connections.tally.pending > 0;
  }

  /** Whether nothing is on its way, and where probes prove connections each has answered. */
  get #isQuiet(): boolean {
    const { probes, tally } = this.#connections;
    return !this.#isOpening && (!probes.areProof || tally.open === tally.verified);
  }

  #checkFrozen(): void {
    const { load, nowMs } = this.#connections;
    if (this.#onFrozen === null || !this.#isQuiet || load?.hasStopped(nowMs) === false) return;
    const done = this.#onFrozen;
    this.#onFrozen = null;
    done();
  }

  #checkBegun(): void {
    if (this.#hasBegun || !this.#connections.opener.hasBegunAll) return;
    this.#hasBegun = true;
    this.#events.onBegun?.();
  }

  #checkSettled(): void {
    if (this.#settled || this.#isOpening) return;
    const { load, probes, tally } = this.#connections;
    // A line that begins at 0 has nothing on its way at first.
    if (load?.isByLine === true && !tally.isHolding) return;
    if (!this.#hasOpened) {
      this.#hasOpened = true;
      this.#events.onOpened?.();
    }
    if (probes.areProof && tally.open > tally.verified) return;
    this.#settled = true;
    this.#events.onSettled();
  }

  /** Chooses how to wait for the next turn: not at all, a little in this thread, or long in a worker thread. */
  #sleepNext(wasBusy: boolean): void {
    if (this.#phase === 'ended' || this.#phase === 'closed') return;
    const nowMs = this.#readClock();
    this.#lag.turnEnds(nowMs);
    let sleepMs = wasBusy || this.#phase === 'closing' ? 0 : this.#idleMs(nowMs);
    if (sleepMs > SHORT_SLEEP_MS && this.#isOpening) sleepMs = SHORT_SLEEP_MS;
    // Node's own sockets wait while this thread does, so with them it must not.
    this.#loop.wait(sleepMs, this.#connections.protocol.runsInNode === true ? 0 : SHORT_SLEEP_MS);
  }

  /** Whole milliseconds until something of our own is due: a timer or the next connect. */
  #idleMs(nowMs: number): number {
    const timerAtMs =
      Math.floor(this.#connections.nowMs) + this.#connections.wheel.ticksUntilDue(SLEEP_MS_MAX);
    const { opener, finalCheck } = this.#connections;
    const loadAtMs = this.#connections.load?.nextAtMs(nowMs) ?? Number.POSITIVE_INFINITY;
    const nextAtMs = Math.min(timerAtMs, opener.nextAtMs(), finalCheck.nextAtMs(nowMs), loadAtMs);
    return Math.max(0, Math.ceil(nextAtMs - nowMs));
  }

  #closeBatch(): void {
    // The youngest first: io_uring finds the watch of a socket from its youngest on (io_poll_find), all of many in one of 256 lists.
    const end = Math.max(0, this.#closeCursor - CLOSES_PER_TURN_MAX);
    while (this.#closeCursor > end) {
      const slot = --this.#closeCursor;
      if (this.#connections.table.state[slot] === SlotState.open) this.#connections.closeOpen(slot);
    }
    if (this.#closeCursor > 0) return;
    assert(this.#connections.table.used === 0, 'every connection was closed');
    // What is closed for the driver may still have to be closed by the kernel: the far sides are to see it before we say so.
    if (!this.#driver.isDrained) return;
    this.#phase = 'closed';
    this.#onClosed?.();
  }
}
