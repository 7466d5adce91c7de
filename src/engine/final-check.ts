/**
 * Owns asking each open connection once more at the end of a phase: by a probe that is sent after the phase was over, or, where nothing is
 * sent, by one segment to which the far kernel answers without a byte of payload. Must never close or count a connection itself: what does not
 * answer is handed to `lost`.
 *
 * That segment is a window probe where this process may have one sent, otherwise a TCP keepalive: the same bytes, but a window probe leaves in the
 * call that asks for it, and a keepalive by a timer: when the socket has been idle for TCP_KEEPIDLE, immediately where it was idle for longer
 * (tcp_sock_set_keepidle_locked() in net/ipv4/tcp.c). Any segment that comes makes `tcpi_last_ack_recv` young again; a kernel that does not have
 * the connection answers RST, which comes as an event of its own.
 */
import { DropReason } from '../base/outcome.ts';
import type { FinalCheck as Counts } from '../stats/evidence.ts';
import { type ConnectionTable, SlotState } from './connection-table.ts';
import { type Driver, HEARD_MAX } from './drivers/driver.ts';

/**
 * What one host may ask within a millisecond. Keepalives leave with the kernel's clock tick, all of a tick in one go, and a queue of loopback
 * takes net.core.netdev_max_backlog packets a core, 1,000 by default; more are dropped (the second column of /proc/net/softnet_stat).
 * 160 a millisecond, with what a late turn makes up for, are 960 in a tick of 4 ms (CONFIG_HZ=250), even if all of them are on one core.
 */
const OF_BACKLOG_PER_MS = 0.16;
const BACKLOG_DEFAULT = 1_000;
/** With a longer queue other things are in the way: the cores, and the path. */
const PER_MS_MAX = 400;
/** So many window probes may leave for one keepalive: each is through a queue of loopback before the next, and no clock tick makes a burst of them. */
const WINDOW_PROBES_PER_KEEPALIVE = PER_MS_MAX / (BACKLOG_DEFAULT * OF_BACKLOG_PER_MS);
/**
 * A far kernel answers one such segment of a connection in this time, and not the next one within it (net.ipv4.tcp_invalid_ratelimit, 500 ms by
 * default; tcp_oow_rate_limited() in net/ipv4/tcp_input.c), with a margin for the way.
 */
const ANSWERS_AFTER_MS = 600;
/** The few that have not answered are asked again slowly: what has lost their packets was a queue. */
const FEW_PER_MS = 20;
/** They are few when they are no more than one in so many. */
const FEW_OF = 20;
/** What a turn that comes late makes up for: not more, for the same reason. */
const CATCH_UP_MS = 2;
/**
 * What came last is known to a clock tick, 10 ms at most. So that no answer is mixed up with what came before, none is asked within two ticks of
 * the begin.
 */
const TICK_MS = 10;
const BEGINS_AFTER_MS = 2 * TICK_MS;
/**
 * Nothing is asked within a second after the last connect: what was reset by itself soon after it was opened and what was reset in answer are
 * two things (missing.ts in the judge). And a socket in which something came within TCP_KEEPIDLE, a second, has its keepalive when that is
 * over, and the kernel rounds such times to 32 ms (the second level of its timer wheel): those of a whole ramp would leave in bursts that its
 * queue does not take. Measured: 5,600 of 130,000 were dropped. What a target says to all of them leads to the same, and cannot be known: those that were dropped are asked again.
 */
const IDLE_MS = 1_000;
/** Parts of the table whose first look follows their question, while others are asked. */
const PARTS = 256;
/** After so long it is looked whether a keepalive was answered; then those that were not are asked again, after the second look already. */
const LOOKS_MS = [50, 400, 2_000] as const;
const LOOKS_BEFORE_NEXT = 2;
/** So often the few are asked again after their first look: where a queue of this host has lost their packets it has room by then. */
const SOON_ROUNDS = 2;
/**
 * How often a silent connection is asked: one lost packet is no lost connection. And where a path that is cut does not look like it: only few
 * are silent, or some of those that were silent have answered.
 */
