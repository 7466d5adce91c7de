/**
 * Owns what an agent and its holders say to each other over the IPC pipe that fork(2) gave them.
 * Must never send one. Both ends are the same build, so the types are the check.
 *
 *   agent --> holder : open          the slice, the quota, the protocol
 *   agent <-- holder : ready
 *   agent --> holder : start         connect
 *   agent <-- holder : stats         each second, at `report`, and at once when `settled` changes
 *   agent --> holder : report        send stats now
 *   agent --> holder : pause         open nothing until `resume`; what is open stays open
 *   agent --> holder : resume
 *   agent --> holder : stop-opening  give up what is not open yet
 *   agent --> holder : hold          the ramp is over: count the lowest `open` from now
 *   agent --> holder : stop          close everything
 *   agent <-- holder : warning       one line for a person; each kind of trouble once
 *   agent <-- holder : failed        it could not do what was asked, and ends
 *   agent <-- holder : done          final stats; then it ends
 */
import type { HolderSpec } from './run-spec.ts';
import type { HolderHealth, Stats } from './stats.ts';

export type AgentToHolder =
  | { readonly type: 'open'; readonly spec: HolderSpec }
  | { readonly type: 'start' }
  | { readonly type: 'report' }
  | { readonly type: 'pause' }
  | { readonly type: 'resume' }
  | { readonly type: 'stop-opening' }
  | { readonly type: 'hold' }
  | { readonly type: 'stop' };

export type HolderToAgent =
  | { readonly type: 'ready' }
  | {
      readonly type: 'stats';
      readonly stats: Stats;
      readonly health: HolderHealth;
      readonly settled: boolean;
    }
  | { readonly type: 'done'; readonly stats: Stats; readonly health: HolderHealth }
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'failed'; readonly message: string };

/** The hidden first argument that makes the program a holder. */
export const HOLDER_ENTRY = 'holder';

/** Node flags that keep a holder small: it allocates nearly nothing, so a small young generation and one helper thread do. */
export const HOLDER_EXEC_ARGV: readonly string[] = ['--max-semi-space-size=1', '--v8-pool-size=1'];
