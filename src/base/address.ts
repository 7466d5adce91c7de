/**
 * Owns IP addresses as values: parsing, canonical text, ranges and CIDR, family, loopback.
 * Must never ask the host which addresses it has (host/).
 */
import assert from 'node:assert/strict';
import { type BenchError, ErrorCode, usageError } from './errors.ts';
import { formatCount } from './units.ts';

export type Family = 4 | 6;

/** An address in canonical text: dotted quad, or RFC 5952 (lower case, the longest run of zeros compressed). */
interface ParsedAddress {
  readonly family: Family;
  readonly address: string;
}

/** The most addresses that one host can be asked to use: more than any neighbour table or interface carries. */
export const ADDRESSES_MAX = 65_536;

const V4_MAPPED_PREFIX = 0xffffn << 32n;
const BITS_OF_FAMILY: Readonly<Record<Family, number>> = { 4: 32, 6: 128 };

function badAddress(message: string, hint: string): BenchError {
  return usageError(ErrorCode.badAddress, message, hint);
}

/** The value of a dotted quad, or null. Leading zeros are refused: some programs read them as octal. */
function valueOfV4(text: string): bigint | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  let value = 0;
  for (const part of match.slice(1)) {
    if (Number(part) > 255 || (part.length > 1 && part.startsWith('0'))) return null;
    value = value * 256 + Number(part);
  }
  return BigInt(value);
}

/** The 16-bit groups of one side of `::`, or null. A dotted quad may stand for the last two groups. */
function groupsOf(side: string, isLastSide: boolean): number[] | null {
  if (side === '') return [];
  const groups: number[] = [];
  const parts = side.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      const v4 = isLastSide && index === parts.length - 1 ? valueOfV4(part) : null;
      if (v4 === null) return null;
      groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn));
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return null;
    }
  }
  return groups;
}

/** The value of an IPv6 literal, or null. */
function valueOfV6(text: string): bigint | null {
  const sides = text.split('::');
  if (sides.length > 2 || !text.includes(':')) return null;
  const head = groupsOf(sides[0] ?? '', sides.length === 1);
  const tail = sides.length === 2 ? groupsOf(sides[1] ?? '', true) : [];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  if (sides.length === 2 ? missing < 1 : missing !== 0) return null;
  let value = 0n;
  for (const group of [...head, ...new Array<number>(missing).fill(0), ...tail]) {
    value = value * 65_536n + BigInt(group);
  }
  return value;
}

/** Family and value of an IP literal, or null. */
function literalOf(text: string): { family: Family; value: bigint } | null {
  const v4 = valueOfV4(text);
  if (v4 !== null) return { family: 4, value: v4 };
  const v6 = valueOfV6(text);
  return v6 === null ? null : { family: 6, value: v6 };
}

function textOfV4(value: bigint): string {
  return [value >> 24n, (value >> 16n) & 255n, (value >> 8n) & 255n, value & 255n].join('.');
}

/** RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups as `::`. */
function textOfV6(value: bigint): string {
  if (value >> 32n === 0xffffn) return `::ffff:${textOfV4(value & 0xffff_ffffn)}`;
  const groups: string[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(((value >> shift) & 0xffffn).toString(16));
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start += 1) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === '0') length += 1;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
  }
  if (bestStart < 0) return groups.join(':');
  return `${groups.slice(0, bestStart).join(':')}::${groups.slice(bestStart + bestLength).join(':')}`;
}

/** Whether the text is an IP literal of either family; never throws. */
export function isAddress(text: string): boolean {
  return literalOf(text) !== null;
}

/**
 * Reads an IP literal. `::ffff:1.2.3.4` stays IPv6 and keeps its dotted quad (see `unmapV4`).
 * @param text an IPv4 or IPv6 literal without brackets and without zone
 * @returns family and canonical text
 * @throws BenchError `bad-address`, exit code 2
 */
export function parseAddress(text: string): ParsedAddress {
  const literal = literalOf(text.trim());
  if (literal === null) {
    const hint = text.includes('%')
      ? 'leave out the zone (the part from %): it is that of the target'
      : 'type an address such as 192.168.0.102 or 2001:db8::102';
    throw badAddress(`"${text}" is not an IP address`, hint);
  }
  return { family: literal.family, address: addressFromBigInt(literal.family, literal.value) };
}

/**
 * The address as an integer, to count and compare with.
 * @param text an IP literal
 * @returns 0 to 2^32-1 for IPv4, to 2^128-1 for IPv6
 * @throws BenchError `bad-address`
 */
export function addressToBigInt(text: string): bigint {
  const literal = literalOf(text.trim());
  return literal === null ? addressToBigInt(parseAddress(text).address) : literal.value;
}

/**
 * The canonical text of an integer.
 * @param family 4 or 6
 * @param value within the family's range (asserted)
 */
