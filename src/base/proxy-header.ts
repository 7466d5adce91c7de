/**
 * Owns what a PROXY header says of a run: its version, and the network that client addresses are made up from.
 * Must never write one (engine/proxy-headers.ts).
 * @see https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
 */
import { addressFromBigInt, addressToBigInt, networkEnds, parseCidr } from './address.ts';
import { type BenchError, ErrorCode, usageError } from './errors.ts';
import { flagWith } from './units.ts';

/** The versions of the header. */
export const PROXY_VERSIONS = ['v1', 'v2'] as const;

/** What each connection says first. */
export interface ProxyHeaderSpec {
  readonly version: (typeof PROXY_VERSIONS)[number];
  /** the network of the client addresses, as `address/prefix`; null: each connection says its own source */
  readonly clients: string | null;
}

/** Client addresses that are made up, in order. */
interface ClientAddresses {
  readonly first: string;
  /** at most 2^32 */
  readonly count: number;
}

const CLIENTS_MAX = 2 ** 32;

/**
 * The addresses of a network as clients have them: of IPv4 without the one that names it and its broadcast address, of IPv6
 * without the routers' (RFC 4291 section 2.6.1).
 * @param cidr an address, or a network
 * @throws BenchError `bad-address`, exit code 2
 */
export function clientAddresses(cidr: string): ClientAddresses {
  const { family, prefix } = parseCidr(cidr);
  const ends = networkEnds(cidr);
  const [lowest, highest] = [addressToBigInt(ends.first), addressToBigInt(ends.last)];
  const hostBits = (family === 4 ? 32 : 128) - prefix;
  const first = hostBits >= 2 ? lowest + 1n : lowest;
  const last = hostBits >= 2 && family === 4 ? highest - 1n : highest;
  const all = last - first + 1n;
  return {
    first: addressFromBigInt(family, first),
    count: all > BigInt(CLIENTS_MAX) ? CLIENTS_MAX : Number(all),
  };
}

/** Why a text names no clients; null: it does. */
export function clientsProblem(text: string, origin: string): BenchError | null {
  try {
    clientAddresses(text);
    return null;
  } catch {
    return usageError(
      ErrorCode.badAddress,
      `${origin}: "${text}" is not an address or a network`,
      `type ${flagWith(origin, '203.0.113.0/24')}`,
    );
  }
}
