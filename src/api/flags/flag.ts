/**
 * Owns what one row of the table of flags says, and how a row is made. Must never hold a row (flags.ts).
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
  | 'report'
  | 'compare'
  | 'completion'
  | 'init'
  | 'help';

type FlagGroup =
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
  | 'Compare:'
  | 'Init:'
  | 'Path:';

/** The range of a number, both ends included. */
export type Bounds =
  | { readonly kind: 'count'; readonly min: number; readonly max: number }
  | { readonly kind: 'duration'; readonly minMs: number; readonly maxMs: number }
  /** above 0, at most `RATE_PER_SEC_MAX` */
  | { readonly kind: 'rate' };

/** What the text of a flag means. */
export interface ValueType<Value> {
  /** what stands for the value in the manual and in completions, in capitals */
  readonly placeholder: string;
  /** of a number */
  readonly bounds?: Bounds;
  /** the only texts allowed */
  readonly choices?: readonly string[];
  /** the value is the name of a file (completion offers files) */
  readonly file?: boolean;
  /** a value that begins with `@` names a file */
  readonly fileAt?: boolean;
  /**
   * The checked value.
   * @param origin how it was given, for the message: `--conns`, or `C100K_CONNS`
   * @throws BenchError exit 2, with a hint that can be typed
   */
  parse(text: string, origin: string): Value;
  /** How it is written back: `parse` gives the same value again. */
  write(value: Value): string;
}

/**
 * What `k8s` does with a flag of a run or of an agent: writes it into the command lines of the pods, says it in the
 * manifests or the Secret, or does not take it. null: a flag of another command.
 */
type PodRule = 'argument' | 'manifest' | { readonly why: string } | null;

/** `one` value, a `list` of values (repeatable), or a `switch` without a value. */
type FlagKind = 'one' | 'list' | 'switch';

/** One row with its name; everything that knows flags reads it from here. */
export interface Flag<Kind = FlagKind, Value = unknown, Default = string | null> extends ValueType<Value> {
  readonly name: string;
  /** single letter, or null */
  readonly letter: string | null;
  readonly kind: Kind;
  readonly group: FlagGroup;
  readonly commands: readonly CommandName[];
  readonly describe: string;
  /** what is used when neither the flag nor its environment variable is given, as a user would type it */
  readonly default: Default;
  /** what the help says in place of a default, where there is none to type; null: nothing */
  readonly defaultNote: string | null;
  /** what a flag without a value stands for, as a user would type it; null: it needs one */
  readonly bare: string | null;
  /** the command does not work without it */
  readonly required: boolean;
  readonly pods: PodRule;
  /** it shows a person something or writes the report: a caller of the library has the report itself */
  readonly isOutput: boolean;
}

/** A row of the table, where its name is its key. */
type Row<Kind, Value, Default> = Omit<Flag<Kind, Value, Default>, 'name'>;

/** What a row says beside its type; what is left out is null or false. */
interface Words {
  readonly letter?: string;
  readonly group: FlagGroup;
  readonly commands: readonly CommandName[];
  readonly describe: string;
  readonly defaultNote?: string;
  readonly required?: boolean;
  readonly bare?: string;
  readonly pods?: PodRule;
  readonly isOutput?: boolean;
}

function rowOf<Kind extends FlagKind, Value, Default extends string | null>(
  kind: Kind,
  words: Words & ValueType<Value>,
  fallback: Default,
): Row<Kind, Value, Default> {
  const pods = words.pods ?? null;
  const isOfK8s = pods === 'argument' || pods === 'manifest';
  return {
    letter: null,
    defaultNote: null,
    required: false,
    bare: null,
    isOutput: false,
    ...words,
    pods,
    kind,
    default: fallback,
    commands: isOfK8s ? [...words.commands, 'k8s'] : words.commands,
  };
}

/** A flag that is given once, with a value. */
export function one<Value, const Default extends string | null = null>(
  words: Words & ValueType<Value> & { readonly default?: Default },
): Row<'one', Value, Default> {
  // Absent is null, which is what `Default` is then.
  return rowOf('one', words, (words.default ?? null) as Default);
}

/** A flag that may be repeated; `parse` reads one of its texts. */
export function list<Value>(words: Words & ValueType<Value>): Row<'list', Value, null> {
  return rowOf('list', words, null);
}

/** A flag without a value. */
export function flagSwitch(words: Words): Row<'switch', boolean, null> {
  const type: ValueType<boolean> = {
    placeholder: '',
    parse: (text) => text === 'true',
    write: String,
  };
  return rowOf('switch', { ...words, ...type }, null);
}
