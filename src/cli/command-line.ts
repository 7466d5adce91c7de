/**
 * Owns the command line: argv, environment and run file in, the chosen command and its flags as typed text out; a `C100K_*`
 * variable that means nothing is a slip that would change a run without a word.
 * Must never parse a value (api/flags/) or do what was asked (the *-command.ts files).
 */

import yargs, { type Argv } from 'yargs';
import type { CommandName, Flag } from '../api/flags/flag.ts';
import { environmentName, FLAGS, type FlagValues, flagsOf } from '../api/flags/flags.ts';
import { nearestWord } from '../api/flags/value-types.ts';
import type { RunFile } from '../api/run-file.ts';
import { BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { COMMANDS, POSITIONALS } from './commands.ts';
import { commandHelp, shortHelp } from './help.ts';

/** What every command gets. */
export interface CommandContext {
  readonly values: FlagValues;
  /** positional words by name */
  readonly words: Readonly<Record<string, string>>;
  /** positional files */
  readonly files: readonly string[];
}

type ParsedCommandLine =
  | { readonly kind: 'print'; readonly text: string }
  | (CommandContext & {
      readonly kind: 'command';
      readonly command: CommandName;
      /** one line each for a person: what was given and has no effect */
      readonly warnings: readonly string[];
    });

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Parses the command line.
 * @param args argv without the first two
 * @param environment for the `C100K_*` variables
 * @param toolVersion what `--version` prints
 * @param widthColumns the width that help is wrapped to
 * @throws BenchError (exit code 2) on an unknown flag or word, a missing or repeated value, and what is wrong in a run file
 */
export async function parseCommandLine(
  args: readonly string[],
  environment: Environment,
  toolVersion: string,
  widthColumns: number,
): Promise<ParsedCommandLine> {
  const help = askedHelp(args, widthColumns);
  if (help !== null) return { kind: 'print', text: help };
  refuseSwitchValues(args);
  let chosen: { command: CommandName; argv: Record<string, unknown> } | null = null;
  let output = '';
  const parser = buildParser(toolVersion, args, (command, argv) => {
    chosen = { command, argv };
  });
  await parser.parseAsync(withStream(args), {}, (_error: unknown, _argv: unknown, text: string) => {
    output = text;
  });
  const picked = chosen as { command: CommandName; argv: Record<string, unknown> } | null;
  if (picked === null) return { kind: 'print', text: `${output}\n` };
  const warnings = checkEnvironment(environment);
  const files = readFiles(picked.command, picked.argv);
  const runFile = picked.command === 'run' ? await runFileOf(files) : null;
  return {
    kind: 'command',
    command: picked.command,
    values: readValues(picked.command, picked.argv, environment, runFile),
    words: readWords(picked.command, picked.argv),
    files,
    warnings: [...warnings, ...(runFile?.warnings ?? [])],
  };
}

/** The one file behind `run`; null: there is none. The reader is loaded only for it. */
async function runFileOf(files: readonly string[]): Promise<RunFile | null> {
  const [path] = files;
  if (path === undefined) return null;
  if (files.length > 1) {
    throw usageError(
      ErrorCode.usage,
      `run takes one file, not ${files.length}`,
      `for example: c100k-bench run ${path}`,
    );
  }
  return (await import('../api/run-file.ts')).readRunFile(path);
}

/** What `-` stands for in place of a file. */
const STREAMS: Readonly<Record<string, string>> = {
  run: '/dev/stdin',
  report: '/dev/stdin',
  compare: '/dev/stdin',
  init: '/dev/stdout',
};

/** `-` in place of a file is a stream; the parser would drop it without a word. As the value of a flag it stays. */
function withStream(args: readonly string[]): string[] {
  const stream = STREAMS[args[0] ?? ''];
  return args.map((arg, at) =>
    arg === '-' && stream !== undefined && !takesNext(args[at - 1] ?? '') ? stream : arg,
  );
}

/** Whether the word behind an argument is its value. */
function takesNext(arg: string): boolean {
  const [, name] = /^(?:--|-(?=[^-]$))([^=]+)$/.exec(arg) ?? [];
  const flag = FLAGS.find((one) => one.name === name || one.letter === name);
  return flag !== undefined && flag.kind !== 'switch';
}

/** The text of `--help`, which wins over whatever stands beside it; null: it is not there. */
function askedHelp(args: readonly string[], widthColumns: number): string | null {
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  if (!own.includes('--help') && !own.includes('-h')) return null;
  const [first = ''] = own;
  if (first.startsWith('-')) return shortHelp(widthColumns);
  const command = COMMANDS.find((one) => one.command === first)?.command;
  if (command === undefined) throw unknownArgument(first, args);
  return commandHelp(command, widthColumns);
}

/** The parser takes `--quiet=1` for off, without a word. */
function refuseSwitchValues(args: readonly string[]): void {
  for (const arg of args) {
    const [, name, value = ''] = /^--([^=]+)=(.*)$/s.exec(arg) ?? [];
    const isSwitch = FLAGS.some((flag) => flag.kind === 'switch' && flag.name === name);
    if (isSwitch && value !== 'true' && value !== 'false') {
      throw usageError(ErrorCode.usage, `--${name} takes no value, not "${value}"`, `write --${name} alone`);
    }
  }
}

function buildParser(
  toolVersion: string,
  args: readonly string[],
  onChosen: (command: CommandName, argv: Record<string, unknown>) => void,
): Argv {
  let parser = yargs()
    .scriptName('c100k-bench')
    .locale('en')
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'boolean-negation': false,
      'greedy-arrays': false,
    })
    .exitProcess(false)
    .strict()
    .version(toolVersion)
    // Help is ours (help.ts): the parser lays out that of a command also where none asks for it.
    .help(false)
    .fail((message, error) => {
      throw error instanceof BenchError ? error : translateFailure(message ?? error?.message ?? '', args);
    });
  const add = (line: string, command: CommandName, hasWords: boolean): void => {
    parser = parser.command(
      line,
      '',
      (builder) => addFlags(builder, command, hasWords),
      (argv) => onChosen(command, argv as Record<string, unknown>),
    );
  };
  for (const { command, words } of COMMANDS) add(`${command} ${words}`.trimEnd(), command, true);
  // A run is what is done without a command; a word alone is then a slip, not a file.
  add('$0', 'run', false);
  return parser;
}

