/**
 * Owns source addresses that a run adds to its host: what they are, the `ip` commands that add, renew and remove them.
 * Must never run a command (sources/aliases.ts), and must never know which addresses a host has.
 *
 * Every alias carries a lifetime (`valid_lft`): the kernel itself removes it when no process renews it, so not even SIGKILL
 * of every process leaves one behind. See docs/decisions/aliases-as-leases.md.
 */
import {
  ADDRESSES_MAX,
  addressFromBigInt,
  addressToBigInt,
  expandAddresses,
  type Family,
  networkEnds,
  parseAddress,
  parseCidr,
} from '../base/address.ts';
import { ErrorCode, usageError } from '../base/errors.ts';

/** An interface name as the kernel allows it (dev_valid_name): at most 15 characters, no slash, blank or colon. */
export const DEVICE_NAME_PATTERN = /^(?!\.{1,2}$)[A-Za-z0-9_.@-]{1,15}$/;

export const ALIAS_LEASE_MIN_MS = 5_000;
export const ALIAS_LEASE_MAX_MS = 3_600_000;

/** The most networks that `--source-prefix` names. */
export const PREFIXES_MAX = 64;

/** Of an IPv6 network at most so many addresses are used: each needs an alias of its own. */
const PREFIX6_ADDRESSES_MAX = 1_024;

const LABEL_SUFFIX = 'c100k';
/** IFNAMSIZ less the final zero: include/uapi/linux/if.h. */
const LABEL_CHARS_MAX = 15;

/** One address that is, or is to be, on a device because of us. */
export interface Alias {
  /** canonical literal */
  readonly address: string;
  readonly family: Family;
  /** 32 or 128; shorter on `lo`, where it makes the whole network local (AnyIP) */
  readonly prefix: number;
  readonly device: string;
}

/** A host alias: a /32 or /128, because deleting a shorter one may delete its whole subnet (promote_secondaries is off). */
export function hostAlias(address: string, device: string): Alias {
  const parsed = parseAddress(address);
  return { ...parsed, prefix: parsed.family === 4 ? 32 : 128, device };
}

/**
 * The label that marks an IPv4 alias as ours.
 * @returns `eth0:c100k`; null where the device's name leaves no room for it
 */
export function aliasLabel(device: string): string | null {
  const label = `${device}:${LABEL_SUFFIX}`;
  return label.length <= LABEL_CHARS_MAX ? label : null;
}

/** Two aliases that the kernel cannot tell apart have the same key. */
export function aliasKey({ address, prefix, device }: Alias): string {
  return `${address}/${prefix} dev ${device}`;
}

/**
 * The arguments of `ip` that add an alias.
 * @param leaseSec lifetime in whole seconds; null: for a person to type, without a lifetime
 */
export function addArguments(alias: Alias, leaseSec: number | null): string {
  return `addr add ${attributesOf(alias, leaseSec)}`;
}

/** The arguments of `ip` that renew an alias. Only for one that is there: `change` adds one that is not. */
export function renewArguments(alias: Alias, leaseSec: number): string {
  return `addr change ${attributesOf(alias, leaseSec)}`;
}

/**
 * The arguments of `ip` that remove an alias. By its label, where it has one: an address that another program has added in its place meanwhile stays, because the
 * kernel removes only what carries the label that is given (inet_rtm_deladdr, net/ipv4/devinet.c).
 */
export function removeArguments(alias: Alias): string {
  return ['addr del', aliasKey(alias), ...labelOf(alias)].join(' ');
}

function labelOf({ family, device }: Alias): readonly string[] {
  const label = family === 4 ? aliasLabel(device) : null;
  return label === null ? [] : [`label ${label}`];
}

function attributesOf(alias: Alias, leaseSec: number | null): string {
  const words = [aliasKey(alias)];
  // Without `nodad` a new IPv6 address is tentative for a second: bind says EADDRNOTAVAIL.
  if (alias.family === 6) words.push('nodad');
  if (leaseSec !== null) {
    words.push(...labelOf(alias));
    words.push(`valid_lft ${leaseSec} preferred_lft ${leaseSec}`);
  }
  return words.join(' ');
}

/** A network whose every address becomes a source. */
export interface SourcePrefix {
  readonly family: Family;
  /** the network's own address, canonical */
  readonly network: string;
  readonly bits: number;
  /** the addresses that are used as sources: of IPv4 all but network and broadcast, of IPv6 the first ones */
  readonly addresses: readonly string[];
}

/**
 * Reads `--source-prefix`.
 * @param text a CIDR: of IPv4 /16 to /32, of IPv6 any
 * @throws BenchError `bad-address`, exit code 2
 */
export function parseSourcePrefix(text: string): SourcePrefix {
  const { family, address, prefix: bits, hasPrefix } = parseCidr(text);
  if (!hasPrefix) {
    throw usageError(
      ErrorCode.badAddress,
      `--source-prefix ${text} has no prefix length`,
      `type --source-prefix ${address}/${family === 4 ? 26 : 64}, or --source-ip ${address} for one address`,
    );
  }
  if (family === 4) return { family, network: address, bits, addresses: expandAddresses([text]) };
  if (networkEnds(text).first !== address) {
    throw usageError(
      ErrorCode.badAddress,
      `--source-prefix ${text} is not a network: bits beyond the prefix are set`,
      `type --source-prefix with the network's own address, such as 2001:db8:1::/64`,
    );
  }
  const first = addressToBigInt(address);
  const size = 128 - bits > 16 ? ADDRESSES_MAX : 2 ** (128 - bits);
  const count = Math.min(size, PREFIX6_ADDRESSES_MAX);
  // The first address of an IPv6 network is every router's (subnet-router anycast, RFC 4291): it cannot be bound.
  const skip = size > 2 ? 1n : 0n;
  return {
    family,
    network: address,
    bits,
    addresses: Array.from({ length: count - Number(skip) }, (_, index) =>
      addressFromBigInt(6, first + BigInt(index) + skip),
    ),
  };
}

/** `10.1.0.0/20`. */
export function prefixText(prefix: SourcePrefix): string {
  return `${prefix.network}/${prefix.bits}`;
}

/**
 * The aliases that make a network's addresses ours. An IPv4 address on `lo` with a prefix makes the kernel treat the
 * whole network as local (fib_add_ifaddr in net/ipv4/fib_frontend.c): what `ip route add local` does, with a lifetime.
 * In IPv6 no socket can be bound to an address that is on no device, so each gets its own alias on `lo`.
 * @param owned whether the host has an address already: such a one is not taken for the alias
 */
export function prefixAliases(prefix: SourcePrefix, owned: (address: string) => boolean): Alias[] {
  if (prefix.family === 6) return prefix.addresses.map((address) => hostAlias(address, 'lo'));
  const address = prefix.addresses.find((one) => !owned(one));
  return address === undefined ? [] : [{ address, family: 4, prefix: prefix.bits, device: 'lo' }];
}
