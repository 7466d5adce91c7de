/**
 * Owns where a result goes: text to stdout, JSON to a file, or JSON to stdout and the text to stderr.
 * Must never make a result.
 */

import type { FlagValues } from '../api/flags/flag-values.ts';
import { checkReportFile, type ReportFile } from '../api/report-file.ts';
import { BenchError } from '../base/errors.ts';
import { tell, tellAsIs, writeResult } from './output.ts';

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
  const path = values.one('json');
  const jsonToStdout = path === '-';
  return {
    quiet: values.on('quiet'),
    textStream: jsonToStdout ? process.stderr : process.stdout,
    jsonToStdout,
    jsonFile: path === null || jsonToStdout ? null : checkReportFile(path),
  };
}

/**
 * Writes the result everywhere that it goes. What can be written is written, even when another place fails.
 * @param places where
 * @param result the same result as text and as JSON, both ending in a line break
 * @throws BenchError (exit code 5) the first failure
 */
export async function publish(
  places: ResultPlaces,
  result: { readonly text: string; readonly json: string },
): Promise<void> {
  let failure: BenchError | null = null;
  if (places.jsonToStdout && !places.quiet) tellAsIs(result.text.trimEnd());
  try {
    await writeResult(places.jsonToStdout ? result.json : result.text);
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    failure = error;
  }
  places.jsonFile?.write(result.json);
  if (places.jsonFile !== null && !places.quiet) tell(`report: ${places.jsonFile.path}`);
  if (failure !== null) throw failure;
}
