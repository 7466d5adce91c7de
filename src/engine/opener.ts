/**
 * Owns how an engine's connections are begun: when the next connect is due, the socket with its explicit source, what
 * becomes of a connect that cannot be. Must never decide what happens to a connection that is on its way (connections.ts).
 *
 * Never bind(ip, 0) and never the kernel's own search: both slow down as ports fill. All times are milliseconds since the
 * engine's start, where nothing else is said.
 */

import assert from 'node:assert/strict';
import type { Clock } from '../base/clock.ts';
import { FailReason, SkipReason } from '../base/outcome.ts';
import { TupleMap, type TupleSpace } from '../base/tuple-space.ts';
import { formatCount } from '../base/units.ts';
import { IMMEDIATE, type ReopenPolicy, reopenWaitMs, TRIES_MAX } from '../run/reopen-policy.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { LatencyRecorder } from '../stats/histogram.ts';
import { ReturnRecorder } from '../stats/returns.ts';
import { Backlog } from './backlog.ts';
import { Chance } from './chance.ts';
import { type ConnectionTable, SlotFlag, SlotState } from './connection-table.ts';
import type { Driver, OpenOutcome } from './drivers/driver.ts';
import type { EvidenceRecorder } from './evidence-recorder.ts';
import { Pacer } from './pacer.ts';
import type { Tally } from './tally.ts';
import type { TimerWheel } from './timer-wheel.ts';
import { TupleSupply } from './tuple-supply.ts';

/** Tries to connect in one turn, skips included. */
const DIALS_PER_TURN_MAX = 128;

/** What the engine and its opener both work on. */
interface OpenerParts {
  readonly clock: Clock;
  readonly table: ConnectionTable;
  readonly wheel: TimerWheel;
  readonly driver: Driver;
  readonly tally: Tally;
  readonly engine: { readonly evidence: EvidenceRecorder };
  /** 32 bits that differ between processes */
  readonly salt: number;
  /** one line for a person; each kind of warning once */
  readonly onWarning: (message: string) => void;
}

/** Opens the connections of one quota. No method allocates per connection. */
export class Opener {
  readonly supply: TupleSupply;
  readonly returns = new ReturnRecorder();
  readonly #spec: HolderSpec;
  readonly #parts: OpenerParts;
  /** What a tuple stands for. */
  readonly map: TupleMap;
  readonly #selfPorts: readonly ReadonlySet<number>[];
  /** by slot: how often in a row its tuple had been in use when it was handed out */
  readonly #skips: Uint8Array;
  /** taken from the supply and not begun yet, or -1 */
  #inHand = -1;
  readonly #backlog: Backlog;
  readonly #policy: ReopenPolicy;
  /** by slot: how many tries have failed since the connection was lost that it stands in for */
  readonly #tries: Uint8Array;
  /** slots in which a lost connection waits */
  #waiting = 0;
  readonly #chance: Chance;
  readonly #pacer: Pacer;
  /** connects in flight at most */
  #pendingMax: number;
  /** lost ones that are to be opened again, and are not yet */
  #comingBack = 0;
  /** of a load that changes: when the oldest that is not begun was due, and the youngest; -1: whenever the pacer says */
  #dueMs = -1;
  #dueToMs = -1;
  readonly #lateUs = new LatencyRecorder();
  readonly #warned = new Set<string>();
  /** on the clock itself; null: not begun */
  #beganMs: number | null = null;
  /** on the clock itself */
  #openUntilMs = Number.POSITIVE_INFINITY;
  /** whether the turn before could open */
  #mightOpen = false;

  /** @param spec what to open; `sliceTo` at most the size of its tuple space */
  constructor(spec: HolderSpec, parts: OpenerParts) {
    this.#spec = spec;
    this.#parts = parts;
    this.supply = new TupleSupply({ from: spec.sliceFrom, to: spec.sliceTo });
    this.map = new TupleMap(spec);
    this.#selfPorts = selfPortsOf(spec);
    this.#skips = new Uint8Array(parts.table.capacity);
    // A schedule asks for them one after the other.
    this.#backlog = new Backlog(spec.stages === undefined ? spec.connections : 0);
    this.#policy = spec.reopen ?? IMMEDIATE;
    this.#tries = new Uint8Array(parts.table.capacity);
    this.#chance = new Chance(parts.salt);
    this.#pacer = new Pacer(spec.ratePerSec);
    this.#pendingMax = spec.pendingMax;
    assert(spec.sliceTo <= this.map.size, 'the slice lies inside the tuple space');
  }

  /** Lost connections that wait for their time to be opened again. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Whether nothing is due; what waits for another try is not meant. */
  get isDone(): boolean {
    return this.#backlog.size === 0;
  }

