/**
 * Owns opening one connection from an explicit source: socket, bind, connect, and what their errors mean.
 * Must never wait, count or retry by itself: the engine decides when, and keeps the books.
 *
 * Never bind(ip, 0) and never the kernel's own search: both slow down as ports fill.
 */
import assert from 'node:assert/strict';
import { FailReason, SkipReason } from '../base/outcome.ts';
import { TupleMap, type TupleSpace } from '../base/tuple-space.ts';
import { failReasonOf, isOutOfDescriptors } from './errno-reason.ts';
import * as libc from './libc.ts';
import { type SockAddr, setPort, sockAddr } from './sockaddr.ts';
import type { TupleSupply } from './tuple-supply.ts';

/** What `dial` returns instead of a descriptor. */
export const Dial = {
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
export class Dialer {
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
