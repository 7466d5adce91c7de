/**
 * Owns how the help looks: usage, examples, flags with what they mean, exit codes, all from the tables of commands and of flags.
 * Must never know a flag or a command that is not in its table.
 */
import type { CommandName, Flag } from '../api/flags/flag.ts';
import { FLAGS, flagsOf } from '../api/flags/flags.ts';
import { narrowed, wrapText } from '../report/layout.ts';
import { COMMANDS, EXAMPLES, POSITIONALS } from './commands.ts';
import { TOPICS } from './help-topic.ts';

/** The flags that a first run, and a run in CI, needs. */
const MAIN_FLAGS: readonly string[] = [
  'target',
  'conns',
  'duration',
  'rate',
  'source-ip',
  'alias-dev',
  'require',
  'on-drop',
  'expect-agents',
  'target-stats',
  'json',
  'html',
];
const MAIN_EXAMPLES = 3;

/** Where descriptions begin. */
const INDENT_MAX = 30;

/** A term with its description beside it, or below it where it is long. */
function described(rows: readonly (readonly [string, string])[], width: number): string[] {
  const longest = Math.max(0, ...rows.map(([term]) => term.length));
  const indent = Math.min(INDENT_MAX, longest + 4, Math.floor(width / 2));
  return rows.flatMap(([term, text]) => {
    const lines = wrapText(text, width - indent).map((line) => ' '.repeat(indent) + line);
    const head = `  ${term}`;
    if (head.length + 2 > indent) return [head, ...lines];
    return [head.padEnd(indent) + (lines[0] ?? '').trimStart(), ...lines.slice(1)];
  });
}

/** `-c, --conns N`. */
export function flagTerm({ name, letter, kind, placeholder, bare }: Flag): string {
  const value = kind === 'switch' ? '' : bare === null ? ` ${placeholder}` : `[=${placeholder}]`;
  return `${letter === null ? '' : `-${letter}, `}--${name}${value}`;
}

/** What a flag means, with its default. */
export function flagText({ describe, required, kind, ...flag }: Flag): string {
  const fallback = flag.default ?? flag.defaultNote;
  return [
    describe,
    ...(required ? ['(required)'] : []),
    ...(kind === 'list' && !/repeat/.test(describe) ? ['(repeatable)'] : []),
    ...(fallback === null ? [] : [`[default: ${fallback}]`]),
  ].join(' ');
}

function flagRow(flag: Flag): readonly [string, string] {
  return [flagTerm(flag), flagText(flag)];
}

function flagRows(flags: readonly Flag[], width: number): string[] {
  return described(flags.map(flagRow), width);
}

/** The line to type. */
export function usageLine(command: CommandName): string {
  if (command === 'run') return 'c100k-bench --target ENDPOINT --conns N [flags]';
  const { words } = COMMANDS.find((one) => one.command === command) ?? { words: '' };
  const flags = flagsOf(command);
  const needed = flags
    .filter(({ required }) => required)
    .map(({ name, placeholder }) => `--${name} ${placeholder}`);
  const rest = flags.length > needed.length ? ['[flags]'] : [];
  return ['c100k-bench', command, words, ...needed, ...rest].filter((word) => word !== '').join(' ');
}

function exampleLines(command: CommandName, most: number): string[] {
  // A command is never wrapped: it must survive copy and paste.
  return (EXAMPLES[command] ?? [])
    .slice(0, most)
    .flatMap(([line, describe]) => [`  # ${describe}`, `  c100k-bench ${line}`]);
}

/** What `--help` says: what fits a first look. */
export function shortHelp(width: number): string {
  const commands = COMMANDS.filter(({ command }) => command !== 'run');
  const flags = MAIN_FLAGS.flatMap((name) => FLAGS.find((flag) => flag.name === name) ?? []);
  const more: [string, string][] = [
    ['c100k-bench help COMMAND', 'the flags of one command; help run: those of a run'],
    ['c100k-bench help all', 'every flag of every command'],
    ['c100k-bench help TOPIC', TOPICS.map(({ name }) => name).join(', ')],
  ];
  return text([
    [
      'Usage: c100k-bench --target ENDPOINT --conns N [flags]',
      '       c100k-bench run FILE [flags]',
      '       c100k-bench COMMAND [flags]',
    ],
    narrowed([`${summaryOf('run')}.`], width, new Set()),
    ['Examples:', ...exampleLines('run', MAIN_EXAMPLES)],
    [
      'Flags:',
      ...described(
        [...flags.map(flagRow), ['-h, --help', 'show this'], ['--version', 'show the version']],
        width,
      ),
    ],
    [
      'Commands:',
      ...described(
        commands.map(({ command, describe }) => [`c100k-bench ${command}`, describe]),
        width,
      ),
    ],
    ['More:', ...described(more, width)],
  ]);
}

function summaryOf(command: CommandName): string {
  return COMMANDS.find((one) => one.command === command)?.describe ?? '';
}

/** Everything of one command. */
export function commandHelp(command: CommandName, width: number): string {
  const { describe = '', epilogue = '', exits = [] } = COMMANDS.find((one) => one.command === command) ?? {};
  const flags = flagsOf(command);
  const groups = [...new Set(flags.map(({ group }) => group))];
  const words = (POSITIONALS[command] ?? []).map(({ name, describe: meaning, choices }): [string, string] => [
    name,
    choices.length === 0 ? meaning : `${meaning}: ${choices.join(', ')}`,
  ]);
  const examples = exampleLines(command, Number.POSITIVE_INFINITY);
  return text([
    [`Usage: ${usageLine(command)}`],
    narrowed([`${describe}.`], width, new Set()),
    words.length === 0 ? [] : ['Words:', ...described(words, width)],
    ...groups.map((group) => [
      group,
      ...flagRows(
        flags.filter((flag) => flag.group === group),
        width,
      ),
    ]),
    examples.length === 0 ? [] : ['Examples:', ...examples],
    epilogue === '' ? [] : epilogue.split('\n').flatMap((line) => wrapText(line, width)),
    [
      'Exit codes:',
      ...described(
        exits.map(({ code, meaning }) => [String(code).padStart(3), meaning]),
        width,
      ),
    ],
  ]);
}

/** Everything of every command, one after the other. */
export function allHelp(width: number): string {
  return COMMANDS.map(({ command }) => commandHelp(command, width)).join(
    `\n${'-'.repeat(Math.min(width, 40))}\n\n`,
  );
}

/** Every word that there is help on. */
export function helpWords(): readonly string[] {
  return [...COMMANDS.map(({ command }) => command), ...TOPICS.map(({ name }) => name), 'all', 'man'];
}

/** Blocks with a blank line between them; empty ones are left out. */
function text(blocks: readonly (readonly string[])[]): string {
  const shown = blocks.filter((block) => block.length > 0).map((block) => block.join('\n'));
  return `${shown.join('\n\n')}\n`;
}
