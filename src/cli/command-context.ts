/**
 * Owns what every command is given. Must never know a command.
 */

import type { FlagValues } from '../api/flags/flag-values.ts';
import type { systemClock } from '../host/system-clock.ts';

/** What every command gets. */
export interface CommandContext {
  readonly values: FlagValues;
  /** positional words by name */
  readonly words: Readonly<Record<string, string>>;
  readonly toolVersion: string;
  /** the script that child processes are forked from */
  readonly entryPath: string;
  readonly clock: typeof systemClock;
}
