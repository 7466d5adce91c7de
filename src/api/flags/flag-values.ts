/**
 * Owns how the values of flags are asked for, wherever they came from. Must never parse one.
 */

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
