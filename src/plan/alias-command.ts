/**
 * Owns the text of the commands that give a host more addresses, ready to type.
 * Must never run one, and must never know which addresses are free.
 */
import { addressFromBigInt, addressRange, addressToBigInt, parseAddress } from '../base/address.ts';
import { formatCount } from '../base/units.ts';

/** More addresses than this are not written out one by one. */
const WRITTEN_OUT_MAX = 8;
/** A line for a person, and a message of the control channel, has an end: of more addresses the first ones are named. */
const NAMED_MAX = 64;

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

/**
 * The addresses after the highest one of the same family: an example of what could be added, no promise that the
 * network has them free.
 * @param addresses at least one
 * @param count how many, at least 1
 * @returns `count` addresses; fewer at the end of the family's range
 */
export function addressesAfter(addresses: readonly string[], count: number): string[] {
  const { family } = parseAddress(addresses[0] ?? '');
  const ours = addresses.filter((address) => parseAddress(address).family === family);
  const highest = ours.reduce((most, address) => {
    const value = addressToBigInt(address);
    return value > most ? value : most;
  }, 0n);
  const room = (1n << (family === 4 ? 32n : 128n)) - 1n - highest;
  const wanted = Math.min(count, Number(room > 65_535n ? 65_535n : room));
  return addressRange(addressFromBigInt(family, highest), wanted + 1).slice(1);
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
