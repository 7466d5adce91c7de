/**
 * Owns giving many commands to one `ip` process, and finding out which of them failed.
 * Must never decide what a failure means.
 */
import type { RunCommand } from '../host/command.ts';

const BATCH_TIMEOUT_MS = 15_000;

export interface BatchResult {
  /** `ip` is not installed */
  readonly missing: boolean;
  /** what the kernel or `ip` said, by the position of the command; absent: it succeeded */
  readonly errors: ReadonlyMap<number, string>;
}

/**
 * Runs the commands in order, going on after one that fails (`-force`): 500 in about 20 ms.
 * @param lines arguments of `ip`, one command each, without line breaks
 * @returns the errors; when `ip` ended before the last line, the rest counts as failed
 */
export async function runIpBatch(run: RunCommand, lines: readonly string[]): Promise<BatchResult> {
  if (lines.length === 0) return { missing: false, errors: new Map() };
  const result = await run('ip', ['-force', '-batch', '-'], {
    timeoutMs: BATCH_TIMEOUT_MS,
    input: `${lines.join('\n')}\n`,
  });
  if (result.missing) return { missing: true, errors: new Map() };
  const errors = parseBatchErrors(result.stderr);
  // Neither success (0) nor "some commands failed" (1, with a line each): it was stopped on its way.
  if (result.code !== 0 && errors.size === 0) {
    const why = result.stderr.trim().split('\n').at(-1) || 'ip was stopped';
    return { missing: false, errors: new Map(lines.map((_, index) => [index, why])) };
  }
  return { missing: false, errors };
}

/**
 * The errors in what `ip -force -batch -` writes to stderr: a line or more with the reason, then `Command failed -:7`.
 * @param text stderr, in English (LC_ALL=C)
 * @returns reason by position, from 0
 */
export function parseBatchErrors(text: string): Map<number, string> {
  const errors = new Map<number, string>();
  let reason = '';
  for (const line of text.split('\n')) {
    const failed = /^Command failed \S*:(\d+)$/.exec(line.trim());
    if (failed === null) {
      if (line.trim() !== '') reason = line.trim();
      continue;
    }
    errors.set(
      Number(failed[1]) - 1,
      reason.replace(/^(?:Error: |RTNETLINK answers: )/, '') || 'unknown error',
    );
    reason = '';
  }
  return errors;
}
