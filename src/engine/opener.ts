/**
 * Owns how an engine's connections are begun: when the next connect is due, the socket with its explicit source, and what
 * becomes of a connect that cannot be. Must never decide what happens to a connection that is on its way (connections.ts).
 *
 * Never bind(ip, 0) and never the kernel's own search: both slow down as ports fill. All times are milliseconds since the
 * engine's start, where nothing else is said.
 */

import assert from 'node:assert/strict';
import type { Clock } from '../base/clock.ts';
import { DropReason, FailReason, SkipReason } from '../base/outcome.ts';
import { TupleMap, type TupleSpace } from '../base/tuple-space.ts';
import type { HolderSpec } from '../run/run-spec.ts';
import { LatencyRecorder } from '../stats/histogram.ts';
import { Backlog } from './backlog.ts';
import { type ConnectionTable, SlotFlag } from './connection-table.ts';
import type { EvidenceRecorder } from './evidence-recorder.ts';
import * as libc from './libc.ts';
import { failReasonOf, isOutOfDescriptors, type SockAddr, setPort, sockAddr } from './libc.ts';
import { Pacer } from './pacer.ts';
import { type Poller, WATCHED } from './poller.ts';
import type { ProtocolHost } from './protocols/protocol.ts';
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
  readonly poller: Poller;
  readonly tally: Tally;
  /** gets the slot of a connect that the kernel would not watch */
  readonly engine: Pick<ProtocolHost, 'lost'> & { readonly evidence: EvidenceRecorder };
  /** one line for a person; each kind of warning once */
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
    engine.evidence.called(slot);
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
    const isOne = count === 1 && reason !== FailReason.sourceExhausted;
    const tuple = isOne ? this.#dialer.tuple : -1;
    this.#parts.engine.evidence.notCalled(tuple, reason, count - reopenings, nowMs);
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

/** What `dial` returns instead of a descriptor. */
const Dial = {
  /** the tuple is in use on this host: `skipReason` says how; the quota is untouched */
  skipped: -1,
  /** no tuple left */
  exhausted: -2,
  /** one connection of the quota failed before it was on its way: `failReason` */
  failed: -3,
  /** as `failed`, and every further socket would fail too */
  outOfDescriptors: -4,
} as const;

/** Opens connections from one slice of the tuple space. `dial` allocates nothing. */
class Dialer {
  readonly map: TupleMap;
  readonly #supply: TupleSupply;
  readonly #sources: readonly SockAddr[];
  readonly #endpoints: readonly SockAddr[];
  /** ports of endpoints that a source address could meet itself at, one set per source address */
  readonly #selfPorts: readonly ReadonlySet<number>[];
  /** the tuple of the last `dial` */
  tuple = -1;
  failReason: FailReason = FailReason.other;
  skipReason: SkipReason = SkipReason.portInUse;

  /** @param supply hands out tuples of `space` */
  constructor(space: TupleSpace, supply: TupleSupply) {
    this.map = new TupleMap(space);
    this.#supply = supply;
    this.#sources = space.addresses.map((address) => sockAddr(address, 0));
    this.#endpoints = space.endpoints.map(({ address, port }) => sockAddr(address, port));
    // Any endpoint, not only the tuple's own: two of our connects that cross each other would also meet. An
    // endpoint at the unspecified address is wherever the source is (ip_route_output_key in net/ipv4/route.c).
    this.#selfPorts = space.addresses.map(
      (source) =>
        new Set(
          space.endpoints
            .filter(({ address }) => address === source || address === '0.0.0.0' || address === '::')
            .map(({ port }) => port),
        ),
    );
  }

  /**
   * Starts one connect from the next tuple.
   * @param nowMs never goes back
   * @returns the descriptor (its connect is on its way), or a value of `Dial`
   */
  dial(nowMs: number): number {
    const tuple = this.#supply.take(nowMs);
    if (tuple < 0) return Dial.exhausted;
    this.tuple = tuple;
    const source = this.map.addressIndexAt(tuple);
    const port = this.map.portAt(tuple);
    // A connect to oneself succeeds without any target (TCP simultaneous open, RFC 9293 section 3.5). The source is
    // explicit, so it is known before the first packet; nothing has to be compared after connect. Such a tuple never
    // becomes usable, so the supply does not get it back.
    if (this.#selfPorts[source]!.has(port)) {
      this.skipReason = SkipReason.selfConnect;
      return Dial.skipped;
    }
    const from = this.#sources[source]!;
    const fd = libc.tcpSocket(from.family);
    if (fd < 0) {
      this.#fail(failReasonOf(-fd), nowMs);
      return isOutOfDescriptors(-fd) ? Dial.outOfDescriptors : Dial.failed;
    }
    // With SO_REUSEADDR one (address, port) serves several endpoints, and one in TIME_WAIT can be bound.
    const set = libc.setIntOption(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
    assert(set === 0, 'SO_REUSEADDR on a fresh socket');
    setPort(from, port);
    const bound = libc.bind(fd, from.bytes, from.length);
    if (bound < 0) return this.#bindFailed(fd, -bound, nowMs);
    const to = this.#endpoints[this.map.endpointIndexAt(tuple)]!;
    const connected = libc.connect(fd, to.bytes, to.length);
    if (connected === 0 || connected === -libc.Errno.EINPROGRESS) return fd;
    return this.#connectFailed(fd, -connected, nowMs);
  }

  #bindFailed(fd: number, errno: number, nowMs: number): number {
    libc.close(fd);
    if (errno === libc.Errno.EADDRINUSE) return this.#skip(SkipReason.portInUse, nowMs);
    // At bind EADDRNOTAVAIL means that the address is not (any more) ours: ip(7).
    return this.#fail(
      errno === libc.Errno.EADDRNOTAVAIL ? FailReason.sourceLost : failReasonOf(errno),
      nowMs,
    );
  }

  #connectFailed(fd: number, errno: number, nowMs: number): number {
    libc.close(fd);
    // At connect EADDRNOTAVAIL means that this very 4-tuple exists (__inet_check_established).
    if (errno === libc.Errno.EADDRNOTAVAIL) return this.#skip(SkipReason.tupleInUse, nowMs);
    return this.#fail(failReasonOf(errno), nowMs);
  }

  #skip(reason: SkipReason, nowMs: number): number {
    this.skipReason = reason;
    this.#supply.skipped(this.tuple, nowMs);
    return Dial.skipped;
  }

  #fail(reason: FailReason, nowMs: number): number {
    this.failReason = reason;
    this.#supply.freed(this.tuple, nowMs);
    return Dial.failed;
  }
}
