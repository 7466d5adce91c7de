/**
 * Owns what happens to the connections of one holder: what an event or a timer means for one, and when all are closed.
 * Must never allocate per connection, read a clock that was not given to it, or speak to another process.
 *
 * One turn: events of the last wait, timers that are due, a batch of connects (opener.ts) or of closes; then a wait
 * (turn-loop.ts). While connects are in flight a turn's wait blocks this thread for at most SHORT_SLEEP_MS; when nothing
 * is, a worker thread waits instead, because that wait may last a second.
 */

import assert from 'node:assert/strict';
import type { Clock } from '../base/clock.ts';
import { DropReason, FailReason } from '../base/outcome.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import type { Loss } from '../stats/loss.ts';
import { ProtocolErrorTally } from '../stats/protocol-errors.ts';
import type { Stats } from '../stats/stats.ts';
import { ConnectionTable, SlotFlag, SlotState } from './connection-table.ts';
import * as libc from './libc.ts';
import { dropReasonOf, failReasonOf } from './libc.ts';
import { type LossCircumstances, LossLedger } from './loss-ledger.ts';
import { Opener } from './opener.ts';
import { EVENTS_MAX, Poller, WATCHED } from './poller.ts';
import { makeProtocol } from './protocols/make.ts';
import type { Protocol, ProtocolHost } from './protocols/protocol.ts';
import { TlsLayer } from './protocols/tls-layer.ts';
import { WhoamiProtocol } from './protocols/whoami.ts';
import { Tally } from './tally.ts';
import { SynRetransmits, TcpInfo } from './tcp-info.ts';
import { ProbeSchedule, TimerWheel } from './timer-wheel.ts';
import { LoopLag, TurnLoop } from './turn-loop.ts';

/** Connections closed in one turn. */
const CLOSES_PER_TURN_MAX = 512;
/** Receives from one connection in one event; a target that floods one connection must not starve the others. */
const RECEIVES_PER_EVENT_MAX = 16;
const RECEIVE_BUFFER_BYTES = 65_536;
/** Descriptors of a process that are no connections, roughly: Node itself has about 20. */
const OWN_DESCRIPTORS_MAX = 64;
const SHORT_SLEEP_MS = 5;
/** A turn that is so late has more to read than the wait before it brought. */
const LATE_MS = 100;
const SLEEP_MS_MAX = 1_000;

const BROKEN = libc.EPOLLERR | libc.EPOLLHUP;
const READABLE = libc.EPOLLIN | libc.EPOLLRDHUP | BROKEN;

