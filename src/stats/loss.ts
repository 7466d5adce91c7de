/**
 * Owns the ledger of losses as values: one lost connection, counts by reason, source and endpoint, and the books of a
 * process that died. Must never be used for a connection that we closed ourselves.
 */
import { DropReason } from '../base/outcome.ts';
import type { Stats } from './stats.ts';

/** Details in one message. */
export const LOSS_BATCH_MAX = 1_000;
/** Different keys that one holder counts losses by; above it the endpoint, and then the source, becomes `*`. */
export const LOSS_KEYS_MAX = 16_384;

/** One connection that was lost while it was held. */
export interface Loss {
  /** milliseconds since the holders were told to start */
  readonly atMs: number;
  readonly holder: string;
  /** address and port; `*` for many at once */
  readonly source: string;
  readonly endpoint: string;
  /** how long it had been open, milliseconds; null: not known */
  readonly ageMs: number | null;
  readonly reason: DropReason;
  /** more than 1 where a process died with what it held */
  readonly count: number;
}

/** Losses of one kind, as the report lists them. */
export interface LossCount {
  readonly reason: DropReason;
  readonly source: string;
  readonly endpoint: string;
  readonly count: number;
}

/** The key of `Stats.droppedBy`. */
export function lossKey(reason: DropReason, source: string, endpoint: string): string {
  return `${reason} ${source} ${endpoint}`;
}

/** The counts of `Stats.droppedBy`, the largest first. */
export function lossCounts(droppedBy: Readonly<Record<string, number>>): LossCount[] {
  return Object.entries(droppedBy)
    .map(([key, count]) => {
      const [reason = '', source = '', endpoint = ''] = key.split(' ');
      return { reason: reason as DropReason, source, endpoint, count };
    })
    .sort((a, b) => b.count - a.count || (`${a.reason}${a.source}` < `${b.reason}${b.source}` ? -1 : 1));
}

/**
 * The last known stats of a lost holder or agent, as they count from now on.
 * @param stats the last snapshot
 * @param reason `holder-lost` or `agent-lost`
 * @param quota what it was asked to hold; what it had not settled counts as unattempted
 */
export function withAllLost(stats: Stats, reason: DropReason, quota: number): Stats {
  const attempted = stats.attempted - stats.pending;
  const isOpen = stats.open > 0;
  const dropped = isOpen
    ? { ...stats.dropped, [reason]: (stats.dropped[reason] ?? 0) + stats.open }
    : stats.dropped;
  return {
    ...stats,
    attempted,
    unattempted: Math.max(0, quota - attempted),
    pending: 0,
    open: 0,
    openMin: 0,
    verified: 0,
    verifiedMin: 0,
    verifiedInHold: 0,
    dropped,
    droppedBy: isOpen ? withSourcesLost(stats, reason) : stats.droppedBy,
    openBySource: {},
    openByEndpoint: {},
  };
}

/** Which endpoint each source's connections had is not known any more, unless there is one endpoint. */
function withSourcesLost(stats: Stats, reason: DropReason): Record<string, number> {
  const droppedBy: Record<string, number> = Object.assign(Object.create(null), stats.droppedBy);
  const endpoints = Object.keys(stats.openByEndpoint);
  const endpoint = endpoints.length === 1 ? endpoints[0]! : '*';
  let rest = stats.open;
  const add = (source: string, count: number): void => {
    const key = lossKey(reason, source, endpoint);
    droppedBy[key] = (droppedBy[key] ?? 0) + count;
  };
  for (const [source, count] of Object.entries(stats.openBySource)) {
    add(source, count);
    rest -= count;
  }
  // Agents with very many sources leave them out of what they say each second.
  if (rest > 0) add('*', rest);
  return droppedBy;
}

/** The reasons in a fixed order, so that a number can stand for one. */
export const DROP_REASONS: readonly DropReason[] = Object.values(DropReason);
