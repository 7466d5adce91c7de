/**
 * Owns what happens to each connection of one holder: what an event, a timer or its protocol means for it. Must
 * never allocate per connection or wait: `nowMs` is the moment of the turn, which all events of one batch share.
 */

import assert from 'node:assert/strict';
import { backendExpression } from '../base/backend-pattern.ts';
import type { Clock } from '../base/clock.ts';
import { DropReason, FailReason } from '../base/outcome.ts';
import { type HolderSpec, isChanging, namesBackends } from '../run/run-spec.ts';
import { ANSWER_DIFFERS, NO_ANSWER, ProtocolErrorTally } from '../stats/protocol-errors.ts';
import type { Stats } from '../stats/stats.ts';
import { ConnectionTable, SlotFlag, SlotState } from './connection-table.ts';
import { type CloseHow, type Driver, DriverEvent, OpenStep, openOutcomeOf } from './drivers/driver.ts';
import { EvidenceRecorder } from './evidence-recorder.ts';
import { FinalChecker } from './final-check.ts';
import { dropReasonOf, failReasonOf, mayProbeWindow } from './libc.ts';
import { LoadFollower } from './load-follower.ts';
import { type LossCircumstances, LossLedger } from './loss-ledger.ts';
import { Opener } from './opener.ts';
import { Probes } from './probes.ts';
import { BackendTally } from './protocols/backend.ts';
import { makeProtocol, numbersOf } from './protocols/make-protocol.ts';
import type { MessageFacts } from './protocols/message-renderer.ts';
import type { Protocol, ProtocolHost } from './protocols/protocol.ts';
import { TlsLayer } from './protocols/tls-layer.ts';
import { type BoundTuples, WhoamiProtocol } from './protocols/whoami.ts';
import { ProxyHeaders } from './proxy-headers.ts';
import { Tally } from './tally.ts';
import { Delivery, SynRetransmits, TcpInfo } from './tcp-info.ts';
import { TimerWheel } from './timer-wheel.ts';

/** One that was opened again and is lost within this has not come back. */
const SHORT_MS = 1_000;

/** What connections are made from. */
interface ConnectionsOf {
  readonly spec: HolderSpec;
  readonly clock: Clock;
  readonly driver: Driver;
  /** 32 bits that differ between processes */
  readonly salt: number;
  /** ends a wait of the loop. @returns milliseconds since the engine's start */
  readonly wake: () => number;
  readonly onWarning: (message: string) => void;
}

/** The connections of one quota. */
export class Connections implements ProtocolHost {
  readonly table: ConnectionTable;
  readonly wheel: TimerWheel;
  readonly tally: Tally;
  readonly opener: Opener;
  readonly losses: LossLedger;
  readonly evidence: EvidenceRecorder;
  readonly probes: Probes;
  readonly finalCheck: FinalChecker;
  readonly protocol: Protocol;
  /** null: the load does not change */
  readonly load: LoadFollower | null;
  /** slots of the connection table */
  readonly capacity: number;
  /** the moment of the turn, milliseconds since the engine's start */
  nowMs = 0;
  /** false: what is lost from now on stays lost, whatever the spec says */
  mayReopen = true;
  readonly #parts: ConnectionsOf;
  /** probes are messages that the user asked for */
  readonly #isSending: boolean;
  /** timers are being looked at: what fails now was not answered */
  #isOverdue = false;
  readonly #how: LossCircumstances = { ageMs: 0, isProbing: false, isAcked: false };
  readonly #protocolErrors = new ProtocolErrorTally();
  readonly #driver: Driver;
  readonly #backends: BackendTally | null;
  readonly #info: TcpInfo;
  readonly #retransmits: SynRetransmits;
  /** null: connections begin with their protocol */
  readonly #proxyHeaders: ProxyHeaders | null;
  readonly #sendHeader = (slot: number, buffer: Uint8Array, length: number): number =>
    this.send(slot, buffer, length);

