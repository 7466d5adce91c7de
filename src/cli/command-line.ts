/**
 * Owns the command line: argv and environment in, the chosen command and its flags as typed text out; a `C100K_*` variable
 * that means nothing is a slip that would change a run without a word. And the help that it prints.
 * Must never parse a value (api/flags/) or do what was asked (the *-command.ts files).
 */

import yargs, { type Argv } from 'yargs';
import type { CommandName, Flag } from '../api/flags/flag.ts';
import { environmentName, FLAGS, type FlagValues, flagsOf } from '../api/flags/flags.ts';
import { nearestWord } from '../api/flags/value-types.ts';
import { BenchError, ErrorCode, usageError } from '../base/errors.ts';

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
 * @throws BenchError (exit code 2) on an unknown flag or word, a missing or repeated value
 */
export async function parseCommandLine(
  args: readonly string[],
  environment: Environment,
  toolVersion: string,
  widthColumns: number,
): Promise<ParsedCommandLine> {
  refuseSwitchValues(args);
  let chosen: { command: CommandName; argv: Record<string, unknown> } | null = null;
  let output = '';
  const parser = buildParser(toolVersion, widthColumns, args, (command, argv) => {
    chosen = { command, argv };
  });
  await parser.parseAsync([...args], {}, (_error: unknown, _argv: unknown, text: string) => {
    output = text;
  });
  const picked = chosen as { command: CommandName; argv: Record<string, unknown> } | null;
  if (picked === null) return { kind: 'print', text: `${output}\n` };
  const warnings = checkEnvironment(environment);
  return {
    kind: 'command',
    command: picked.command,
    values: readValues(picked.command, picked.argv, environment),
    words: readWords(picked.command, picked.argv),
    files: readFiles(picked.command, picked.argv),
    warnings,
  };
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
  widthColumns: number,
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
    .wrap(widthColumns)
    .version(toolVersion)
    .help()
    .alias('help', 'h')
    .fail((message, error) => {
      throw error instanceof BenchError ? error : translateFailure(message ?? error?.message ?? '', args);
    });
  for (const { command, words, describe, epilogue } of COMMANDS) {
    parser = parser.command(
      command === 'run' ? '$0' : [command, words].join(' ').trimEnd(),
      describe,
      (builder) => addHelp(addFlags(builder, command), command, epilogue),
      (argv) => onChosen(command, argv as Record<string, unknown>),
    );
  }
  return parser;
}

function addFlags(builder: Argv, command: CommandName): Argv {
  let built = builder;
  for (const flag of flagsOf(command)) {
    built = built.option(flag.name, {
      describe: flag.required ? `${flag.describe} (required)` : flag.describe,
      group: flag.group,
      // A value is never given a yargs type: every value stays the text that was typed.
      ...(flag.kind === 'switch'
        ? { type: 'boolean' as const }
        : flag.bare === null
          ? { requiresArg: true }
          : {}),
      ...(flag.letter === null ? {} : { alias: flag.letter }),
      ...(flag.choices === undefined ? {} : { choices: flag.choices }),
      ...defaultHelp(flag),
    });
  }
  for (const positional of POSITIONALS[command] ?? []) {
    const { name, describe, choices, isFile } = positional;
    built = built.positional(name, { describe, ...(isFile ? {} : { choices }) });
  }
  return built;
}

function defaultHelp(flag: Flag): { defaultDescription?: string } {
  const text = flag.defaultNote ?? flag.default;
  return text === null ? {} : { defaultDescription: text };
}

function addHelp(builder: Argv, command: CommandName, epilogue: string): Argv {
  // The parser's own examples share a line with their description and would be broken in the middle of a command.
  const examples = (EXAMPLES[command] ?? []).flatMap(([line, describe]) => [
    `  # ${describe}`,
    `  c100k-bench ${line}`,
  ]);
  const blocks = [examples.length > 0 ? ['Examples:', ...examples].join('\n') : '', epilogue, EXIT_CODE_HELP];
  return builder.epilogue(blocks.filter((block) => block !== '').join('\n\n'));
}

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
    const choices = (choice[3] ?? '').replaceAll('"', '').split(', ').join(' or ');
    return usageError(ErrorCode.usage, `${name}: ${choice[2]} is not known`, `use ${choices}`);
  }
  const line = message.split('\n')[0] ?? '';
  return usageError(ErrorCode.usage, line, 'c100k-bench --help shows every command and flag');
}