const ROUNDS = 2;
const ROUNDS_MAX = 8;
/**
 * A reset is a segment, too: the driver hears it before it says that the connection has ended. So the check is not over before the driver
 * has said all that had happened, and so much later, in which another core may still be handing a segment over.
 */
const SURE_AFTER_MS = 5;
/** Where something happens all the time, it is over after so long and so many turns: one turn of a process without a core may be later than that. */
const SURE_WITHIN_MS = 500;
const SURE_WITHIN_TURNS = 1_000;
/** What has become of a slot in this check. */
const Asked = { no: 0, due: 1, yes: 2, answered: 3 } as const;

/**
 * How many connections all holders of one host together may ask within a millisecond.
 * @param backlog net.core.netdev_max_backlog; null: not known
 */
export function asksPerMsOf(backlog: number | null): number {
  return Math.min(PER_MS_MAX, (backlog ?? BACKLOG_DEFAULT) * OF_BACKLOG_PER_MS);
}

/**
 * A far kernel on this host answers a window probe within the call that sends it. So the first are looked at as soon as they are asked, so many
 * together, while their sockets are in the caches, and the others too as long as half of them have answered.
 */
const NEAR_TOGETHER = 64;
/** Nothing is on its way when such a call returns, so that no queue says how many: only so many that the loop turns in between. */
const NEAR_PER_TURN = 1_024;

/** How a connection is asked. */
type Way = 'probe' | 'window-probe' | 'keepalive';

/** What a check does to sockets. */
type CheckedSockets = Pick<Driver, 'setKeepalive' | 'probeWindow' | 'beginHearing' | 'hasHeard' | 'hasMore'>;

/** What a check does to connections. No method but the first may allocate. */
interface CheckedConnections {
  /** whether this process may have window probes sent */
  mayProbeWindow(): boolean;
  /** a probe is to be sent as soon as none is out */
  probeSoon(slot: number): void;
  /** milliseconds since anything came from the far kernel; -1: not known */
  idleMs(slot: number): number;
  /** the far side has not answered: the connection is lost */
  silent(slot: number): void;
}

/** The checks of one engine, one after the other. Moments are milliseconds since the engine's start. */
export class FinalChecker {
  readonly #table: ConnectionTable;
  readonly #sockets: CheckedSockets;
  readonly #connections: CheckedConnections;
  readonly #byProbe: boolean;
  #way: Way | null = null;
  /** the far kernels have answered before they were looked at */
  #isNear = false;
  readonly #asked: Uint8Array;
  #counts: Counting | null = null;
  #onDone: (() => void) | null = null;
  #perMs = 0;
  /** what this holder may ask now, in connections */
  #credit = 0;
  /** what came later is an answer */
  #sinceMs = 0;
  #cursor = 0;
  /** the first look goes from part to part behind the questions */
  #lookCursor = 0;
  readonly #partSlots: number;
  /** by part: when its last was asked */
  readonly #askedAtMs = new Float64Array(PARTS);
  /** by part: when one of it was last heard by the driver */
  readonly #heardAtMs = new Float64Array(PARTS);
  #lastHeardAtMs = Number.NEGATIVE_INFINITY;
  #turnsSinceHeard = 0;
  /** what was heard before was no reset: that would have been said */
  #sureBeforeMs = Number.NEGATIVE_INFINITY;
  #passAtMs = 0;
  #turnedAtMs = 0;
  /** -1: the pass asks; else the index of the look */
  #look = -1;
  #round = 0;
  #left = 0;
  /** the slots of one turn's looks, and what they found */
  readonly #looked = new Int32Array(HEARD_MAX);
  readonly #isHeard = new Uint8Array(HEARD_MAX);
  /** how many were asked in all */
  #asks = 0;
  /** how many had answered when the round began */
  #answeredBefore = 0;
  /** when the last was asked by a segment, in this check or the one before */
  #segmentAtMs = Number.NEGATIVE_INFINITY;

  /** @param byProbe what is sent proves a connection */
  constructor(
    table: ConnectionTable,
    sockets: CheckedSockets,
    connections: CheckedConnections,
    byProbe: boolean,
  ) {
    this.#table = table;
    this.#sockets = sockets;
    this.#connections = connections;
    this.#byProbe = byProbe;
    this.#asked = new Uint8Array(table.capacity);
    this.#partSlots = Math.max(1, Math.ceil(table.capacity / PARTS));
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1;
  }

