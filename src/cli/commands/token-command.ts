/**
 * Owns `c100k-bench token`: a token for one agent, made from the coordinator's.
 * Must never write the coordinator's token anywhere but into its own file.
 */

import { flagValue, flagValues } from '../../api/flags/flags.ts';
import { closeToOthers, environmentToken, masterToken } from '../../api/token-source.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { agentToken, formatToken } from '../../control/token.ts';
import { systemClock } from '../../time/timer.ts';
import type { CommandContext } from '../command-line.ts';
import { writeResult } from '../output.ts';

/**
 * Prints a token for one agent on stdout.
 * @throws BenchError (exit 2) on wrong flags
 */
export async function tokenCommand({ values }: CommandContext): Promise<ExitCode> {
  const path = flagValue(values, 'token-file');
  const name = flagValue(values, 'name');
  if (path === null || name === null) {
    throw usageError(
      ErrorCode.usage,
      `a token needs ${path === null ? "the coordinator's --token-file" : 'the --name of its agent'}`,
      'for example: c100k-bench token --token-file run.token --name host7 --expires 24h > host7.token',
    );
  }
  // Checked here, carried as typed: each agent reads them again.
  flagValues(values, 'allow-target');
  const targets = values.list('allow-target');
  const lifeMs = flagValue(values, 'expires');
  const token = agentToken(await masterToken(path, environmentToken()), {
    name,
    expiresSec: lifeMs === null ? null : Math.floor((systemClock.wallMs() + lifeMs) / 1_000),
    targets: targets.length === 0 ? null : targets,
  });
  closeToOthers();
  await writeResult(`${formatToken(token)}\n`);
  return ExitCode.held;
}
