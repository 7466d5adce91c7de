/**
 * Owns what this process writes: results to stdout, talk to stderr, and what happens when no process reads it. With JSON on stdout
 * the text of a result goes to stderr. Must never make a result.
 */
import { styleText } from 'node:util';
import type { CommandName } from '../api/flags/flag.ts';
import { assumedFlags, echoedCommand, type FlagValues, flagValue } from '../api/flags/flags.ts';
import { checkReportFile, type ReportFile } from '../api/report-file.ts';
import { cleanLines } from '../base/clean-text.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { Paint } from '../report/layout.ts';

/**
 * A reader that went away: `| head -c 10`, a closed terminal. Not our failure, and never a reason to stop a run.
 * main.ts listens to the streams' errors, so that they reach us in the callbacks of the writes alone.
 */
const READER_GONE: ReadonlySet<string | undefined> = new Set([
  'EPIPE',
  'ECONNRESET',
  'EIO',
  'ERR_STREAM_DESTROYED',
]);

/**
 * Writes a result and waits until the system has it. A reader that went away is not an error.
 * @param text what to write
 * @throws BenchError (exit code 5) when stdout cannot take it, such as a full disk
 */
export async function writeResult(text: string): Promise<void> {
  const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    process.stdout.write(text, (failure) => resolve(failure ?? null));
  });
  if (error === null || READER_GONE.has(error.code)) return;
  throw new BenchError(
    ErrorCode.reportUnwritable,
    ExitCode.reportUnwritten,
    `the result could not be written to stdout: ${error.message}`,
    'send stdout to a place that has room',
    error,
  );
}

/** The widest that a text to read is laid out for. */
const HELP_COLUMNS_MAX = 100;

/** How wide help is laid out. */
export function helpColumns(): number {
  return Math.min(HELP_COLUMNS_MAX, process.stdout.columns ?? 80);
}

/**
 * Writes one line, or several, to stderr, cleaned: what is in them may come from another process.
 * @param text without the last line break
 */
export function tell(text: string): void {
  tellAsIs(cleanLines(text));
}

/**
 * Writes lines to stderr that are clean, and mean what is in them: colours, and orders of ours to a CI server.
 * @param text without the last line break
 */
export function tellAsIs(text: string): void {
  process.stderr.write(`${text}\n`);
}

/**
 * Says on stderr what will be done: the command line that does the same again, and with `--verbose` what it assumes.
 * @param command which command
 * @param values what it was given
 */
export function echoCommand(command: CommandName, values: FlagValues): void {
  tell(echoedCommand(command, values));
  if (values.on('verbose')) tell(`assumed: ${assumedFlags(command, values)}`);
}

/** `FORCE_COLOR` decides where it is set, then `NO_COLOR` (no-color.org), then whether a terminal that has colours reads it. */
function isColoured(stream: NodeJS.WriteStream): boolean {
  const { FORCE_COLOR, NO_COLOR, TERM } = process.env;
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false';
  return stream.isTTY === true && !NO_COLOR && TERM !== 'dumb';
}

/**
 * Colours for a stream: none unless it is a terminal and `NO_COLOR` is not set, or `FORCE_COLOR` is.
 * @param stream where the text goes
 */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  const coloured = isColoured(stream);
  const styles = { good: 'green', bad: 'red', warn: 'yellow', dim: 'dim', bold: 'bold' } as const;
  // Node 20 looks at stdout alone when it validates the stream, so the rule above decides.
  return (style, text) => (coloured ? styleText(styles[style], text, { validateStream: false }) : text);
}

/** The narrowest and the widest that a report is laid out for, in columns. */
const COLUMNS_MIN = 60;
const COLUMNS_MAX = 120;

/**
 * How much of a report a stream is given, and how wide.
 * @param stream where the text goes
 * @param form as `--report` says; null: short on a terminal, full elsewhere
 * @returns columns: 60 to 120; 80 where no terminal reads
 */
export function textLook(
  stream: NodeJS.WriteStream,
  form: 'short' | 'full' | null,
): { readonly form: 'short' | 'full'; readonly columns: number } {
  const isTerminal = stream.isTTY === true;
  const columns = isTerminal ? (stream.columns ?? 80) : 80;
  return {
    form: form ?? (isTerminal ? 'short' : 'full'),
    columns: Math.min(COLUMNS_MAX, Math.max(COLUMNS_MIN, columns)),
  };
}

/** Where the results go, checked before the work begins. */
export interface ResultPlaces {
  readonly quiet: boolean;
  /** the stream that the text goes to */
  readonly textStream: NodeJS.WriteStream;
  readonly jsonToStdout: boolean;
  readonly jsonFile: ReportFile | null;
}

/**
 * Reads `--json` and `--quiet`, and checks that the file can be written.
 * @param values the flags
 * @throws BenchError (exit code 5) when it cannot
 */
export function resultPlaces(values: FlagValues): ResultPlaces {
  const path = flagValue(values, 'json');
  const jsonToStdout = path === '-';
  return {
    quiet: values.on('quiet'),
    textStream: jsonToStdout ? process.stderr : process.stdout,
    jsonToStdout,
    jsonFile: path === null || jsonToStdout ? null : checkReportFile(path),
  };
}

/**
 * Writes the result everywhere that it goes, the text last: its last line is what a person looks for. What can be written is
 * written, even when another place fails.
 * @param places where
 * @param result the same result as text and as JSON, both ending in a line break
 * @throws BenchError (exit code 5) the first failure
 */
export async function publish(
  places: ResultPlaces,
  result: { readonly text: string; readonly json: string },
): Promise<void> {
  let failure: BenchError | null = null;
  const remember = (error: unknown): void => {
    if (!(error instanceof BenchError)) throw error;
    failure ??= error;
  };
  try {
    places.jsonFile?.write(result.json);
    if (places.jsonFile !== null && !places.quiet) tell(`report: ${places.jsonFile.path}`);
  } catch (error) {
    remember(error);
  }
  if (places.jsonToStdout && !places.quiet) tellAsIs(result.text.trimEnd());
  try {
    await writeResult(places.jsonToStdout ? result.json : result.text);
  } catch (error) {
    remember(error);
  }
  if (failure !== null) throw failure;
}
