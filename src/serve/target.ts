/**
 * Owns what a worker's connections look like from outside, whichever engine drives them, and what both say and decide alike.
 * Must never know a descriptor.
 */
import { unmapV4 } from '../base/address.ts';
import { BACKEND_NAME_MAX, WHOAMI_NAME_PREFIX } from '../base/backend-pattern.ts';
import { cleanText } from '../base/clean-text.ts';
import { addressOf, portOf } from '../engine/drivers/sockaddr.ts';
import { Errno } from '../engine/libc.ts';
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

/** Room for what `whoamiText` says: two lines, with an IPv6 address and the longest name. */
export const WHOAMI_TEXT_BYTES_MAX = 128;

/**
 * Where a peer comes from, as the kernel tells it, then who says so: `192.168.0.1:40001` or `[2001:db8::1]:40001`, and on a line of its own
 * `at NAME`. Clients before the second line read the first alone.
 * @param peer the peer's sockaddr, IPv4 or IPv6
 * @param name from `serverName`
 */
export function whoamiText(peer: Uint8Array, name: string): string {
  const address = unmapV4(addressOf(peer));
  return `${address.includes(':') ? `[${address}]` : address}:${portOf(peer)}\n${WHOAMI_NAME_PREFIX}${name}\n`;
}

/** What a target calls itself, at most 64 characters: two of one host differ by their ports. */
export function serverName(hostname: string, port: number): string {
  const end = `:${port}`;
  return `${cleanText(hostname)
    .trim()
    .slice(0, BACKEND_NAME_MAX - end.length)}${end}`;
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
