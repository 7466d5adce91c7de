/**
 * Owns what one row of the table of flags says. Must never hold a row (flags.ts).
 */
export type CommandName =
  | 'run'
  | 'plan'
  | 'path'
  | 'agent'
  | 'serve'
  | 'token'
  | 'k8s'
  | 'cleanup'
  | 'completion';

export type FlagGroup =
  | 'Target:'
  | 'Load:'
  | 'Sources:'
  | 'Proof:'
  | 'Agents:'
  | 'Output:'
  | 'Serve:'
  | 'Agent:'
  | 'Kubernetes:'
  | 'Cleanup:'
  | 'Path:';

export interface Flag {
  readonly name: string;
  /** single letter, or null */
  readonly letter: string | null;
  /** `one` value, a `list` of values (repeatable), or a `switch` without a value */
  readonly kind: 'one' | 'list' | 'switch';
  readonly group: FlagGroup;
  readonly commands: readonly CommandName[];
  readonly describe: string;
  /** what is used when neither the flag nor its environment variable is given, as a user would type it */
  readonly default: string | null;
  /** the command does not work without it */
  readonly required?: boolean;
  /** what the help says in place of a default, where there is none to type */
  readonly defaultNote?: string;
  /** the only values allowed */
  readonly choices?: readonly string[];
  /** the value is the name of a file (completion offers files) */
  readonly file?: boolean;
}
