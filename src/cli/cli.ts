/**
 * Owns the way from argv to the command that was asked for.
 * Must never do a command's work itself.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CommandName } from '../api/flags/flag.ts';
import { hideEnvironmentToken } from '../api/token-source.ts';
import type { ExitCode } from '../base/errors.ts';
import { systemClock } from '../host/system-clock.ts';
import type { CommandContext } from './command-context.ts';
import { parseCommandLine } from './command-line.ts';
import { tell, writeResult } from './output.ts';

const HELP_COLUMNS_MAX = 100;

/**
 * Parses argv and runs the command.
 * @param argv as Node gives it
 * @returns the exit code
 * @throws BenchError when the command could not do its work
 */
export async function runCli(argv: readonly string[]): Promise<ExitCode> {
  const toolVersion = readToolVersion();
  const columns = Math.min(HELP_COLUMNS_MAX, process.stdout.columns ?? 80);
  const parsed = await parseCommandLine(argv.slice(2), process.env, toolVersion, columns);
  if (parsed.kind === 'print') {
    await writeResult(parsed.text);
    return 0;
  }
  hideEnvironmentToken();
  const { command, values, words, warnings } = parsed;
  if (!values.on('quiet')) for (const line of warnings) tell(`warning: ${line}`);
  const entryPath = argv[1] ?? '';
  return await commandOf(command)({ values, words, toolVersion, entryPath, clock: systemClock });
}

/** Each command is loaded only when it is asked for: an agent has no use for bars, a plan none for sockets. */
function commandOf(command: CommandName): (context: CommandContext) => Promise<ExitCode> {
  switch (command) {
    case 'run':
      return async (context) => (await import('./commands/run-command.ts')).runCommand(context);
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
    case 'completion':
      return async (context) => (await import('./commands/completion-command.ts')).completionCommand(context);
  }
}

/** The version in our own package.json, the nearest one above this file. */
function readToolVersion(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let parent = dirname(folder); parent !== folder; parent = dirname(folder)) {
    folder = parent;
    try {
      const found = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
      if (found.name === 'c100k-bench') return String(found.version);
    } catch {
      // Not here: one folder up.
    }
  }
  return '0.0.0';
}
