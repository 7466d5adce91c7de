/**
 * Owns the words between the reducer (run-state.ts) and its shell: what can happen to a run, what is then to be done, and
 * why a run ends. Must never say how any of it comes about.
 */
import type { Finding } from '../base/errors.ts';

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
  | {
      readonly type: 'agent-offered';
      readonly agent: string;
      readonly capacity: number;
      readonly boundBy: string;
      readonly findings: readonly Finding[];
    }
  | { readonly type: 'agent-refused'; readonly agent: string; readonly findings: readonly Finding[] }
  | { readonly type: 'agent-ready'; readonly agent: string }
  | {
      readonly type: 'agent-reported';
      readonly agent: string;
      /** the quota that the report speaks of: an older one does not settle a newer one */
      readonly quota: number;
      readonly settled: boolean;
      readonly open: number;
      readonly established: number;
    }
  /** its channel is gone; it may come back within its lease */
  | { readonly type: 'agent-cut'; readonly agent: string }
  | { readonly type: 'agent-resumed'; readonly agent: string }
  | { readonly type: 'agent-done'; readonly agent: string }
  | { readonly type: 'agent-left'; readonly agent: string }
  | { readonly type: 'ticked' }
  /** who is missing cannot come any more */
  | { readonly type: 'gathering-hopeless' }
  /** only where the run is to end early for it */
  | { readonly type: 'requirement-broken'; readonly requirement: string }
  | { readonly type: 'interrupted'; readonly signal: 'SIGINT' | 'SIGTERM' }
);

/** What the coordinator must now do, in order. */
export type RunCommand =
  | { readonly type: 'send-spec'; readonly agent: string }
  | {
      readonly type: 'send-quota';
      readonly agent: string;
      readonly connections: number;
      readonly ratePerSec: number | null;
      readonly pendingMax: number;
    }
  | { readonly type: 'turn-away'; readonly agent: string; readonly reason: string }
  | { readonly type: 'send-resumed'; readonly agent: string }
  | { readonly type: 'send-start'; readonly agent: string }
  | { readonly type: 'send-stop-opening'; readonly agent: string }
  | { readonly type: 'send-hold'; readonly agent: string }
  | { readonly type: 'send-stop'; readonly agent: string; readonly reason: string }
  | { readonly type: 'finish'; readonly reason: EndReason };
