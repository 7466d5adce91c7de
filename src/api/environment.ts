/**
 * Owns which `C100K_*` variables mean something: one that means nothing is a slip that would change a run without a word.
 * Must never read a value (command-line.ts).
 */
import { ErrorCode, usageError } from '../base/errors.ts';
import { environmentName, FLAGS } from './flags/flags.ts';
import { nearestWord } from './suggestion.ts';

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
export function checkEnvironment(environment: Readonly<Record<string, string | undefined>>): string[] {
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
