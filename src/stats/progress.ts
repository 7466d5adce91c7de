/** Owns the shape of a run's progress: what is known of it while it goes on. */
import type { Counts, DropReason, FailReason } from '../base/outcome.ts';

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
  /** the phase waits for it: it has joined and not offered, or its holders do not stand by yet */
  readonly isAwaited: boolean;
}

/** One snapshot, each second and at each change of phase. */
export interface Progress {
  readonly phase: Phase;
  /** milliseconds since the run began */
  readonly elapsedMs: number;
  /** milliseconds since the phase began */
  readonly phaseMs: number;
  /** what is left of the hold phase; null outside it */
  readonly holdLeftMs: number | null;
  /** of a ramp, milliseconds at its mean rate so far; of gathering, how long it may still take; null: not known */
  readonly leftMs: number | null;
  readonly asked: number;
  /** the sum over agents; its name is `total` */
  readonly total: AgentProgress;
  readonly agents: readonly AgentProgress[];
  /** connections whose application has answered; null: no probe asks it */
  readonly verified: number | null;
  /** what the target counts, `open` null where its last answer is missing; null: it is not asked */
  readonly target: { readonly open: number | null } | null;
  readonly failedBy: Counts<FailReason>;
  readonly droppedBy: Counts<DropReason>;
  /** of all probes answered so far, milliseconds; null: none was */
  readonly probeP99Ms: number | null;
  /** processor cores that all holders use together, over the last few seconds; null: not known yet */
  readonly cpuCores: number | null;
  /** a line for a person, such as who is missing; null: nothing to say */
  readonly note: string | null;
}
