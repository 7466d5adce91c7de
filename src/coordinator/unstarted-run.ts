/**
 * Owns the report of a run that ended before its first process: refused here, or interrupted. It is the report of any
 * other run, so that whoever reads it need not know. Must never start anything.
 */
import type { Finding } from '../base/errors.ts';
import type { RunReport } from '../judge/report.ts';
import { makeReport } from '../judge/run-report.ts';
import type { EndReason } from '../run/run-event.ts';
import { initialRunState } from '../run/run-state.ts';
import { Chronicle } from './run-log.ts';
import { planOf, type RunOptions } from './run-settings.ts';
import { UNWATCHED } from './run-watch.ts';

/** Why nothing was started. */
export type NotStarted =
  | { readonly type: 'refused'; readonly findings: readonly Finding[] }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' };

/** The report of a run that was not started. */
export function unstartedReport(options: RunOptions, why: NotStarted): RunReport {
  const { spec, clock, targetText, toolVersion, watch = UNWATCHED } = options;
  const nowMs = clock.monotonicMs();
  const endReason: EndReason = why.type === 'refused' ? { ...why, agent: null } : why;
  return makeReport(
    {
      spec,
      targetText,
      toolVersion,
      state: {
        ...initialRunState(planOf(options), nowMs),
        phase: 'ended',
        interrupted: why.type === 'interrupted' ? why.signal : null,
        endReason,
      },
      books: [],
      startedWallMs: clock.wallMs(),
      ...new Chronicle(spec).facts(),
      requirements: watch.requirements,
      target: null,
      targetProof: null,
      ledgerEntries: watch.onLosses === null ? null : 0,
      isPartial: false,
      neverRan: null,
    },
    clock,
  );
}
