/**
 * Owns the text of the commands that give a host more addresses, ready to type.
 * Must never run one, and must never know which addresses are free.
 */
import {
  ADDRESSES_MAX,
  addressFromBigInt,
  addressRange,
  addressToBigInt,
  type Family,
  parseAddress,
} from '../base/address.ts';
import { formatCount } from '../base/units.ts';

/** More addresses than this are not written out one by one. */
const WRITTEN_OUT_MAX = 8;
/** A line for a person, and a message of the control channel, has an end: of more addresses the first ones are named. */
const NAMED_MAX = 64;
/** 127.255.255.254: the one after it is the broadcast address, and no socket can be bound to that. */
const LOOPBACK_LAST = 0x7fff_fffen;

/**
 * The shell command that adds addresses to a device, each as /32 or /128: with a shorter prefix, deleting the first
 * one would delete them all (promote_secondaries is off by default). IPv6 gets `nodad`, else it cannot be bound at once.
 * @param addresses at least one
 * @param device such as `eth0`
 */
export function addAddressesCommand(addresses: readonly string[], device: string): string {
  if (addresses.length <= WRITTEN_OUT_MAX) {
    return addresses.map((address) => addOne(address, device)).join(' && ');
  }
  const runs = consecutiveRuns(addresses);
  const [first = '', last = ''] = [addresses[0], addresses.at(-1)];
  const dot = first.lastIndexOf('.') + 1;
  if (runs === 1 && dot > 0 && first.slice(0, dot) === last.slice(0, dot)) {
    const loop = `$(seq ${first.slice(dot)} ${last.slice(dot)})`;
    return `for i in ${loop}; do ip addr add ${first.slice(0, dot)}$i/32 dev ${device}; done`;
  }
  const named = addresses.slice(0, NAMED_MAX);
  const more = addresses.length - named.length;
  const loop = `for a in ${named.join(' ')}; do ${addOne('$a', device, parseAddress(first).family)}; done`;
  return more > 0 ? `${loop} (and ${formatCount(more)} more)` : loop;
}

/** A name that stands for an address which no other host has: only who runs the network can know that one. */
export function freeName(number: number): string {
  return `FREE_${number}`;
}

/** What a person types to give a run more source addresses; the names in capitals are for that person to replace. */
interface FreeAddresses {
  /** `--source-ip` for the addresses that are there and for those to come */
  readonly flag: string;
  /** the command that adds the new ones by hand */
  readonly byHand: string;
  /** what to put for the names */
  readonly request: string;
}

/**
 * Asks for addresses that a network has free. It names none: one above ours is often a neighbour's, and an address that
 * two hosts have cuts off both.
 * @param present addresses that the run has already
 * @param count how many are missing, at least 1
 * @param family of the missing ones
 * @param device the new ones go on; null: not known
 */
export function askForAddresses(
  present: readonly string[],
  count: number,
  family: Family,
  device: string | null,
): FreeAddresses {
  const names =
    count > WRITTEN_OUT_MAX ? [] : Array.from({ length: count }, (_, index) => freeName(index + 1));
  const flags =
    names.length === 0 ? ['--source-ip FREE_FIRST-FREE_LAST'] : names.map((name) => `--source-ip ${name}`);
  const dev = device ?? 'DEVICE';
  return {
    flag: [...(present.length === 0 ? [] : [sourceIpFlag(present)]), ...flags].join(' '),
    byHand:
      names.length === 0
        ? `${addOne('FREE_ADDRESS', dev, family)} for each`
        : names.map((name) => addOne(name, dev, family)).join(' && '),
    request:
      names.length === 0
        ? `for FREE_FIRST-FREE_LAST put a range of ${formatCount(count)} IPv${family} addresses that no other host has`
        : `for ${names.join(', ')} put ${count === 1 ? 'an IPv' : 'IPv'}${family} ` +
          `${count === 1 ? 'address' : 'addresses'} that no other host has`,
  };
}

/**
 * More of 127.0.0.0/8, all of which is ours: after the highest one of these, then from the first one upward.
 * @param addresses of 127.0.0.0/8, at least one
 * @param count how many, at least 1
 * @returns at most `count`, none of them in `addresses`
 */
export function loopbackAfter(addresses: readonly string[], count: number): string[] {
  const taken = new Set(addresses);
  const highest = addresses.map(addressToBigInt).reduce((most, value) => (value > most ? value : most), 0n);
  const room = LOOPBACK_LAST - highest;
  const wanted = Math.min(count, ADDRESSES_MAX - 1);
  const after = Number(room < BigInt(wanted) ? room : BigInt(wanted));
  const above = addressRange(addressFromBigInt(4, highest), after + 1).slice(1);
  const below = addressRange('127.0.0.2', Math.min(ADDRESSES_MAX, wanted - after + taken.size)).filter(
    (address) => !taken.has(address),
  );
  return [...above, ...below.slice(0, wanted - after)];
}

/** `a`, or `a-b` for each run of consecutive addresses, as `--source-ip` takes them; of very many runs the first ones. */
export function sourceIpFlag(addresses: readonly string[]): string {
  const runs: { first: string; last: string; value: bigint }[] = [];
  for (const address of addresses) {
    const value = addressToBigInt(address);
    const run = runs.at(-1);
    if (run !== undefined && run.value + 1n === value) Object.assign(run, { last: address, value });
    else runs.push({ first: address, last: address, value });
  }
  return runs
    .slice(0, NAMED_MAX)
    .map(({ first, last }) => `--source-ip ${first === last ? first : `${first}-${last}`}`)
    .join(' ');
}

function addOne(address: string, device: string, family = parseAddress(address).family): string {
  return family === 4
    ? `ip addr add ${address}/32 dev ${device}`
    : `ip addr add ${address}/128 dev ${device} nodad`;
}

function consecutiveRuns(addresses: readonly string[]): number {
  let runs = 0;
  let previous: bigint | null = null;
  for (const address of addresses) {
    const value = addressToBigInt(address);
    if (previous === null || value !== previous + 1n) runs += 1;
    previous = value;
  }
  return runs;
}
