/**
 * Owns the interface behind which the ways to drive sockets differ, and what a failed open means for the quota.
 * Must never know which driver runs, and hold no state.
 *
 *   engine -> driver : open, send, close, turn, park
 *   driver -> engine : connected, failed, bytes, ended, writable   (pulled by next(), one after the other)
 *
 * A connection is named by the engine's slot. From open() to close() the slot is the engine's, also after `failed` and
 * `ended`; no event of a connection comes after its close(), and the slot may be opened again immediately. Nothing is
 * allocated per connection, and no method but the constructors throws for what the kernel says.
 */
import { FailReason, SkipReason } from '../../base/outcome.ts';
import { Errno, failReasonOf, isOutOfDescriptors } from '../libc.ts';
import type { SockAddr } from './sockaddr.ts';

/** What `next` brings. */
export const DriverEvent = {
  /** there is no further event in this turn */
  none: 0,
  /** the kernel has connected */
  connected: 1,
  /** the open has failed at `step` with errno `value` */
  failed: 2,
  /** `value` bytes have come: the first of `bytes` */
  bytes: 3,
  /** the connection is over: `value` is 0 after FIN, otherwise the errno; all bytes before it have been delivered */
  ended: 4,
  /** after a short send: the socket takes bytes again */
  writable: 5,
} as const;
export type DriverEvent = (typeof DriverEvent)[keyof typeof DriverEvent];

/** Which call of an open has failed; an errno means different things in different calls. */
export const OpenStep = { socket: 1, option: 2, bind: 3, connect: 4, watch: 5 } as const;
export type OpenStep = (typeof OpenStep)[keyof typeof OpenStep];

/** Slots that `hasHeard` is asked for in one call. */
export const HEARD_MAX = 512;

/** How our side ends a connection. With `rst` nothing stays behind; what is not sent yet is lost. */
export type CloseHow = 'fin' | 'rst';

/** What a driver is made for. */
export interface DriverOptions {
  /** slots, at least 1 */
  readonly capacity: number;
  /** by source index; the port is given to `open` and written into these bytes */
  readonly sources: readonly SockAddr[];
  /** by endpoint index */
  readonly endpoints: readonly SockAddr[];
}

/** One way to drive sockets. */
export interface Driver {
  readonly name: 'uring' | 'epoll';
  readonly capacity: number;
  /** bytes that the kernel has taken from us since the start */
  readonly bytesSent: number;

  /** What `next` has last brought is about: the slot, and what DriverEvent says of the other three. */
  readonly slot: number;
  readonly value: number;
  readonly step: OpenStep;
  /** shared by all connections: overwritten after the next call of `next` */
  readonly bytes: Uint8Array;

  /**
   * Begins socket, SO_REUSEADDR, bind and connect; the outcome comes as `connected` or `failed`.
   * @param source index into the sources
   * @param port 1 to 65,535
   * @param endpoint index into the endpoints
   * @returns false when nothing was begun, because closes are on their way whose room it needs: try in a later turn
   */
  open(slot: number, source: number, port: number, endpoint: number): boolean;
  /**
   * Sends what the socket takes; the buffer is the caller's again when this returns. An error comes as `ended`.
   * @param length at least 1
   * @returns bytes taken; below `length`: `writable` follows when there is a point in trying again
   */
  send(slot: number, buffer: Uint8Array, length: number): number;
  /** Ends the slot's connection, in whatever state it is, after what `send` has taken (`fin`). Once. */
  close(slot: number, how: CloseHow): void;
  /** Whether the kernel has done all that was asked for, once every slot is closed; each turn brings it nearer. */
  readonly isDrained: boolean;
  /**
   * TCP_INFO of the slot's socket, asked now; for few connections: it costs several system calls.
   * @param info receives struct tcp_info (linux/tcp.h), as much as fits
   * @returns bytes written, or -errno
   */
  tcpInfo(slot: number, info: Uint8Array): number;
  /** One TCP keepalive of the slot's socket, or none any more, as libc.ts says. */
  setKeepalive(slot: number, isOn: boolean): void;
  /** One window probe of the slot's socket, as libc.ts says; only where `mayProbeWindow` is. */
  probeWindow(slot: number): void;
  /** From now on `hasHeard` says whether any segment of the far kernel has come. */
  beginHearing(slot: number): void;
  /**
   * Whether a segment has come on each of the slots since its `beginHearing`, asked now and for many together.
   * @param slots the first `count` of them, at most HEARD_MAX
   * @param isHeard receives 1 or 0 for each
   * @returns false: this driver does not know better than TCP_INFO, and nothing was written
   */
  hasHeard(slots: Int32Array, count: number, isHeard: Uint8Array): boolean;
  /** Whether something that has happened is known to be there for `next`, in this turn or a later one. */
  hasMore(): boolean;
  /**
   * The slot's socket becomes a common, non-blocking descriptor that belongs to the caller; the driver says nothing of
   * it any more, and `close` does no more than set that its last close resets (`rst`): call it before yours. For a connected slot whose `send`s are done.
   * @returns the descriptor, or -errno: then nothing has changed
   */
  detach(slot: number): number;

