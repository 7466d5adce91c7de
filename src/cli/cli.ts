/**
 * Owns the way from argv to the command that was asked for.
 * Must never do a command's work itself.
 */

import type { CommandName } from '../api/flags/flag.ts';
import type { FlagValues } from '../api/flags/flags.ts';
import { hideEnvironmentToken } from '../api/token-source.ts';
import type { ExitCode } from '../base/errors.ts';
import { ownPackage } from '../host/own-package.ts';
import { type CommandContext, parseCommandLine } from './command-line.ts';
import { helpColumns, tell, writeResult } from './output.ts';

/**
 * Parses argv and runs the command.
 * @param argv as Node gives it
 * @returns the exit code
 * @throws BenchError when the command could not do its work
 */
export async function runCli(argv: readonly string[]): Promise<ExitCode> {
  const read: { values: FlagValues | null } = { values: null };
  try {
    return await runCommand(argv, (values) => {
      read.values = values;
    });
  } catch (error) {
    (await import('./ci-failure.ts')).reportToCi(error, argv.slice(2), process.env, read.values);
    throw error;
  }
}

async function runCommand(argv: readonly string[], onRead: (values: FlagValues) => void): Promise<ExitCode> {
  const parsed = await parseCommandLine(argv.slice(2), process.env, ownPackage().version, helpColumns());
  if (parsed.kind === 'print') {
    await writeResult(parsed.text);
    return 0;
  }
  hideEnvironmentToken();
  const { command, values, words, files, warnings } = parsed;
  onRead(values);
  if (!values.on('quiet')) for (const line of warnings) tell(`warning: ${line}`);
  return await commandOf(command)({ values, words, files });
}

/** Each command is loaded only when it is asked for: an agent has no use for bars, a plan none for sockets. */
function commandOf(command: CommandName): (context: CommandContext) => Promise<ExitCode> {
  switch (command) {
    case 'run':
      return async (context) => (await import('./commands/run-command.ts')).benchCommand(context);
    case 'plan':
      return async (context) => (await import('./commands/plan-command.ts')).planCommand(context);
    case 'path':
      return async (context) => (await import('./commands/path-command.ts')).pathCommand(context);
    case 'agent':
      return async (context) => (await import('./commands/agent-command.ts')).agentCommand(context);
    case 'token':
      return async (context) => (await import('./commands/token-command.ts')).tokenCommand(context);
    case 'k8s':
      return async (context) => (await import('./commands/k8s-command.ts')).k8sCommand(context);
    case 'serve':
      return async (context) => (await import('./commands/serve-command.ts')).serveCommand(context);
    case 'cleanup':
      return async (context) => (await import('./commands/cleanup-command.ts')).cleanupCommand(context);
    case 'report':
      return async (context) => (await import('./commands/report-command.ts')).reportCommand(context);
    case 'compare':
      return async (context) => (await import('./commands/compare-command.ts')).compareCommand(context);
    case 'init':
      return async (context) => (await import('./commands/init-command.ts')).initCommand(context);
    case 'help':
      return async (context) => (await import('./commands/help-command.ts')).helpCommand(context);
    case 'completion':
      return async (context) => (await import('./commands/completion-command.ts')).completionCommand(context);
  }
}
