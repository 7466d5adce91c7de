/**
 * Owns adding, renewing and removing addresses on devices, by batches of `ip`.
 * Must never decide which addresses are ours (alias-records.ts), and must never keep anything between calls.
 */
import type { RunProgram } from '../host/command.ts';
import { readAddressesNow, runIpBatch } from '../host/ip-command.ts';
import { type Alias, addArguments, aliasKey, removeArguments, renewArguments } from '../run/alias.ts';

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
  const there = now === null ? null : new Set(now.addresses.map(aliasKey));
  return aliases.flatMap((alias, index) => {
    const why = missing ? 'ip is missing' : errors.get(index);
    return why === undefined || there?.has(aliasKey(alias)) === false ? [] : [{ alias, why }];
  });
}
