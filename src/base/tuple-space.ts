/**
 * Owns the numbering of possible connections: one integer per 4-tuple, and slices of them.
 * Must never know which tuples are in use (engine/opener.ts).
 */
import assert from 'node:assert/strict';
import { type Family, parseAddress } from './address.ts';
import type { Endpoint } from './endpoint.ts';
import { type BenchError, ErrorCode, usageError } from './errors.ts';
import { counted, flagWith } from './units.ts';

/** An inclusive range of ports. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** Everything that one host can open. */
export interface TupleSpace {
  readonly addresses: readonly string[];
  readonly ports: readonly PortRange[];
  readonly endpoints: readonly Endpoint[];
}

/** `[from, to)` of tuple indexes. */
export interface Slice {
  readonly from: number;
  readonly to: number;
}

/**
 * The number of ports in disjoint ranges.
 * @returns 0 to 65,535
 */
export function portCount(ranges: readonly PortRange[]): number {
  let count = 0;
  for (const { from, to } of ranges) count += to - from + 1;
  return count;
}

/**
 * What a number of tuples is the product of, in words: a source address reaches endpoints of its own family only.
 * @param addresses IP literals
 * @param endpointFamilies one for each endpoint
 * @param ports source ports of each address
 * @returns `2 source addresses x 64,512 ports x 1 endpoint`; with both families a sum of two such products
 */
export function tupleFactors(
  addresses: readonly string[],
  endpointFamilies: readonly Family[],
  ports: number,
): string {
  const families = [...addresses.map((address) => parseAddress(address).family), ...endpointFamilies];
  const isMixed = families.includes(4) && families.includes(6);
  const product = (some: number, family: string, ends: number): string =>
    `${counted(some, `${family}source address`, `${family}source addresses`)} x ${counted(ports, 'port')} x ` +
    counted(ends, `${family}endpoint`);
  if (!isMixed) return product(addresses.length, '', endpointFamilies.length);
  const terms = ([4, 6] as const).flatMap((family) => {
    const some = addresses.filter((address) => parseAddress(address).family === family).length;
    const ends = endpointFamilies.filter((one) => one === family).length;
    return some * ends === 0 ? [] : [product(some, `IPv${family} `, ends)];
  });
  return terms.length === 0 ? 'no source address has the family of an endpoint' : terms.join(' + ');
}

function badPorts(message: string, hint: string): BenchError {
  return usageError(ErrorCode.badPorts, message, hint);
}

/** Ports as `parsePortRanges` reads them: `20000-20999,30000`. */
export function formatPortRanges(ranges: readonly PortRange[]): string {
  return ranges.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}

/**
 * Reads source ports in order of preference: `20000-20999,30000`.
 * @param text as typed
 * @param origin the flag, or what it came from, for the hint
 * @returns disjoint ranges within 1 to 65535, in the order in which they were typed
 * @throws BenchError `bad-ports`, exit code 2
 */
export function parsePortRanges(text: string, origin = '--source-ports'): PortRange[] {
  const ranges: PortRange[] = [];
  for (const item of text.split(',').map((part) => part.trim())) {
    const match = /^(\d+)(?:\s*-\s*(\d+))?$/.exec(item);
    if (match === null) {
      throw badPorts(
        `"${item}" is not a port or a range of ports`,
        `type ${flagWith(origin, '20000-20999,30000')}`,
      );
    }
    const from = Number(match[1]);
    const to = match[2] === undefined ? from : Number(match[2]);
    for (const port of [from, to]) {
      if (port < 1 || port > 65_535) {
        throw badPorts(`port ${port} is outside 1 to 65535`, `type ${flagWith(origin, '1024-65535')}`);
      }
    }
    if (to < from) {
      throw badPorts(
        `the port range ${item} ends before it starts`,
        `type ${flagWith(origin, `${to}-${from}`)}`,
      );
    }
    const overlap = ranges.find((range) => from <= range.to && to >= range.from);
    if (overlap !== undefined) {
      const low = Math.min(from, overlap.from);
      const high = Math.max(to, overlap.to);
      throw badPorts(
        `the ports ${overlap.from}-${overlap.to} and ${from}-${to} overlap`,
        `type ${flagWith(origin, `${low}-${high}`)}`,
      );
    }
    ranges.push({ from, to });
  }
  return ranges;
}

/**
 * Ranges without certain ports, in the same order.
 * @param ranges disjoint
 * @param minus in any order, may overlap
 */
export function subtractPorts(ranges: readonly PortRange[], minus: readonly PortRange[]): PortRange[] {
  const holes = [...minus].sort((a, b) => a.from - b.from);
  const left: PortRange[] = [];
  for (const range of ranges) {
    let from = range.from;
    for (const hole of holes) {
      if (hole.to < from) continue;
      if (hole.from > range.to) break;
      if (hole.from > from) left.push({ from, to: hole.from - 1 });
      from = hole.to + 1;
    }
    if (from <= range.to) left.push({ from, to: range.to });
  }
  return left;
}

/** Every port of the ranges in order; a table costs at most 128 KiB and answers in one step. */
function portTableOf(ranges: readonly PortRange[]): Uint16Array {
  const table = new Uint16Array(portCount(ranges));
  let next = 0;
  for (const { from, to } of ranges) {
    assert(from >= 1 && to <= 65_535 && from <= to, `the port range ${from}-${to}`);
    for (let port = from; port <= to; port += 1) {
      table[next] = port;
      next += 1;
    }
  }
  let endsAt = 0;
  for (const { from, to } of ranges.toSorted((one, other) => one.from - other.from)) {
    assert(from > endsAt, `port ${from} is in two ranges: two indexes would be one tuple`);
    endsAt = to;
  }
  return table;
}