  /** Whether all of the quota has been begun; what stands in for lost ones is not meant. */
  get hasBegunAll(): boolean {
    return !this.#backlog.hasNew;
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
    this.#beganMs = originMs;
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

  /**
   * @param ratePerSec at least 0; null: no limit
   * @param pendingMax connects in flight at most; 0: none is begun
   */
  setPace(ratePerSec: number | null, pendingMax: number): void {
    this.#pendingMax = pendingMax;
    // A rate that stays keeps its plan, from which latencies count.
    if (ratePerSec === this.#pacer.ratePerSec) return;
    // A quota that grows again gives a holder another rate before it was started: its time has not begun.
    this.#pacer.setRate(ratePerSec, this.clockMs());
  }

  /** Since the engine's start, from the clock itself; 0 before. */
  clockMs(): number {
    return this.#beganMs === null ? 0 : this.#parts.clock.monotonicMs() - this.#beganMs;
  }

  /** Asks the clock itself: a process that was stopped wakes up with an old idea of now. */
  #isLeaseOver(): boolean {
    return (
      this.#openUntilMs !== Number.POSITIVE_INFINITY && this.#parts.clock.monotonicMs() >= this.#openUntilMs
    );
  }

  /** When there is something to do again: a moment that may have passed; Infinity: not by itself. */
  nextAtMs(): number {
    const isHeldUp = this.#parts.tally.pending >= this.#pendingMax;
    if (this.isDone || this.#isLeaseOver() || isHeldUp) return Number.POSITIVE_INFINITY;
    return this.#pacer.nextAtMs;
  }

  /** Begins what is due, as much as fits into one turn. */
  dialBatch(nowMs: number): void {
    const isLeaseOver = this.#isLeaseOver();
    if (this.isDone || isLeaseOver) {
      // It is renewed each second: one that was good a turn ago ran out in a pause of this process.
      const wasPaused = this.#mightOpen && !this.isDone && this.#parts.tally.pending < this.#pendingMax;
      if (wasPaused) this.#pacer.stoodStill(nowMs);
      else this.#pacer.idle(nowMs);
      this.#mightOpen = false;
      return;
    }
    this.#mightOpen = true;
    const { tally } = this.#parts;
    for (let tries = 0; tries < DIALS_PER_TURN_MAX && !this.isDone; tries++) {
      // The clock itself, each time: a process may be stopped in the middle of a batch.
      const calledAtMs = this.clockMs();
      if (!this.#pacer.mayBegin(calledAtMs)) return;
      if (tally.pending >= this.#pendingMax) {
        this.#pacer.heldUp(calledAtMs);
        return;
      }
      if (!this.#dialOne(calledAtMs, nowMs)) return;
    }
  }

  /** @returns whether there is a point in another one in this turn */
  #dialOne(calledAtMs: number, nowMs: number): boolean {
    const { table, tally } = this.#parts;
    if (!this.#takeTuple(nowMs)) {
      this.#exhausted(nowMs);
      return false;
    }
    const slot = table.take(this.#inHand);
    assert(slot >= 0, 'the table has room for the whole quota');
    if (!this.#open(slot)) {
      table.free(slot);
      return false;
    }
    if (tally.firstConnectAtMs < 0) tally.firstConnectAtMs = calledAtMs;
    const plannedMs = this.#pacer.begin(calledAtMs);
    this.#lateUs.record((calledAtMs - plannedMs) * 1_000);
    const intendedMs = this.#dueMs < 0 ? plannedMs : this.#takeDueMs(plannedMs);
    const failedTries = this.#backlog.take();
    if (failedTries >= 0) {
      table.flags[slot]! |= SlotFlag.reopening;
      this.returns.called(calledAtMs);
    }
    this.#tries[slot] = Math.max(0, failedTries);
    tally.attempted++;
    tally.pending++;
    this.#called(slot, intendedMs, calledAtMs);
    return true;
  }

  /** Those that are asked for together are due evenly over the time since the look before. */
  #takeDueMs(plannedMs: number): number {
    const dueMs = this.#dueMs;
    this.#dueMs += (this.#dueToMs - dueMs) / Math.max(1, this.#backlog.fresh);
    return Math.min(plannedMs, dueMs);
  }

  #called(slot: number, intendedMs: number, calledAtMs: number): void {
    const { table, wheel, engine } = this.#parts;
    table.intendedAtMs[slot] = intendedMs;
    table.calledLateMs[slot] = calledAtMs - intendedMs;
    engine.evidence.called(slot);
    wheel.set(slot, Math.ceil(calledAtMs + this.#spec.connectTimeoutMs));
  }

  /** Takes the next tuple in hand that is no connect to oneself; false when there is none. */
  #takeTuple(nowMs: number): boolean {
    while (this.#inHand < 0) {
      const tuple = this.supply.take(nowMs);
      if (tuple < 0) return false;
      const port = this.map.portAt(tuple);
      // The source is explicit, so it is known before the first packet; nothing has to be compared after connect. Such a
      // tuple never becomes usable, so the supply does not get it back.
      if (this.#selfPorts[this.map.addressIndexAt(tuple)]!.has(port)) {
        this.#parts.tally.skipped(SkipReason.selfConnect);
      } else this.#inHand = tuple;
    }
    return true;
  }

  /** Begins the connect of the tuple in hand; false: the driver has no room for it in this turn. */
  #open(slot: number): boolean {
    const tuple = this.#inHand;
    const { map } = this;
    const { driver } = this.#parts;
    const source = map.addressIndexAt(tuple);
    if (!driver.open(slot, source, map.portAt(tuple), map.endpointIndexAt(tuple))) return false;
    this.#skips[slot] = this.supply.skips;
    this.#inHand = -1;
    return true;
  }

  /**
   * A connect could not be begun.
   * @param outcome what that means for the quota
   */
  failed(slot: number, { fail, isFinal }: Extract<OpenOutcome, { kind: 'failed' }>, nowMs: number): void {
    const { driver, engine, table, tally } = this.#parts;
    const tuple = table.tuple[slot]!;
    engine.evidence.givenUp(slot);
    driver.close(slot, 'fin');
    this.supply.freed(tuple, nowMs);
    this.#takeBack(slot);
    if (isFinal) {
      const held = formatCount(tally.open);
      this.#warnOnce(
        `no descriptors left beside ${held} open connections: raise the limit (ulimit -n) or use more holders`,
      );
    }
    if (fail === FailReason.sourceLost) {
      const address = this.#spec.addresses[this.map.addressIndexAt(tuple)];
      this.#warnOnce(`the source address ${address} is not on this host (any more)`);
    }
    if (isFinal) this.#failUnopened(fail, this.#backlog.size, -1, nowMs);
    else this.#failUnopened(fail, 1, tuple, nowMs);
  }

  /** The slot's tuple is in use on this host: the next one stands in, with the same intended time. */
  skipped(slot: number, reason: SkipReason, nowMs: number): void {
    const { driver, engine, table, tally } = this.#parts;
    const skips = this.#skips[slot]!;
    // A tuple that is tried again was counted when it was skipped first.
    if (skips === 0) tally.skipped(reason);
    engine.evidence.givenUp(slot);
    driver.close(slot, 'fin');
    this.supply.skipped(table.tuple[slot]!, skips, nowMs);
    if (this.#isLeaseOver()) {
      this.#takeBack(slot);
      return;
    }
    if (!this.#takeTuple(nowMs)) {
      this.#takeBack(slot);
      this.#exhausted(nowMs);
      return;
    }
    table.tuple[slot] = this.#inHand;
    if (!this.#open(slot)) {
      this.#takeBack(slot);
      return;
    }
    this.#called(slot, table.intendedAtMs[slot]!, this.clockMs());
  }

  /** A connect that was begun, and whose driver has closed it, goes back into the backlog. */
  #takeBack(slot: number): void {
    const { table, tally, wheel } = this.#parts;
    const isReopening = (table.flags[slot]! & SlotFlag.reopening) !== 0;
    wheel.cancel(slot);
    table.free(slot);
    tally.attempted--;
    tally.pending--;
    this.#backlog.putBack(isReopening ? this.#tries[slot]! : -1);
  }

