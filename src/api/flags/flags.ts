/**
 * Owns the one table of flags. The parser of the command line, the environment, the help, the completions, the echoed
 * command line, the pods of `k8s`, the options of the library and the manual's tables come from it.
 * Must never say what becomes of a value.
 */
import { AGENTS_FLAGS, JOIN_FLAGS, KUBERNETES_FLAGS, OTHER_FLAGS, SERVE_FLAGS } from './command-flags.ts';
import type { CommandName, Flag } from './flag.ts';
import { OUTPUT_FLAGS } from './output-flags.ts';
import { RUN_FLAGS } from './run-flags.ts';
import { SESSION_FLAGS } from './session-flags.ts';

/** In the order of the help. */
const TABLE = {
  ...RUN_FLAGS,
  ...SESSION_FLAGS,
  ...AGENTS_FLAGS,
  ...SERVE_FLAGS,
  ...JOIN_FLAGS,
  ...KUBERNETES_FLAGS,
  ...OUTPUT_FLAGS,
  ...OTHER_FLAGS,
};

type Table = typeof TABLE;
type NameOf<Kind> = {
  [Name in keyof Table]: Table[Name]['kind'] extends Kind ? Name : never;
}[keyof Table];
type Parsed<Name extends keyof Table> = ReturnType<Table[Name]['parse']>;

/** Every flag of every command, in the order of the help. */
export const FLAGS: readonly Flag[] = Object.entries(TABLE).map(([name, row]) => ({ name, ...row }));

/** The environment variable that stands for a flag: `C100K_CONNECT_TIMEOUT` for `--connect-timeout`. */
export function environmentName(flag: Flag): string {
  return `C100K_${flag.name.toUpperCase().replaceAll('-', '_')}`;
}

/** The flags that a command takes, in the order of the help. */
export function flagsOf(command: CommandName): readonly Flag[] {
  return FLAGS.filter((flag) => flag.commands.includes(command));
}

/** What was typed for the flags of one command; the environment and the defaults fill what was not. */
export interface FlagValues {
  /** the value of a single flag; null: not given and without a default */
  one(name: string): string | null;
  /** the values of a repeatable flag; empty: not given */
  list(name: string): readonly string[];
  /** whether a switch is on */
  on(name: string): boolean;
  /** how the value was given, for messages: `--conns`, or `C100K_CONNS` */
  origin(name: string): string;
  /** whether it was given at all, and is not at its default */
  isGiven(name: string): boolean;
}

/**
 * The checked value of a single flag.
 * @returns null: not given, and without a default
 * @throws BenchError exit 2
 */
export function flagValue<Name extends NameOf<'one'>>(
  values: FlagValues,
  name: Name,
): Parsed<Name> | (Table[Name]['default'] extends string ? never : null) {
  const row: Omit<Flag, 'name'> = TABLE[name];
  const given = values.one(name) ?? row.default;
  // The row of this name parses to this type, or there is nothing to parse, which its default says.
  return (given === null ? null : row.parse(given, values.origin(name))) as Parsed<Name>;
}

/**
 * The checked values of a repeatable flag, one for each text.
 * @throws BenchError exit 2
 */
export function flagValues<Name extends NameOf<'list'>>(
  values: FlagValues,
  name: Name,
): readonly Parsed<Name>[] {
  const row: Omit<Flag, 'name'> = TABLE[name];
  return values.list(name).map((given) => row.parse(given, values.origin(name)) as Parsed<Name>);
}

/** The text of a flag as its checked value is written back, whatever way it was typed; null: it has none. */
export function writtenBack(values: FlagValues, name: NameOf<'one'>): string | null {
  const row: Omit<Flag, 'name'> = TABLE[name];
  const value = flagValue(values, name);
  return value === null ? null : row.write(value);
}

/** Characters that no shell gives a meaning to. `=` and `~` have one at the begin of a word, `-` for us. */
const PLAIN_WORD = /^[\w./:@%+,][\w./:@%+,=-]*$/;

