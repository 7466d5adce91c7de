/**
 * Owns the loop of one holder: when to dial, what an event means for a connection, when to sleep.
 * Must never allocate per connection, read a clock that was not given to it, or speak to another process.
 *
 * One turn: events of the last wait, timers that are due, a batch of connects (or of closes). Between turns Node's own
 * loop runs (setImmediate), so messages and signals are never late by more than a turn. While connects are in flight
 * a turn's wait blocks this thread for at most SHORT_SLEEP_MS; when nothing is, a worker thread waits instead, because
 * that wait may last a second, and costs more to begin.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../core/clock.ts';
import { LatencyRecorder } from '../core/histogram.ts';
import type { Loss } from '../core/loss.ts';
import { DropReason, FailReason } from '../core/outcome.ts';
import { connectsAllowed, intendedAtMs } from '../core/pacer.ts';
import type { HolderSpec } from '../core/run-spec.ts';
import type { Stats } from '../core/stats.ts';
import { TroubleTally } from '../core/trouble.ts';
import { ConnectionTable, SlotFlag, SlotState } from './connection-table.ts';
import { Dial, Dialer } from './dialer.ts';
import { dropReasonOf, failReasonOf } from './errno-reason.ts';
import * as libc from './libc.ts';
import { LossBook, type LossCircumstances } from './loss-book.ts';
import { Poller } from './poller.ts';
import { makeProtocol } from './protocols/make.ts';
import type { Protocol, ProtocolHost } from './protocols/protocol.ts';
import { TlsLayer } from './protocols/tls-layer.ts';
import { WhoamiProtocol } from './protocols/whoami.ts';
import { SeenTally } from './seen-tally.ts';
import { Tally } from './tally.ts';
import { TimerWheel } from './timer-wheel.ts';
import { TupleSupply } from './tuple-supply.ts';

/** Tries to connect in one turn, skips included. */
const DIALS_PER_TURN_MAX = 128;
/** Connections closed in one turn. */
const CLOSES_PER_TURN_MAX = 512;
/** Receives from one connection in one event; a target that floods one connection must not starve the others. */
const RECEIVES_PER_EVENT_MAX = 16;
const RECEIVE_BUFFER_BYTES = 65_536;
/** Descriptors of a process that are no connections, roughly: Node itself has about 20. */
const OWN_DESCRIPTORS_MAX = 64;
const SHORT_SLEEP_MS = 5;
const SLEEP_MS_MAX = 1_000;
/**
 * Connects faster than this had no SYN retransmit, so TCP_INFO need not be read: the first SYN is sent again after
 * TCP_TIMEOUT_INIT, 1 s (include/net/tcp.h, RFC 6298 section 2); the margin covers a coarse kernel timer.
 */
const RETRANSMIT_POSSIBLE_MS = 900;
/** `tcpi_total_retrans` in struct tcp_info (linux/tcp.h). */
const TOTAL_RETRANS_OFFSET = 100;
/** `tcpi_unacked` in struct tcp_info: segments that the far kernel has not acknowledged. */
const UNACKED_OFFSET = 24;
/** A connection that could not be opened again is tried once more after so long. */
const REOPEN_AGAIN_MS = 1_000;
/** First probes are spread over at most this, so that a connection is proven soon. */
const FIRST_PROBE_WITHIN_MS = 1_000;

const WATCHED = libc.EPOLLIN | libc.EPOLLOUT | libc.EPOLLRDHUP | libc.EPOLLET;
const BROKEN = libc.EPOLLERR | libc.EPOLLHUP;
const READABLE = libc.EPOLLIN | libc.EPOLLRDHUP | BROKEN;

export interface EngineEvents {
  /** Nothing is left to open and nothing is in flight. Called once. */
  readonly onSettled: () => void;
  /** One line for a person; each kind of trouble once. */
  readonly onWarning: (message: string) => void;
}

/** The engine's life. */
type Phase = 'idle' | 'running' | 'closing' | 'closed' | 'ended';