function addFlags(builder: Argv, command: CommandName, hasWords: boolean): Argv {
  let built = builder;
  for (const flag of flagsOf(command)) {
    built = built.option(flag.name, {
      // A value is never given a yargs type: every value stays the text that was typed.
      ...(flag.kind === 'switch'
        ? { type: 'boolean' as const }
        : flag.bare === null
          ? { requiresArg: true }
          : {}),
      ...(flag.letter === null ? {} : { alias: flag.letter }),
      ...(flag.choices === undefined ? {} : { choices: flag.choices }),
    });
  }
  for (const positional of hasWords ? (POSITIONALS[command] ?? []) : []) {
    const { name, choices } = positional;
    built = built.positional(name, choices.length === 0 ? {} : { choices });
  }
  return built;
}

const EVERYTHING = 'c100k-bench --help shows the commands, c100k-bench help all every flag';

/** A parser's message as one line and a hint. */
function translateFailure(message: string, args: readonly string[]): BenchError {
  const unknown = /^Unknown arguments?: (.*)$/s.exec(message)?.[1]?.split(', ')[0];
  if (unknown !== undefined) return unknownArgument(unknown, args);
  const missing = /^Not enough arguments following: (.*)$/s.exec(message)?.[1];
  if (missing !== undefined) {
    const flag = FLAGS.find((one) => one.name === missing || one.letter === missing);
    return usageError(
      ErrorCode.usage,
      `${dashed(missing)} needs a value`,
      `${dashed(missing)} ${flag === undefined ? 'takes a value' : `${flag.placeholder}: ${flag.describe}`}`,
    );
  }
  const choice = /Argument: (\S+), Given: (.*), Choices: (.*)$/m.exec(message);
  if (choice !== null) {
    const name = FLAGS.some((flag) => flag.name === choice[1]) ? `--${choice[1]}` : choice[1];
    const known = (choice[3] ?? '').replaceAll('"', '').split(', ');
    const choices =
      known.length > 2 ? `${known.slice(0, -1).join(', ')} or ${known.at(-1)}` : known.join(' or ');
    return usageError(ErrorCode.usage, `${name}: ${choice[2]} is not known`, `use ${choices}`);
  }
  const line = message.split('\n')[0] ?? '';
  return usageError(ErrorCode.usage, line, EVERYTHING);
}

