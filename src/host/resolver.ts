/**
 * Owns turning a host name into addresses, once, before the run.
 * Must never be asked per connection, and must never choose among the addresses: each is one more endpoint.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';

/**
 * All addresses of a host, through the system's own resolver (hosts file, DNS, as the system is set up).
 * @param host a name, or an IPv4 or IPv6 literal with or without brackets
 * @returns IP literals in the resolver's order, each once; a literal returns itself
 * @throws BenchError `name-not-resolved`, exit 2
 */
export async function resolveHost(host: string): Promise<string[]> {
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
  if (isIP(bare) !== 0) return [bare];
  try {
    const found = await lookup(bare, { all: true, order: 'verbatim' });
    // An address with a zone (fe80::1%eth0) is of use on one link only: endpoints cannot carry it.
    const addresses = [...new Set(found.map((one) => one.address).filter((one) => !one.includes('%')))];
    if (addresses.length > 0) return addresses;
  } catch (cause) {
    throw notResolved(bare, cause);
  }
  throw notResolved(bare, undefined);
}

function notResolved(host: string, cause: unknown): BenchError {
  const why = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : '';
  return new BenchError(
    ErrorCode.nameNotResolved,
    ExitCode.usage,
    `the name ${host} does not resolve to any address${why}`,
    `check it with \`getent ahosts ${host}\`, or give an address such as 192.0.2.7:8000`,
    cause,
  );
}