export function addressFromBigInt(family: Family, value: bigint): string {
  assert(
    value >= 0n && value >> BigInt(BITS_OF_FAMILY[family]) === 0n,
    `${value} is no IPv${family} address`,
  );
  return family === 4 ? textOfV4(value) : textOfV6(value);
}

/**
 * Consecutive addresses.
 * @param first an IP literal
 * @param count 0 to `ADDRESSES_MAX`, and within the family's range (asserted)
 */
export function addressRange(first: string, count: number): string[] {
  assert(Number.isInteger(count) && count >= 0 && count <= ADDRESSES_MAX, `${count} addresses`);
  const { family } = parseAddress(first);
  const start = addressToBigInt(first);
  return Array.from({ length: count }, (_, offset) => addressFromBigInt(family, start + BigInt(offset)));
}

/**
 * `1.2.3.4` for `::ffff:1.2.3.4`; any other address in canonical text.
 * @param address an IP literal
 * @throws BenchError `bad-address`
 */
export function unmapV4(address: string): string {
  const parsed = parseAddress(address);
  if (parsed.family === 4) return parsed.address;
  const value = addressToBigInt(parsed.address);
  return value >> 32n === 0xffffn ? textOfV4(value & 0xffff_ffffn) : parsed.address;
}

/** A network, or one address of it, as `address/prefix`. */
interface Cidr extends ParsedAddress {
  /** 0 to 32, or 128 */
  readonly prefix: number;
  /** the text had it; else it is that of one host */
  readonly hasPrefix: boolean;
}

/**
 * Reads `address/prefix`; an address alone is one host. Bits below the prefix stay as they are.
 * @throws BenchError `bad-address`, exit code 2
 */
export function parseCidr(text: string): Cidr {
  const [addressText = '', prefixText, ...rest] = text.trim().split('/');
  const parsed = parseAddress(addressText);
  const prefixMax = BITS_OF_FAMILY[parsed.family];
  const hasPrefix = prefixText !== undefined;
  const prefix = !hasPrefix ? prefixMax : /^\d{1,3}$/.test(prefixText) ? Number(prefixText) : -1;
  if (rest.length > 0 || prefix < 0 || prefix > prefixMax) throw badPrefix(text, parsed, prefixMax);
  return { ...parsed, prefix, hasPrefix };
}

function badPrefix(text: string, { address, family }: ParsedAddress, prefixMax: number): BenchError {
  return badAddress(
    `"${text}" has no valid prefix length (0 to ${prefixMax} for IPv${family})`,
    `type ${address}/${family === 4 ? 24 : 120}, or the address alone`,
  );
}

/**
 * The first and the last address of a network: of IPv4 the one that names it and its broadcast address.
 * @param cidr bits below the prefix are ignored
 * @throws BenchError `bad-address`
 */
export function networkEnds(cidr: string): { readonly first: string; readonly last: string } {
  const { family, address, prefix } = parseCidr(cidr);
  const hostBits = BigInt(BITS_OF_FAMILY[family] - prefix);
  const first = (addressToBigInt(address) >> hostBits) << hostBits;
  return {
    first: addressFromBigInt(family, first),
    last: addressFromBigInt(family, first + (1n << hostBits) - 1n),
  };
}

/** The network part of a value, as a number of `prefix` bits. */
function networkOf(value: bigint, family: Family, prefix: number): bigint {
  return value >> BigInt(BITS_OF_FAMILY[family] - prefix);
}

/**
 * Whether an address lies in a network. `::ffff:` forms count as IPv4 on both sides; the families must be equal.
 * @param cidr `10.0.0.0/8`, `fd00::/8`, or one address alone; bits below the prefix are ignored
 * @param address an IP literal
 * @throws BenchError `bad-address`
 */
export function cidrContains(cidr: string, address: string): boolean {
  const { prefix, ...named } = parseCidr(cidr);
  let net = { family: named.family, value: addressToBigInt(named.address), prefix };
  if (net.family === 6 && net.prefix >= 96 && net.value >> 32n === 0xffffn) {
    net = { family: 4, value: net.value - V4_MAPPED_PREFIX, prefix: net.prefix - 96 };
  }
  const plain = parseAddress(unmapV4(address));
  if (plain.family !== net.family) return false;
  const value = addressToBigInt(plain.address);
  return networkOf(value, net.family, net.prefix) === networkOf(net.value, net.family, net.prefix);
}

/**
 * Whether an address is this host's own whatever the host: 127.0.0.0/8, ::1, and their `::ffff:` forms.
 * @throws BenchError `bad-address`
 */
export function isLoopback(address: string): boolean {
  return cidrContains('127.0.0.0/8', address) || cidrContains('::1', address);
}

/** Whether an address is of use on one link only (fe80::/10, RFC 4291 section 2.5.6). @param address canonical */
export function isLinkLocal(address: string): boolean {
  return /^fe[89ab][0-9a-f]:/.test(address);
}