function unknownArgument(name: string, args: readonly string[]): BenchError {
  const isFlag = args.some((arg) => arg.startsWith('-') && arg.replace(/^-+/, '').split('=')[0] === name);
  if (!isFlag && !args.some((arg) => /^-[^-]/.test(arg) && arg.includes(name) && name.length === 1)) {
    const command = nearestWord(
      name,
      COMMANDS.map((one) => one.command),
    );
    if (/\.(?:ya?ml|json)$/.test(name)) {
      return usageError(ErrorCode.usage, `unexpected word ${name}`, `did you mean c100k-bench run ${name}?`);
    }
    if (name.includes(':')) {
      return usageError(ErrorCode.usage, `unexpected word ${name}`, `did you mean --target ${name}?`);
    }
    return usageError(
      ErrorCode.usage,
      `unknown command ${name}`,
      command === null ? EVERYTHING : `did you mean c100k-bench ${command}?`,
    );
  }
  const command = COMMANDS.find((one) => one.command === args[0])?.command ?? 'run';
  const elsewhere = FLAGS.find((flag) => flag.name === name);
  if (elsewhere !== undefined) {
    const owners = elsewhere.commands.map((owner) => (owner === 'run' ? 'the run itself' : owner)).join(', ');
    return usageError(
      ErrorCode.usage,
      `--${name} does not belong to ${command}`,
      `--${name} is for ${owners}`,
    );
  }
  const near = nearestWord(name, [...flagsOf(command).map((flag) => flag.name), 'help', 'version']);
  return usageError(
    ErrorCode.usage,
    `unknown flag ${dashed(name)}`,
    near === null ? EVERYTHING : `did you mean --${near}?`,
  );
}

function dashed(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}

function readWords(command: CommandName, argv: Readonly<Record<string, unknown>>): Record<string, string> {
  const words: Record<string, string> = {};
  for (const { name } of POSITIONALS[command] ?? []) {
    if (typeof argv[name] === 'string') words[name] = argv[name];
  }
  return words;
}

function readFiles(command: CommandName, argv: Readonly<Record<string, unknown>>): string[] {
  const files = (POSITIONALS[command] ?? []).filter(({ isFile }) => isFile);
  return files.flatMap(({ name }) => argv[name] ?? []).map(String);
}

type Value = string | boolean | readonly string[];

function readValues(
  command: CommandName,
  argv: Readonly<Record<string, unknown>>,
  environment: Environment,
  runFile: RunFile | null,
): FlagValues {
  const values = new Map<string, Value>();
  const origins = new Map<string, string>();
  const given = new Set<string>();
  for (const flag of flagsOf(command)) {
    const typed = typedValue(flag, argv[flag.name]);
    const ofEnvironment = typed === null ? environmentValue(flag, environment[environmentName(flag)]) : null;
    const ofFile = runFile?.values.get(flag.name);
    const value = typed ?? ofEnvironment ?? ofFile?.value ?? null;
    if (ofEnvironment !== null) origins.set(flag.name, environmentName(flag));
    else if (typed === null && ofFile !== undefined) origins.set(flag.name, ofFile.origin);
    if (value !== null) {
      values.set(flag.name, value);
      given.add(flag.name);
    } else if (flag.default !== null) values.set(flag.name, flag.default);
  }
  return {
    one: (name) => (values.get(name) as string | undefined) ?? null,
    list: (name) => (values.get(name) as readonly string[] | undefined) ?? [],
    on: (name) => values.get(name) === true,
    origin: (name) => origins.get(name) ?? `--${name}`,
    isGiven: (name) => given.has(name),
  };
}

