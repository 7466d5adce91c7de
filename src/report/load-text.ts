/**
 * Owns how a load that changes is shown: what was asked for, and a row for each stage. Must never judge it.
 */
import { formatCount, formatDuration, formatMs } from '../base/units.ts';
import type { LoadReport, StageReport } from '../judge/report.ts';
import { table } from './layout.ts';

/** Stages named in one line. */
const STAGES_SHOWN_MAX = 8;

/** The stages as they are typed. */
export function stagesText({ stages }: LoadReport): string {
  const shown = stages
    .slice(0, STAGES_SHOWN_MAX)
    .map(({ durationMs, connections }) => `${formatDuration(durationMs)}:${formatCount(connections)}`);
  const more = stages.length - shown.length;
  return `in ${stages.length === 1 ? 'one stage' : `${stages.length} stages`} ${shown.join(' ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** How connections come and go; none: they stay. */
export function churnText(load: LoadReport | null): string[] {
  if (load == null || load.churn === null) return [];
  const isRate = load.churn.includes('/s');
  return [isRate ? `${load.churn} closed and opened` : `each living for ${load.churn}`];
}

/** The heads of the cells of a stage. */
export const STAGE_HEADS: readonly string[] = [
  'stage',
  'asked',
  'lowest',
  'at end',
  'opened',
  'failed',
  'lost',
  'closed',
  'p99',
];

/** The cells of one stage: asked for, lowest and last number open, connects, losses, our own closes, latency of connects. */
export function stageCells(row: StageReport): string[] {
  const { stage, durationMs, connections, held, open, connectMs } = row;
  const counted = (count: number | null): string => (count === null ? '-' : formatCount(count));
  return [
    String(stage),
    `${formatDuration(durationMs)}:${formatCount(connections)}`,
    counted(held),
    counted(open),
    formatCount(row.established),
    formatCount(row.failed),
    formatCount(row.dropped),
    formatCount(row.lowered + row.churned),
    connectMs.p99 === null ? '-' : formatMs(connectMs.p99),
  ];
}

/** A row for each stage, and what they leave open. */
export function loadLines(load: LoadReport | null): string[] {
  if (load == null) return [];
  const rows = load.stages.map(stageCells);
  const notes = loadNotes(load).map((note) => `  ${note}`);
  return ['', ...(rows.length === 0 ? [] : table([[...STAGE_HEADS], ...rows])), ...notes];
}

/** What each flat stage has held, in one line; empty: there is none. */
export function heldText(load: LoadReport | null): string {
  const flat = (load?.stages ?? []).filter(({ held }) => held !== null);
  const shown = flat.slice(0, STAGES_SHOWN_MAX);
  const words = shown.map(
    ({ stage, held, connections }) =>
      `${formatCount(held ?? 0)} of ${formatCount(connections)} in stage ${stage}`,
  );
  return words.join(', ') + (flat.length > shown.length ? ` and ${flat.length - shown.length} more` : '');
}

/** What the rows leave open. */
export function loadNotes({ stages, churned, lowered }: LoadReport): string[] {
  const flat = stages.filter(({ isFlat }) => isFlat).map(({ stage }) => stage);
  const judged =
    stages.length === 0
      ? []
      : [
          flat.length === 0
            ? 'no stage is flat: held is what was open at the end'
            : `held is judged on the flat stages: ${flat.join(', ')}`,
        ];
  const closed = [
    ...(lowered > 0 ? [`${formatCount(lowered)} closed by us on the way down`] : []),
    ...(churned > 0 ? [`${formatCount(churned)} closed by us in their turn`] : []),
  ];
  return [...judged, ...(closed.length > 0 ? [closed.join(', ')] : [])];
}
