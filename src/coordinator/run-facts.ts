/**
 * Owns handing the facts of a run to the report (judge/run-report.ts), also of one that was refused or interrupted before
 * its first process: whoever reads that report need not know. Must never judge one.
 */

import type { StandStill } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import type { RunReport } from '../judge/report.ts';
import { makeReport, type RunFacts } from '../judge/run-report.ts';
import type { EndReason } from '../run/run-event.ts';
import { initialRunState, type RunState } from '../run/run-state.ts';
import { RunLog } from './run-log.ts';
import { type RunOptions, termsOf } from './run-settings.ts';
import { RunWatch, UNWATCHED } from './run-watch.ts';

/** Where the facts of one run are. */
interface FactSources {
  readonly options: RunOptions;
  readonly state: RunState;
  readonly log: RunLog;
  readonly watch: RunWatch;
  readonly startedWallMs: number;
  /** of this process; null: not reported */
  readonly still: StandStill | null;
}

/** The facts of a run as they are now. @param change those that only its caller knows */
export function runFacts(
  { options, state, log, watch, startedWallMs, still }: FactSources,
  change: Partial<Pick<RunFacts, 'isPartial' | 'neverRan'>> = {},
): RunFacts {
  const watching = options.watch ?? UNWATCHED;
  return {
    state,
    targetText: options.targetText,
    toolVersion: options.toolVersion,
    startedWallMs,
    endedWallMs: options.clock.wallMs(),
    ...log.facts(still),
    requirements: watching.requirements,
    target: watch.target,
    targetProof: watch.targetProof,
    ledgerEntries: watching.onLosses === null ? null : watch.ledgerEntries,
    isPartial: false,
    neverRan: null,
    ...change,
  };
}

/** Why nothing was started. */
export type NotStarted =
  | { readonly type: 'refused'; readonly findings: readonly Finding[] }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' };

/** The report of a run that was not started. */
export function unstartedReport(options: RunOptions, why: NotStarted): RunReport {
  const { spec, clock, watch = UNWATCHED } = options;
  const endReason: EndReason = why.type === 'refused' ? { ...why, agent: null } : why;
  const state: RunState = {
    ...initialRunState(spec, termsOf(options), clock.monotonicMs()),
    phase: 'ended',
    interrupted: why.type === 'interrupted' ? why.signal : null,
    endReason,
  };
  const log = new RunLog(spec);
  // The target was not asked, so it has given no proof and is none that is missing.
  const unasked = new RunWatch({ ...watch, targetWitness: null });
  const startedWallMs = clock.wallMs();
  return makeReport(runFacts({ options, state, log, watch: unasked, startedWallMs, still: null }));
}
