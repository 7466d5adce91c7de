/**
 * Owns what happens to each connection of one holder: what an event, a timer or its protocol means for it, and which protocol
 * that is. Must never
 * allocate per connection, wait, or read a clock: `nowMs` is the moment of the turn, which all events of one batch share.
 */

import type { Clock } from '../base/clock.ts';
import { DEFAULT_PROTOCOL_OPTIONS, defaultPortOf, isTls } from '../base/endpoint.ts';
import { DropReason, FailReason } from '../base/outcome.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { ProtocolErrorTally } from '../stats/protocol-errors.ts';
import type { Stats } from '../stats/stats.ts';
import { ConnectionTable, SlotFlag, SlotState } from './connection-table.ts';
import { EvidenceRecorder } from './evidence-recorder.ts';
import { FinalChecker } from './final-check.ts';
import * as libc from './libc.ts';
import { dropReasonOf, failReasonOf } from './libc.ts';
import { type LossCircumstances, LossLedger } from './loss-ledger.ts';
import { Opener } from './opener.ts';
import { type Poller, WATCHED } from './poller.ts';
import { Probes } from './probes.ts';
import { EchoProtocol } from './protocols/echo.ts';
import { HttpProtocol } from './protocols/http.ts';
import { authorityOf } from './protocols/http-head.ts';
import type { Protocol, ProtocolHost } from './protocols/protocol.ts';
import { BannerProtocol, SilentProtocol } from './protocols/tcp.ts';
import { TlsLayer } from './protocols/tls-layer.ts';
import { type BoundTuples, SeenTally, WhoamiProtocol } from './protocols/whoami.ts';
import { type RequestTarget, WsProtocol } from './protocols/ws.ts';
import { Tally } from './tally.ts';
import { Delivery, SynRetransmits, TcpInfo } from './tcp-info.ts';
import { TimerWheel } from './timer-wheel.ts';

/** Receives from one connection in one event; a target that floods one connection must not starve the others. */
const RECEIVES_PER_EVENT_MAX = 16;
const RECEIVE_BUFFER_BYTES = 65_536;

const BROKEN = libc.EPOLLERR | libc.EPOLLHUP;
const READABLE = libc.EPOLLIN | libc.EPOLLRDHUP | BROKEN;

/** What connections are made from. */
interface ConnectionsOf {
  readonly spec: HolderSpec;
  readonly clock: Clock;
  readonly poller: Poller;
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
  /** slots of the connection table */
  readonly capacity: number;
  /** the moment of the turn, milliseconds since the engine's start */
  nowMs = 0;
  /** false: what is lost from now on stays lost, whatever the spec says */
  mayReopen = true;
  readonly #parts: ConnectionsOf;
  /** timers are being looked at: what fails now was not answered */
  #isOverdue = false;
  readonly #how: LossCircumstances = { ageMs: 0, isProbing: false, isAcked: false };
  readonly #protocolErrors = new ProtocolErrorTally();
  readonly #buffer = new Uint8Array(RECEIVE_BUFFER_BYTES);
  readonly #info = new TcpInfo();
  readonly #retransmits: SynRetransmits;

  constructor(parts: ConnectionsOf) {
    const { spec, clock, poller, salt, onWarning } = parts;
    this.#parts = parts;
    this.capacity = Math.max(1, spec.connections);
    const table = new ConnectionTable(this.capacity);
    const wheel = new TimerWheel(this.capacity);
    const tally = new Tally(spec);
    this.table = table;
    this.wheel = wheel;
    this.tally = tally;
    this.#retransmits = new SynRetransmits(table, tally, this.#info);
    this.opener = new Opener(spec, { clock, table, wheel, poller, tally, engine: this, onWarning });
    const { map } = this.opener;
    this.losses = new LossLedger(spec, map);
    this.evidence = new EvidenceRecorder(spec, map, table);
    const bound = {
      sourceIndex: (slot: number) => map.addressIndexAt(table.tuple[slot]!),
      port: (slot: number) => map.portAt(table.tuple[slot]!),
      endpointIndex: (slot: number) => map.endpointIndexAt(table.tuple[slot]!),
    };
    this.protocol = makeProtocol(this, spec, bound, salt);
    const probeEveryMs = this.protocol.canProbe ? (spec.probeEveryMs ?? 0) : 0;
    this.probes = new Probes(probeEveryMs, { table, wheel, tally, timeoutMs: spec.probeTimeoutMs });
    const sockets = {
      probeSoon: (slot: number) => this.probes.soon(slot, this.nowMs),
      keepalive: (slot: number, isOn: boolean) => libc.setKeepalive(this.table.fd[slot]!, isOn),
      idleMs: (slot: number) => this.#info.idleMs(this.table.fd[slot]!),
      silent: (slot: number) => this.lost(slot, FailReason.other, DropReason.timeout),
    };
    this.finalCheck = new FinalChecker(table, sockets, probeEveryMs > 0);
  }

