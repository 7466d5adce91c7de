/**
 * Owns what a run is to do, as the reducer (run-state.ts) needs it: fixed at the start, it must never change.
 */

/** What becomes of the quota of an agent that is lost. */
export type LossPolicy = 'fail' | 'continue' | 'replace';

/** What the run is to do, fixed at its start; times in milliseconds. */
export interface RunPlan {
  readonly connections: number;
  readonly ratePerSec: number | null;
  readonly pendingMax: number;
  readonly holdMs: number;
  readonly agentsExpected: number;
  /** how long to wait for agents to join and to offer */
  readonly gatherMs: number;
  /** how long agents may take to get ready */
  readonly prepareMs: number;
  /** the ramp stops opening when nothing new was established for so long */
  readonly stallMs: number;
  /** how long closing may take */
  readonly drainMs: number;
  /** an agent that was silent for so long is lost; longer than its own lease, after which it has closed everything */
  readonly leaseMs: number;
  readonly onAgentLoss: LossPolicy;
  /** lost connections are opened again: a moment without any is then not the end */
  readonly canReopen: boolean;
}
