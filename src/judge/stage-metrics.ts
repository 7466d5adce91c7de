/**
 * Owns what a load that changes has held, on flat stages alone, and the metrics of one stage. Must never compare with a threshold
 * (requirement.ts).
 */
import type { RunSpec } from '../run/run-spec.ts';
import { type StageSpan, spansOf } from '../run/schedule.ts';
import type { StageCounts } from '../stats/load-counts.ts';
import type { Stats } from '../stats/stats.ts';

/** Whether a stage that has begun is over: the next one has begun, or the run has ended. */
function isOver(stages: readonly StageCounts[], index: number, hasEnded: boolean): boolean {
  return hasEnded || index < stages.length - 1;
}

/**
 * What a schedule has held: its peak, less what was missing where most was, on stages that are flat; where none is, at its end.
 * @param hasEnded false: a stage that goes on and has not been reached says nothing yet
 */
export function heldByStages(
  { connections, stages = [] }: RunSpec,
  { load, open }: Stats,
  hasEnded: boolean,
): number {
  const spans = spansOf(stages);
  const begun = load?.stages ?? [];
  let missing = 0;
  for (const [index, span] of spans.entries()) {
    const counts = begun[index];
    if (!span.isFlat || (counts === undefined && !hasEnded)) continue;
    if (counts !== undefined && counts.waiting > 0 && !isOver(begun, index, hasEnded)) continue;
    missing = Math.max(missing, span.connections - (counts?.openMin ?? 0));
  }
  const last = spans.at(-1)?.connections ?? 0;
  if (hasEnded && !spans.some(({ isFlat }) => isFlat)) missing = last - open;
  return Math.min(connections, Math.max(0, connections - missing));
}

/** The most that a target must have been seen with: on a stage that is not flat it is asked too seldom. */
export function provableOf(spec: RunSpec, held: number): number {
  if (spec.stages === undefined)
    return spec.churn === undefined ? held : Math.floor(held * (1 - IN_TURN_SHARE));
  const flat = spansOf(spec.stages).filter(({ isFlat }) => isFlat);
  const most = Math.max(0, ...flat.map(({ connections }) => connections));
  const slack = spec.churn === undefined ? 0 : Math.ceil(most * IN_TURN_SHARE);
  return Math.max(0, most - (spec.connections - held) - slack);
}

/** Of connections that come and go, so many may be on their way in the moment in which the target is asked. */
const IN_TURN_SHARE = 1 / 1_000;

/** Metrics of one stage, by kind; `connect_p99` and the like come on top. */
export const STAGE_METRICS = {
  held: 'connections',
  open: 'connections',
  established: 'connections',
  failed: 'connections',
  dropped: 'connections',
  lowered: 'connections',
  churned: 'connections',
  reach_seconds: 'seconds',
} as const;
type StageMetric = keyof typeof STAGE_METRICS;

/** The stage of a metric; null: there is none of that number, or it has not begun. */
export function stageCounts(number: string, { load }: Stats): StageCounts | null {
  return load?.stages[Number(number) - 1] ?? null;
}

/** The stage of a metric as it was asked for; null: there is none of that number. */
export function stageSpan(number: string, spans: readonly StageSpan[]): StageSpan | null {
  return spans[Number(number) - 1] ?? null;
}

/** null: it was not measured. */
export function stageValue(metric: string, counts: StageCounts): number | null {
  switch (metric as StageMetric) {
    case 'held':
      return counts.openMin;
    case 'open':
      return counts.open;
    case 'established':
      return counts.established;
    case 'failed':
      return counts.failed;
    case 'dropped':
      return counts.dropped;
    case 'lowered':
      return counts.lowered;
    case 'churned':
      return counts.churned;
    case 'reach_seconds':
      return counts.waiting > 0 ? null : counts.reachedMs / 1_000;
  }
}
