/**
 * Owns addresses as the kernel takes them: a sockaddr of either family, with the zone of a link-local one, and its text.
 * Must never call the kernel but for the index of a device.
 */
import assert from 'node:assert/strict';
import { isLinkLocal } from '../../base/address.ts';
import { AF_INET, AF_INET6, deviceIndex } from '../libc.ts';

/** Room for either family (sizeof struct sockaddr_in6 is 28). */
export const SOCKADDR_BYTES_MAX = 28;
const SOCKADDR_IN_BYTES = 16;
/** offset of sin6_scope_id in `struct sockaddr_in6` (linux/in6.h) */
const SCOPE_AT = 24;

/** A sockaddr whose port can be changed in place, so that the per-connection path allocates nothing. */
export interface SockAddr {
  readonly family: number;
  readonly bytes: Uint8Array;
  readonly length: number;
}

/** Parses an IPv6 literal (no zone) into 16 bytes. `text` must be valid: callers pass canonical addresses. */
function ipv6Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const [head = '', tail] = text.split('::');
  const groups = (part: string): number[] =>
    part === ''
      ? []
      : part.split(':').flatMap((group) => {
          if (!group.includes('.')) return [Number.parseInt(group, 16)];
          const quad = group.split('.').map(Number);
          return [quad[0]! * 256 + quad[1]!, quad[2]! * 256 + quad[3]!];
        });
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  assert(tail === undefined ? before.length === 8 : before.length + after.length < 8, `not IPv6: ${text}`);
  before.forEach((group, index) => {
    bytes[index * 2] = group >> 8;
    bytes[index * 2 + 1] = group & 255;
  });
  after.forEach((group, index) => {
    const at = 16 - (after.length - index) * 2;
    bytes[at] = group >> 8;
    bytes[at + 1] = group & 255;
  });
  return bytes;
}

/**
 * The sockaddr of an IP literal and a port.
 * @param address canonical IPv4 or IPv6 literal without zone
 * @param port 0 to 65,535
 * @param zone of a link-local address: the device of its link; ignored for any other
 */
export function sockAddr(address: string, port: number, zone?: string): SockAddr {
  const isV6 = address.includes(':');
  const bytes = new Uint8Array(SOCKADDR_BYTES_MAX);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isV6 ? AF_INET6 : AF_INET, true);
  if (isV6) {
    bytes.set(ipv6Bytes(address), 8);
    // sin6_scope_id, in the byte order of the host. 0, where there is no such device: the kernel refuses that with EINVAL.
    if (zone !== undefined && isLinkLocal(address)) view.setUint32(SCOPE_AT, deviceIndex(zone), true);
  } else {
    const quad = address.split('.').map(Number);
    assert(quad.length === 4 && quad.every((part) => part >= 0 && part <= 255), `not IPv4: ${address}`);
    bytes.set(quad, 4);
  }
  const made = {
    family: isV6 ? AF_INET6 : AF_INET,
    bytes,
    length: isV6 ? SOCKADDR_BYTES_MAX : SOCKADDR_IN_BYTES,
  };
  setPort(made, port);
  return made;
}

/** Writes the port (network byte order, offset 2 in both families) in place. */
export function setPort(address: SockAddr, port: number): void {
  address.bytes[2] = port >> 8;
  address.bytes[3] = port & 255;
}

/** The port of a sockaddr that the kernel filled in. */
export function portOf(bytes: Uint8Array): number {
  return bytes[2]! * 256 + bytes[3]!;
}

/** The address of a sockaddr that the kernel filled in, as text; allocates: not for the per-connection path. */
export function addressOf(bytes: Uint8Array): string {
  const family = bytes[0]! + bytes[1]! * 256;
  if (family === AF_INET) return `${bytes[4]}.${bytes[5]}.${bytes[6]}.${bytes[7]}`;
  return ipv6Text(bytes, 8);
}

/** RFC 5952 text of 16 bytes at `offset`: the longest run of two or more zero groups becomes `::`. */
function ipv6Text(bytes: Uint8Array, offset: number): string {
  const groups = Array.from(
    { length: 8 },
    (_, i) => bytes[offset + i * 2]! * 256 + bytes[offset + i * 2 + 1]!,
  );
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (bestStart < 0) return hex(groups);
  return `${hex(groups.slice(0, bestStart))}::${hex(groups.slice(bestStart + bestLength))}`;
}
