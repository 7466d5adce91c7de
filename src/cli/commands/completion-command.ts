/**
 * Owns the completion scripts for bash, zsh and fish. They are made from the list of flags and need no Node process at
 * each key press. Must never list a flag by hand.
 */

import assert from 'node:assert/strict';
import type { CommandName, Flag } from '../../api/flags/flag.ts';
import { FLAGS, flagsOf } from '../../api/flags/flags.ts';
import { ExitCode } from '../../base/errors.ts';
import type { CommandContext } from '../command-line.ts';
import { COMMANDS, POSITIONALS } from '../commands.ts';
import { helpWords } from '../help.ts';
import { writeResult } from '../output.ts';

const SCRIPTS: Readonly<Record<string, () => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/**
 * `c100k-bench completion bash|zsh|fish`: prints the script.
 * @returns 0
 */
export async function completionCommand({ words }: CommandContext): Promise<ExitCode> {
  const script = SCRIPTS[words.shell ?? ''];
  assert(script !== undefined, 'the parser takes no other shell');
  await writeResult(script());
  return ExitCode.held;
}

/** `run` is one of them: what follows it may be a file. */
const SUBCOMMANDS: readonly CommandName[] = COMMANDS.map(({ command }) => command);

/** The commands whose words are names of files. */
function takingFiles(): readonly CommandName[] {
  return SUBCOMMANDS.filter((command) => (POSITIONALS[command] ?? []).some(({ isFile }) => isFile));
}

function dashedNames(flag: Flag): string[] {
  return flag.letter === null ? [`--${flag.name}`] : [`--${flag.name}`, `-${flag.letter}`];
}

/** What may stand in place of a command's positional words, where these are no files. */
function positionalWords(command: CommandName): readonly string[] {
  if (command === 'help') return helpWords();
  return (POSITIONALS[command] ?? []).flatMap(({ choices }) => choices);
}

/** Its value may be left out, so what comes next may be another word. */
function isValueOptional(flag: Flag): boolean {
  return flag.bare !== null;
}

/** The words that a command takes: its flags, its positional words. */
function wordsOf(command: CommandName): string[] {
  const flags = flagsOf(command).flatMap(dashedNames);
  return [...positionalWords(command), ...flags, '--help'];
}

function bashScript(): string {
  const choices = FLAGS.filter((flag) => flag.choices !== undefined);
  const files = FLAGS.filter((flag) => flag.file === true);
  const silent = FLAGS.filter(
    (flag) => flag.kind !== 'switch' && !flag.choices && !flag.file && !isValueOptional(flag),
  );
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
    // No word that matches is no failure: files may.
    '  return 0',
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
    ...COMMANDS.map(({ command, describe }) => `    '${command}:${zshText(describe)}'`),
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
  const isBare = pattern === '*';
  const positional = (isBare ? [] : (POSITIONALS[command] ?? [])).map(({ describe, isFile }, index) =>
    isFile
      ? `'*:${zshText(describe)}:_files'`
      : `'${index + 2}:${zshText(describe)}:(${positionalWords(command).join(' ')})'`,
  );
  const first = isBare ? `'1:command:{_describe command commands}'` : `'1:command:(${command})'`;
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
  // Two colons: the value may be left out.
  const colon = isValueOptional(flag) ? '::' : ':';
  const value = flag.choices
    ? `:${flag.name}:(${flag.choices.join(' ')})`
    : flag.file
      ? `:${flag.placeholder}:_files`
      : `${colon}${zshText(flag.placeholder)}: `;
  return `${exclusive}${name}'[${zshText(flag.describe)}]${flag.kind === 'switch' ? '' : value}'`;
}

/** Text inside single quotes and square brackets of `_arguments`. */
function zshText(text: string): string {
  return text.replaceAll("'", "'\\''").replaceAll('[', '\\[').replaceAll(']', '\\]').replaceAll(':', '\\:');
}

function fishScript(): string {
  const isNone = `not __fish_seen_subcommand_from ${SUBCOMMANDS.join(' ')}`;
  const lines = [
    '# c100k-bench completion for fish: c100k-bench completion fish > ~/.config/fish/completions/c100k-bench.fish',
    'complete -c c100k-bench -e',
    'complete -c c100k-bench -f',
    ...COMMANDS.map(
      ({ command, describe }) =>
        `complete -c c100k-bench -n __fish_use_subcommand -a ${command} -d ${fishText(describe)}`,
    ),
    ...COMMANDS.flatMap(({ command }) => fishWords(command)),
    ...[
      [isNone, 'run'] as const,
      ...COMMANDS.map(({ command }) => [seen(command), command] as const),
    ].flatMap(([condition, command]) => [
      ...flagsOf(command).map((flag) => fishFlag(flag, condition)),
      fishHelp(condition),
    ]),
    `complete -c c100k-bench -n ${fishText(isNone)} -l version -d 'show the version'`,
  ];
  return `${lines.join('\n')}\n`;
}

function seen(command: CommandName): string {
  return `__fish_seen_subcommand_from ${command}`;
}

function fishHelp(condition: string): string {
  return `complete -c c100k-bench -n ${fishText(condition)} -s h -l help -d 'show help'`;
}

/** The positional words of a command: files, or given ones. */
function fishWords(command: CommandName): string[] {
  const condition = fishText(seen(command));
  return (POSITIONALS[command] ?? []).map(({ isFile }) =>
    isFile
      ? `complete -c c100k-bench -n ${condition} -F`
      : `complete -c c100k-bench -n ${condition} -a ${fishText(positionalWords(command).join(' '))}`,
  );
}

/** A flag: `-x` needs a value and takes no file, `-r -F` takes a file; one whose value may be left out has neither. */
function fishFlag(flag: Flag, condition: string): string {
  const letter = flag.letter === null ? '' : ` -s ${flag.letter}`;
  const value = flag.choices
    ? ` -x -a ${fishText(flag.choices.join(' '))}`
    : flag.file
      ? ' -r -F'
      : flag.kind === 'switch' || isValueOptional(flag)
        ? ''
        : ' -x';
  return `complete -c c100k-bench -n ${fishText(condition)}${letter} -l ${flag.name}${value} -d ${fishText(flag.describe)}`;
}

/** Text inside single quotes of fish, where a backslash and a quote are escaped. */
function fishText(given: string): string {
  return `'${given.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
