/**
 * Owns asking the segment whether another host already has an address that we are about to use (RFC 5227), by `arping`.
 * Must never refuse anything: a silent answer is no proof, and `arping` may be missing.
 */
import pLimit from 'p-limit';
import type { RunCommand } from '../host/command.ts';
import type { Alias } from '../run/alias.ts';

/** `arping` waits a second for an answer: all are asked at once. */
const CHECKS_AT_ONCE = 128;
const ADDRESSES_MAX = 128;
const ARPING_TIMEOUT_MS = 3_000;

export interface DuplicateAddress {
  readonly address: string;
  /** hardware address of the other host; null: not told */
  readonly owner: string | null;
}

/**
 * Asks for each IPv4 alias who has it. Only on devices with neighbours; only the first 128.
 * @returns those that somebody else has; empty when `arping` is missing or may not be used
 */
export async function findDuplicates(
  run: RunCommand,
  aliases: readonly Alias[],
): Promise<DuplicateAddress[]> {
  const asked = aliases
    .filter((alias) => alias.family === 4 && alias.device !== 'lo')
    .slice(0, ADDRESSES_MAX);
  const limit = pLimit(CHECKS_AT_ONCE);
  const found = await Promise.all(asked.map((alias) => limit(() => askOne(run, alias))));
  return found.flat();
}

async function askOne(run: RunCommand, { address, device }: Alias): Promise<DuplicateAddress[]> {
  // -D: duplicate address detection. Exit code 1 and a "reply" line: somebody answered.
  const result = await run('arping', ['-D', '-I', device, '-c', '1', '-w', '1', address], {
    timeoutMs: ARPING_TIMEOUT_MS,
  });
  const reply = /reply from \S+ \[([0-9A-F:]+)\]/i.exec(result.stdout);
  if (result.missing || result.code !== 1 || reply === null) return [];
  return [{ address, owner: reply[1]?.toLowerCase() ?? null }];
}