  constructor(parts: ConnectionsOf) {
    const { spec, clock, driver, salt, onWarning } = parts;
    this.#parts = parts;
    this.#driver = driver;
    this.#info = new TcpInfo(driver);
    this.capacity = Math.max(1, spec.connections);
    const table = new ConnectionTable(this.capacity);
    const wheel = new TimerWheel(this.capacity);
    const tally = new Tally(spec);
    this.table = table;
    this.wheel = wheel;
    this.tally = tally;
    this.#retransmits = new SynRetransmits(table, tally, this.#info);
    this.opener = new Opener(spec, { clock, table, wheel, driver, tally, engine: this, salt, onWarning });
    this.load = isChanging(spec)
      ? new LoadFollower(spec, {
          capacity: this.capacity,
          tally,
          opener: this.opener,
          salt,
          close: (slot) => this.#closeInRun(slot),
        })
      : null;
    const { map } = this.opener;
    this.losses = new LossLedger(spec, map);
    this.evidence = new EvidenceRecorder(spec, map, table);
    const bound = {
      sourceIndex: (slot: number) => map.addressIndexAt(table.tuple[slot]!),
      port: (slot: number) => map.portAt(table.tuple[slot]!),
      endpointIndex: (slot: number) => map.endpointIndexAt(table.tuple[slot]!),
    };
    this.#proxyHeaders = spec.proxyHeader === undefined ? null : new ProxyHeaders(spec, bound);
    const expression = spec.backendFrom === undefined ? null : backendExpression(spec.backendFrom);
    this.#backends = namesBackends(spec) ? new BackendTally(expression, this.capacity) : null;
    this.protocol = makeProtocol(this, spec, {
      bound,
      salt,
      facts: this.#messageFacts(bound),
      backends: this.#backends,
    });
    const send = spec.protocolOptions?.traffic?.send ?? null;
    this.#isSending = send !== null;
    const probeEveryMs = probeEveryMsOf(this.protocol, spec.probeEveryMs);
    this.probes = new Probes(send?.everyMs ?? probeEveryMs, {
      table,
      wheel,
      tally,
      timeoutMs: spec.probeTimeoutMs,
      areAnswered: this.protocol.canProbe,
    });
    const connections = {
      mayProbeWindow,
      probeSoon: (slot: number) => this.probes.soon(slot, this.nowMs),
      idleMs: (slot: number) => this.#info.idleMs(slot),
      silent: (slot: number) => this.lost(slot, FailReason.other, DropReason.timeout),
    };
    this.finalCheck = new FinalChecker(table, driver, connections, this.probes.areProof);
  }

