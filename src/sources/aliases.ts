/**
 * Owns adding, renewing and removing addresses on devices, by batches of `ip`, also those that a run which is gone has left.
 * Must never decide which addresses are ours (alias-records.ts), and must never keep anything between calls.
 */
import type { RunProgram } from '../host/command.ts';
import { type PresentAddress, readAddressesNow, runIpBatch } from '../host/ip-command.ts';
import {
  type Alias,
  addArguments,
  aliasKey,
  aliasLabel,
  removeArguments,
  renewArguments,
} from '../run/alias.ts';
import type { AliasRecord, AliasRecords } from './alias-records.ts';

export interface AliasFailure {
  readonly alias: Alias;
  /** what the kernel said */
  readonly why: string;
}

interface AddResult {
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
  run: RunProgram,
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
  run: RunProgram,
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
export async function removeAliases(run: RunProgram, aliases: readonly Alias[]): Promise<AliasFailure[]> {
  const { missing, errors } = await runIpBatch(run, aliases.map(removeArguments));
  if (!missing && errors.size === 0) return [];
  const now = await readAddressesNow(run);
  const there = now === null ? null : keysWithLifetime(now.addresses);
  return aliases.flatMap((alias, index) => {
    const why = missing ? 'ip is missing' : errors.get(index);
    return why === undefined || there?.has(aliasKey(alias)) === false ? [] : [{ alias, why }];
  });
}

/** Keys of addresses that can be an alias of a run, because they have a lifetime: what stays for ever is another program's. */
export function keysWithLifetime(addresses: readonly PresentAddress[]): ReadonlySet<string> {
  return new Set(addresses.filter(({ validSec }) => validSec !== null).map(aliasKey));
}

interface KeptAlias {
  readonly alias: Alias;
  readonly why: string;
}

export interface Cleanup {
  /** removed, or what would be */
  readonly removed: readonly Alias[];
  /** in the record of a dead agent, and yet not ours to remove */
  readonly kept: readonly KeptAlias[];
  readonly failed: readonly AliasFailure[];
  /** carry our label and a lifetime, but no record says whose they are: the kernel removes them by itself */
  readonly unrecorded: readonly PresentAddress[];
  /** `ip` could not be asked: nothing was done */
  readonly isBlind: boolean;
}

/**
 * Removes what dead agents left in this network namespace.
 * @param isDry only says what would be removed
 */
export async function removeLeftovers(
  run: RunProgram,
  records: AliasRecords,
  isDry: boolean,
): Promise<Cleanup> {
  const all = records.read();
  const now = await readAddressesNow(run);
  if (now === null) return { removed: [], kept: [], failed: [], unrecorded: [], isBlind: true };
  const dead = all.filter((record) => !record.isAlive);
  const living = keysOf(all.filter((record) => record.isAlive));
  const present = new Map(now.addresses.map((address) => [aliasKey(address), address]));
  const known = new Map(dead.flatMap((record) => record.aliases).map((alias) => [aliasKey(alias), alias]));
  const removed: Alias[] = [];
  const kept: KeptAlias[] = [];
  for (const [key, alias] of known) {
    const address = present.get(key);
    if (address === undefined) continue;
    const why = whyKept(address, living.has(key));
    if (why === null) removed.push(alias);
    else kept.push({ alias, why });
  }
  const recorded = keysOf(all);
  const unrecorded = now.addresses.filter(
    (address) =>
      address.label !== null &&
      address.label === aliasLabel(address.device) &&
      address.validSec !== null &&
      !recorded.has(aliasKey(address)),
  );
  const failed = isDry ? [] : await removeAliases(run, removed);
  if (!isDry && failed.length === 0) for (const record of dead) records.erase(record.path);
  const stuck = keysOf([{ aliases: failed.map((failure) => failure.alias) }]);
  return {
    removed: removed.filter((alias) => !stuck.has(aliasKey(alias))),
    kept,
    failed,
    unrecorded,
    isBlind: false,
  };
}

function keysOf(records: readonly Pick<AliasRecord, 'aliases'>[]): Set<string> {
  return new Set(records.flatMap((record) => record.aliases.map(aliasKey)));
}

function whyKept(address: PresentAddress, isShared: boolean): string | null {
  if (isShared) return 'a run that is going on uses it';
  if (address.validSec === null) return 'it was made permanent';
  const label = address.family === 4 ? aliasLabel(address.device) : null;
  if (label !== null && address.label !== label) return 'it does not carry our label any more';
  return null;
}