function unknownArgument(name: string, args: readonly string[]): BenchError {
  const everything = 'c100k-bench --help shows every command and flag';
  const isFlag = args.some((arg) => arg.startsWith('-') && arg.replace(/^-+/, '').split('=')[0] === name);
  if (!isFlag && !args.some((arg) => /^-[^-]/.test(arg) && arg.includes(name) && name.length === 1)) {
    const command = nearestWord(
      name,
      COMMANDS.map((one) => one.command).filter((one) => one !== 'run'),
    );
    if (name.includes(':')) {
      return usageError(ErrorCode.usage, `unexpected word ${name}`, `did you mean --target ${name}?`);
    }
    return usageError(
      ErrorCode.usage,
      `unknown command ${name}`,
      command === null ? everything : `did you mean c100k-bench ${command}?`,
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
    near === null ? everything : `did you mean --${near}?`,
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
): FlagValues {
  const values = new Map<string, Value>();
  const origins = new Map<string, string>();
  const given = new Set<string>();
  for (const flag of flagsOf(command)) {
    const typed = typedValue(flag, argv[flag.name]);
    const value = typed ?? environmentValue(flag, environment[environmentName(flag)]);
    if (typed === null && value !== null) origins.set(flag.name, environmentName(flag));
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
    if (/^(0|false|no|off)$/i.test(text)) return null;
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
  return [`${names}${more} ${verb} no effect: c100k-bench --help shows every flag`];
}

/** A name of a variable is another's text: what is no letter, digit or underscore does not reach a terminal. */
function shown(name: string): string {
  return name.slice(0, 64).replaceAll(/\W/g, '?');
}

interface Command {
  readonly command: CommandName;
  /** positional words, in the parser's notation */
  readonly words: string;
  readonly describe: string;
  readonly epilogue: string;
}

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  {
    command: 'run',
    words: '',
    describe: 'Open, hold and prove TCP connections, and say what ran out',
    epilogue:
      'Counts take k, m and _ (130k, 1m, 130_000), rates /s (5k/s), durations ms, s, m, h (1h30m; a plain ' +
      'number is seconds). Each flag may come from the environment: C100K_CONNS for --conns, C100K_NO_PROGRESS ' +
      'for --no-progress.\nThe first Ctrl-C stops opening, drains and reports; the second exits at once.',
  },
  {
    command: 'plan',
    words: '',
    describe: 'Show what a run would take and what is missing; opens nothing',
    epilogue: '',
  },
  {
    command: 'path',
    words: '',
    describe: 'Say what the way to a whoami target does to addresses, ports and idle connections',
    epilogue:
      'The target is c100k-bench serve --mode whoami (with --find-idle-timeout: --mode echo), started where the server ' +
      'is. Exit code 0: the path was seen; 1: the target reported nothing.',
  },
  {
    command: 'serve',
    words: '',
    describe: 'The built-in target',
    epilogue: 'SIGUSR2 prints the counts; Ctrl-C ends it and prints them too.',
  },
  {
    command: 'agent',
    words: '',
    describe: 'One host of a run; a run starts its own local agent',
    epilogue: '',
  },
  {
    command: 'token',
    words: '',
    describe: 'Make a token for one agent, with a name, an expiry and allowed targets',
    epilogue: '',
  },
  {
    command: 'k8s',
    words: '',
    describe: 'Print Kubernetes manifests of a run with its agents',
    epilogue:
      'Flags of a run go to the coordinator, flags of a host (sources, limits) to each agent; $(JOB_COMPLETION_INDEX) in ' +
      'one of these is the number of the agent, from 0. The Secret that is printed holds the token.',
  },
  {
    command: 'report',
    words: '[file]',
    describe: 'Make a page or the text from the JSON report of a run',
    epilogue: '',
  },
  {
    command: 'compare',
    words: '[files..]',
    describe: 'Say what changed between runs, and whether it is beyond noise',
    epilogue: '',
  },
  {
    command: 'cleanup',
    words: '',
    describe: 'Remove the source addresses that a crashed run left on this host',
    epilogue: 'An address that is not ours, or that a living run uses, is never touched.',
  },
  {
    command: 'completion',
    words: '<shell>',
    describe: 'Print a completion script for bash or zsh',
    epilogue: '',
  },
];

interface Positional {
  readonly name: string;
  readonly describe: string;
  readonly choices: readonly string[];
  readonly isFile: boolean;
}

/** The positional words of each command that has some. */
export const POSITIONALS: Readonly<Partial<Record<CommandName, readonly Positional[]>>> = {
  completion: [{ name: 'shell', describe: 'the shell', choices: ['bash', 'zsh'], isFile: false }],
  report: [{ name: 'file', describe: 'a report that --json has written', choices: [], isFile: true }],
  compare: [{ name: 'files', describe: 'reports that --json has written', choices: [], isFile: true }],
};

/** Lines to type after the name of the tool, with what they do. */
const EXAMPLES: Readonly<Partial<Record<CommandName, readonly (readonly [string, string])[]>>> = {
  run: [
    ['--target self --conns 130k', 'try it against the built-in target'],
    ['-t 192.168.0.10:8000 -c 20k -d 60s', 'hold 20,000 connections for a minute'],
    ['-t 10.0.0.1:8000-8080 -c 130k -r 5k/s', '81 endpoints, 5,000 connects a second'],
    [
      '-t 10.0.0.1:8000 -c 130k --source-ip 10.0.0.102-10.0.0.105 --alias-dev auto',
      'add four addresses, which no other host has, for the run',
    ],
    ['-t echo://10.0.0.1:7 -c 10k --json r.json', 'prove each connection by echo'],
  ],
  plan: [
    ['plan -t 192.168.0.10:8000 -c 130k', 'what is missing on this host?'],
    ['plan -t 1.2.3.4:8000 -c 130k --via dnat --via haproxy:1x1', 'and on the way?'],
  ],
  path: [
    ['path -t 1.2.3.4:8000', 'does the router translate?'],
    ['path -t echo://1.2.3.4:8000 --find-idle-timeout', 'when does it forget?'],
  ],
  serve: [['serve --port 8000 --mode echo', 'a target that answers']],
  agent: [['agent --join 10.0.0.1:7100 --token-file run.token', 'as the coordinator prints it']],
  token: [['token --token-file run.token --name host7 --expires 24h > host7.token', 'one host, one day']],
  cleanup: [['cleanup --dry-run', 'what did a crash leave?']],
  k8s: [
    [
      'k8s -t my-server:8000 -c 100k --expect-agents 5 --image registry.example/c100k-bench:1 | kubectl apply -f -',
      'five agents in a cluster',
    ],
  ],
  report: [['report run.json --html run.html', 'a page']],
  compare: [
    ['compare --label a=a1.json,a2.json --label b=b1.json,b2.json --fail-on connect_p99:10%', 'for CI'],
  ],
  completion: [
    ['completion bash > ~/.local/share/bash-completion/completions/c100k-bench', 'bash'],
    ['completion zsh > ~/.zfunc/_c100k-bench', 'zsh, with ~/.zfunc in $fpath'],
  ],
};

/** The exit codes, as the help lists them. */
const EXIT_CODE_HELP = [
  'Exit codes:',
  '    0  held as required',
  '    1  the target or the path did not hold',
  '    2  wrong usage',
  '    3  refused before the start: limits, ports, privileges',
  '    4  incomplete: the generator fell short',
  '    5  a report could not be written',
  '   70  a bug in c100k-bench',
  '  130  interrupted (143: terminated); the report is still written',
].join('\n');
