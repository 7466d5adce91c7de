/**
 * Owns `run` and `plan` for programs: the way that the command line goes, with options in place of flags. Must never write to
 * stdout or stderr, end the process, listen to its signals, read its arguments or a `C100K_*` variable.
 */
import { ErrorCode, usageError } from '../base/errors.ts';
import type { Progress } from '../coordinator/run-progress.ts';
import type { RunReport } from '../judge/report.ts';
import type { Plan } from '../report/plan-text.ts';
import { executePlan, readPlanJob } from './bench-plan.ts';
import { executeRun, type RunJob, readRunJob } from './bench-run.ts';
import { type BenchOptions, optionError, optionValues, type PlanOptions } from './options.ts';

/** How a caller takes part in a run; each may be left out. */
export interface BenchHooks {
  /**
   * Ends the run in order: opening stops, connections are closed, and the promise gives the report of what was until then.
   * When it is aborted before the first connection, nothing is opened.
   */
  readonly signal?: AbortSignal | undefined;
  /** at the start, each second and at each change of phase; when it throws, the run ends in order and `run` rejects with what was thrown */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** one line for a person: the line to type for agents, an agent that is lost, what a process of the run says */
  readonly onNote?: ((line: string) => void) | undefined;
}

/**
 * Runs.
 * @param options what is asked for; the flags of the command line by another name
 * @param hooks how the caller takes part
 * @returns the report, whatever the target did: `report.verdict` and `report.exitCode` say how it went. Also after an abort:
 *   `incomplete` and exit code 130
 * @throws BenchError for wrong options, before anything is started; for a target or names that cannot be; and as
 *   `NeverRanError`, with a report, when the agents did not come
 */
export async function run(options: BenchOptions, hooks: BenchHooks = {}): Promise<RunReport> {
  const values = optionValues('run', options);
  const job = await checked('run', () => readRunJob(values, ''));
  const { signal, onProgress, onNote } = checkedHooks(hooks);
  const abort = new AbortController();
  const onAbort = (): void => abort.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  const faults: unknown[] = [];
  let isOver = false;
  /** A hook that throws ends the run; neither the rest of the run nor a late line of a process calls one again. */
  const guarded =
    <Value>(hook: ((value: Value) => void) | undefined) =>
    (value: Value): void => {
      if (hook === undefined || isOver || faults.length > 0) return;
      try {
        hook(value);
      } catch (error) {
        faults.push(error);
        abort.abort();
      }
    };
  const settle = (): void => {
    isOver = true;
    signal?.removeEventListener('abort', onAbort);
    // What the caller's hook threw comes before what it led to.
    if (faults.length > 0) throw faults[0];
  };
  try {
    const report = await execute(job, abort.signal, guarded(onProgress), guarded(onNote));
    settle();
    return report;
  } catch (error) {
    settle();
    throw error;
  }
}

/** @throws BenchError (exit 2) for hooks that a caller without types got wrong */
function checkedHooks(hooks: unknown): BenchHooks {
  const given = typeof hooks === 'object' && hooks !== null ? (hooks as Record<string, unknown>) : null;
  const { signal, onProgress, onNote, ...others } = given ?? {};
  const isFunction = (hook: unknown): boolean => hook === undefined || typeof hook === 'function';
  // Not by its class: a test runner may have one of its own.
  const isSignal =
    signal === undefined ||
    (signal !== null && typeof (signal as AbortSignal).addEventListener === 'function');
  const [unknown] = Object.keys(others);
  if (given !== null && isSignal && isFunction(onProgress) && isFunction(onNote) && unknown === undefined) {
    return given;
  }
  throw usageError(
    ErrorCode.usage,
    unknown === undefined
      ? 'the second argument of run is an object with an AbortSignal and functions'
      : `run has no hook ${unknown.slice(0, 64)}`,
    'for example: run(options, { signal: controller.signal, onProgress: (progress) => {} })',
  );
}

async function execute(
  job: RunJob,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
  onNote: (line: string) => void,
): Promise<RunReport> {
  try {
    return await executeRun(job, { signal, onProgress, onNote, onPartial: null, onChildLine: onNote });
  } catch (error) {
    throw optionError('run', error);
  }
}

/**
 * Says what a run would take on this host, and what is missing. Opens nothing.
 * @param options what would be asked for
 * @returns the plan; `wouldStart` says whether the run would start
 * @throws BenchError for wrong options, and for a name that does not resolve
 */
export async function plan(options: PlanOptions): Promise<Plan> {
  const values = optionValues('plan', options);
  const job = await checked('plan', () => readPlanJob(values));
  try {
    return await executePlan(job);
  } catch (error) {
    throw optionError('plan', error);
  }
}

/** The checks speak of flags; a caller has options. */
async function checked<Job>(command: 'run' | 'plan', read: () => Job | Promise<Job>): Promise<Job> {
  try {
    return await read();
  } catch (error) {
    throw optionError(command, error);
  }
}
