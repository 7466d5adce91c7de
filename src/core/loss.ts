/**
 * Owns the books of a process that died: what it held is dropped, by a reason of its own.
 * Must never be used for a connection that the target or the path ended.
 */
import type { DropReason } from './outcome.ts';
import type { Stats } from './stats.ts';

/**
 * The last known stats of a lost holder or agent, as they count from now on.
 * @param stats the last snapshot
 * @param reason `holder-lost` or `agent-lost`
 * @param quota what it was asked to hold; what it had not settled counts as unattempted
 */
export function withAllLost(stats: Stats, reason: DropReason, quota: number): Stats {
  const attempted = stats.attempted - stats.pending;
  const dropped =
    stats.open === 0
      ? stats.dropped
      : { ...stats.dropped, [reason]: (stats.dropped[reason] ?? 0) + stats.open };
  return {
    ...stats,
    attempted,
    unattempted: Math.max(0, quota - attempted),
    pending: 0,
    open: 0,
    openMin: 0,
    verified: 0,
    verifiedMin: 0,
    dropped,
    openBySource: {},
    openByEndpoint: {},
  };
}
