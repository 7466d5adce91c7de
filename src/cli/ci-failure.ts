/**
 * Owns what a CI server is given of a command line that ended without a report: an annotation, and JUnit where that was asked
 * for. Must never hide the failure itself, nor write where a report was written.
 */
import type { FlagValues } from '../api/flags/flags.ts';
import { checkReportFile } from '../api/report-file.ts';
import { BenchError, ExitCode } from '../base/errors.ts';
import { NeverRanError } from '../coordinator/expected-agents.ts';
import { type FailedCommand, failureAnnotation, failureJunit } from '../report/formats.ts';
import { systemClock } from '../time/timer.ts';
import { tellAsIs } from './output.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The text of a flag in arguments that may not be readable as a whole; null: it is not there. */
function givenIn(args: readonly string[], name: string, environment: Environment): string | null {
  for (const [index, word] of args.entries()) {
    if (word.startsWith(`--${name}=`)) return word.slice(name.length + 3);
    if (word === `--${name}` || (name === 'target' && word === '-t')) return args[index + 1] ?? null;
  }
  return environment[`C100K_${name.toUpperCase()}`] ?? null;
}

/**
 * Says a failure to a CI server.
 * @param error what ended the command; what is no `BenchError`, and what has a report, is left alone
 * @param args the command line as typed
 * @param values what was read of it, with its run file; null: it could not be read
 */
export function reportToCi(
  error: unknown,
  args: readonly string[],
  environment: Environment,
  values: FlagValues | null,
): void {
  const given = (name: string): string | null =>
    givenIn(args, name, environment) ??
    (name === 'target' ? values?.list(name)[0] : values?.one(name)) ??
    null;
  if (!(error instanceof BenchError) || error instanceof NeverRanError) return;
  if (error.exitCode === ExitCode.reportUnwritten) return;
  const failed: FailedCommand = {
    name: given('name') ?? given('target') ?? args[0] ?? '',
    code: error.code,
    message: error.message,
    hint: error.hint,
    at: new Date(systemClock.wallMs()).toISOString(),
  };
  if (environment.GITHUB_ACTIONS === 'true') tellAsIs(failureAnnotation(failed));
  const path = given('junit');
  if (path === null || path === '') return;
  try {
    checkReportFile(path, '--junit').write(failureJunit(failed));
  } catch {
    // The failure itself is what counts, and it is said.
  }
}