/** The positions at which a predicate holds. */
function positionsOf<Item>(items: readonly Item[], holds: (item: Item) => boolean): Uint32Array {
  return Uint32Array.from(items.flatMap((item, index) => (holds(item) ? [index] : [])));
}

/** Where a number stands among numbers in ascending order; -1: it is not among them. */
function positionIn(sorted: Uint32Array, wanted: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = sorted[middle]!;
    if (found === wanted) return middle;
    if (found < wanted) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/**
 * A tuple space made ready to be asked once per connection: no method allocates.
 *
 * Index `i` is `port * pairs + pair`. A pair is (source address, endpoint) of one family: first the IPv4 pairs, then
 * the IPv6 pairs, in each the address varying fastest. Indexes can exceed 2^32, so no bit operators here.
 */
export class TupleMap {
  /** the number of tuples; indexes are 0 to size - 1 */
  readonly size: number;
  /** the number of (address, endpoint) pairs that share each port */
  readonly pairs: number;
  readonly #pairsV4: number;
  readonly #addressesV4: Uint32Array;
  readonly #addressesV6: Uint32Array;
  readonly #endpointsV4: Uint32Array;
  readonly #endpointsV6: Uint32Array;
  readonly #ports: Uint16Array;
  /** by port, its position; made when it is asked for */
  #positions = new Int32Array(0);

  /**
   * @param space addresses as IP literals, no two equal; disjoint port ranges (asserted); endpoints, no two equal
   * @throws BenchError `bad-address` for an address that is no literal
   */
  constructor(space: TupleSpace) {
    const families = space.addresses.map((address) => parseAddress(address).family);
    this.#addressesV4 = positionsOf(families, (family) => family === 4);
    this.#addressesV6 = positionsOf(families, (family) => family === 6);
    this.#endpointsV4 = positionsOf(space.endpoints, (endpoint) => endpoint.family === 4);
    this.#endpointsV6 = positionsOf(space.endpoints, (endpoint) => endpoint.family === 6);
    this.#ports = portTableOf(space.ports);
    this.#pairsV4 = this.#addressesV4.length * this.#endpointsV4.length;
    this.pairs = this.#pairsV4 + this.#addressesV6.length * this.#endpointsV6.length;
    this.size = this.pairs * this.#ports.length;
    assert(Number.isSafeInteger(this.size), 'the tuple space is too large to be numbered');
  }

  /** The position of the tuple's source address in `space.addresses`. `index` is 0 to size - 1. */
  addressIndexAt(index: number): number {
    const pair = index % this.pairs;
    if (pair < this.#pairsV4) return this.#addressesV4[pair % this.#addressesV4.length]!;
    return this.#addressesV6[(pair - this.#pairsV4) % this.#addressesV6.length]!;
  }

  /** The position of the tuple's endpoint in `space.endpoints`. `index` is 0 to size - 1. */
  endpointIndexAt(index: number): number {
    const pair = index % this.pairs;
    if (pair < this.#pairsV4) return this.#endpointsV4[Math.floor(pair / this.#addressesV4.length)]!;
    return this.#endpointsV6[Math.floor((pair - this.#pairsV4) / this.#addressesV6.length)]!;
  }

  /** The tuple's source port. `index` is 0 to size - 1. */
  portAt(index: number): number {
    return this.#ports[Math.floor(index / this.pairs)]!;
  }

  /**
   * The index of a tuple, whose address and endpoint are of one family; -1: its port is none of the space.
   * @param addressIndex position in `space.addresses`
   * @param endpointIndex position in `space.endpoints`
   */
  indexOf(addressIndex: number, endpointIndex: number, port: number): number {
    const at = this.#portPositions()[port] ?? -1;
    if (at < 0) return -1;
    const addressV4 = positionIn(this.#addressesV4, addressIndex);
    const pair =
      addressV4 >= 0
        ? positionIn(this.#endpointsV4, endpointIndex) * this.#addressesV4.length + addressV4
        : this.#pairsV4 +
          positionIn(this.#endpointsV6, endpointIndex) * this.#addressesV6.length +
          positionIn(this.#addressesV6, addressIndex);
    return at * this.pairs + pair;
  }

  #portPositions(): Int32Array {
    if (this.#positions.length > 0) return this.#positions;
    this.#positions = new Int32Array(65_536).fill(-1);
    for (const [at, port] of this.#ports.entries()) this.#positions[port] = at;
    return this.#positions;
  }
}

/**
 * Cuts a tuple space into one slice per quota: in order, disjoint, together exactly `[0, size)`. Each is at least as
 * long as its quota; the slack, which local skips eat, is shared in proportion to the quotas.
 * @param size of the tuple space, at least the sum of the quotas (asserted)
 * @param quotas counts, at least one of them; if all are 0, the last slice takes everything
 */
export function slicesOf(size: number, quotas: readonly number[]): Slice[] {
  assert(Number.isSafeInteger(size) && size >= 0, `a tuple space of ${size}`);
  assert(quotas.length > 0, 'no quota, no slices');
  let total = 0;
  for (const quota of quotas) {
    assert(Number.isSafeInteger(quota) && quota >= 0, `a quota of ${quota}`);
    total += quota;
  }
  assert(total <= size, `quotas of ${total} do not fit into ${size} tuples`);
  const slack = size - total;
  let from = 0;
  let quotaSoFar = 0;
  return quotas.map((quota, index) => {
    quotaSoFar += quota;
    // Rounding the running total keeps the cuts in order and makes them end at `size` exactly.
    const slackSoFar = total === 0 ? 0 : Math.min(slack, Math.floor(slack * (quotaSoFar / total)));
    const to = index === quotas.length - 1 ? size : quotaSoFar + slackSoFar;
    const slice = { from, to };
    from = to;
    return slice;
  });
}
