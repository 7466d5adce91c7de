/**
 * Owns `c100k-bench cleanup`: removing the addresses that a crashed run left on this host, and saying what it did.
 * Must never decide which addresses are ours (sources/aliases.ts).
 */

import { BenchError, ErrorCode, ExitCode } from '../../base/errors.ts';
import { missingPrograms, runProgram } from '../../host/command.ts';
import { hasCapability } from '../../host/proc-file.ts';
import { aliasKey, removeArguments } from '../../run/alias.ts';
import { AliasRecords, withAddressLock } from '../../sources/alias-records.ts';
import { type Cleanup, removeLeftovers } from '../../sources/aliases.ts';
import type { CommandContext } from '../command-line.ts';
import { tell, writeResult } from '../output.ts';

/**
 * Removes what a crash left; with `--dry-run` only says what.
 * @returns 0, also when there was nothing to remove
 * @throws BenchError (exit 3) when something is to be removed and this process may not, or the kernel refuses
 */
export async function cleanupCommand({ values }: CommandContext): Promise<ExitCode> {
  const isDry = values.on('dry-run');
  const mayRemove = hasCapability('CAP_NET_ADMIN');
  const records = new AliasRecords();
  const foreign = records.foreignFolder;
  if (foreign !== null) {
    tell(
      `the records below ${foreign} are not believed: it is no folder of this user (run cleanup as who ran the agent)`,
    );
  }
  const cleanup = await withAddressLock(() => removeLeftovers(runProgram, records, isDry || !mayRemove));
  if (cleanup.isBlind) {
    throw refused(
      'the addresses of this host cannot be read: `ip -j addr` failed',
      missingPrograms(['ip']).length > 0 ? 'apt-get install iproute2' : 'see what it says: ip -j addr',
    );
  }
  if (!isDry && !mayRemove && cleanup.removed.length > 0) {
    const commands = cleanup.removed.map((alias) => `ip ${removeArguments(alias)}`).join(' && ');
    throw refused('removing addresses needs CAP_NET_ADMIN', `run it as root, or: ${commands}`);
  }
  await writeResult(`${linesOf(cleanup, isDry).join('\n')}\n`);
  const [failure] = cleanup.failed;
  if (failure === undefined) return ExitCode.held;
  throw refused(
    `${aliasKey(failure.alias)} could not be removed: ${failure.why}`,
    'wait: the kernel removes it at the end of its lifetime',
  );
}

function linesOf({ removed, kept, unrecorded }: Cleanup, isDry: boolean): string[] {
  const verb = isDry ? 'would remove' : 'removed';
  const lines = removed.map((alias) => `${verb} ${aliasKey(alias)}`);
  for (const { alias, why } of kept) lines.push(`kept ${aliasKey(alias)}: ${why}`);
  for (const address of unrecorded) {
    lines.push(
      `left ${aliasKey(address)}: no record says whose it is; the kernel removes it within ${address.validSec} s unless it is in use`,
    );
  }
  return lines.length > 0 ? lines : ['nothing to remove'];
}

function refused(message: string, hint: string): BenchError {
  return new BenchError(ErrorCode.preflightRefused, ExitCode.refused, message, hint);
}
