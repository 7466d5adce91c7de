/**
 * Owns adding, renewing, removing and reading addresses on devices, through `ip`.
 * Must never decide which addresses are ours (alias-records.ts), and must never keep anything between calls.
 */
import { isAddress, parseAddress } from '../base/address.ts';
import type { RunCommand } from '../host/command.ts';
import { readText } from '../host/proc-file.ts';
import { type Alias, addArguments, aliasKey, removeArguments, renewArguments } from '../run/alias.ts';
import { runIpBatch } from './ip-batch.ts';

const IP_TIMEOUT_MS = 5_000;

/** How the kernel writes "for ever" (INFINITY_LIFE_TIME in include/uapi/linux/if_addr.h and include/net/addrconf.h). */
const FOREVER_SEC = 0xffff_ffff;

/** Capability number: include/uapi/linux/capability.h. */
const CAP_NET_ADMIN = 12n;

/** An address that is on a device now. */
export interface PresentAddress extends Alias {
  /** IPv4 only */
  readonly label: string | null;
  /** seconds until the kernel removes it; null: for ever */
  readonly validSec: number | null;
  /** its device carries no neighbours (loopback, dummy): its packets leave by another one */
  readonly isOnVirtualDevice: boolean;
}

interface AddressJson {
  readonly family?: string;
  readonly local?: string;
  readonly prefixlen?: number;
  readonly label?: string;
  readonly valid_life_time?: number;
}

interface DeviceJson {
  readonly ifname?: string;
  readonly flags?: readonly string[];
  readonly addr_info?: readonly AddressJson[];
}

export interface AddressesNow {
  readonly addresses: readonly PresentAddress[];
  readonly devices: readonly string[];
}

/**
 * Every address of this host with its lifetime, and the names of its devices: 1,000 in 7 ms.
 * @returns null when `ip` is missing or fails
 */
export async function readAddressesNow(run: RunCommand): Promise<AddressesNow | null> {
  const result = await run('ip', ['-j', 'addr'], { timeoutMs: IP_TIMEOUT_MS });
  if (result.code !== 0 || result.truncated) return null;
  try {
    const devices = JSON.parse(result.stdout) as readonly DeviceJson[];
    return {
      addresses: devices.flatMap(presentOn),
      devices: devices.flatMap((device) => (device.ifname === undefined ? [] : [device.ifname])),
    };
  } catch {
    return null;
  }
}

function presentOn(device: DeviceJson): PresentAddress[] {
  const { ifname = '', flags = [], addr_info = [] } = device;
  const isOnVirtualDevice = flags.includes('LOOPBACK') || flags.includes('NOARP');
  return addr_info.flatMap((info) => {
    const { local, prefixlen, valid_life_time: valid = FOREVER_SEC } = info;
    if (local === undefined || prefixlen === undefined || !isAddress(local)) return [];
    return [
      {
        ...parseAddress(local),
        prefix: prefixlen,
        device: ifname,
        label: info.label ?? null,
        validSec: valid >= FOREVER_SEC ? null : valid,
        isOnVirtualDevice,
      },
    ];
  });
}

export interface AliasFailure {
  readonly alias: Alias;
  /** what the kernel said */
  readonly why: string;
}

export interface AddResult {
  readonly added: readonly Alias[];
  /** were there already: not ours to remove */
  readonly present: readonly Alias[];
  readonly failed: readonly AliasFailure[];
}

/**
 * Adds aliases with a lifetime, in one batch.
 * @param leaseSec whole seconds
 */
export async function addAliases(
  run: RunCommand,
  aliases: readonly Alias[],
  leaseSec: number,
): Promise<AddResult> {
  const { missing, errors } = await runIpBatch(
    run,
    aliases.map((alias) => addArguments(alias, leaseSec)),
  );
  if (missing)
    return { added: [], present: [], failed: aliases.map((alias) => ({ alias, why: 'ip is missing' })) };
  const isPresent = (why: string): boolean => /already assigned|File exists/i.test(why);
  return {
    added: aliases.filter((_, index) => !errors.has(index)),
    present: aliases.filter((_, index) => isPresent(errors.get(index) ?? '')),
    failed: aliases.flatMap((alias, index) => {
      const why = errors.get(index);
      return why === undefined || isPresent(why) ? [] : [{ alias, why }];
    }),
  };
}

/**
 * Gives aliases a new lifetime. Only for those that are there: the kernel adds one that is not.
 * @param leaseSec whole seconds
 * @returns those that the kernel did not renew
 */
export async function renewAliases(
  run: RunCommand,
  aliases: readonly Alias[],
  leaseSec: number,
): Promise<AliasFailure[]> {
  const { missing, errors } = await runIpBatch(
    run,
    aliases.map((alias) => renewArguments(alias, leaseSec)),
  );
  return aliases.flatMap((alias, index) => {
    const why = missing ? 'ip is missing' : errors.get(index);
    return why === undefined ? [] : [{ alias, why }];
  });
}

/**
 * Removes aliases in one batch; one that is gone already is no failure.
 * @returns those that are still there
 */
export async function removeAliases(run: RunCommand, aliases: readonly Alias[]): Promise<AliasFailure[]> {
  const { missing, errors } = await runIpBatch(run, aliases.map(removeArguments));
  if (!missing && errors.size === 0) return [];
  const now = await readAddressesNow(run);
  const there = now === null ? null : new Set(now.addresses.map(aliasKey));
  return aliases.flatMap((alias, index) => {
    const why = missing ? 'ip is missing' : errors.get(index);
    return why === undefined || there?.has(aliasKey(alias)) === false ? [] : [{ alias, why }];
  });
}

/**
 * Whether this process may add addresses: CAP_NET_ADMIN in its effective set.
 * @param procRoot `/proc` or a test's folder
 */
export function canChangeAddresses(procRoot = '/proc'): boolean {
  const hex = /^CapEff:\s+([0-9a-f]{1,16})$/m.exec(readText(procRoot, 'self/status') ?? '')?.[1] ?? '0';
  return ((BigInt(`0x${hex}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}
