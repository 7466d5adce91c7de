/**
 * Owns what an agent and its holders say to each other over the IPC pipe that fork(2) gave them.
 * Must never send one. Both ends are the same build, so the types are the check.
 *
 *   agent --> holder : open          the slice, the quota, the protocol
 *   agent <-- holder : ready
 *   agent --> holder : start         connect
 *   agent <-- holder : stats         each second, at `report`, and immediately when `settled` changes
 *   agent <-- holder : losses        details of lost connections, a batch at a time, before the stats that count them
 *   agent --> holder : report        send stats now
 *   agent --> holder : lease         until when it may open, and until when it may live, without a further lease
 *   agent --> holder : pace          its share of the rate from now on: a quota that grew is shared with further holders
 *   agent --> holder : stop-opening  give up what is not open yet
 *   agent --> holder : hold          the ramp is over: count the lowest `open` from now
 *   agent --> holder : lose-sources  these addresses are no longer on this host: drop what is bound to them
 *   agent --> holder : stop          close everything
 *   agent <-- holder : warning       one line for a person; each kind of problem once
 *   agent <-- holder : failed        it could not do what was asked, and ends
 *   agent <-- holder : done          final stats; then it ends
 */

import type { Loss } from '../stats/loss.ts';
import type { HolderHealth, Stats } from '../stats/stats.ts';
import type { LeaseEnds } from './lease.ts';
import type { HolderSpec } from './run-spec.ts';

export type AgentToHolder =
  | { readonly type: 'open'; readonly spec: HolderSpec }
  /** `runStartedMs`: when its agent was started, on the host's clock; absent: now */
  | { readonly type: 'start'; readonly runStartedMs?: number }
  | { readonly type: 'report' }
  | ({ readonly type: 'lease' } & LeaseEnds)
  | { readonly type: 'pace'; readonly ratePerSec: number | null }
  | { readonly type: 'stop-opening' }
  | { readonly type: 'hold' }
  | { readonly type: 'lose-sources'; readonly addresses: readonly string[] }
  | { readonly type: 'stop' };

export type HolderToAgent =
  | { readonly type: 'ready' }
  | {
      readonly type: 'stats';
      readonly stats: Stats;
      readonly health: HolderHealth;
      readonly settled: boolean;
    }
  | { readonly type: 'losses'; readonly losses: readonly Loss[] }
  | { readonly type: 'done'; readonly stats: Stats; readonly health: HolderHealth }
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'failed'; readonly message: string };

/** The hidden first argument that makes the program a holder; the agent's pid follows. */
export const HOLDER_ENTRY = 'holder';

/** Node flags that keep a holder small: it allocates nearly nothing, so a small young generation and one helper thread do. */
export const HOLDER_EXEC_ARGV: readonly string[] = ['--max-semi-space-size=1', '--v8-pool-size=1'];