/** Opens, holds, proves and closes the connections of one quota. */
export class Engine implements ProtocolHost {
  readonly #spec: HolderSpec;
  readonly #clock: Clock;
  readonly #events: EngineEvents;
  readonly #table: ConnectionTable;
  readonly #wheel: TimerWheel;
  readonly #poller = new Poller();
  readonly #supply: TupleSupply;
  readonly #dialer: Dialer;
  readonly #protocol: Protocol;
  readonly #tally: Tally;
  readonly #losses: LossBook;
  readonly #how: LossCircumstances = { ageMs: 0, isProbing: false, isAcked: false };
  readonly #loopLagUs = new LatencyRecorder();
  readonly #scheduleLagUs = new LatencyRecorder();
  /** only where the target says whom it sees */
  #seen: SeenTally | null = null;
  readonly #troubles = new TroubleTally();
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER_BYTES);
  readonly #info = new Uint8Array(256);
  readonly #infoView = new DataView(this.#info.buffer);
  readonly #probeEveryMs: number;
  readonly #warned = new Set<string>();

  #phase: Phase = 'idle';
  #originMs = 0;
  /** the moment of the turn, ms since the start; events of one batch share it */
  #nowMs = 0;
  /** connections of the quota that were not begun */
  #remaining: number;
  /** connects that the pacer has let through */
  #paced = 0;
  /** of these, connections that stand in for lost ones; they come after all others */
  #reopenDue = 0;
  /** those that wait until `#reopenAtMs` */
  #reopenLater = 0;
  #reopenAtMs = 0;
  #isGivingUp = false;
  #openUntilMs = Number.POSITIVE_INFINITY;
  #settled = false;
  #closeCursor = 0;
  #onClosed: (() => void) | null = null;

  #sleepMs = 0;
  #isWaitingAsync = false;
  #turnBeganAtMs = 0;
  #turnEndedAtMs = 0;
  #loopLagMsMax = 0;

  /**
   * @param spec what to open; `sliceTo` at most the size of its tuple space
   * @param salt 32 bits that differ between processes
   * @throws AssertionError when the process has no descriptor left for epoll itself
   */
  constructor(spec: HolderSpec, clock: Clock, salt: number, events: EngineEvents) {
    this.#spec = spec;
    this.#clock = clock;
    this.#events = events;
    this.#remaining = spec.connections;
    this.#table = new ConnectionTable(Math.max(1, spec.connections));
    this.#wheel = new TimerWheel(this.#table.capacity);
    this.#supply = new TupleSupply({ from: spec.sliceFrom, to: spec.sliceTo });
    this.#dialer = new Dialer(spec, this.#supply);
    assert(spec.sliceTo <= this.#dialer.map.size, 'the slice lies inside the tuple space');
    this.#tally = new Tally(spec);
    this.#losses = new LossBook(spec, this.#dialer.map);
    this.#protocol = spec.protocol === 'whoami' ? this.#whoamiProtocol() : this.#protocolOf(salt);
    this.#probeEveryMs = this.#protocol.canProbe ? (spec.probeEveryMs ?? 0) : 0;
    libc.reserveDescriptors(spec.connections + OWN_DESCRIPTORS_MAX);
  }

  #protocolOf(salt: number): Protocol {
    const { map } = this.#dialer;
    const { tuple } = this.#table;
    return makeProtocol(this, this.#spec, (slot) => map.endpointIndexAt(tuple[slot]!), salt);
  }

  #whoamiProtocol(): Protocol {
    const { map } = this.#dialer;
    const { tuple } = this.#table;
    this.#seen = new SeenTally(this.#spec);
    return new WhoamiProtocol(this, this.#seen, {
      sourceIndex: (slot) => map.addressIndexAt(tuple[slot]!),
      port: (slot) => map.portAt(tuple[slot]!),
      endpointIndex: (slot) => map.endpointIndexAt(tuple[slot]!),
    });
  }

  /** Begins to connect. Once. */
  start(): void {
    assert(this.#phase === 'idle', 'start() is called once');
    this.#phase = 'running';
    this.#originMs = this.#clock.monotonicMs();
    setImmediate(this.#poll);
  }

  /** The hold phase begins: `openMin` and `verifiedMin` are counted from now. */
  markHold(): void {
    this.#tally.markHold();
  }

  /**
   * Opens nothing from a moment on, until a later one is given; connects in flight go on, and what is open stays open.
   * The time between is lost to the pacer: it catches up no faster than the pending cap allows.
   * @param atMs on the engine's clock
   */
  openUntil(atMs: number): void {
    const wasOver = this.#isLeaseOver();
    this.#openUntilMs = atMs;
    if (wasOver) this.#interrupt();
  }

  /** Asks the clock itself: a process that was stopped wakes up with an old idea of now. */
  #isLeaseOver(): boolean {
    return this.#openUntilMs !== Number.POSITIVE_INFINITY && this.#clock.monotonicMs() >= this.#openUntilMs;
  }

  /**
   * Drops every connection whose source address is no longer on this host. The kernel would not notice: both ends stay
   * ESTABLISHED and can say nothing to each other.
   */
  loseSources(addresses: readonly string[]): void {
    const lost = new Set(addresses);
    const { map } = this.#dialer;
    for (let slot = 0; slot < this.#table.capacity; slot++) {
      if (this.#table.state[slot] === SlotState.free) continue;
      const source = map.addressIndexAt(this.#table.tuple[slot]!);
      if (lost.has(this.#spec.addresses[source]!))
        this.lost(slot, FailReason.sourceLost, DropReason.aliasLost);
    }
    this.#interrupt();
  }

  /** Gives up what is not open yet: the rest of the quota and the connects in flight count as unattempted. */
  stopOpening(): void {
    this.#isGivingUp = true;
    this.#interrupt();
  }

  /** Closes every connection as the spec says, in batches, and opens none any more. `done` is called at the end. */
  closeAll(done: () => void): void {
    assert(this.#onClosed === null, 'closeAll() is called once');
    this.#isGivingUp = true;
    this.#onClosed = done;
    const wasIdle = this.#phase === 'idle';
    this.#phase = 'closing';
    if (wasIdle) setImmediate(this.#poll);
    else this.#interrupt();
  }

  /** Stops the loop for good and lets go of epoll; open descriptors are left to the kernel. */
  end(): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#poller.close();
    this.#protocol.end?.();
  }

  /** A snapshot of the books. */
  stats(): Stats {
    const stats = this.#tally.stats(this.#losses);
    return {
      ...stats,
      ...(this.#seen === null ? {} : { seen: this.#seen.counts() }),
      ...(this.#troubles.isEmpty ? {} : { troubles: this.#troubles.counts() }),
      ...(this.#protocol instanceof TlsLayer ? { tls: this.#protocol.counts() } : {}),
    };
  }

  /** Details of losses that nobody has taken yet, the oldest first. */
  takeLosses(max: number): Loss[] {
    return this.#losses.take(max);
  }

  /** 99 % of the turns in which something happened were no later than this, milliseconds. */
  get loopLagMsP99(): number {
    return this.#loopLagUs.percentileUs(99) / 1_000;
  }

  /** 99 % of the connects were called no later than this after their intended time, milliseconds. */
  get scheduleLagMsP99(): number {
    return this.#scheduleLagUs.percentileUs(99) / 1_000;
  }

  /** Whether nothing is left to open and nothing is in flight. */
  get settled(): boolean {
    return this.#settled;
  }

  /**
   * The longest that one turn took, from its begin to the begin of the next, less what it asked to sleep: the most by
   * which an event or a timer can have been late through our own fault. Milliseconds.
   */
  get loopLagMsMax(): number {
    return this.#loopLagMsMax;
  }

  /** Tuples that were tried at least once. */
  get tuplesUsed(): number {
    return this.#supply.used;
  }

  get tuplesMax(): number {
    return this.#supply.size;
  }

  /** Descriptors of connections, open and in flight. */
  get descriptorsUsed(): number {
    return this.#table.used;
  }

  /** User memory of one connection over all tables, in bytes. */
  get bytesPerSlot(): number {
    return this.#table.bytesPerSlot + this.#wheel.bytesPerSlot;
  }

  // ---- the loop ----

  #readClock(): number {
    return this.#clock.monotonicMs() - this.#originMs;
  }

  readonly #poll = (): void => {
    if (this.#phase === 'ended') return;
    this.#turn(this.#poller.wait(this.#sleepMs));
  };

  readonly #waited = (count: number): void => {
    this.#isWaitingAsync = false;
    if (this.#phase !== 'ended') this.#turn(count);
  };

  #interrupt(): void {
    if (this.#isWaitingAsync) this.#poller.wake();
    else this.#sleepMs = 0;
  }

  #turn(count: number): void {
    const nowMs = this.#readClock();
    this.#noteLag(nowMs, count > 0);
    this.#nowMs = nowMs;
    for (let index = 0; index < count; index++) {
      this.#onEvent(this.#poller.slotAt(index), this.#poller.eventsAt(index));
    }
    this.#fireTimers();
    if (this.#isGivingUp) this.#giveUp();
    if (this.#reopenLater > 0 && nowMs >= this.#reopenAtMs) this.#reopenAgain();
    this.#dialBatch();
    this.#checkSettled();
    if (this.#phase === 'closing') this.#closeBatch();
    this.#sleepNext(count > 0);
  }

  /** A turn and what its wait lasted beyond the sleep that it asked for. */
  #noteLag(nowMs: number, isBusy: boolean): void {
    if (this.#turnEndedAtMs > 0) {
      const overslept = Math.max(0, nowMs - this.#turnEndedAtMs - this.#sleepMs);
      const lagMs = this.#turnEndedAtMs - this.#turnBeganAtMs + overslept;
      if (lagMs > this.#loopLagMsMax) this.#loopLagMsMax = lagMs;
      if (isBusy) this.#loopLagUs.record(lagMs * 1_000);
    }
    this.#turnBeganAtMs = nowMs;
  }

  #checkSettled(): void {
    if (this.#settled || this.#remaining > 0 || this.#tally.pending > 0) return;
    this.#settled = true;
    this.#events.onSettled();
  }

  /** Chooses how to wait for the next turn: not at all, a little in this thread, or long in a worker thread. */
  #sleepNext(wasBusy: boolean): void {
    if (this.#phase === 'ended' || this.#phase === 'closed') return;
    this.#turnEndedAtMs = this.#readClock();
    this.#sleepMs = wasBusy || this.#phase === 'closing' ? 0 : this.#idleMs();
    const isOpening = this.#remaining > 0 || this.#tally.pending > 0;
    if (isOpening && this.#sleepMs > SHORT_SLEEP_MS) this.#sleepMs = SHORT_SLEEP_MS;
    // Node's own sockets wait while this thread does, so with them it must not.
    if (this.#sleepMs <= (this.#protocol.runsInNode === true ? 0 : SHORT_SLEEP_MS)) {
      setImmediate(this.#poll);
      return;
    }
    this.#isWaitingAsync = true;
    this.#poller.waitAsync(this.#sleepMs, this.#waited);
  }

  /** Whole milliseconds until something of our own is due: a timer or the next connect. */
  #idleMs(): number {
    const nowMs = this.#turnEndedAtMs;
    let untilMs = Math.floor(this.#nowMs) + this.#wheel.ticksUntilDue(SLEEP_MS_MAX) - nowMs;
    if (this.#reopenLater > 0) untilMs = Math.min(untilMs, this.#reopenAtMs - nowMs);
    if (this.#remaining > 0 && !this.#isLeaseOver() && this.#tally.pending < this.#spec.pendingMax) {
      const rate = this.#spec.ratePerSec;
      const nextAtMs = rate === null || rate === 0 ? 0 : (this.#paced * 1_000) / rate;
      if (rate !== 0) untilMs = Math.min(untilMs, nextAtMs - nowMs);
    }
    return Math.max(0, Math.ceil(untilMs));
  }

  // ---- opening ----

  #dialBatch(): void {
    if (this.#remaining === 0 || this.#isLeaseOver()) return;
    const { ratePerSec, pendingMax } = this.#spec;
    const allowed = connectsAllowed(this.#nowMs, ratePerSec);
    for (let tries = 0; tries < DIALS_PER_TURN_MAX; tries++) {
      if (this.#remaining === 0 || this.#tally.pending >= pendingMax || this.#paced >= allowed) return;
      this.#dialOne();
    }
  }

  #dialOne(): void {
    const calledAtMs = this.#readClock();
    const fd = this.#dialer.dial();
    if (fd < 0) {
      this.#notDialed(fd);
      return;
    }
    const tally = this.#tally;
    if (tally.firstConnectAtMs < 0) tally.firstConnectAtMs = calledAtMs;
    const slot = this.#table.take(fd, this.#dialer.tuple);
    assert(slot >= 0, 'the table has room for the whole quota');
    const intendedMs = intendedAtMs(this.#paced, this.#spec.ratePerSec, calledAtMs);
    this.#table.intendedAtMs[slot] = intendedMs;
    this.#table.calledLateMs[slot] = calledAtMs - intendedMs;
    this.#scheduleLagUs.record((calledAtMs - intendedMs) * 1_000);
    if (this.#reopenDue === this.#remaining) {
      this.#reopenDue--;
      this.#table.flags[slot]! |= SlotFlag.reopening;
    }
    this.#remaining--;
    this.#paced++;
    tally.attempted++;
    tally.pending++;
    this.#wheel.set(slot, Math.ceil(calledAtMs + this.#spec.connectTimeoutMs));
    const added = this.#poller.add(fd, WATCHED, this.#table.tokenOf(slot));
    if (added < 0) this.lost(slot, failReasonOf(-added), DropReason.other);
  }

  /** @param why a value of `Dial` */
  #notDialed(why: number): void {
    if (why === Dial.skipped) {
      // A tuple that is tried again was counted when it was skipped first.
      if (!this.#supply.isRetry) this.#tally.skipped(this.#dialer.skipReason);
      return;
    }
    if (why === Dial.exhausted) {
      this.#warnOnce('the slice of source ports is used up: the rest of the quota cannot be opened');
      this.#failUnopened(FailReason.sourceExhausted, this.#remaining);
      return;
    }
    const { failReason } = this.#dialer;
    if (why === Dial.outOfDescriptors) {
      this.#warnOnce(
        `no descriptors left after ${this.#table.used} connections: raise the limit (ulimit -n) or use more holders`,
      );
      this.#failUnopened(failReason, this.#remaining);
      return;
    }
    if (failReason === FailReason.sourceLost) {
      const address = this.#spec.addresses[this.#dialer.map.addressIndexAt(this.#dialer.tuple)];
      this.#warnOnce(`the source address ${address} is not on this host (any more)`);
    }
    this.#failUnopened(failReason, 1);
  }

  /** Counts connections of the quota that never got as far as a connect of their own. */
  #failUnopened(reason: FailReason, count: number): void {
    this.#remaining -= count;
    this.#paced += count;
    if (this.#reopenDue > this.#remaining) {
      this.#reopenDue = this.#remaining;
      this.#notReopened(count);
      return;
    }
    this.#tally.attempted += count;
    this.#tally.failed(reason, count);
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#events.onWarning(message);
  }

  #giveUp(): void {
    this.#isGivingUp = false;
    this.#tally.unattempted += this.#remaining - this.#reopenDue;
    this.#remaining = 0;
    this.#reopenDue = 0;
    this.#reopenLater = 0;
    for (let slot = 0; this.#tally.pending > 0 && slot < this.#table.capacity; slot++) {
      const state = this.#table.state[slot];
      if (state !== SlotState.connecting && state !== SlotState.handshaking) continue;
      this.#tally.pending--;
      this.#tally.attempted--;
      if ((this.#table.flags[slot]! & SlotFlag.reopening) === 0) this.#tally.unattempted++;
      this.#readRetransmits(slot);
      this.#release(slot);
    }
  }

  // ---- opening again (`--on-drop reopen`) ----

  /** A loss is made good at the run's rate; what the pacer has saved up since the ramp is not spent on it. */
  #reopen(): void {
    if (this.#remaining === 0) {
      const allowed = connectsAllowed(this.#nowMs, this.#spec.ratePerSec);
      if (Number.isFinite(allowed)) this.#paced = Math.max(this.#paced, allowed - 1);
    }
    this.#remaining++;
    this.#reopenDue++;
  }

  #notReopened(count: number): void {
    this.#tally.reopenFailed += count;
    if (this.#reopenLater === 0) this.#reopenAtMs = this.#nowMs + REOPEN_AGAIN_MS;
    this.#reopenLater += count;
  }

  #reopenAgain(): void {
    for (; this.#reopenLater > 0; this.#reopenLater--) this.#reopen();
  }

  // ---- what happens to a connection ----

  #onEvent(token: number, events: number): void {
    const slot = this.#table.slotOf(token);
    if (slot < 0) return;
    if (this.#table.state[slot] === SlotState.connecting) {
      // Without EPOLLERR or EPOLLHUP there is no error to ask for: one system call less per connect (tcp_poll()).
      const errno = (events & BROKEN) === 0 ? 0 : libc.socketError(this.#table.fd[slot]!);
      if (errno !== 0) {
        this.#readRetransmits(slot);
        this.lost(slot, failReasonOf(Math.abs(errno)), DropReason.other);
        return;
      }
      if ((events & libc.EPOLLOUT) === 0) return;
      this.#connected(slot);
    } else if ((events & libc.EPOLLOUT) !== 0) {
      this.#protocol.onWritable(slot);
    }
    const isOurs = this.#table.slotOf(token) === slot && !this.#isHandedOver(slot);
    if ((events & READABLE) !== 0 && isOurs) this.#receive(slot, token, events);
  }

  #connected(slot: number): void {
    const fromIntendedMs = this.#nowMs - this.#table.intendedAtMs[slot]!;
    this.#tally.connectFromIntendedUs.record(fromIntendedMs * 1_000);
    this.#tally.connectUs.record((fromIntendedMs - this.#table.calledLateMs[slot]!) * 1_000);
    this.#readRetransmits(slot);
    if (this.#protocol.hasHandshake) this.#table.state[slot] = SlotState.handshaking;
    else this.opened(slot);
    this.#protocol.onConnected(slot);
  }

  /** Adds the SYN retransmits of a connect that is about to be decided, where it took long enough to have any. */
  #readRetransmits(slot: number): void {
    if (this.#table.state[slot] !== SlotState.connecting) return;
    const calledAtMs = this.#table.intendedAtMs[slot]! + this.#table.calledLateMs[slot]!;
    if (this.#nowMs - calledAtMs < RETRANSMIT_POSSIBLE_MS) return;
    if (libc.tcpInfo(this.#table.fd[slot]!, this.#info) < TOTAL_RETRANS_OFFSET + 4) return;
    const retransmits = this.#infoView.getUint32(TOTAL_RETRANS_OFFSET, true);
    if (retransmits === 0) return;
    this.#tally.synRetransmits += retransmits;
    this.#tally.retransmittedConnects++;
  }

  /**
   * Reads what there is. Edge-triggered: a read that leaves room in the buffer has emptied the socket (epoll(7)),
   * unless the end of the stream or an error was announced, which only a further read tells.
   */
  #receive(slot: number, token: number, events: number): void {
    const fd = this.#table.fd[slot]!;
    const isEnding = (events & (libc.EPOLLRDHUP | BROKEN)) !== 0;
    for (let round = 0; round < RECEIVES_PER_EVENT_MAX; round++) {
      const got = libc.recv(fd, this.#buffer, RECEIVE_BUFFER_BYTES);
      if (got === 0) {
        this.lost(slot, FailReason.handshake, DropReason.fin);
        return;
      }
      if (got < 0) {
        if (got !== -libc.Errno.EAGAIN) this.lost(slot, failReasonOf(-got), dropReasonOf(-got));
        return;
      }
      this.#tally.bytesIn += got;
      this.#protocol.onBytes(slot, this.#buffer, got);
      if (this.#table.slotOf(token) !== slot) return;
      if (got < RECEIVE_BUFFER_BYTES && !isEnding) return;
    }
    // Setting the watch again makes the kernel report what is left, after the others had their turn.
    this.#poller.modify(fd, WATCHED, token);
  }

  #fireTimers(): void {
    this.#wheel.advanceTo(Math.floor(this.#nowMs));
    for (let slot = this.#wheel.nextExpired(); slot >= 0; slot = this.#wheel.nextExpired()) {
      switch (this.#table.state[slot]) {
        case SlotState.connecting:
          this.#readRetransmits(slot);
          this.lost(slot, FailReason.timeout, DropReason.other);
          break;
        case SlotState.handshaking:
          this.lost(slot, FailReason.handshake, DropReason.other);
          break;
        case SlotState.open:
          this.#probeTimer(slot);
          break;
      }
    }
  }

  // ---- probes ----

  #probeTimer(slot: number): void {
    if ((this.#table.flags[slot]! & SlotFlag.probing) !== 0) {
      this.#how.isAcked = this.#isAcknowledged(slot);
      this.lost(slot, FailReason.other, DropReason.probeTimeout);
      return;
    }
    const sequence = (this.#table.probeSequence[slot]! + 1) >>> 0;
    this.#table.probeSequence[slot] = sequence;
    this.#table.flags[slot]! |= SlotFlag.probing;
    this.#tally.probesSent++;
    // The timeout runs from the real sending: our own lateness must not use up the target's time.
    this.#wheel.set(slot, Math.ceil(this.#nowMs + this.#spec.probeTimeoutMs));
    this.#protocol.onProbeDue(slot, sequence);
  }

  /** Whether the far kernel has all that we sent: then it is there, and its application is silent. */
  #isAcknowledged(slot: number): boolean {
    if (libc.tcpInfo(this.#table.fd[slot]!, this.#info) < UNACKED_OFFSET + 4) return false;
    return this.#infoView.getUint32(UNACKED_OFFSET, true) === 0;
  }

  /**
   * The first probe comes within FIRST_PROBE_WITHIN_MS, then one each period at the slot's own phase, so that all
   * slots together probe evenly: slots are as evenly spread over the period as they are over the table.
   */
  #scheduleFirstProbe(slot: number): void {
    const spreadMs = Math.min(this.#probeEveryMs, FIRST_PROBE_WITHIN_MS);
    // Multiples of the golden ratio spread any run of neighbouring slots evenly (equidistribution).
    const share = (slot * 0.618_033_988_749_894_9) % 1;
    this.#scheduleProbe(slot, this.#nowMs + share * spreadMs);
  }

  #scheduleNextProbe(slot: number): void {
    const everyMs = this.#probeEveryMs;
    const phaseMs = (slot / this.#table.capacity) * everyMs;
    const lastMs = this.#table.intendedAtMs[slot]!;
    let dueMs = Math.floor((lastMs - phaseMs) / everyMs + 1) * everyMs + phaseMs;
    // An answer that took longer than a period has skipped probes; they are not sent in a burst afterwards.
    if (dueMs < this.#nowMs - everyMs) {
      dueMs += Math.ceil((this.#nowMs - everyMs - dueMs) / everyMs) * everyMs;
    }
    this.#scheduleProbe(slot, dueMs);
  }

  #scheduleProbe(slot: number, dueMs: number): void {
    const tick = Math.ceil(dueMs);
    this.#table.intendedAtMs[slot] = tick;
    this.#wheel.set(slot, tick);
  }

  // ---- what a protocol may ask for ----

  get capacity(): number {
    return this.#table.capacity;
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const sent = libc.send(this.#table.fd[slot]!, buffer, length);
    if (sent === -libc.Errno.EAGAIN) return 0;
    if (sent > 0) this.#tally.bytesOut += sent;
    return sent;
  }

  opened(slot: number): void {
    this.#table.state[slot] = SlotState.open;
    this.#table.openedAtMs[slot] = this.#nowMs;
    const { map } = this.#dialer;
    const tuple = this.#table.tuple[slot]!;
    const isReopened = (this.#table.flags[slot]! & SlotFlag.reopening) !== 0;
    this.#tally.opened(map.addressIndexAt(tuple), map.endpointIndexAt(tuple), this.#nowMs, isReopened);
    if (this.#probeEveryMs > 0) this.#scheduleFirstProbe(slot);
    else this.#wheel.cancel(slot);
  }

  verified(slot: number): void {
    this.#table.provedAtMs[slot] = this.#nowMs;
    if ((this.#table.flags[slot]! & SlotFlag.verified) !== 0) return;
    this.#table.flags[slot]! |= SlotFlag.verified;
    this.#tally.proved();
  }

  answered(slot: number): void {
    this.#table.flags[slot]! &= ~SlotFlag.probing;
    this.#tally.probesAnswered++;
    this.#tally.probeUs.record((this.#nowMs - this.#table.intendedAtMs[slot]!) * 1_000);
    this.verified(slot);
    this.#scheduleNextProbe(slot);
  }

  lost(slot: number, fail: FailReason, drop: DropReason, detail?: string): void {
    if (detail !== undefined) this.#troubles.add(detail);
    const tuple = this.#table.tuple[slot]!;
    if (this.#table.state[slot] === SlotState.open) {
      const { map } = this.#dialer;
      this.#tally.dropped(
        drop,
        map.addressIndexAt(tuple),
        map.endpointIndexAt(tuple),
        this.#isVerified(slot),
      );
      this.#noteLoss(slot, tuple, drop);
    } else {
      this.#tally.pending--;
      this.#supply.freed(tuple);
      if ((this.#table.flags[slot]! & SlotFlag.reopening) === 0) this.#tally.failed(fail, 1);
      else {
        this.#tally.attempted--;
        this.#notReopened(1);
      }
    }
    this.#release(slot);
  }

  handOver(slot: number): number {
    const fd = this.#table.fd[slot]!;
    this.#table.flags[slot]! |= SlotFlag.handedOver;
    this.#poller.remove(fd);
    return fd;
  }

  awake(): number {
    this.#nowMs = this.#readClock();
    if (this.#isWaitingAsync) this.#poller.wake();
    return this.#nowMs;
  }

  transferred(bytesIn: number, bytesOut: number): void {
    this.#tally.bytesIn += bytesIn;
    this.#tally.bytesOut += bytesOut;
  }

  #isHandedOver(slot: number): boolean {
    return (this.#table.flags[slot]! & SlotFlag.handedOver) !== 0;
  }

  #noteLoss(slot: number, tuple: number, drop: DropReason): void {
    this.#how.ageMs = Math.max(0, this.#nowMs - this.#table.openedAtMs[slot]!);
    this.#how.isProbing = (this.#table.flags[slot]! & SlotFlag.probing) !== 0;
    this.#losses.add(drop, tuple, this.#nowMs, this.#how);
    this.#how.isAcked = false;
    if (this.#spec.onDrop !== 'reopen' || !this.#tally.isHolding || this.#phase !== 'running') return;
    this.#supply.freed(tuple);
    this.#reopen();
  }

  #isVerified(slot: number): boolean {
    return (this.#table.flags[slot]! & SlotFlag.verified) !== 0;
  }

  /** Closes the descriptor and frees the slot; the books are the caller's. */
  #release(slot: number): void {
    this.#protocol.onForgotten(slot);
    this.#wheel.cancel(slot);
    // The kernel takes a closed descriptor out of epoll by itself: nothing else refers to the file (epoll(7)).
    if (!this.#isHandedOver(slot)) libc.close(this.#table.fd[slot]!);
    this.#table.free(slot);
  }

  // ---- closing ----

  #closeBatch(): void {
    const end = Math.min(this.#table.capacity, this.#closeCursor + CLOSES_PER_TURN_MAX);
    for (; this.#closeCursor < end; this.#closeCursor++) {
      const slot = this.#closeCursor;
      if (this.#table.state[slot] === SlotState.open) this.#closeOpen(slot);
    }
    if (this.#closeCursor < this.#table.capacity) return;
    assert(this.#table.used === 0, 'every connection was closed');
    this.#phase = 'closed';
    this.#onClosed?.();
  }

  #closeOpen(slot: number): void {
    const { map } = this.#dialer;
    const tuple = this.#table.tuple[slot]!;
    this.#tally.closedByUs(map.addressIndexAt(tuple), map.endpointIndexAt(tuple), this.#isVerified(slot));
    this.#protocol.onClosing(slot);
    if (this.#spec.close === 'rst') libc.setResetOnClose(this.#table.fd[slot]!);
    this.#release(slot);
  }
}
