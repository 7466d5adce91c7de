/**
 * Owns removing the aliases that a crashed run left behind, and knowing them from everybody else's addresses.
 * Must never remove an address that is not ours: it must be in the record of a dead agent, in no living one's, and
 * still be as we added it, with a lifetime and our label. Must be called under the address lock.
 */

import type { RunProgram } from '../host/command.ts';
import { type PresentAddress, readAddressesNow } from '../host/ip-command.ts';
import { type Alias, aliasKey, aliasLabel } from '../run/alias.ts';
import type { AliasRecord, AliasRecords } from './alias-records.ts';
import { type AliasFailure, removeAliases } from './aliases.ts';

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
  if (address.validSec === null) return 'somebody has made it permanent';
  const label = address.family === 4 ? aliasLabel(address.device) : null;
  if (label !== null && address.label !== label) return 'it does not carry our label any more';
  return null;
}