  /** A snapshot of the counts. */
  stats(): Stats {
    const stats = this.tally.stats(this.losses);
    return {
      ...stats,
      ...(this.protocol instanceof WhoamiProtocol ? { seen: this.protocol.seen.counts() } : {}),
      ...(this.#protocolErrors.isEmpty ? {} : { troubles: this.#protocolErrors.counts() }),
      ...(this.protocol instanceof TlsLayer ? { tls: this.protocol.counts() } : {}),
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
      if (this.table.state[slot] === SlotState.free) continue;
      const source = map.addressIndexAt(this.table.tuple[slot]!);
      if (lost.has(this.#parts.spec.addresses[source]!))
        this.lost(slot, FailReason.sourceLost, DropReason.aliasLost);
    }
  }

  /** What is not open yet is given up. */
  giveUp(): void {
    this.opener.giveUp();
    for (let slot = 0; this.tally.pending > 0 && slot < this.table.capacity; slot++) {
      const state = this.table.state[slot];
      if (state !== SlotState.connecting && state !== SlotState.handshaking) continue;
      this.tally.pending--;
      this.tally.attempted--;
      if ((this.table.flags[slot]! & SlotFlag.reopening) === 0) this.tally.unattempted++;
      this.#retransmits.decided(slot, this.nowMs);
      this.evidence.givenUp(slot);
      this.#release(slot);
    }
  }

  /** What an event of epoll means for a connection. */
  onEvent(token: number, events: number): void {
    const slot = this.table.slotOf(token);
    if (slot < 0) return;
    if (this.table.state[slot] === SlotState.connecting) {
      // Without EPOLLERR or EPOLLHUP there is no error to ask for: one system call less per connect (tcp_poll()).
      const errno = (events & BROKEN) === 0 ? 0 : libc.socketError(this.table.fd[slot]!);
      if (errno !== 0) {
        this.#retransmits.decided(slot, this.nowMs);
        this.lost(slot, failReasonOf(Math.abs(errno)), DropReason.other);
        return;
      }
      if ((events & libc.EPOLLOUT) === 0) return;
      this.#connected(slot);
    } else if ((events & libc.EPOLLOUT) !== 0) {
      this.protocol.onWritable(slot);
    }
    const isOurs = this.table.slotOf(token) === slot && !this.#isHandedOver(slot);
    if ((events & READABLE) !== 0 && isOurs) this.#receive(slot, token, events);
  }

  #connected(slot: number): void {
    const fromIntendedMs = this.nowMs - this.table.intendedAtMs[slot]!;
    this.tally.connectFromIntendedUs.record(fromIntendedMs * 1_000);
    this.tally.connectUs.record((fromIntendedMs - this.table.calledLateMs[slot]!) * 1_000);
    this.#retransmits.decided(slot, this.nowMs);
    if (this.protocol.hasHandshake) this.table.state[slot] = SlotState.handshaking;
    else this.opened(slot);
    this.protocol.onConnected(slot);
  }

  /**
   * Reads what there is. Edge-triggered: a read that leaves room in the buffer has emptied the socket (epoll(7)),
   * unless the end of the stream or an error was announced, which only a further read tells.
   */
  #receive(slot: number, token: number, events: number): void {
    const fd = this.table.fd[slot]!;
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
      this.tally.bytesIn += got;
      this.evidence.moved(slot, this.nowMs);
      this.protocol.onBytes(slot, this.#buffer, got);
      if (this.table.slotOf(token) !== slot) return;
      if (got < RECEIVE_BUFFER_BYTES && !isEnding) return;
    }
    // Setting the watch again makes the kernel report what is left, after the others had their turn.
    this.#parts.poller.modify(fd, WATCHED, token);
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
          this.lost(slot, FailReason.handshake, DropReason.other);
          break;
        case SlotState.open:
          this.#probeTimer(slot);
          break;
      }
    }
    this.#isOverdue = false;
  }

  #probeTimer(slot: number): void {
    if (this.probes.isWaiting(slot)) {
      const delivery = this.#delivery(slot);
      this.evidence.probeTimedOut(delivery);
      this.#how.isAcked = delivery === Delivery.acknowledged;
      this.lost(slot, FailReason.other, DropReason.probeTimeout);
      return;
    }
    this.finalCheck.probed(slot);
    const sequence = this.probes.begin(slot, this.nowMs);
    this.protocol.onProbeDue(slot, sequence);
  }

  /** A probe that a send of ours failed for has left nothing in the socket that could say so. */
  #delivery(slot: number): Delivery {
    if ((this.table.flags[slot]! & SlotFlag.sendFailed) !== 0) return Delivery.notSent;
    return this.#info.delivery(this.table.fd[slot]!);
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const sent = libc.send(this.table.fd[slot]!, buffer, length);
    if (sent === -libc.Errno.EAGAIN) return 0;
    if (sent > 0) {
      this.tally.bytesOut += sent;
      this.evidence.moved(slot, this.nowMs);
      this.table.flags[slot]! &= ~SlotFlag.sendFailed;
    } else if (sent < 0) this.table.flags[slot]! |= SlotFlag.sendFailed;
    return sent;
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
    if (this.probes.everyMs > 0) this.probes.first(slot, this.nowMs);
    else this.wheel.cancel(slot);
  }

  verified(slot: number): void {
    this.probes.verified(slot);
  }

  answered(slot: number): void {
    this.probes.answered(slot, this.nowMs);
    this.finalCheck.answered(slot);
  }

  lost(slot: number, fail: FailReason, drop: DropReason, detail?: string): void {
    if (detail !== undefined) this.#protocolErrors.add(detail);
    const tuple = this.table.tuple[slot]!;
    if (this.table.state[slot] === SlotState.open) {
      const { map } = this.opener;
      this.tally.dropped(
        drop,
        map.addressIndexAt(tuple),
        map.endpointIndexAt(tuple),
        this.probes.isVerified(slot),
      );
      this.probes.left(slot);
      this.evidence.lost(slot, drop, this.nowMs);
      this.finalCheck.lost(slot, drop);
      this.#noteLoss(slot, tuple, drop);
    } else {
      const isReopening = (this.table.flags[slot]! & SlotFlag.reopening) !== 0;
      this.evidence.failed(slot, fail, this.#isOverdue || fail === FailReason.timeout, isReopening);
      this.tally.pending--;
      this.opener.supply.freed(tuple, this.nowMs);
      if (!isReopening) this.tally.failed(fail, 1);
      else {
        this.tally.attempted--;
        this.opener.notReopened(1, this.nowMs);
      }
    }
    this.#release(slot);
  }

  handOver(slot: number): number {
    const fd = this.table.fd[slot]!;
    this.table.flags[slot]! |= SlotFlag.handedOver;
    this.#parts.poller.remove(fd);
    return fd;
  }

  awake(): number {
    this.nowMs = this.#parts.wake();
    return this.nowMs;
  }

  transferred(slot: number, bytesIn: number, bytesOut: number): void {
    this.evidence.moved(slot, this.nowMs);
    this.tally.bytesIn += bytesIn;
    this.tally.bytesOut += bytesOut;
  }

  #isHandedOver(slot: number): boolean {
    return (this.table.flags[slot]! & SlotFlag.handedOver) !== 0;
  }

  #noteLoss(slot: number, tuple: number, drop: DropReason): void {
    this.#how.ageMs = Math.max(0, this.nowMs - this.table.openedAtMs[slot]!);
    this.#how.isProbing = this.probes.isWaiting(slot);
    this.losses.add(drop, tuple, this.nowMs, this.#how);
    this.#how.isAcked = false;
    if (this.#parts.spec.onDrop !== 'reopen' || !this.tally.isHolding || !this.mayReopen) return;
    this.opener.reopen(tuple, this.nowMs);
  }

  /** Closes the descriptor and frees the slot; counting is up to the caller. */
  #release(slot: number): void {
    this.protocol.onForgotten(slot);
    this.evidence.said.forget(slot);
    this.wheel.cancel(slot);
    // The kernel takes a closed descriptor out of epoll by itself: nothing else refers to the file (epoll(7)).
    if (!this.#isHandedOver(slot)) libc.close(this.table.fd[slot]!);
    this.table.free(slot);
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
    if (this.#parts.spec.close === 'rst') libc.setResetOnClose(this.table.fd[slot]!);
    this.#release(slot);
  }
}

/**
 * The protocol of a run.
 * @param bound what a slot's connection was bound to
 * @param salt 32 bits that differ between processes
 */
function makeProtocol(host: ProtocolHost, spec: HolderSpec, bound: BoundTuples, salt: number): Protocol {
  if (spec.protocol === 'whoami') return new WhoamiProtocol(host, new SeenTally(spec), bound);
  const { endpointIndex } = bound;
  const options = spec.protocolOptions ?? DEFAULT_PROTOCOL_OPTIONS;
  if (!isTls(spec.protocol)) return plainProtocol(host, spec, endpointIndex, salt);
  const layer = {
    options,
    closesGently: spec.close === 'fin',
    address: (slot: number) => spec.endpoints[endpointIndex(slot)]!.address,
  };
  return new TlsLayer(host, layer, (inner) => plainProtocol(inner, spec, endpointIndex, salt));
}

function plainProtocol(
  host: ProtocolHost,
  spec: HolderSpec,
  endpointIndex: (slot: number) => number,
  salt: number,
): Protocol {
  const options = spec.protocolOptions ?? DEFAULT_PROTOCOL_OPTIONS;
  const defaultPort = defaultPortOf(spec.protocol) ?? 0;
  const authorities = spec.endpoints.map(
    ({ address, port }) => options.hostHeader ?? authorityOf(options.host ?? address, port, defaultPort),
  );
  const target: RequestTarget = { options, authority: (slot) => authorities[endpointIndex(slot)]! };
  switch (spec.protocol) {
    case 'echo':
      return new EchoProtocol(host, salt);
    case 'ws':
    case 'wss':
      return new WsProtocol(host, salt, target);
    case 'http':
    case 'https':
      return new HttpProtocol(host, target);
    default:
      return options.banner === null ? new SilentProtocol(host) : new BannerProtocol(host, options.banner);
  }
}