/**
 * An address as `ip`, `ss` and Node take it: a link-local one with its zone, the device of its link.
 * @param address canonical
 * @param zone of the target; absent: it has none
 */
export function withZone(address: string, zone: string | undefined): string {
  return zone !== undefined && isLinkLocal(address) ? `${address}%${zone}` : address;
}

/** The address of a listener, for others. @param asked for @param bound as Node says it, which leaves out the zone of a link-local address */
export function boundHost(asked: string, bound: string): string {
  return asked.includes('%') ? asked : bound;
}

const PRIVATE_NETWORKS = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  'fc00::/7',
] as const;

/**
 * Whether an address belongs to a private network: RFC 1918, carrier-grade NAT (RFC 6598), and for IPv6 unique-local
 * (RFC 4193). Loopback is not among them, and neither is link-local: in every cloud that is the metadata service.
 * @throws BenchError `bad-address`
 */
export function isPrivate(address: string): boolean {
  return PRIVATE_NETWORKS.some((network) => cidrContains(network, address));
}

/** First address and number of addresses that one item stands for. */
interface Block {
  readonly family: Family;
  readonly first: bigint;
  readonly count: bigint;
}

function blockOfRange(item: string): Block {
  const [fromText = '', toText = '', ...rest] = item.split('-').map((part) => part.trim());
  if (rest.length > 0) throw badAddress(`"${item}" is not a range`, 'type first-last, one range per item');
  const from = parseAddress(unmapV4(fromText));
  if (/^\d{1,3}$/.test(toText) && from.family === 4) {
    const last = `${from.address.slice(0, from.address.lastIndexOf('.'))}.${toText}`;
    throw badAddress(`"${item}" needs a whole address after the dash`, `type ${from.address}-${last}`);
  }
  const to = parseAddress(unmapV4(toText));
  if (from.family !== to.family) {
    throw badAddress(`"${item}" mixes IPv4 and IPv6 in one range`, 'type one range for each family');
  }
  const first = addressToBigInt(from.address);
  const last = addressToBigInt(to.address);
  if (last < first) {
    throw badAddress(`"${item}" ends before it starts`, `type ${to.address}-${from.address}`);
  }
  return { family: from.family, first, count: last - first + 1n };
}

function blockOfCidr(item: string): Block {
  const { family, address, prefix } = parseCidr(item);
  const hostBits = BigInt(BITS_OF_FAMILY[family] - prefix);
  const { first: network } = networkEnds(item);
  const first = addressToBigInt(network);
  if (network !== address) {
    throw badAddress(
      `"${item}" is an address inside a network, not a network`,
      `type ${address} for this one address, or ${network}/${prefix} for all of them`,
    );
  }
  const count = 1n << hostBits;
  // An IPv4 network's first address names it and its last one is the broadcast; /31 and /32 have neither (RFC 3021).
  return family === 4 && prefix < 31
    ? { family, first: first + 1n, count: count - 2n }
    : { family, first, count };
}

function blockOf(item: string): Block {
  if (item.includes('/')) return blockOfCidr(item);
  if (item.includes('-')) return blockOfRange(item);
  const { family, address } = parseAddress(unmapV4(item));
  return { family, first: addressToBigInt(address), count: 1n };
}

/**
 * Writes out addresses, ranges and networks, in the order in which they stand.
 * @param texts each one item or several with commas: `10.0.0.7`, `10.0.0.2-10.0.0.9`, `10.0.0.0/28`, `fd00::/120`.
 *   Of an IPv4 network shorter than /31 the network and the broadcast address are left out; `::ffff:` forms become IPv4.
 * @returns canonical addresses, no two equal, at most `ADDRESSES_MAX`
 * @throws BenchError `bad-address`, exit code 2
 */
export function expandAddresses(texts: readonly string[]): string[] {
  const seen = new Set<string>();
  let total = 0n;
  for (const item of texts.flatMap((text) => text.split(',')).map((part) => part.trim())) {
    if (item === '') {
      throw badAddress(
        'an address is missing',
        'type addresses with one comma between them, such as 10.0.0.2,10.0.0.3',
      );
    }
    const block = blockOf(item);
    total += block.count;
    if (total > BigInt(ADDRESSES_MAX)) {
      throw badAddress(
        `"${item}" brings the source addresses to ${formatCount(Number(total))}; at most ${formatCount(ADDRESSES_MAX)} are possible`,
        `type a smaller network or range, such as ${addressFromBigInt(block.family, block.first)}/${block.family === 4 ? 24 : 120}`,
      );
    }
    for (let offset = 0n; offset < block.count; offset += 1n) {
      const address = addressFromBigInt(block.family, block.first + offset);
      if (seen.has(address)) {
        throw badAddress(`${address} is named twice (again in "${item}")`, `leave it out once`);
      }
      seen.add(address);
    }
  }
  return [...seen];
}
