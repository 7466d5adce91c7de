/**
 * Owns the completion scripts for bash and zsh. They are made from the list of flags and need no Node process at
 * each key press. Must never list a flag by hand.
 */

import type { CommandName, Flag } from '../../api/flags/flag.ts';
import { FLAGS, flagsOf } from '../../api/flags/flags.ts';
import { ExitCode } from '../../base/errors.ts';
import { COMMANDS, type CommandContext, POSITIONALS } from '../command-line.ts';
import { writeResult } from '../output.ts';

type Shell = 'bash' | 'zsh';

/**
 * `c100k-bench completion bash|zsh`: prints the script.
 * @returns 0
 */
export async function completionCommand({ words }: CommandContext): Promise<ExitCode> {
  await writeResult(completionScript(words.shell === 'zsh' ? 'zsh' : 'bash'));
  return ExitCode.held;
}

/**
 * The completion script, ending in a line break.
 * @param shell which shell will read it
 */
function completionScript(shell: Shell): string {
  return shell === 'bash' ? bashScript() : zshScript();
}

const SUBCOMMANDS: readonly CommandName[] = COMMANDS.map(({ command }) => command).filter(
  (command) => command !== 'run',
);

/** The commands whose words are names of files. */
function takingFiles(): readonly CommandName[] {
  return SUBCOMMANDS.filter((command) => (POSITIONALS[command] ?? []).some(({ isFile }) => isFile));
}

function dashedNames(flag: Flag): string[] {
  return flag.letter === null ? [`--${flag.name}`] : [`--${flag.name}`, `-${flag.letter}`];
}

/** The words that a command takes: its flags, its positional words. */
function wordsOf(command: CommandName): string[] {
  const flags = flagsOf(command).flatMap(dashedNames);
  const positional = (POSITIONALS[command] ?? []).flatMap(({ choices }) => choices);
  return [...positional, ...flags, '--help'];
}

function bashScript(): string {
  const choices = FLAGS.filter((flag) => flag.choices !== undefined);
  const files = FLAGS.filter((flag) => flag.file === true);
  const silent = FLAGS.filter((flag) => flag.kind !== 'switch' && !flag.choices && !flag.file);
  const lines = [
    '# c100k-bench completion for bash: source <(c100k-bench completion bash)',
    '_c100k_bench() {',
    `  local word="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words`,
    '  COMPREPLY=()',
    '  case "$previous" in',
    ...choices.map((flag) =>
      bashCase(flag, `COMPREPLY=($(compgen -W '${flag.choices?.join(' ')}' -- "$word"))`),
    ),
    ...files.map((flag) => bashCase(flag, 'COMPREPLY=($(compgen -f -- "$word"))')),
    ...silent.map((flag) => bashCase(flag, ':')),
    '  esac',
    `  case "\${COMP_WORDS[1]}" in`,
    ...SUBCOMMANDS.map((command) => `    ${command}) words='${wordsOf(command).join(' ')}' ;;`),
    `    *) words='${wordsOf('run').join(' ')} --version' ;;`,
    '  esac',
    `  case "\${COMP_WORDS[1]}" in ${takingFiles().join('|')}) COMPREPLY=($(compgen -f -- "$word")) ;; esac`,
    `  if [ "$COMP_CWORD" -eq 1 ]; then words="${SUBCOMMANDS.join(' ')} $words"; fi`,
    '  COMPREPLY+=($(compgen -W "$words" -- "$word"))',
    '}',
    'complete -F _c100k_bench c100k-bench',
  ];
  return `${lines.join('\n')}\n`;
}

function bashCase(flag: Flag, action: string): string {
  return `    ${dashedNames(flag).join('|')}) ${action}; return ;;`;
}

function zshScript(): string {
  const lines = [
    '#compdef c100k-bench',
    '# c100k-bench completion for zsh: c100k-bench completion zsh > a file _c100k-bench in $fpath',
    '_c100k_bench() {',
    '  local -a commands',
    '  commands=(',
    ...COMMANDS.filter(({ command }) => command !== 'run').map(
      ({ command, describe }) => `    '${command}:${zshText(describe)}'`,
    ),
    '  )',
    `  case "\${words[2]}" in`,
    ...SUBCOMMANDS.flatMap((command) => zshArguments(command, command)),
    ...zshArguments('*', 'run'),
    '  esac',
    '}',
    'if [ "$funcstack[1]" = "_c100k-bench" ]; then',
    '  _c100k_bench "$@"',
    'else',
    '  compdef _c100k_bench c100k-bench',
    'fi',
  ];
  return `${lines.join('\n')}\n`;
}

function zshArguments(pattern: string, command: CommandName): string[] {
  const positional = (POSITIONALS[command] ?? []).map(({ describe, choices, isFile }, index) =>
    isFile ? `'*:${zshText(describe)}:_files'` : `'${index + 2}:${zshText(describe)}:(${choices.join(' ')})'`,
  );
  const first = command === 'run' ? `'1:command:{_describe command commands}'` : `'1:command:(${command})'`;
  const specs = [first, ...positional, ...flagsOf(command).map(zshSpec), `'--help[show help]'`];
  return [
    `    ${pattern})`,
    `      _arguments \\`,
    ...specs.map((spec, index) => `        ${spec}${index < specs.length - 1 ? ' \\' : ''}`),
    '      ;;',
  ];
}

/** One flag in the notation of `_arguments`. */
function zshSpec(flag: Flag): string {
  const names = dashedNames(flag);
  const repeat = flag.kind === 'list';
  const exclusive = repeat ? "'*'" : names.length > 1 ? `'(${names.join(' ')})'` : '';
  const name = names.length > 1 ? `{${names.join(',')}}` : names[0];
  const value = flag.choices
    ? `:${flag.name}:(${flag.choices.join(' ')})`
    : flag.file
      ? `:${flag.placeholder}:_files`
      : `:${zshText(flag.placeholder)}: `;
  return `${exclusive}${name}'[${zshText(flag.describe)}]${flag.kind === 'switch' ? '' : value}'`;
}

/** Text inside single quotes and square brackets of `_arguments`. */
function zshText(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll('[', '\\[').replaceAll(']', '\\]').replaceAll(':', '\\:');
}
