/**
 * Owns how one holder's connections come and go while it runs: the line of a schedule, connections that are closed and opened anew in their
 * turn, and empty places that are filled again. Must never open a connection itself (opener.ts) or decide why one is lost.
 *
 * A place is a connection that is asked for. At any time: places = open + on their way + missing (tally.ts).
 */
import assert from 'node:assert/strict';
import type { HolderSpec } from '../run/run-spec.ts';
import { lengthMsOf, ShareOfLine } from '../run/schedule.ts';
import type { LoadCounts } from '../stats/load-counts.ts';
import { Chance } from './chance.ts';
import { OpenOrder } from './open-order.ts';
import type { Opener } from './opener.ts';
import { StageLedger } from './stage-ledger.ts';
import type { Tally } from './tally.ts';
import { TimerWheel } from './timer-wheel.ts';

/** Connections closed in one turn because the line goes down. */
const LOWERED_PER_TURN_MAX = 512;
/** The part of all connections that one turn closes at most in their turn: the number open stays that near to what is asked. */
const TURN_SHARE_MAX = 1 / 2_000;
/** What is late by more than this is not caught up with. */
const LATE_MS_MAX = 1_000;
/** How often the line is looked at while it moves; what one millisecond brings is below any clock's worth. */
const LOOK_EVERY_MS = 2;
/** Clocks and ways apart, two ends of a run are no further apart than this. */
const END_TOLERANCE_MS = 1_000;
/** A place that stayed empty is tried again after so long, where each connection has a time of its own. */
const FILL_AGAIN_MS = 1_000;

/** What the follower works on. */
interface Followed {
  readonly capacity: number;
  readonly tally: Tally;
  readonly opener: Opener;
  /** 32 bits that differ between processes */
  readonly salt: number;
  /** closes an open connection as the spec says; its tuple rests as that needs */
  readonly close: (slot: number) => void;
}

/** The load of one engine that changes. No method allocates per connection. */
export class LoadFollower {
  readonly #spec: HolderSpec;
  readonly #parts: Followed;
  readonly #order: OpenOrder;
  /** null: the number does not change */
  readonly #line: ShareOfLine | null;
  readonly #ledger: StageLedger | null;
  /** null: connections have no time of their own */
  readonly #lives: TimerWheel | null;
  /** closes and opens per millisecond; 0: none by rate */
  readonly #perMs: number;
  readonly #perTurnMax: number;
  /** how much later than the run this engine's clock has begun */
  #laterMs = 0;
  #level: number;
  /** what was due by then is done, and nothing after it; Infinity: it goes on */
  #frozenAtMs = Number.POSITIVE_INFINITY;
  #isAtEnd = false;
  readonly #endMs: number;
  #isStopped = false;
  /** the hold has begun: connections have their turns since then; -1: not yet */
  #turnsSinceMs = -1;
  #turnsTaken = 0;
  /** the look before this one */
  #lookedAtMs = 0;
  #fillAtMs = 0;
  readonly #chance: Chance;

  constructor(spec: HolderSpec, parts: Followed) {
    const { churn, stages, shares } = spec;
    this.#spec = spec;
    this.#parts = parts;
    this.#order = new OpenOrder(parts.capacity);
    this.#line =
      stages === undefined ? null : new ShareOfLine(stages, shares ?? [{ from: 0, to: spec.connections }]);
    this.#ledger = this.#line === null ? null : new StageLedger(this.#line, parts.tally);
    this.#lives = churn === undefined || churn.kind === 'rate' ? null : new TimerWheel(parts.capacity);
    this.#perMs = churn?.kind === 'rate' ? churn.perSec / 1_000 : 0;
    this.#perTurnMax = Math.max(1, Math.ceil(parts.capacity * TURN_SHARE_MAX), Math.ceil(this.#perMs * 10));
    this.#endMs = stages === undefined ? 0 : lengthMsOf(stages);
    this.#level = this.#line === null ? spec.connections : 0;
    this.#chance = new Chance(parts.salt);
  }

  /** Whether a schedule says how many are open. */
  get isByLine(): boolean {
    return this.#line !== null;
  }

  /** @param laterMs how much later than the run this engine has begun */
  begin(laterMs: number): void {
    this.#laterMs = Math.max(0, laterMs);
  }

