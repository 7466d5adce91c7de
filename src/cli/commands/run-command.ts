/**
 * Owns the default command: from flags to a run, its display, its signals, and every place that its report goes to.
 * Must never open a connection, decide a verdict or make a report's content (report/).
 */
import { executeRun, type RunHooks, readRunJob } from '../../api/bench-run.ts';
import { type FlagValues, flagValue } from '../../api/flags/flags.ts';
import { checkReportFile, describe, type ReportFile } from '../../api/report-file.ts';
import { environmentToken } from '../../api/token-source.ts';
import { BenchError, ErrorCode, ExitCode } from '../../base/errors.ts';
import { NeverRanError } from '../../coordinator/expected-agents.ts';
import { raisePriority } from '../../host/command.ts';
import { appendToFile, followOutputPath, StreamFile } from '../../host/output-file.ts';
import type { RunReport } from '../../judge/report.ts';
import { annotations, junitXml, reportJson, stepSummary } from '../../report/formats.ts';
import { reportHtml } from '../../report/html/page.ts';
import { prometheusText } from '../../report/metrics-text.ts';
import { renderReport } from '../../report/text.ts';
import type { CommandContext } from '../command-line.ts';
import {
  echoCommand,
  paintFor,
  publish,
  type ResultPlaces,
  resultPlaces,
  tell,
  tellAsIs,
  textLook,
} from '../output.ts';
import { createDisplay, type ProgressDisplay } from '../progress-display.ts';
import { RunObservers } from '../run-observers.ts';

type StopSignal = 'SIGINT' | 'SIGTERM';

/**
 * Runs, shows, reports.
 * @returns the exit code of the verdict
 * @throws BenchError on wrong input, when no run was started, or when a report could not be written
 */
export async function benchCommand({ values }: CommandContext): Promise<ExitCode> {
  const job = await readRunJob(values, environmentToken());
  raisePriority();
  const display = readDisplay(values);
  const places = resultPlaces(values);
  const files = new ReportFiles(values, process.env);
  // Before the first line: who sees that line and presses Ctrl-C must get a report.
  const interrupts = new Interrupts(display);
  if (!places.quiet) echoCommand('run', values);
  const observers = await RunObservers.start(values, (line) => {
    if (!places.quiet) tell(line);
  });
  const form = flagValue(values, 'report');
  let report: RunReport;
  try {
    report = await executeRun(job, { ...hooksOf(display, interrupts, places), onTick: observers.onTick });
  } catch (error) {
    display.stop();
    observers.close();
    if (!(error instanceof NeverRanError)) throw error;
    // None was there to run it, and that is what its report says; the verdict stays the last line.
    tell(`c100k-bench: ${error.message}\n  hint: ${error.hint}`);
    await deliver(error.report, places, files, form);
    return error.exitCode;
  } finally {
    interrupts.end();
    display.stop();
  }
  await observers.end(report);
  await deliver(report, places, files, form);
  job.watch.events?.check();
  return report.exitCode as ExitCode;
}

function hooksOf(display: ProgressDisplay, interrupts: Interrupts, places: ResultPlaces): RunHooks {
  return {
    signal: interrupts.signal,
    onProgress: (progress) => display.show(progress),
    onNote: (line) => display.note(line),
    onPartial: partialTo(places, display),
    onChildLine: null,
  };
}

/**
 * To every place where the report is wanted, the text last; one that fails keeps no other from it.
 * @param form null: short on a terminal, full elsewhere
 */
async function deliver(
  report: RunReport,
  places: ResultPlaces,
  files: ReportFiles,
  form: 'short' | 'full' | null,
): Promise<void> {
  const { textStream, jsonFile } = places;
  let failure: unknown = null;
  try {
    files.write(report);
  } catch (error) {
    failure = error;
  }
  await publish(places, {
    text: renderReport(report, paintFor(textStream), {
      ...textLook(textStream, form),
      files: [...(jsonFile === null ? [] : [jsonFile.path]), ...files.paths],
    }),
    json: reportJson(report),
  });
  if (failure !== null) throw failure;
}

function readDisplay(values: FlagValues): ProgressDisplay {
  return createDisplay(
    process.stderr,
    {
      quiet: values.on('quiet'),
      periodic: !values.on('no-progress'),
      everyMs: flagValue(values, 'progress-every'),
      paint: paintFor(process.stderr),
    },
    process.env,
  );
}

/** The report so far goes where the last one will go, so that a crash leaves it there. */
function partialTo(
  { jsonFile }: ResultPlaces,
  display: ProgressDisplay,
): ((report: RunReport) => void) | null {
  if (jsonFile === null || !jsonFile.isReplaceable) return null;
  return (report) => {
    try {
      jsonFile.write(reportJson(report));
    } catch (error) {
      display.note(`the report so far: ${(error as Error).message}`);
    }
  };
}

/** The signals of a run: the first one ends it in order, the second one ends the process. */
class Interrupts {
  readonly #display: ProgressDisplay;
  readonly #abort = new AbortController();

  constructor(display: ProgressDisplay) {
    this.#display = display;
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
  }

  /** Aborted by the first signal, whose name is the reason. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  end(): void {
    process.off('SIGINT', this.#onSignal);
    process.off('SIGTERM', this.#onSignal);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const which: StopSignal = signal === 'SIGTERM' ? 'SIGTERM' : 'SIGINT';
    if (!this.signal.aborted) {
      this.#display.note(`${which}: closing; once more ends at once`);
      this.#abort.abort(which);
      return;
    }
    this.#display.stop();
    // Agents, holders and the built-in target end by themselves when this process is gone.
    process.exit(which === 'SIGTERM' ? ExitCode.terminated : ExitCode.interrupted);
  };
}

const WRITERS = {
  html: reportHtml,
  junit: junitXml,
  prometheus: prometheusText,
} as const;

interface Place {
  readonly file: ReportFile;
  readonly render: (report: RunReport) => string;
}

/** The files and the step summary of one run, checked before it. */
class ReportFiles {
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
    this.#places = (['html', 'junit', 'prometheus'] as const).flatMap((name) => {
      const path = flagValue(values, name);
      return path === null ? [] : [{ file: checkReportFile(path, `--${name}`), render: WRITERS[name] }];
    });
  }

  /** Of those that are written. */
  get paths(): readonly string[] {
    return this.#places.map(({ file }) => file.path);
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
