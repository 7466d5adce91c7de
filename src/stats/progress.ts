/**
 * Owns the shape of a run in motion, as the coordinator tells it to whoever shows it.
 * Must never hold final numbers (report.ts).
 */

export type Phase = 'gathering' | 'preparing' | 'ramping' | 'holding' | 'draining' | 'ended';

export interface AgentProgress {
  readonly name: string;
  readonly quota: number;
  readonly open: number;
  readonly established: number;
  readonly pending: number;
  readonly failed: number;
  readonly dropped: number;
  /** connections established per second since the last snapshot */
  readonly ratePerSec: number;
  readonly lost: boolean;
}

/** One snapshot, each second and at each change of phase. */
export interface Progress {
  readonly phase: Phase;
  /** milliseconds since the run began */
  readonly elapsedMs: number;
  /** what is left of the hold phase; null outside it */
  readonly holdLeftMs: number | null;
  readonly asked: number;
  /** the sum over agents; its name is `total` */
  readonly total: AgentProgress;
  readonly agents: readonly AgentProgress[];
  /** a line for a person, such as who is missing; null: nothing to say */
  readonly note: string | null;
}