  #exhausted(nowMs: number): void {
    this.#failUnopened(FailReason.sourceExhausted, this.#backlog.size, -1, nowMs);
    this.#warnExhausted();
  }

  /** What rests comes back by itself, for lost connections that wait to be opened again. */
  #warnExhausted(): void {
    const { resting } = this.supply;
    const rest = resting > 0 ? ` (${resting} of them were in use when they were tried, and rest)` : '';
    if (this.#waiting > 0) {
      this.#warnOnce(`no source port is free for lost connections${rest}: they are opened again when one is`);
    } else {
      this.#warnOnce(`the slice of source ports is used up${rest}: the rest of the quota cannot be opened`);
    }
  }

  /**
   * Counts connections of the quota that never got as far as a connect of their own.
   * @param tuple what the one was meant for; -1: not said
   */
  #failUnopened(reason: FailReason, count: number, tuple: number, nowMs: number): void {
    let unopened = 0;
    for (let each = 0; each < count; each++) {
      const tries = this.#backlog.take();
      if (tries < 0) unopened++;
      else this.notReopened(tries, reason, nowMs);
    }
    if (unopened === 0) return;
    const { tally } = this.#parts;
    tally.attempted += unopened;
    tally.failed(reason, unopened);
    this.#parts.engine.evidence.notCalled(tuple, reason, unopened, nowMs);
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#parts.onWarning(message);
  }

  /** What was not begun counts as unattempted; what stood in for lost connections is forgotten. */
  giveUp(): void {
    const { table, wheel, tally } = this.#parts;
    this.#comingBack = 0;
    tally.unattempted += this.#backlog.clear();
    for (let slot = 0; this.#waiting > 0 && slot < table.capacity; slot++) {
      if (table.state[slot] !== SlotState.waiting) continue;
      wheel.cancel(slot);
      table.free(slot);
      this.#waiting--;
    }
  }

  /** How many tries have failed to open what the slot's connection stands in for. */
  triesOf(slot: number): number {
    return this.#tries[slot]!;
  }

  /**
   * Another connection is to stand in for one that was lost and whose slot is free.
   * @param wasShort it had been opened again a moment ago: that was one more try that failed
   */
  reopen(tries: number, wasShort: boolean, nowMs: number): void {
    this.#comingBack++;
    // Without a wait, one that is closed as soon as it is open comes back as fast as the target lets it.
    const failed = wasShort && this.#policy.kind !== 'immediate' ? Math.min(TRIES_MAX, tries + 1) : 0;
    this.#wait(failed, nowMs);
  }

  /** A connection that stood in for a lost one failed, and its slot is free; it is tried again later. */
  notReopened(tries: number, reason: FailReason, nowMs: number): void {
    this.returns.failed(reason === FailReason.refused, nowMs);
    this.#parts.tally.reopenFailed++;
    this.#wait(Math.min(TRIES_MAX, tries + 1), nowMs);
  }

  #wait(tries: number, nowMs: number): void {
    const { table, wheel } = this.#parts;
    const waitMs = reopenWaitMs(this.#policy, tries, this.#chance.next());
    if (waitMs === 0) {
      this.#due(tries, nowMs);
      return;
    }
    const slot = table.take(-1);
    assert(slot >= 0, 'what was lost has left its slot');
    table.state[slot] = SlotState.waiting;
    this.#tries[slot] = tries;
    this.#waiting++;
    wheel.set(slot, Math.ceil(nowMs + waitMs));
  }

  /** The wait in a slot is over. */
  waited(slot: number, nowMs: number): void {
    this.#parts.table.free(slot);
    this.#waiting--;
    this.#due(this.#tries[slot]!, nowMs);
  }

  #due(tries: number, nowMs: number): void {
    if (this.isDone) this.#pacer.idle(nowMs);
    this.#backlog.reopen(tries);
  }

  /** A connection that stands in for a lost one is open. */
  cameBack(): void {
    this.#comingBack--;
  }

  /** Lost ones that are to be opened again, and are not yet. */
  get comingBack(): number {
    return this.#comingBack;
  }

  /** Whether one more can be begun in this turn. */
  get hasRoom(): boolean {
    const { size } = this.#backlog;
    const room = this.#pendingMax - this.#parts.tally.pending;
    return size < Math.min(room, DIALS_PER_TURN_MAX) && !this.#isLeaseOver();
  }

  /**
   * So many more connections are to be open.
   * @param sinceMs the look before: they were due from then on until now
   */
  ask(count: number, sinceMs: number, nowMs: number): void {
    if (this.isDone) this.#pacer.idle(nowMs);
    if (this.#backlog.fresh === 0) this.#dueMs = Math.max(0, sinceMs);
    this.#dueToMs = nowMs;
    this.#backlog.grow(count);
  }

  /** So many less are to be open, as far as they are not begun. @returns how many these are */
  askLess(count: number): number {
    const less = Math.min(count, this.#backlog.fresh);
    this.#backlog.grow(-less);
    return less;
  }

  /** We have closed an open connection, and go on: its tuple rests as long as that needs. */
  closedByUs(tuple: number, nowMs: number): void {
    // A reset leaves nothing behind (tcp_send_active_reset in net/ipv4/tcp_output.c).
    if (this.#spec.close === 'rst') this.supply.freed(tuple, nowMs);
    else this.supply.closedByUs(tuple, nowMs);
  }
}

/**
 * Ports at which a source address could meet one of the endpoints, one set per source address: a connect to oneself succeeds
 * without any target (TCP simultaneous open, RFC 9293 section 3.5). Any endpoint, not only the tuple's own: two of our
 * connects that cross each other would also meet. An endpoint at the unspecified address is wherever the source is
 * (ip_route_output_key in net/ipv4/route.c).
 */
function selfPortsOf({ addresses, endpoints }: TupleSpace): readonly ReadonlySet<number>[] {
  return addresses.map(
    (source) =>
      new Set(
        endpoints
          .filter(({ address }) => address === source || address === '0.0.0.0' || address === '::')
          .map(({ port }) => port),
      ),
  );
}