  /**
   * Begins a turn: gives the kernel what was begun, and takes what has happened; waits only when that is nothing.
   * What the last turn brought must have been pulled to the end.
   * @param waitMs at most so long, in this thread; 0: does not wait
   * @returns whether `next` has anything
   */
  turn(waitMs: number): boolean;
  /** Gives the kernel what was begun, without waiting for the next turn. */
  flush(): void;
  /** The next event of this turn, or DriverEvent.none. */
  next(): DriverEvent;
  /**
   * Waits in a worker thread until something has happened, so that Node's loop goes on; turn(0) brings what it was.
   * @param done one shared function; not called when the driver ends meanwhile
   */
  park(waitMs: number, done: () => void): void;
  /** Ends a running park() soon. */
  wake(): void;
  /** Gives everything back to the kernel. Connections that are not closed are left to it: they end with FIN or RST. */
  end(): void;
}

/** What a failed open means for the quota. */
export type OpenOutcome =
  | { readonly kind: 'skipped'; readonly skip: SkipReason }
  /** `isFinal`: every further socket would fail too */
  | { readonly kind: 'failed'; readonly fail: FailReason; readonly isFinal: boolean };

const PORT_IN_USE: OpenOutcome = { kind: 'skipped', skip: SkipReason.portInUse };
const TUPLE_IN_USE: OpenOutcome = { kind: 'skipped', skip: SkipReason.tupleInUse };
const SOURCE_LOST: OpenOutcome = { kind: 'failed', fail: FailReason.sourceLost, isFinal: false };
const NO_SOCKETS: OpenOutcome = { kind: 'failed', fail: FailReason.descriptors, isFinal: true };
const FAILED_OTHERWISE: OpenOutcome = { kind: 'failed', fail: FailReason.other, isFinal: false };
/** One record for each reason, so that nothing is allocated for a failure. */
const FAILED: ReadonlyMap<FailReason, OpenOutcome> = new Map(
  Object.values(FailReason).map((fail) => [fail, { kind: 'failed', fail, isFinal: false }]),
);

/**
 * The meaning of an errno of an open.
 * @param errno positive
 */
export function openOutcomeOf(step: OpenStep, errno: number): OpenOutcome {
  if (step === OpenStep.socket && isOutOfDescriptors(errno)) return NO_SOCKETS;
  if (step === OpenStep.bind) {
    if (errno === Errno.EADDRINUSE) return PORT_IN_USE;
    // At bind EADDRNOTAVAIL means that the address is not (any more) ours: ip(7).
    if (errno === Errno.EADDRNOTAVAIL) return SOURCE_LOST;
  }
  // At connect EADDRNOTAVAIL means that this very 4-tuple exists (__inet_check_established).
  if (step === OpenStep.connect && errno === Errno.EADDRNOTAVAIL) return TUPLE_IN_USE;
  return FAILED.get(failReasonOf(errno)) ?? FAILED_OTHERWISE;
}