interface EngineEvents {
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
  readonly #loop = new TurnLoop(this.#poller, (count) => this.#turn(count));
  readonly #lag = new LoopLag();
  readonly #opener: Opener;
  readonly #probes: ProbeSchedule;
  readonly #protocol: Protocol;
  readonly #tally: Tally;
  readonly #losses: LossLedger;
  readonly #how: LossCircumstances = { ageMs: 0, isProbing: false, isAcked: false };
  readonly #protocolErrors = new ProtocolErrorTally();
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER_BYTES);
  readonly #info = new TcpInfo();
  readonly #retransmits: SynRetransmits;

  #phase: Phase = 'idle';
  #originMs = 0;
  /** the moment of the turn, ms since the start; events of one batch share it */
  #nowMs = 0;
  #isGivingUp = false;
  #hasOpened = false;
  #settled = false;
  #closeCursor = 0;
  #onClosed: (() => void) | null = null;

  /**
   * @param spec what to open; `sliceTo` at most the size of its tuple space
   * @param salt 32 bits that differ between processes
   * @throws AssertionError when the process has no descriptor left for epoll itself
   */
  constructor(spec: HolderSpec, clock: Clock, salt: number, events: EngineEvents) {
    this.#spec = spec;
    this.#clock = clock;
    this.#events = events;
    this.#table = new ConnectionTable(Math.max(1, spec.connections));
    this.#wheel = new TimerWheel(this.#table.capacity);
    this.#tally = new Tally(spec);
    this.#retransmits = new SynRetransmits(this.#table, this.#tally, this.#info);
    this.#opener = new Opener(spec, {
      clock,
      table: this.#table,
      wheel: this.#wheel,
      poller: this.#poller,
      tally: this.#tally,
      engine: this,
      onWarning: events.onWarning,
    });
    this.#losses = new LossLedger(spec, this.#opener.map);
    this.#protocol = this.#protocolOf(salt);
    const probeEveryMs = this.#protocol.canProbe ? (spec.probeEveryMs ?? 0) : 0;
    this.#probes = new ProbeSchedule(probeEveryMs, this.#table, this.#wheel);
    libc.reserveDescriptors(spec.connections + OWN_DESCRIPTORS_MAX);
  }

  #protocolOf(salt: number): Protocol {
    const { map } = this.#opener;
    const { tuple } = this.#table;
    const bound = {
      sourceIndex: (slot: number) => map.addressIndexAt(tuple[slot]!),
      port: (slot: number) => map.portAt(tuple[slot]!),
      endpointIndex: (slot: number) => map.endpointIndexAt(tuple[slot]!),
    };
    return makeProtocol(this, this.#spec, bound, salt);
  }

  /**
   * Begins to connect. Once.
   * @param runStartedMs when the run began on this host, on the same clock; absent: now
   */
  start(runStartedMs?: number): void {
    assert(this.#phase === 'idle', 'start() is called once');
    this.#phase = 'running';
    this.#originMs = this.#clock.monotonicMs();
    this.#losses.startsLater(this.#originMs - (runStartedMs ?? this.#originMs));
    this.#opener.begin(this.#originMs);
    this.#loop.begin();
  }

  /** The hold phase begins: `openMin` and `verifiedMin` are counted from now. */
  markHold(): void {
    this.#tally.markHold();
    this.#lag.markHold();
  }

  /**
   * Opens nothing from a moment on, until a later one is given; connects in flight go on, and what is open stays open.
   * The time between is lost to the pacer: it catches up no faster than the pending cap allows.
   * @param atMs on the engine's clock
   */
  openUntil(atMs: number): void {
    if (this.#opener.openUntil(atMs)) this.#loop.interrupt();
  }

  /** From now on connects are begun at another rate. @param ratePerSec at least 0; null: no limit */
  setRate(ratePerSec: number | null): void {
    this.#opener.setRate(ratePerSec);
    this.#loop.interrupt();
  }

  /**
   * Drops every connection whose source address is no longer on this host. The kernel would not notice: both ends stay
   * ESTABLISHED and can say nothing to each other.
   */
  loseSources(addresses: readonly string[]): void {
    const lost = new Set(addresses);
    const { map } = this.#opener;
    for (let slot = 0; slot < this.#table.capacity; slot++) {
      if (this.#table.state[slot] === SlotState.free) continue;
      const source = map.addressIndexAt(this.#table.tuple[slot]!);
      if (lost.has(this.#spec.addresses[source]!))
        this.lost(slot, FailReason.sourceLost, DropReason.aliasLost);
    }
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
    const wasIdle = this.#phase === 'idle';
    this.#phase = 'closing';
    if (wasIdle) this.#loop.begin();
    else this.#loop.interrupt();
  }

  /** Stops the loop for good and lets go of epoll; open descriptors are left to the kernel. */
  end(): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#loop.end();
    this.#protocol.end?.();
  }

  /** A snapshot of the counts. */
  stats(): Stats {
    const stats = this.#tally.stats(this.#losses);
    return {
      ...stats,
      ...(this.#protocol instanceof WhoamiProtocol ? { seen: this.#protocol.seen.counts() } : {}),
      ...(this.#protocolErrors.isEmpty ? {} : { troubles: this.#protocolErrors.counts() }),
      ...(this.#protocol instanceof TlsLayer ? { tls: this.#protocol.counts() } : {}),
    };
  }

  /** Details of losses that were not taken yet, the oldest first. */
  takeLosses(max: number): Loss[] {
    return this.#losses.take(max);
  }

  /** 99 % of the turns in which something happened were no later than this, milliseconds. */
  get loopLagMsP99(): number {
    return this.#lag.msP99;
  }

  /** 99 % of the connects were called no later than this after their intended time, milliseconds. */
  get scheduleLagMsP99(): number {
    return this.#opener.lateMsP99;
  }

  /** By how much connects were put off in all because this process was late for its rate, milliseconds. */
  get scheduleShiftMs(): number {
    return this.#opener.scheduleShiftMs;
  }

  /** The longest that connects were put off at once. */
  get scheduleShiftMsMax(): number {
    return this.#opener.scheduleShiftMsMax;
  }

  /** Whether `onSettled` was called. */
  get settled(): boolean {
    return this.#settled;
  }

  /**
   * The longest that one turn took, from its begin to the begin of the next, less what it asked to sleep: the most by
   * which an event or a timer can have been late through our own fault. Milliseconds.
   */
  get loopLagMsMax(): number {
    return this.#lag.msMax;
  }

  /** The same since the hold began: for so long nothing of what is held was looked at. Milliseconds. */
  get holdLagMsMax(): number {
    return this.#lag.holdMsMax;
  }

  /** Tuples that were tried at least once. */
  get tuplesUsed(): number {
    return this.#opener.supply.used;
  }

  get tuplesMax(): number {
    return this.#opener.supply.size;
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

  #turn(count: number): void {
    const nowMs = this.#readClock();
    const lagMs = this.#lag.turnBegins(nowMs, this.#loop.sleptMs, count > 0);
    this.#nowMs = nowMs;
    this.#takeEvents(count);
    if (lagMs > LATE_MS) this.#takeWaiting();
    this.#fireTimers();
    if (this.#isGivingUp) this.#giveUp();
    this.#opener.dialBatch(this.#nowMs);
    this.#checkSettled();
    if (this.#phase === 'closing') this.#closeBatch();
    this.#sleepNext(count > 0);
  }

  #takeEvents(count: number): void {
    for (let index = 0; index < count; index++) {
      this.#onEvent(this.#poller.slotAt(index), this.#poller.eventsAt(index));
    }
  }

  /**
   * What has come is read before what is overdue is judged: after a stand-still of ours answers wait behind the first batch,
   * and behind a wait that SIGCONT has interrupted (signal(7)). At most one batch's worth for each slot.
   */
  #takeWaiting(): void {
    for (let left = this.#table.capacity; left > 0; left -= EVENTS_MAX) {
      const count = this.#poller.wait(0);
      this.#takeEvents(count);
      if (count < EVENTS_MAX) return;
    }
  }

  /** Whether something is left to begin or in flight. */
  get #isOpening(): boolean {
    return !this.#opener.isDone || this.#tally.pending > 0;
  }

  #checkSettled(): void {
    if (this.#settled || this.#isOpening) return;
    if (!this.#hasOpened) {
      this.#hasOpened = true;
      this.#events.onOpened?.();
    }
    if (this.#probes.everyMs > 0 && this.#tally.open > this.#tally.verified) return;
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
    this.#loop.wait(sleepMs, this.#protocol.runsInNode === true ? 0 : SHORT_SLEEP_MS);
  }

  /** Whole milliseconds until something of our own is due: a timer or the next connect. */
  #idleMs(nowMs: number): number {
    const timerAtMs = Math.floor(this.#nowMs) + this.#wheel.ticksUntilDue(SLEEP_MS_MAX);
    return Math.max(0, Math.ceil(Math.min(timerAtMs, this.#opener.nextAtMs()) - nowMs));
  }

  /** What is not open yet is given up. */
  #giveUp(): void {
    this.#isGivingUp = false;
    this.#opener.giveUp();
    for (let slot = 0; this.#tally.pending > 0 && slot < this.#table.capacity; slot++) {
      const state = this.#table.state[slot];
      if (state !== SlotState.connecting && state !== SlotState.handshaking) continue;
      this.#tally.pending--;
      this.#tally.attempted--;
      if ((this.#table.flags[slot]! & SlotFlag.reopening) === 0) this.#tally.unattempted++;
      this.#retransmits.decided(slot, this.#nowMs);
      this.#release(slot);
    }
  }

  // ---- what happens to a connection ----

  #onEvent(token: number, events: number): void {
    const slot = this.#table.slotOf(token);
    if (slot < 0) return;
    if (this.#table.state[slot] === SlotState.connecting) {
      // Without EPOLLERR or EPOLLHUP there is no error to ask for: one system call less per connect (tcp_poll()).
      const errno = (events & BROKEN) === 0 ? 0 : libc.socketError(this.#table.fd[slot]!);
      if (errno !== 0) {
        this.#retransmits.decided(slot, this.#nowMs);
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
    this.#retransmits.decided(slot, this.#nowMs);
    if (this.#protocol.hasHandshake) this.#table.state[slot] = SlotState.handshaking;
    else this.opened(slot);
    this.#protocol.onConnected(slot);
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
          this.#retransmits.decided(slot, this.#nowMs);
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
      this.#how.isAcked = this.#info.isAcknowledged(this.#table.fd[slot]!);
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
    const { map } = this.#opener;
    const tuple = this.#table.tuple[slot]!;
    const isReopened = (this.#table.flags[slot]! & SlotFlag.reopening) !== 0;
    this.#tally.opened(map.addressIndexAt(tuple), map.endpointIndexAt(tuple), this.#nowMs, isReopened);
    if (this.#probes.everyMs > 0) this.#probes.first(slot, this.#nowMs);
    else this.#wheel.cancel(slot);
  }

  verified(slot: number): void {
    if (this.#tally.isHolding && (this.#table.flags[slot]! & SlotFlag.verifiedInHold) === 0) {
      this.#table.flags[slot]! |= SlotFlag.verifiedInHold;
      this.#tally.verifiedInHold++;
    }
    if ((this.#table.flags[slot]! & SlotFlag.verified) !== 0) return;
    this.#table.flags[slot]! |= SlotFlag.verified;
    this.#tally.proved();
  }

  answered(slot: number): void {
    this.#table.flags[slot]! &= ~SlotFlag.probing;
    this.#tally.probesAnswered++;
    this.#tally.probeUs.record((this.#nowMs - this.#table.intendedAtMs[slot]!) * 1_000);
    this.verified(slot);
    this.#probes.next(slot, this.#nowMs);
  }

  lost(slot: number, fail: FailReason, drop: DropReason, detail?: string): void {
    if (detail !== undefined) this.#protocolErrors.add(detail);
    const tuple = this.#table.tuple[slot]!;
    if (this.#table.state[slot] === SlotState.open) {
      const { map } = this.#opener;
      this.#tally.dropped(
        drop,
        map.addressIndexAt(tuple),
        map.endpointIndexAt(tuple),
        this.#isVerified(slot),
      );
      this.#leaveHold(slot);
      this.#noteLoss(slot, tuple, drop);
    } else {
      this.#tally.pending--;
      this.#opener.supply.freed(tuple, this.#nowMs);
      if ((this.#table.flags[slot]! & SlotFlag.reopening) === 0) this.#tally.failed(fail, 1);
      else {
        this.#tally.attempted--;
        this.#opener.notReopened(1, this.#nowMs);
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
    this.#loop.wake();
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
    this.#opener.reopen(tuple, this.#nowMs);
  }

  #leaveHold(slot: number): void {
    if ((this.#table.flags[slot]! & SlotFlag.verifiedInHold) !== 0) this.#tally.verifiedInHold--;
  }

  #isVerified(slot: number): boolean {
    return (this.#table.flags[slot]! & SlotFlag.verified) !== 0;
  }

  /** Closes the descriptor and frees the slot; counting is up to the caller. */
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
    const { map } = this.#opener;
    const tuple = this.#table.tuple[slot]!;
    this.#tally.closedByUs(map.addressIndexAt(tuple), map.endpointIndexAt(tuple), this.#isVerified(slot));
    this.#leaveHold(slot);
    this.#protocol.onClosing(slot);
    if (this.#spec.close === 'rst') libc.setResetOnClose(this.#table.fd[slot]!);
    this.#release(slot);
  }
}