  /** Connections have their turns from now on. */
  holds(nowMs: number): void {
    if (this.#turnsSinceMs >= 0) return;
    this.#turnsSinceMs = nowMs;
    for (let slot = this.#order.oldest; this.#lives !== null && slot >= 0; slot = this.#order.newerThan(slot))
      this.#lives.set(slot, Math.ceil(nowMs + this.#lifeLeftMs()));
  }

  /** The number of this moment stays, and nothing has its turn any more but what was due by rate and is late: what is on its way ends. */
  freeze(nowMs: number): void {
    this.#frozenAtMs = Math.min(this.#frozenAtMs, nowMs);
  }

  get #isFrozen(): boolean {
    return this.#frozenAtMs !== Number.POSITIVE_INFINITY;
  }

  /** Nothing is asked for any more. */
  stop(): void {
    this.#isStopped = true;
  }

  opened(slot: number, nowMs: number): void {
    this.#order.add(slot);
    if (this.#lives !== null && this.#turnsSinceMs >= 0)
      this.#lives.set(slot, Math.ceil(nowMs + this.#lifeMs()));
  }

  left(slot: number): void {
    this.#order.remove(slot);
    this.#lives?.cancel(slot);
  }

  /** A turn begins, and no event of it has been taken. @param nowMs since the engine's start */
  turnBegins(nowMs: number): void {
    this.#ledger?.turnBegins(nowMs + this.#laterMs);
  }

  /** Once in a turn, before connects are begun. @param nowMs since the engine's start */
  turn(nowMs: number, isQuiet: boolean): void {
    if (this.#isStopped) return;
    const atMs = nowMs + this.#laterMs;
    const levelBefore = this.#level;
    const follows = this.#line !== null && (!this.#isFrozen || this.#isNearEnd(atMs));
    const boundaryMs = this.#ledger?.nextBeginsMs ?? Number.POSITIVE_INFINITY;
    // What a stage asks for at its end is its own, however late the turn.
    if (follows && atMs >= boundaryMs) this.#follow(boundaryMs, nowMs);
    this.#ledger?.advanceTo(atMs);
    const isAtLevel = !follows || this.#follow(atMs, nowMs);
    this.#isAtEnd = isAtLevel && atMs >= this.#endMs;
    // What this turn asks for is on its way from now on; frozen before, it never has what the stage asks for.
    this.#ledger?.turn(atMs, isQuiet && follows && isAtLevel && this.#level <= levelBefore);
    if (!this.#isFrozen || this.#turnsLeft(nowMs) > 0) this.#takeTurns(nowMs);
    this.#lookedAtMs = nowMs;
  }

  /** @returns whether as many are asked for as the line says */
  #follow(atMs: number, nowMs: number): boolean {
    const wanted = this.#line?.at(atMs) ?? this.#level;
    if (wanted > this.#level) this.#raise(wanted - this.#level, nowMs);
    else if (wanted < this.#level) this.#lower(this.#level - wanted);
    return wanted === this.#level;
  }

  /** The run ends by its coordinator's clock, a little before or after our own: the line is followed to its end. */
  #isNearEnd(atMs: number): boolean {
    return !this.#isAtEnd && atMs > this.#endMs - END_TOLERANCE_MS;
  }

  /** Whether a freeze has nothing to wait for. */
  hasStopped(nowMs: number): boolean {
    if (!this.#isFrozen || this.#turnsLeft(nowMs) > 0) return false;
    return this.#line === null || !this.#isNearEnd(nowMs + this.#laterMs);
  }

  /** Turns by rate that were due by now, and before a freeze; a holder that waited for its core is late with some. */
  #turnsLeft(nowMs: number): number {
    if (this.#turnsSinceMs < 0 || this.#perMs === 0 || this.#isStopped) return 0;
    const untilMs = Math.min(nowMs, this.#frozenAtMs);
    return Math.max(0, Math.floor((untilMs - this.#turnsSinceMs) * this.#perMs) - this.#turnsTaken);
  }

  #raise(count: number, nowMs: number): void {
    this.#level += count;
    const atMs = nowMs + this.#laterMs;
    const span = this.#line?.spans.find(({ fromMs, toMs }) => fromMs <= atMs && atMs < toMs);
    const sinceMs = Math.max(this.#lookedAtMs, (span?.fromMs ?? 0) - this.#laterMs);
    this.#parts.opener.ask(count, Math.min(sinceMs, nowMs), nowMs);
  }

  /** Empty places go first, then what is not begun, then open connections. */
  #lower(count: number): void {
    const { tally, opener } = this.#parts;
    const empty = Math.min(count, this.#fillable);
    tally.missing -= empty;
    const unbegun = opener.askLess(count - empty);
    let closed = 0;
    for (let left = Math.min(LOWERED_PER_TURN_MAX, count - empty - unbegun); left > 0; left--) {
      const slot = this.#spec.closeOrder === 'oldest' ? this.#order.oldest : this.#order.newest;
      if (slot < 0) break;
      this.#parts.close(slot);
      tally.lowered++;
      closed++;
    }
    this.#level -= empty + unbegun + closed;
    assert(this.#level >= 0, 'no fewer places than none');
  }

  /** Empty places that no lost connection is on its way back to. */
  get #fillable(): number {
    return Math.max(0, this.#parts.tally.missing - this.#parts.opener.comingBack);
  }

  #takeTurns(nowMs: number): void {
    if (this.#turnsSinceMs < 0 || this.#spec.churn === undefined) return;
    // A stage is reached when nothing is on its way.
    if (this.#ledger?.isApproaching === true) {
      this.#skipTurns(nowMs);
      return;
    }
    if (this.#lives === null) this.#turnsByRate(nowMs);
    else this.#turnsByLife(nowMs, this.#lives);
  }

  #skipTurns(nowMs: number): void {
    this.#turnsTaken += this.#turnsLeft(nowMs);
  }

  #turnsByRate(nowMs: number): void {
    const { opener } = this.#parts;
    this.#turnsTaken += Math.max(0, this.#turnsLeft(nowMs) - Math.ceil(LATE_MS_MAX * this.#perMs));
    for (let left = Math.min(this.#perTurnMax, this.#turnsLeft(nowMs)); left > 0; left--) {
      if (!opener.hasRoom) return;
      const dueMs = Math.min(nowMs, this.#turnsSinceMs + (this.#turnsTaken + 1) / this.#perMs);
      if (this.#fillable > 0) this.#fill(1, dueMs, nowMs);
      else if (!this.#turnOver(this.#order.oldest, dueMs, nowMs)) {
        // Nothing is open, and after a freeze nothing comes that could be.
        if (this.#isFrozen) this.#skipTurns(nowMs);
        return;
      }
      this.#turnsTaken++;
    }
  }

  #turnsByLife(nowMs: number, lives: TimerWheel): void {
    const { opener } = this.#parts;
    lives.advanceTo(Math.floor(nowMs));
    for (let left = this.#perTurnMax; left > 0 && opener.hasRoom; left--) {
      const slot = lives.nextExpired();
      if (slot < 0) break;
      this.#turnOver(slot, nowMs, nowMs);
    }
    if (nowMs < this.#fillAtMs || this.#fillable === 0) return;
    this.#fillAtMs = nowMs + FILL_AGAIN_MS;
    this.#fill(this.#fillable, nowMs, nowMs);
  }

  #fill(count: number, dueMs: number, nowMs: number): void {
    this.#parts.tally.missing -= count;
    this.#parts.opener.ask(count, dueMs, nowMs);
  }

  /** Closes one and asks for another in its place. @returns false: there is none */
  #turnOver(slot: number, dueMs: number, nowMs: number): boolean {
    if (slot < 0) return false;
    this.#parts.close(slot);
    this.#parts.tally.churned++;
    this.#parts.opener.ask(1, dueMs, nowMs);
    return true;
  }

  /** When there is something to do again; Infinity: not by itself. */
  nextAtMs(nowMs: number): number {
    if (this.#isStopped || this.hasStopped(nowMs)) return Number.POSITIVE_INFINITY;
    return Math.min(this.#nextOfLineMs(nowMs), this.#nextTurnMs(nowMs));
  }

  #nextOfLineMs(nowMs: number): number {
    if (this.#line === null) return Number.POSITIVE_INFINITY;
    const atMs = nowMs + this.#laterMs;
    for (const { fromMs, toMs, connections, connectionsBefore } of this.#line.spans) {
      if (atMs >= toMs) continue;
      const isMoving = atMs >= fromMs && connections !== connectionsBefore;
      if (isMoving) return nowMs + LOOK_EVERY_MS;
      return (atMs < fromMs ? fromMs : toMs) - this.#laterMs;
    }
    return this.#line.of(this.#line.spans.at(-1)?.connections ?? 0) === this.#level
      ? Number.POSITIVE_INFINITY
      : nowMs + LOOK_EVERY_MS;
  }

  #nextTurnMs(nowMs: number): number {
    if (this.#turnsSinceMs < 0 || this.#spec.churn === undefined) return Number.POSITIVE_INFINITY;
    if (this.#lives !== null) return nowMs + Math.max(1, this.#lives.ticksUntilDue(LOOK_EVERY_MS * 5));
    return Math.max(nowMs + 1, this.#turnsSinceMs + (this.#turnsTaken + 1) / this.#perMs);
  }

  /** How long one that is opened now lives. */
  #lifeMs(): number {
    const { churn } = this.#spec;
    switch (churn?.kind) {
      case 'fixed':
        return churn.ms;
      case 'exp':
        return -churn.ms * Math.log(1 - this.#chance.next());
      case 'uniform':
        return churn.fromMs + (churn.toMs - churn.fromMs) * this.#chance.next();
      default:
        return Number.POSITIVE_INFINITY;
    }
  }

  /**
   * How long one lives on that is open as the hold begins: as if connections had come and gone for ever, so that they do not all go together. Of
   * longer lives more are under way at any moment, and each is seen at an even moment of its own.
   */
  #lifeLeftMs(): number {
    const { churn } = this.#spec;
    if (churn?.kind !== 'uniform')
      return churn?.kind === 'fixed' ? churn.ms * this.#chance.next() : this.#lifeMs();
    const { fromMs, toMs } = churn;
    const lifeMs = Math.sqrt(fromMs ** 2 + this.#chance.next() * (toMs ** 2 - fromMs ** 2));
    return lifeMs * this.#chance.next();
  }

  counts(): LoadCounts {
    const { churned, lowered, openedLater } = this.#parts.tally;
    return { churned, lowered, openedLater, stages: this.#ledger?.stages() ?? [] };
  }
}
