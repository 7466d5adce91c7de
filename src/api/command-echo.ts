/**
 * Owns the command line that repeats a run: what was given, as a shell takes it. Must never print what a flag does not
 * carry: a token comes from a file or the environment, and stays there.
 */
import type { CommandName, Flag } from './flags/flag.ts';
import type { FlagValues } from './flags/flag-values.ts';
import { flagsOf } from './flags/flags.ts';

/** Characters that no shell gives a meaning to. `=` and `~` have one at the begin of a word, `-` for us. */
const PLAIN_WORD = /^[\w./:@%+,][\w./:@%+,=-]*$/;

/**
 * A word as a POSIX shell takes it.
 * @param text any text without a zero byte
 */
export function quoted(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * The command line that does the same again, from whatever place the values came.
 * @param command which command
 * @param values what it was given
 */
export function echoedCommand(command: CommandName, values: FlagValues): string {
  const words = flagsOf(command)
    .filter((flag) => values.isGiven(flag.name))
    .flatMap((flag) => flagWords(flag, values));
  return ['c100k-bench', ...(command === 'run' ? [] : [command]), ...words].join(' ');
}

/**
 * What was not given and is assumed, as it would be typed; empty: nothing is.
 * @param command which command
 * @param values what it was given
 */
export function assumedFlags(command: CommandName, values: FlagValues): string {
  return flagsOf(command)
    .filter((flag) => !values.isGiven(flag.name) && flag.default !== null)
    .map((flag) => `--${flag.name} ${quoted(flag.default ?? '')}`)
    .join(' ');
}

function flagWords(flag: Flag, values: FlagValues): string[] {
  if (flag.kind === 'switch') return [`--${flag.name}`];
  const texts = flag.kind === 'list' ? values.list(flag.name) : [values.one(flag.name) ?? ''];
  // A value that begins with a dash would be read as the next flag.
  return texts.map(
    (text) => `--${flag.name}${text === '' || text.startsWith('-') ? '=' : ' '}${quoted(text)}`,
  );
}
