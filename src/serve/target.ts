/**
 * Owns what a worker's connections look like from outside, whichever engine drives them, and what both say and decide alike.
 * Must never know a descriptor.
 */
import { unmapV4 } from '../base/address.ts';
import { addressOf, Errno, portOf } from '../engine/libc.ts';
import type { SourceCount, WorkerTotals } from './serve-counts.ts';

/** The connections of one worker: they begin with a listener that it owns from then on. */
export interface Target {
  /** Runs until `close`. */
  start(): void;
  totals(): WorkerTotals;
  /** Source addresses with open connections, at most `SOURCES_LISTED_MAX`. */
  sources(): SourceCount[];
  /** Closes the listener and every connection, and lets the loop end. */
  close(): void;
}

/** A worker with more sources than this reports this many: an IPC message stays below some megabytes. */
export const SOURCES_LISTED_MAX = 65_536;

/**
 * `192.168.0.1:40001` or `[2001:db8::1]:40001` with a line end: where a peer comes from, as the kernel tells it.
 * @param peer the peer's sockaddr, IPv4 or IPv6
 */
export function whoamiLine(peer: Uint8Array): string {
  const address = unmapV4(addressOf(peer));
  return `${address.includes(':') ? `[${address}]` : address}:${portOf(peer)}\n`;
}

/**
 * Whether accept(2) or a watch failed for lack of a descriptor, a watch or memory: it will fail again until some is freed.
 * @param code -errno
 */
export function isOutOfRoom(code: number): boolean {
  const { EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC } = Errno;
  return code === -EMFILE || code === -ENFILE || code === -ENOBUFS || code === -ENOMEM || code === -ENOSPC;
}

/**
 * Whether a call is to be made again later.
 * @param code -errno
 */
export function isTransient(code: number): boolean {
  return code === -Errno.EAGAIN || code === -Errno.EINTR;
}