  get isRunning(): boolean {
    return this.#counts !== null;
  }

  /**
   * Begins a check; one that still runs is over, with what it has found.
   * @param counts what is counted into
   * @param perMs connections that may be asked by a keepalive within a millisecond, above 0: this holder's part of `asksPerMsOf`
   * @param openedAtMs when the youngest connection was opened
   * @param done when each connection has answered or is lost
   */
  begin(counts: Counting, nowMs: number, perMs: number, openedAtMs: number, done: () => void): void {
    if (this.isRunning) this.#end();
    this.#asked.fill(Asked.no);
    this.#heardAtMs.fill(Number.NEGATIVE_INFINITY);
    this.#lastHeardAtMs = Number.NEGATIVE_INFINITY;
    this.#sureBeforeMs = Number.NEGATIVE_INFINITY;
    this.#counts = counts;
    this.#onDone = done;
    this.#round = 0;
    this.#left = 0;
    this.#asks = 0;
    this.#answeredBefore = counts.answered;
    this.#way ??= this.#byProbe ? 'probe' : this.#connections.mayProbeWindow() ? 'window-probe' : 'keepalive';
    this.#perMs =
      this.#way === 'window-probe' ? Math.min(PER_MS_MAX, perMs * WINDOW_PROBES_PER_KEEPALIVE) : perMs;
    this.#sinceMs = nowMs + TICK_MS;
    this.#beginPass(-1, this.#beginsAtMs(nowMs, openedAtMs));
  }

