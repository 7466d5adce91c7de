/**
 * Owns how many tuples a run keeps from use beside those that are open: the ones that our FIN has closed rest in TIME_WAIT. Must never
 * know how many a host has (capacity.ts).
 */
import { formatCount, formatDuration } from '../base/units.ts';
import { closesPerSec, type SharedSpec } from '../run/run-spec.ts';
import { spansOf, TIME_WAIT_REST_MS, targetOf } from '../run/schedule.ts';

type Resting = Pick<SharedSpec, 'connections' | 'close' | 'stages' | 'churn'>;

/** What is late is caught up with: what was closed late still rests when the next turn comes on time. */
const REST_PLANNED_MS = TIME_WAIT_REST_MS + 2_000;

/** Standard deviations that lives drawn at random may be off by: one run in hundreds of millions has more. */
const SPREADS = 6;

/** Connections that are closed within one rest because they come and go: on average, and at most where each has a time of its own. */
function churnedWithinRest({ churn, connections, stages }: Resting): number {
  if (churn === undefined) return 0;
  const mean = (closesPerSec(churn, connections) * REST_PLANNED_MS) / 1_000;
  if (churn.kind === 'rate') return Math.ceil(mean);
  // Opened together by a schedule, those with the same time are closed together.
  if (churn.kind === 'fixed' && stages !== undefined)
    return connections * (Math.floor(REST_PLANNED_MS / churn.ms) + 1);
  return Math.ceil(mean + SPREADS * Math.sqrt(mean));
}

/** The most tuples that the line of a schedule needs: those open, and those that it has closed within one rest. */
function neededByLine({ connections, stages }: Resting): number {
  if (stages === undefined) return connections;
  const spans = spansOf(stages);
  const closedBy = (atMs: number): number => {
    let closed = 0;
    for (const { fromMs, toMs, connections: to, connectionsBefore: from } of spans) {
      const part = toMs <= atMs ? 1 : atMs <= fromMs ? 0 : (atMs - fromMs) / (toMs - fromMs);
      closed += Math.max(0, from - to) * part;
    }
    return closed;
  };
  // Both change in straight lines between these moments.
  const moments = spans.flatMap(({ fromMs, toMs }) => [
    fromMs,
    toMs,
    fromMs + REST_PLANNED_MS,
    toMs + REST_PLANNED_MS,
  ]);
  const needs = moments.map((atMs) => {
    return targetOf(spans, atMs) + closedBy(atMs) - closedBy(atMs - REST_PLANNED_MS);
  });
  return Math.max(connections, Math.ceil(Math.max(...needs)));
}

/** Tuples that the whole run needs, over all agents: at least its connections. */
function tuplesNeeded(spec: Resting): number {
  // A reset leaves nothing behind (tcp_send_active_reset in net/ipv4/tcp_output.c).
  if (spec.close === 'rst') return spec.connections;
  return neededByLine(spec) + churnedWithinRest(spec);
}

/** Tuples for each connection of a part of the run, at least 1. */
export function tuplesPerConnection(spec: Resting): number {
  return tuplesNeeded(spec) / spec.connections;
}

/** Why more tuples are needed than connections, behind their number; empty: they are as many. */
export function restingWords(wanted: number, needed: number): string {
  if (needed === wanted) return '';
  const rest = formatDuration(REST_PLANNED_MS);
  return ` (${formatCount(wanted)} open, ${formatCount(needed - wanted)} at rest for ${rest} after our FIN)`;
}

/**
 * What to type where too few tuples are left for those that rest: none rests where connections are reset, or fewer come and go.
 * @param wanted connections of this host
 * @param available tuples of this host
 */
export function restingFix({ churn, connections }: Resting, wanted: number, available: number): string {
  const perSec = Math.floor(((available - wanted) * connections * 1_000) / (wanted * REST_PLANNED_MS));
  const slower = churn?.kind === 'rate' && perSec > 0 ? `, or --churn ${perSec}/s` : '';
  return `--close rst, which leaves nothing at rest${slower}`;
}
