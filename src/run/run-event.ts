/**
 * Owns the types between the reducer (run-state.ts) and its shell: what can happen to a run, what changed by it, what
 * agents are then sent, and why a run ends. Must never say how any of it comes about.
 */
import type { Finding } from '../base/errors.ts';
import type { Phase } from '../stats/stats.ts';
import type { AgentPreparation, AgentRecord, AgentSnapshot } from './agent-record.ts';
import type { LoadShare } from './schedule.ts';

/** Why a run ended. */
export type EndReason =
  | { readonly type: 'held' }
  | { readonly type: 'nothing-open' }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' }
  | { readonly type: 'requirement-broken'; readonly requirement: string }
  | { readonly type: 'refused'; readonly agent: string | null; readonly findings: readonly Finding[] }
  | {
      readonly type: 'agents-missing';
      /** who came and said what it can hold */
      readonly joined: readonly string[];
      /** who came and is silent */
      readonly silent: readonly string[];
      readonly expected: number;
    }
  | { readonly type: 'agents-not-ready'; readonly missing: readonly string[] }
  | { readonly type: 'agents-lost'; readonly lost: readonly string[] };

/** Everything that can happen to a run. Each carries the monotonic time. */
export type RunEvent = { readonly atMs: number } & (
  | { readonly type: 'agent-joined'; readonly agent: string }
  | ({ readonly type: 'agent-offered'; readonly agent: string } & Pick<
      AgentRecord,
      'capacity' | 'boundBy' | 'engine'
    > &
      AgentPreparation)
  | { readonly type: 'agent-refused'; readonly agent: string; readonly findings: readonly Finding[] }
  /** `engine` null: as it was offered */
  | ({ readonly type: 'agent-ready'; readonly agent: string } & Pick<AgentRecord, 'engine'> &
      AgentPreparation)
  | {
      readonly type: 'agent-reported';
      readonly agent: string;
      /** the quota that the report speaks of: an older one does not settle a newer one */
      readonly quota: number;
      readonly settled: boolean;
      readonly snapshot: AgentSnapshot;
    }
  /** its channel is gone; it may come back within its lease */
  | { readonly type: 'agent-cut'; readonly agent: string }
  | { readonly type: 'agent-resumed'; readonly agent: string }
  | ({
      readonly type: 'agent-done';
      readonly agent: string;
      readonly snapshot: AgentSnapshot;
    } & Pick<AgentRecord, 'evidence' | 'notes'>)
  | { readonly type: 'agent-left'; readonly agent: string }
  | { readonly type: 'ticked' }
  /** who is missing cannot come any more */
  | { readonly type: 'gathering-hopeless' }
  /** only where the run is to end early for it */
  | { readonly type: 'requirement-broken'; readonly requirement: string }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' }
);

/** What an event has changed. */
export type RunChange =
  | { readonly type: 'agent-joined'; readonly agent: string }
  /** it is no part of the run: its record is gone, or never was */
  | { readonly type: 'agent-turned-away'; readonly agent: string; readonly reason: string }
  /** `open`: the connections that are lost with it */
  | { readonly type: 'agent-lost'; readonly agent: string; readonly open: number }
  | { readonly type: 'quota-changed'; readonly agent: string; readonly from: number; readonly to: number }
  | { readonly type: 'phase-changed'; readonly from: Phase; readonly to: Phase }
  | { readonly type: 'run-ended'; readonly reason: EndReason };

/** What an agent is now sent; after a cut the same once more. */
export type AgentCommand = { readonly agent: string } & (
  | { readonly type: 'send-spec' }
  | {
      readonly type: 'send-quota';
      readonly connections: number;
      readonly ratePerSec: number | null;
      readonly pendingMax: number;
      /** which connections of the run these are; absent: it does not matter */
      readonly shares?: readonly LoadShare[];
    }
  | { readonly type: 'send-resumed' }
  /** `elapsedMs`: how long the run has gone on for others */
  | { readonly type: 'send-start'; readonly elapsedMs: number }
  | { readonly type: 'send-stop-opening' }
  | { readonly type: 'send-hold' }
  | { readonly type: 'send-stop'; readonly reason: string }
);
