/**
 * Owns the further places that a report goes to: `--junit`, `--prometheus`, and GitHub Actions when the run is there.
 * Must never make a report's content (report/).
 */
import type { FlagValues } from '../api/flags/flag-values.ts';
import { checkReportFile, describe, type ReportFile } from '../api/report-file.ts';
import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import { followOutputPath } from '../host/output-path.ts';
import { StreamFile } from '../host/stream-file.ts';
import { appendToFile } from '../host/whole-file.ts';
import type { RunReport } from '../judge/report.ts';
import { annotations, stepSummary } from '../report/github.ts';
import { junitXml } from '../report/junit.ts';
import { prometheusText } from '../report/prometheus.ts';
import { tell, tellAsIs } from './output.ts';

const WRITERS = {
  junit: junitXml,
  prometheus: prometheusText,
} as const;

interface Place {
  readonly file: ReportFile;
  readonly render: (report: RunReport) => string;
}

/** The files and the step summary of one run, checked before it. */
export class ReportFiles {
  readonly #places: readonly Place[];
  readonly #quiet: boolean;
  readonly #summaryPath: string | null;
  readonly #isOnGithub: boolean;

  /**
   * @param environment for `GITHUB_ACTIONS` and `GITHUB_STEP_SUMMARY`
   * @throws BenchError (exit code 5) when a file cannot be written
   */
  constructor(values: FlagValues, environment: Readonly<Record<string, string | undefined>>) {
    this.#quiet = values.on('quiet');
    this.#isOnGithub = environment.GITHUB_ACTIONS === 'true';
    this.#summaryPath = this.#isOnGithub ? (environment.GITHUB_STEP_SUMMARY ?? null) : null;
    this.#places = Object.entries(WRITERS).flatMap(([name, render]) => {
      const path = values.one(name);
      return path === null ? [] : [{ file: checkReportFile(path, `--${name}`), render }];
    });
  }

  /**
   * Writes everywhere; what can be written is written, even when another place fails.
   * @throws BenchError (exit code 5) the first failure
   */
  write(report: RunReport): void {
    let failure: unknown = null;
    const attempt = (action: () => void): void => {
      try {
        action();
      } catch (error) {
        failure ??= error;
      }
    };
    for (const { file, render } of this.#places) {
      attempt(() => {
        file.write(render(report));
        if (!this.#quiet) tell(`report: ${file.path}`);
      });
    }
    if (this.#isOnGithub) for (const line of annotations(report)) tellAsIs(line);
    const path = this.#summaryPath;
    if (path !== null) attempt(() => appendSummary(path, stepSummary(report)));
    if (failure !== null) throw failure;
  }
}

function appendSummary(path: string, markdown: string): void {
  try {
    const place = followOutputPath(path);
    if (place.kind === 'file') {
      appendToFile(place, markdown, place.kept);
      return;
    }
    const stream = new StreamFile(place);
    stream.append(markdown);
    stream.finish();
  } catch (error) {
    throw new BenchError(
      ErrorCode.reportUnwritable,
      ExitCode.reportUnwritten,
      `the summary of the step cannot be written to ${path}: ${describe(error)}`,
      'unset GITHUB_STEP_SUMMARY, or make it a file that can be written',
      error,
    );
  }
}