  /** What messages may say of these connections. */
  #messageFacts(bound: BoundTuples): MessageFacts {
    const { spec, clock } = this.#parts;
    const { agent, from } = numbersOf(spec);
    let originMs: number | null = null;
    return {
      agent,
      source: (slot) => spec.addresses[bound.sourceIndex(slot)] ?? '',
      port: bound.port,
      connection: (slot) => from + slot,
      sequence: (slot) => this.table.probeSequence[slot]!,
      timeMs: (slot) => {
        originMs ??= clock.wallMs() - this.opener.clockMs();
        return originMs + this.table.intendedAtMs[slot]!;
      },
    };
  }

  /** A snapshot of the counts. */
  stats(): Stats {
    const stats = this.tally.stats(this.losses);
    return {
      ...stats,
      bytesOut: stats.bytesOut + this.#driver.bytesSent,
      ...(this.#backends?.isReported === true ? { backends: this.#backends.counts() } : {}),
      ...(this.#parts.spec.onDrop === 'reopen' ? { recentReturns: this.opener.returns.list() } : {}),
      ...(this.protocol instanceof WhoamiProtocol ? { seen: this.protocol.seen.counts() } : {}),
      ...(this.#protocolErrors.isEmpty ? {} : { troubles: this.#protocolErrors.counts() }),
      ...(this.protocol instanceof TlsLayer ? { tls: this.protocol.counts() } : {}),
      ...(this.load === null ? {} : { load: this.load.counts() }),
      evidence: this.evidence.evidence(),
    };
  }

  /**
   * Drops every connection whose source address is no longer on this host. The kernel would not notice: both ends stay
   * ESTABLISHED and can say nothing to each other.
   */
  loseSources(addresses: readonly string[]): void {
    const lost = new Set(addresses);
    const { map } = this.opener;
    for (let slot = 0; slot < this.table.capacity; slot++) {
      const state = this.table.state[slot];
      if (state === SlotState.free || state === SlotState.waiting) continue;
      const source = map.addressIndexAt(this.table.tuple[slot]!);
      if (lost.has(this.#parts.spec.addresses[source]!))
        this.lost(slot, FailReason.sourceLost, DropReason.aliasLost);
    }
  }

  /** What is not open yet is given up. */
  giveUp(): void {
    this.load?.stop();
    this.opener.giveUp();
    for (let slot = 0; this.tally.pending > 0 && slot < this.table.capacity; slot++) {
      const state = this.table.state[slot];
      if (state !== SlotState.connecting && state !== SlotState.handshaking) continue;
      this.tally.pending--;
      this.tally.attempted--;
      if ((this.table.flags[slot]! & SlotFlag.reopening) === 0) this.tally.unattempted++;
      this.#retransmits.decided(slot, this.nowMs);
      this.evidence.givenUp(slot);
      this.#release(slot, 'fin');
    }
  }

  /** What the driver's event means for the connection that it is about. */
  onEvent(event: DriverEvent): void {
    const { slot, value } = this.#driver;
    switch (event) {
      case DriverEvent.connected:
        this.#connected(slot);
        break;
      case DriverEvent.failed:
        this.#retransmits.decided(slot, this.nowMs);
        this.#openFailed(slot, this.#driver.step, value);
        break;
      case DriverEvent.bytes:
        this.tally.bytesIn += value;
        this.evidence.moved(slot, this.nowMs);
        this.protocol.onBytes(slot, this.#driver.bytes, value);
        break;
      case DriverEvent.ended:
        if (value === 0) this.lost(slot, FailReason.handshake, DropReason.fin);
        else this.lost(slot, failReasonOf(value), dropReasonOf(value));
        break;
      case DriverEvent.writable:
        this.#writable(slot);
        break;
    }
  }

  #openFailed(slot: number, step: OpenStep, errno: number): void {
    const outcome = openOutcomeOf(step, errno);
    // Before the connect nothing has left this host: the opener counts what never was on its way.
    if (outcome.kind === 'skipped') this.opener.skipped(slot, outcome.skip, this.nowMs);
    else if (step !== OpenStep.connect) this.opener.failed(slot, outcome, this.nowMs);
    else this.lost(slot, outcome.fail, DropReason.other);
  }

  #connected(slot: number): void {
    const fromIntendedMs = this.nowMs - this.table.intendedAtMs[slot]!;
    this.tally.connectFromIntendedUs.record(fromIntendedMs * 1_000);
    const connectUs = (fromIntendedMs - this.table.calledLateMs[slot]!) * 1_000;
    this.tally.connectUs.record(connectUs);
    if (this.tally.stageConnectUs !== null) this.tally.stageConnectUs.record(connectUs);
    this.#retransmits.decided(slot, this.nowMs);
    this.table.state[slot] = SlotState.handshaking;
    if (this.#proxyHeaders?.send(slot, this.#sendHeader) !== false) this.#begin(slot);
  }

  /** The connection is its protocol's. */
  #begin(slot: number): void {
    if (!this.protocol.hasHandshake) this.opened(slot);
    this.protocol.onConnected(slot);
  }

  #writable(slot: number): void {
    if (this.#proxyHeaders?.isPending(slot) !== true) this.protocol.onWritable(slot);
    else if (this.#proxyHeaders.sendRest(slot, this.#sendHeader)) this.#begin(slot);
  }

  /** Every timer that is due. */
  fireTimers(): void {
    this.wheel.advanceTo(Math.floor(this.nowMs));
    this.#isOverdue = true;
    for (let slot = this.wheel.nextExpired(); slot >= 0; slot = this.wheel.nextExpired()) {
      switch (this.table.state[slot]) {
        case SlotState.connecting:
          this.#retransmits.decided(slot, this.nowMs);
          this.lost(slot, FailReason.timeout, DropReason.other);
          break;
        case SlotState.handshaking:
          this.#handshakeOverdue(slot);
          break;
        case SlotState.open:
          this.#probeTimer(slot);
          break;
        case SlotState.waiting:
          this.opener.waited(slot, this.nowMs);
          break;
      }
    }
    this.#isOverdue = false;
  }

  #handshakeOverdue(slot: number): void {
    const overdue = this.protocol.overdue?.(slot) ?? null;
    // Something was said: that it is not the answer is known only now.
    if (overdue === 'other-said') this.#isOverdue = false;
    const detail = overdue === null ? undefined : overdue === 'other-said' ? ANSWER_DIFFERS : NO_ANSWER;
    this.lost(slot, FailReason.handshake, DropReason.other, detail);
    this.#isOverdue = true;
  }

  #probeTimer(slot: number): void {
    if (this.probes.isWaiting(slot)) this.#probeOverdue(slot);
    else if (this.#isSending) this.#sendMessage(slot);
    else {
      this.finalCheck.probed(slot);
      // The clock itself: a process that is stopped in the middle of a turn sends the rest of it afterwards.
      const sequence = this.probes.begin(slot, this.opener.clockMs());
      this.protocol.onProbeDue(slot, sequence);
    }
  }

  #probeOverdue(slot: number): void {
    if (this.protocol.overdue?.(slot) === 'other-said') {
      this.lost(slot, FailReason.other, DropReason.probeMismatch);
      return;
    }
    const delivery = this.#info.delivery(slot);
    this.evidence.probeTimedOut(delivery);
    this.#how.isAcked = delivery === Delivery.acknowledged;
    this.lost(slot, FailReason.other, DropReason.probeTimeout);
  }

  /** One that has answered after the hold was over is asked no more: what is sent then is in no account. */
  #sendMessage(slot: number): void {
    const { areProof } = this.probes;
    if (!this.mayReopen && (!areProof || this.finalCheck.hasAnswered(slot))) return;
    this.finalCheck.probed(slot);
    this.tally.messagesSent++;
    if (this.tally.isHolding && this.mayReopen) this.tally.messagesSentInHold++;
    if (areProof) {
      this.protocol.onProbeDue(slot, this.probes.begin(slot, this.opener.clockMs()));
      return;
    }
    this.protocol.onProbeDue(slot, this.probes.beginUnanswered(slot));
    this.probes.sent(slot, this.nowMs);
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const taken = this.#driver.send(slot, buffer, length);
    if (taken > 0) this.evidence.moved(slot, this.nowMs);
    return taken;
  }

  said(slot: number, buffer: Uint8Array, from: number, to: number): void {
    this.evidence.said.note(slot, buffer, from, to);
  }

  opened(slot: number): void {
    this.evidence.opened(slot, this.nowMs);
    this.table.state[slot] = SlotState.open;
    this.table.openedAtMs[slot] = this.nowMs;
    const { map } = this.opener;
    const tuple = this.table.tuple[slot]!;
    const isReopened = (this.table.flags[slot]! & SlotFlag.reopening) !== 0;
    this.tally.opened(map.addressIndexAt(tuple), map.endpointIndexAt(tuple), this.nowMs, isReopened);
    if (isReopened) this.opener.returns.isBack(this.nowMs);
    if (this.load !== null) {
      if (isReopened) this.opener.cameBack();
      this.load.opened(slot, this.nowMs);
    }
    if (this.probes.everyMs > 0) this.probes.first(slot, this.nowMs);
    else this.wheel.cancel(slot);
  }

  verified(slot: number): void {
    this.probes.verified(slot);
  }

  answered(slot: number): void {
    if (this.#isSending && this.nowMs - this.table.intendedAtMs[slot]! > this.probes.everyMs)
      this.tally.messagesLate++;
    this.probes.answered(slot, this.nowMs);
    this.finalCheck.answered(slot);
  }

  answeredWrongly(slot: number, isLost: boolean): boolean {
    // One that never answers rightly would never be proven, and never be lost.
    if (isLost || !this.probes.isVerified(slot)) {
      this.lost(slot, FailReason.handshake, DropReason.probeMismatch);
      return false;
    }
    this.tally.messagesWrong++;
    this.probes.answeredWrongly(slot, this.nowMs);
    this.finalCheck.answered(slot);
    return true;
  }

  lost(slot: number, fail: FailReason, drop: DropReason, detail?: string): void {
    if (detail !== undefined) this.#protocolErrors.add(detail);
    const tuple = this.table.tuple[slot]!;
    const tries = this.opener.triesOf(slot);
    const isReopening = (this.table.flags[slot]! & SlotFlag.reopening) !== 0;
    if (this.table.state[slot] === SlotState.open) {
      const { map } = this.opener;
      this.tally.dropped(
        drop,
        map.addressIndexAt(tuple),
        map.endpointIndexAt(tuple),
        this.probes.isVerified(slot),
      );
      if (this.#isSending && this.probes.isWaiting(slot)) {
        if (drop === DropReason.probeMismatch) this.tally.messagesWrong++;
        else this.tally.messagesMissing++;
      }
      this.probes.left(slot);
      this.evidence.lost(slot, drop, this.nowMs);
      this.finalCheck.lost(slot, drop);
      const ageMs = this.#noteLoss(slot, tuple, drop);
      this.#release(slot, 'fin');
      const mayReopen = this.mayReopen && (this.tally.isHolding || this.load?.isByLine === true);
      const isReopened = mayReopen && this.#parts.spec.onDrop === 'reopen';
      // Of a load that changes the place may be filled in its turn: the tuple is of use.
      if (isReopened || this.load !== null) this.opener.supply.freed(tuple, this.nowMs);
      if (isReopened) this.opener.reopen(tries, isReopening && ageMs < SHORT_MS, this.nowMs);
    } else {
      this.evidence.failed(slot, fail, this.#isOverdue || fail === FailReason.timeout, isReopening);
      this.tally.pending--;
      this.opener.supply.freed(tuple, this.nowMs);
      this.#release(slot, 'fin');
      if (!isReopening) this.tally.failed(fail, 1);
      else {
        this.tally.attempted--;
        this.opener.notReopened(tries, fail, this.nowMs);
      }
    }
  }

  handOver(slot: number): number {
    const fd = this.#driver.detach(slot);
    assert(fd >= 0, 'a connected socket can be handed over');
    return fd;
  }

  awake(): number {
    this.nowMs = this.#parts.wake();
    return this.nowMs;
  }

  probeAtLeastEvery(ms: number): void {
    this.probes.atLeastEvery(ms);
  }

  transferred(slot: number, bytesIn: number, bytesOut: number): void {
    this.evidence.moved(slot, this.nowMs);
    this.tally.bytesIn += bytesIn;
    this.tally.bytesOut += bytesOut;
  }

  /** @returns how long the connection was open, milliseconds */
  #noteLoss(slot: number, tuple: number, drop: DropReason): number {
    const ageMs = Math.max(0, this.nowMs - this.table.openedAtMs[slot]!);
    this.#how.ageMs = ageMs;
    this.#how.isProbing = this.probes.isWaiting(slot);
    this.losses.add(drop, tuple, this.nowMs, this.#how);
    this.#how.isAcked = false;
    return ageMs;
  }

  /** Closes the socket and frees the slot; counting is up to the caller. */
  #release(slot: number, how: CloseHow): void {
    // Before the protocol: one that has the descriptor closes it when it hears that the slot is gone.
    this.#driver.close(slot, how);
    this.protocol.onForgotten(slot);
    this.#proxyHeaders?.forget(slot);
    this.evidence.said.forget(slot);
    this.load?.left(slot);
    this.wheel.cancel(slot);
    this.table.free(slot);
  }

  /** Closes an open connection while the run goes on. */
  #closeInRun(slot: number): void {
    const tuple = this.table.tuple[slot]!;
    this.closeOpen(slot);
    this.opener.closedByUs(tuple, this.nowMs);
  }

  /** Closes an open connection as the spec says. */
  closeOpen(slot: number): void {
    const { map } = this.opener;
    const tuple = this.table.tuple[slot]!;
    this.tally.closedByUs(
      map.addressIndexAt(tuple),
      map.endpointIndexAt(tuple),
      this.probes.isVerified(slot),
    );
    this.probes.left(slot);
    this.protocol.onClosing(slot);
    this.#release(slot, this.#parts.spec.close);
  }
}

/** Milliseconds between two probes of a connection; 0: none is sent. */
function probeEveryMsOf({ canProbe, probeEveryMsMax }: Protocol, askedMs: number | null): number {
  const everyMs = canProbe
    ? Math.min(askedMs ?? Number.POSITIVE_INFINITY, probeEveryMsMax ?? Number.POSITIVE_INFINITY)
    : 0;
  return Number.isFinite(everyMs) ? everyMs : 0;
}
