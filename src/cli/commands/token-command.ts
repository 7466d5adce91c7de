/**
 * Owns `c100k-bench token`: a token for one agent, made from the coordinator's.
 * Must never write the coordinator's token anywhere but into its own file.
 */

import { checkAgentName } from '../../api/agent-name.ts';
import { readNumber } from '../../api/bounds.ts';
import { closeToOthers } from '../../api/token-file.ts';
import { masterToken } from '../../api/token-source.ts';
import { ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import { agentToken, formatToken } from '../../control/token.ts';
import { parseAllowedTarget } from '../../plan/allowance.ts';
import type { CommandContext } from '../command-context.ts';
import { writeResult } from '../output.ts';

/**
 * Prints a token for one agent on stdout.
 * @throws BenchError (exit 2) on wrong flags
 */
export async function tokenCommand({ values, clock }: CommandContext): Promise<ExitCode> {
  const path = values.one('token-file');
  const name = values.one('name');
  if (path === null || name === null) {
    throw usageError(
      ErrorCode.usage,
      `a token needs ${path === null ? "the coordinator's --token-file" : 'the --name of its agent'}`,
      'for example: c100k-bench token --token-file run.token --name host7 --expires 24h > host7.token',
    );
  }
  checkAgentName(name, values.origin('name'));
  const targets = values.list('allow-target');
  for (const target of targets) parseAllowedTarget(target);
  const lifeMs = readNumber(values, 'expires');
  const token = agentToken(masterToken(path), {
    name,
    expiresSec: lifeMs === null ? null : Math.floor((clock.wallMs() + lifeMs) / 1_000),
    targets: targets.length === 0 ? null : targets,
  });
  closeToOthers();
  await writeResult(`${formatToken(token)}\n`);
  return ExitCode.held;
}
