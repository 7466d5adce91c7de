/**
 * Owns what processes of one host say to each other over the IPC pipe that fork(2) gave them, an agent and its holders, a run and
 * its local agent; and an agent's end of the latter: what its parent says about this host, and the heartbeat that says that
 * this process is still closing. Both ends are the same build: what a child says is checked all the same, because its parent must outlive it
 * (holder-message.ts); what a parent says is not, because a child ends with its parent.
 * Must never take a host's own things from elsewhere (whoever has the token may be the coordinator, but only the parent
 * has the other end of this pipe), and never keep the process alive.
 *
 *   agent --> holder : open          the slice, the quota, the protocol
 *   agent <-- holder : ready
 *   agent --> holder : start         connect
 *   agent <-- holder : stats         each second, at `report`, and immediately when all is begun and when `settled` changes
 *   agent <-- holder : losses        details of lost connections, a batch at a time, before the stats that count them
 *   agent --> holder : report        send stats now, and which tuples are open where these are wanted
 *   agent --> holder : lease         until when it may open, and until when it may live, without a further lease
 *   agent --> holder : pace          its share of the rate and of the connects in flight from now on: they belong to the agent, and
 *                                    move to whoever opens
 *   agent --> holder : stop-opening  give up what is not open yet
 *   agent --> holder : hold          the ramp is over: count the lowest `open` from now
 *   agent --> holder : freeze        a load that changes stays as it is: `checked` when nothing is on its way
 *   agent --> holder : check         the ramp or the hold is over: ask each open connection once more
 *   agent <-- holder : checked       each has answered, or is lost
 *   agent --> holder : lose-sources  these addresses are no longer on this host: drop what is bound to them
 *   agent --> holder : stop          close everything
 *   agent <-- holder : warning       one line for a person; each kind of problem once
 *   agent <-- holder : failed        it could not do what was asked, and ends
 *   agent <-- holder : done          final stats; then it ends
 */

import { BenchError, ErrorCode, ExitCode } from '../base/errors.ts';
import type { EngineRamp } from '../engine/engine.ts';
import type { LeaseEnds } from '../run/lease.ts';
import type { HolderSpec, HostSpec } from '../run/run-spec.ts';
import type { FinalCheckName } from '../stats/evidence.ts';
import type { Loss } from '../stats/loss.ts';
import type { HolderHealth, Stats } from '../stats/stats.ts';
import { after, every } from '../time/timer.ts';

/** What a holder has done to the end: a final check, or what was on its way when nothing more was to change. */
export type Checked = FinalCheckName | 'freeze';

export type AgentToHolder =
  | { readonly type: 'open'; readonly spec: HolderSpec }
  /**
   * `runStartedMs`: when its agent was started, on the host's clock; absent: now. `inTurns`: others open when it has begun all of its own, so it
   * begins nothing more until the next `pace`
   */
  | {
      readonly type: 'start';
      readonly runStartedMs?: number;
      readonly inTurns?: boolean;
      /** how long the run had gone on for others when its agent was started; absent: not at all */
      readonly elapsedMs?: number;
    }
  | { readonly type: 'report'; readonly id: number; readonly wantsTuples: boolean }
  | ({ readonly type: 'lease' } & LeaseEnds)
  | { readonly type: 'pace'; readonly ratePerSec: number | null; readonly pendingMax: number }
  | { readonly type: 'stop-opening' }
  | { readonly type: 'hold' }
  /** `perMs`: how many it may ask within a millisecond */
  | { readonly type: 'check'; readonly which: FinalCheckName; readonly perMs: number }
  | { readonly type: 'freeze' }
  | { readonly type: 'lose-sources'; readonly addresses: readonly string[] }
  | { readonly type: 'stop' };

export type HolderToAgent =
  | { readonly type: 'ready' }
  | {
      readonly type: 'stats';
      readonly stats: Stats;
      readonly health: HolderHealth;
      readonly settled: boolean;
      /** the `id` of the `report` that it answers; null: it comes by itself */
      readonly answers: number | null;
      /** which tuples of the slice are open: base64 of one bit for each, the first one lowest; null: not asked for */
      readonly openTuples: string | null;
      /** nothing of the quota is left to begin */
      readonly begun: boolean;
      /** null: none was called */
      readonly ramp: EngineRamp | null;
    }
  | { readonly type: 'checked'; readonly which: Checked }
  | { readonly type: 'losses'; readonly losses: readonly Loss[] }
  | {
      readonly type: 'done';
      readonly stats: Stats;
      readonly health: HolderHealth;
      readonly ramp: EngineRamp | null;
    }
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'failed'; readonly message: string };

/** The hidden first argument that makes the program a holder; the agent's pid follows. */
export const HOLDER_ENTRY = 'holder';

/** Node flags that keep a holder small: it allocates nearly nothing, so a small young generation and one helper thread do. */
export const HOLDER_EXEC_ARGV: readonly string[] = [
  '--max-semi-space-size=1',
  '--v8-pool-size=1',
  '--expose-gc',
];

/** The one message to the agent, sent right after the fork. */
export interface HostSpecMessage {
  readonly type: 'host-spec';
  readonly hostSpec: HostSpec;
}

/** Whether a message on the pipe is that one. Both ends are the same build. */
function isHostSpecMessage(message: unknown): message is HostSpecMessage {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === 'host-spec';
}

/** The message of an agent that is still closing; never of one that has nothing left to do, because the parent waits for as long as it comes. */
export const SHUTDOWN_HEARTBEAT = 'closing';

/** How often it comes, in milliseconds. */
const SHUTDOWN_HEARTBEAT_EVERY_MS = 500;

/** It is sent immediately after the fork; a machine that is busy may need a while. */
const HOST_SPEC_TIMEOUT_MS = 20_000;

/**
 * Waits for what the parent says about this host.
 * @returns what belongs to this host; null: the parent is gone, so there is nothing left to do
 * @throws BenchError (control-channel, exit 4) when nothing comes
 */
export function hostSpecOfParent(timeoutMs = HOST_SPEC_TIMEOUT_MS): Promise<HostSpec | null> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      timer.cancel();
      process.off('message', onMessage);
      process.off('disconnect', onGone);
    };
    const onMessage = (message: unknown): void => {
      if (!isHostSpecMessage(message)) return;
      end();
      resolve(message.hostSpec);
    };
    const onGone = (): void => {
      end();
      resolve(null);
    };
    const timer = after(timeoutMs, () => {
      end();
      reject(
        new BenchError(
          ErrorCode.controlChannel,
          ExitCode.incomplete,
          `the process that started this agent did not say which sources are its own within ${timeoutMs / 1_000} s`,
          'start the run again; an agent by hand needs no C100K_LOCAL_AGENT in its environment',
        ),
      );
    });
    process.on('message', onMessage);
    process.on('disconnect', onGone);
    // It may have gone while this process was loading: then `disconnect` came before there was a listener.
    if (!process.connected) onGone();
  });
}

/** From now on heartbeats go to the parent, where there is one, until this process ends by itself. */
export function startShutdownHeartbeat(): void {
  if (!process.connected) return;
  // Its listeners keep the pipe, and so this process; from now on only work that is left may.
  process.channel?.unref();
  sendHeartbeat();
  every(SHUTDOWN_HEARTBEAT_EVERY_MS, sendHeartbeat, { isUnref: true });
}

/** A parent that is gone needs no heartbeat. */
function sendHeartbeat(): void {
  if (process.connected) process.send?.(SHUTDOWN_HEARTBEAT, () => {});
}