/** @throws BenchError when a single flag was given twice */
function typedValue(flag: Flag, value: unknown): Value | null {
  if (value === undefined) return null;
  const name = `--${flag.name}`;
  if (flag.kind === 'list') return (Array.isArray(value) ? value : [value]).map(String);
  if (flag.kind === 'switch') {
    return Array.isArray(value) ? value.includes(true) : value === true;
  }
  if (Array.isArray(value)) {
    throw usageError(
      ErrorCode.usage,
      `${name} is given ${value.length} times (${value.join(', ')})`,
      `give ${name} once`,
    );
  }
  return value === true && flag.bare !== null ? flag.bare : String(value);
}

/** @throws BenchError on a value that is not allowed */
function environmentValue(flag: Flag, text: string | undefined): Value | null {
  if (text === undefined || text === '') return null;
  const name = environmentName(flag);
  if (flag.kind === 'list') {
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  }
  if (flag.kind === 'switch') {
    if (/^(1|true|yes|on)$/i.test(text)) return true;
    if (/^(0|false|no|off)$/i.test(text)) return false;
    throw usageError(
      ErrorCode.usage,
      `${name}: "${text}" is neither true nor false`,
      `use ${name}=1 or unset it`,
    );
  }
  if (flag.choices !== undefined && !flag.choices.includes(text)) {
    throw usageError(ErrorCode.usage, `${name}: "${text}" is not known`, `use ${flag.choices.join(' or ')}`);
  }
  return text;
}

const PREFIX = 'C100K_';

/** Variables that are no flag: the token, and what a run tells the agent that it forks. */
const OTHER_VARIABLES: readonly string[] = ['C100K_TOKEN', 'C100K_LOCAL_AGENT'];

/** What Kubernetes sets in every pod for a Service whose name begins with `c100k`. */
const SERVICE_LINK = /_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)$/;

/** Variables in one line for a person at most. */
const NAMED_MAX = 5;

/**
 * Looks for variables that look like flags and are none.
 * @param environment of the process
 * @returns one line each for a person: variables that have no effect
 * @throws BenchError `usage`, exit 2, for one that is a flag's name mistyped: its value would silently not count
 */
function checkEnvironment(environment: Environment): string[] {
  const known = [...FLAGS.map(environmentName), ...OTHER_VARIABLES];
  const unknown = Object.keys(environment)
    .filter((name) => name.toUpperCase().startsWith(PREFIX) && !known.includes(name))
    .filter((name) => !SERVICE_LINK.test(name))
    .toSorted();
  for (const name of unknown) {
    // Without the prefix: it would make every name look alike.
    const near = nearestWord(
      name.slice(PREFIX.length).toUpperCase().replaceAll('-', '_'),
      known.map((one) => one.slice(PREFIX.length)),
    );
    if (near === null) continue;
    throw usageError(
      ErrorCode.usage,
      `the variable ${shown(name)} is not known`,
      `did you mean ${PREFIX}${near}? Otherwise: unset ${shown(name)}`,
    );
  }
  if (unknown.length === 0) return [];
  const names = unknown.slice(0, NAMED_MAX).map(shown).join(', ');
  const more = unknown.length > NAMED_MAX ? ` and ${unknown.length - NAMED_MAX} more` : '';
  const verb = unknown.length === 1 ? 'is not known and has' : 'are not known and have';
  return [`${names}${more} ${verb} no effect: c100k-bench help all shows every flag`];
}

/** A name of a variable is another's text: what is no letter, digit or underscore does not reach a terminal. */
function shown(name: string): string {
  return name.slice(0, 64).replaceAll(/\W/g, '?');
}