  #beginsAtMs(nowMs: number, openedAtMs: number): number {
    if (this.#way === 'probe') return nowMs;
    // The answers of the check before are something that came, too.
    const afterMs = this.#way === 'window-probe' ? ANSWERS_AFTER_MS : IDLE_MS;
    return Math.max(nowMs, openedAtMs + IDLE_MS, this.#segmentAtMs + afterMs) + BEGINS_AFTER_MS;
  }

  /** When there is something to do again; Infinity: not by itself. */
  nextAtMs(nowMs: number): number {
    if (!this.isRunning) return Number.POSITIVE_INFINITY;
    if (this.#byProbe && this.#cursor >= this.#table.capacity) return Number.POSITIVE_INFINITY;
    const isAskingNear = this.#isNear && this.#cursor < this.#table.capacity;
    return Math.max(nowMs, this.#passAtMs) + (isAskingNear ? 0 : 1);
  }

  /** One turn's worth of asking and looking. */
  turn(nowMs: number): void {
    if (!this.isRunning) return;
    this.#turnsSinceHeard++;
    if (!this.#sockets.hasMore()) this.#sureBeforeMs = nowMs - SURE_AFTER_MS;
    if (nowMs < this.#passAtMs) return;
    if (this.#look < 0) {
      this.#askSome(nowMs);
      if (this.#cursor >= this.#table.capacity && this.#left === 0) {
        this.#endWhenSure(nowMs);
        return;
      }
      if (this.#byProbe) return;
    }
    this.#lookAtSome(nowMs);
    if (this.#lookCursor < this.#table.capacity) return;
    if (this.#left === 0) this.#endWhenSure(nowMs);
    else this.#nextPass(nowMs);
  }

  #askSome(nowMs: number): void {
    const perMs = this.#round > 0 && this.#areFewLeft ? Math.min(FEW_PER_MS, this.#perMs) : this.#perMs;
    this.#credit += Math.min(CATCH_UP_MS, nowMs - this.#turnedAtMs) * perMs;
    this.#turnedAtMs = nowMs;
    let unseen = 0;
    let nearLeft = NEAR_PER_TURN;
    for (; this.#cursor < this.#table.capacity; this.#cursor++) {
      if (this.#isNear ? nearLeft === 0 : this.#credit < 1) break;
      if (this.#ask(this.#cursor)) {
        if (!this.#byProbe) this.#segmentAtMs = nowMs;
        if (this.#isNear) {
          nearLeft--;
          this.#looked[unseen++] = this.#cursor;
        } else this.#credit--;
        if (unseen === NEAR_TOGETHER) unseen = this.#lookAtNear(unseen, nowMs);
      }
      this.#askedAtMs[this.#partOf(this.#cursor)] = nowMs;
    }
    if (unseen > 0) this.#lookAtNear(unseen, nowMs);
    // What is left of a millisecond counts in the next one, and no more: nothing is saved up.
    this.#credit = Math.min(this.#credit, 1);
  }

  #lookAtSome(nowMs: number): void {
    const { capacity } = this.#table;
    let looks = 0;
    for (; this.#lookCursor < capacity && looks < HEARD_MAX; this.#lookCursor++) {
      if (this.#look < 0 && !this.#isDueForLook(this.#lookCursor, nowMs)) break;
      if (this.#asked[this.#lookCursor] === Asked.yes) this.#looked[looks++] = this.#lookCursor;
    }
    if (looks > 0) this.#lookAt(looks, nowMs);
  }

  /** @param count of `#looked`, from the first on. @returns how many have answered */
  #lookAt(count: number, nowMs: number): number {
    const isMarked = this.#sockets.hasHeard(this.#looked, count, this.#isHeard);
    if (!isMarked)
      for (let at = 0; at < count; at++)
        this.#isHeard[at] = this.#cameSince(this.#looked[at]!, nowMs) === true ? 1 : 0;
    let heard = 0;
    for (let at = 0; at < count; at++) {
      if (this.#isHeard[at] !== 1) continue;
      const slot = this.#looked[at]!;
      this.#heard(slot);
      heard++;
      if (isMarked) this.#heardAtMs[this.#partOf(slot)] = nowMs;
    }
    if (isMarked && heard > 0) {
      this.#lastHeardAtMs = nowMs;
      this.#turnsSinceHeard = 0;
    }
    return heard;
  }

  /** @returns 0: none of them is unseen any more */
  #lookAtNear(count: number, nowMs: number): 0 {
    if (this.#lookAt(count, nowMs) * 2 < count) this.#isNear = false;
    return 0;
  }

  /** Whether TCP_INFO says that anything came since the check began; null: it cannot be asked. */
  #cameSince(slot: number, nowMs: number): boolean | null {
    const idleMs = this.#connections.idleMs(slot);
    return idleMs < 0 ? null : nowMs - idleMs > this.#sinceMs;
  }

  #heard(slot: number): void {
    if (this.#way === 'keepalive') this.#sockets.setKeepalive(slot, false);
    this.#settle(slot, Asked.answered);
    if (this.#counts !== null) this.#counts.answered++;
  }

  /** Whether all of the slot's part have been asked, and had time to answer. */
  #isDueForLook(slot: number, nowMs: number): boolean {
    const part = this.#partOf(slot);
    const end = Math.min(this.#table.capacity, (part + 1) * this.#partSlots);
    return this.#cursor >= end && nowMs >= this.#askedAtMs[part]! + LOOKS_MS[0];
  }

  #partOf(slot: number): number {
    return Math.floor(slot / this.#partSlots);
  }

  get #areFewLeft(): boolean {
    return this.#left * FEW_OF <= this.#asks;
  }

  /** In this round, after the first one: what was silent before. */
  get #haveSomeAnswered(): boolean {
    return this.#round > 0 && (this.#counts?.answered ?? 0) > this.#answeredBefore;
  }

  #beginPass(look: number, atMs: number): void {
    this.#look = look;
    this.#isNear = look < 0 && this.#round === 0 && this.#way === 'window-probe';
    this.#lookCursor = 0;
    if (look < 0) this.#cursor = 0;
    this.#credit = 0;
    this.#passAtMs = atMs;
    // The first turn of a pass is worth a millisecond.
    this.#turnedAtMs = atMs - 1;
  }

  #nextPass(nowMs: number): void {
    const isLast = this.#round + 1 >= (this.#areFewLeft || this.#haveSomeAnswered ? ROUNDS_MAX : ROUNDS);
    // The first look was part of the pass that asks.
    const look = Math.max(0, this.#look) + 1;
    const isSoon = this.#areFewLeft && this.#round < SOON_ROUNDS;
    if (look < (isLast ? LOOKS_MS.length : isSoon ? 1 : LOOKS_BEFORE_NEXT)) {
      this.#beginPass(look, nowMs + (LOOKS_MS[look] ?? 0) - (LOOKS_MS[look - 1] ?? 0));
      return;
    }
    if (!isLast) {
      this.#round++;
      this.#answeredBefore = this.#counts?.answered ?? 0;
      this.#beginPass(-1, nowMs);
      return;
    }
    for (let slot = 0; slot < this.#table.capacity; slot++) {
      if (this.#asked[slot] !== Asked.yes) continue;
      // What cannot be looked at (no descriptor is left for it) has not answered to our knowledge, and is not lost for that.
      const came = this.#cameSince(slot, nowMs);
      if (came === true) this.#heard(slot);
      if (came === false) this.#connections.silent(slot);
    }
    this.#end();
  }

  /** @returns whether there was anything to do */
  #ask(slot: number): boolean {
    if (this.#round > 0) {
      if (this.#asked[slot] !== Asked.yes) return false;
      if (this.#way === 'keepalive') this.#sockets.setKeepalive(slot, false);
      this.#sendSegment(slot);
      return true;
    }
    if (this.#table.state[slot] !== SlotState.open || this.#counts === null) return false;
    this.#counts.asked++;
    this.#asks++;
    this.#left++;
    if (this.#byProbe) {
      this.#asked[slot] = Asked.due;
      this.#connections.probeSoon(slot);
      return true;
    }
    this.#asked[slot] = Asked.yes;
    this.#sockets.beginHearing(slot);
    this.#sendSegment(slot);
    return true;
  }

  #sendSegment(slot: number): void {
    if (this.#way === 'window-probe') this.#sockets.probeWindow(slot);
    else this.#sockets.setKeepalive(slot, true);
  }

  #settle(slot: number, asked: number): void {
    this.#asked[slot] = asked;
    this.#left--;
  }

  /** The slot's next probe is sent now: it is the one that counts. */
  probed(slot: number): void {
    if (this.#asked[slot] === Asked.due) this.#asked[slot] = Asked.yes;
  }

  /** Whether the slot has answered the last question of its phase. */
  hasAnswered(slot: number): boolean {
    return this.#asked[slot] === Asked.answered;
  }

  /** The slot's probe was answered. */
  answered(slot: number): void {
    if (this.#counts === null) return;
    if (this.#asked[slot] === Asked.due) this.#connections.probeSoon(slot);
    if (this.#asked[slot] !== Asked.yes) return;
    this.#settle(slot, Asked.answered);
    this.#counts.answered++;
    this.#endWhenAllAre();
  }

  /** The slot's open connection is lost. */
  lost(slot: number, reason: DropReason): void {
    const asked = this.#asked[slot];
    if (asked === Asked.answered && reason === DropReason.rst) this.#wasReset(slot);
    if (this.#counts === null || (asked !== Asked.due && asked !== Asked.yes)) return;
    if (reason === DropReason.rst) this.#counts.reset++;
    if (reason === DropReason.probeTimeout || reason === DropReason.timeout) this.#counts.silent++;
    this.#settle(slot, Asked.no);
    if (this.#byProbe) this.#endWhenAllAre();
  }

  /** What was heard of the slot was its reset. */
  #wasReset(slot: number): void {
    if (this.#counts === null || this.#heardAtMs[this.#partOf(slot)]! <= this.#sureBeforeMs) return;
    this.#asked[slot] = Asked.no;
    this.#counts.answered--;
    this.#counts.reset++;
  }

  #endWhenSure(nowMs: number): void {
    const isLong =
      nowMs - this.#lastHeardAtMs >= SURE_WITHIN_MS && this.#turnsSinceHeard >= SURE_WITHIN_TURNS;
    if (isLong || this.#lastHeardAtMs <= this.#sureBeforeMs) this.#end();
  }

  #endWhenAllAre(): void {
    if (this.#left === 0 && this.#cursor >= this.#table.capacity) this.#end();
  }

  #end(): void {
    const done = this.#onDone;
    this.#counts = null;
    this.#onDone = null;
    done?.();
  }
}

/** Counts that a check adds to. */
type Counting = { -readonly [Field in keyof Counts]: Counts[Field] };