/** A word as a POSIX shell takes it; text has no zero byte. */
function quoted(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A flag and its texts as arguments of a process, one word each: nothing is left for a parser to guess. */
export function argumentsOf(flag: Flag, values: FlagValues): string[] {
  if (flag.kind === 'switch') return values.on(flag.name) ? [`--${flag.name}`] : [];
  const texts = flag.kind === 'list' ? values.list(flag.name) : [values.one(flag.name)];
  return texts.flatMap((given) => (given === null ? [] : [`--${flag.name}=${given}`]));
}

/** Header fields whose value is a credential, or is named as one. */
const CREDENTIAL_FIELD = /^(?:proxy-)?authorization$|cookie|token|secret|passw|api-?key|credential|session/i;
/** Names of a query whose value is one. */
const CREDENTIAL_NAME =
  /^(?:auth|key|pass|pwd|sig|sid|jwt|code|ticket|access)$|auth|cookie|token|secret|passw|key$|credential|session|signature/i;
/** So many characters without a blank are taken for a credential, whatever they are called, where a digit is among them. */
const LONG_WORD = /^(?=.*\d)\S{16,}$/;
/** What a report shows in place of a text that is not to be passed on. */
const HIDDEN = '...';
/** Flags whose text goes to the target, which may ask for a password in it. The name of a file shows nothing of what is in it. */
const SAID: ReadonlySet<string> = new Set(['first-message', 'send', 'ws-message', 'body', 'answer']);
/** Flags whose text is a URL. */
const ADDRESSED: ReadonlySet<string> = new Set(['target', 'target-stats', 'otlp']);

/** The parts of a query that are no credential stay: a path and the names are what a reader knows a request by. */
export function shownUrl(text: string): string {
  const [, before = text, query] = /^([^?]*)\?(.*)$/s.exec(text) ?? [];
  if (query === undefined) return text;
  const shown = query.split('&').map((part) => {
    const at = part.indexOf('=');
    const [name, value] = at < 0 ? ['', part] : [part.slice(0, at + 1), part.slice(at + 1)];
    const isHidden =
      LONG_WORD.test(value) || (at >= 0 && value !== '' && CREDENTIAL_NAME.test(part.slice(0, at)));
    return isHidden ? `${name}${HIDDEN}` : part;
  });
  return `${before}?${shown.join('&')}`;
}

/** A message whose names in braces stay, and the pattern of an answer. */
function shownMessage(name: string, text: string): string {
  // Of `--ws-message` alone `@` names no file.
  if (text === '' || (name !== 'ws-message' && /^@./s.test(text))) return text;
  if (name === 'answer') {
    const [, pattern] = /^(\/.*\/i?|[^=]*)=/s.exec(text) ?? [];
    return pattern === undefined ? HIDDEN : `${pattern}=${HIDDEN}`;
  }
  const names = name === 'body' ? [] : (text.match(/\{[a-z]+(?::\d+)?\}/g) ?? []);
  return [HIDDEN, ...names.flatMap((each) => [each, HIDDEN])].join('');
}

/** A subprotocol is a name; some servers take a token in its place. */
function shownSubprotocol(text: string): string {
  return text
    .split(',')
    .map((each) => {
      const [, scheme] = /^(.*(?:bearer|token|auth)[^.]*\.).+$/i.exec(each) ?? [];
      if (scheme !== undefined) return `${scheme}${HIDDEN}`;
      return LONG_WORD.test(each.trim()) ? HIDDEN : each;
    })
    .join(',');
}

/** `--header` and `--mqtt-password`: what is named as a credential. */
function withoutCredential(name: string, text: string): string {
  if (name === 'mqtt-password' && !/^@./s.test(text)) return HIDDEN;
  const [, field] = name === 'header' ? (/^\s*([^:]*?)\s*:/.exec(text) ?? []) : [];
  return field !== undefined && CREDENTIAL_FIELD.test(field) ? `${field}: ${HIDDEN}` : text;
}

/** The text of a flag as a report may show it: reports are passed on, and a credential in one would be passed on with it. */
export function shownText(name: string, text: string): string {
  if (SAID.has(name)) return shownMessage(name, text);
  if (ADDRESSED.has(name)) return shownUrl(text);
  return name === 'ws-protocol' ? shownSubprotocol(text) : withoutCredential(name, text);
}

function shownArgument(argument: string): string {
  const [, name, text] = /^--([^=]+)=(.*)$/s.exec(argument) ?? [];
  return name === undefined || text === undefined ? argument : `--${name}=${shownText(name, text)}`;
}

/** Whether a text of a flag is a credential by its name, which is not to be passed on. */
export function holdsCredential(flag: Flag, text: string): boolean {
  return withoutCredential(flag.name, text) !== text;
}

/**
 * The command line that does the same again, from whatever place the values came. What no flag carries is not in it: a
 * token comes from a file or the environment, and stays there. What can be a credential is `...`: `shownText`.
 * @param command which command
 * @param values what it was given
 */
export function echoedCommand(command: CommandName, values: FlagValues): string {
  const words = flagsOf(command)
    .filter((flag) => values.isGiven(flag.name))
    .flatMap((flag) => argumentsOf(flag, values))
    .map(shownArgument)
    .map(shellWord);
  return ['c100k-bench', ...(command === 'run' ? [] : [command]), ...words].join(' ');
}

/** `--conns=5` as a person types it: `--conns 5`. */
function shellWord(argument: string): string {
  const at = argument.indexOf('=');
  if (at < 0) return argument;
  const given = argument.slice(at + 1);
  // A value that begins with a dash would be read as the next flag.
  const sign = given === '' || given.startsWith('-') ? '=' : ' ';
  return `${argument.slice(0, at)}${sign}${quoted(given)}`;
}

/**
 * What was not given and is assumed, as it would be typed; empty: nothing is.
 * @param command which command
 * @param values what it was given
 */
export function assumedFlags(command: CommandName, values: FlagValues): string {
  return flagsOf(command)
    .filter((flag) => !values.isGiven(flag.name) && flag.default !== null)
    .map((flag) => shellWord(`--${flag.name}=${flag.default}`))
    .join(' ');
}
