/**
 * Owns how a share's numbers and lines fit into the messages of the control channel: what is cut, and where.
 * Must never send one.
 */
import type { AgentMessage } from '../control/message.ts';
import type { Stats, StatsNews } from '../stats/stats.ts';

/** More sources than this are told only in the final message, because stats go out every second. */
const SOURCES_EACH_SECOND_MAX = 1_024;

/** What the kernel's counters say, as the schema types it. */
export type WireEvidence = Extract<AgentMessage, { type: 'done' }>['evidence'];
type WireStats = Extract<AgentMessage, { type: 'stats' }>['stats'];

/** Stats as the schema types them: plain mutable records; the values are the same. */
export function toWire(stats: Stats | StatsNews): WireStats {
  return stats;
}

/** Leaves out the long tables that only the final message carries. */
export function trimmed(stats: StatsNews): WireStats {
  const sources = Object.keys(stats.openBySource).length;
  const endpoints = Object.keys(stats.openByEndpoint).length;
  return toWire({
    ...stats,
    openBySource: sources > SOURCES_EACH_SECOND_MAX ? {} : stats.openBySource,
    openByEndpoint: endpoints > SOURCES_EACH_SECOND_MAX ? {} : stats.openByEndpoint,
    droppedBy: Object.keys(stats.droppedBy).length > SOURCES_EACH_SECOND_MAX ? {} : stats.droppedBy,
  });
}
