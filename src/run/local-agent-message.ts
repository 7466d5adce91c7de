/**
 * Owns what a run and the agent that it forks say over the pipe that fork(2) gave them: what belongs to this host, which
 * no message of the control channel can say; and, while an agent that is to end gives addresses back, that it still does.
 * Must never send or wait for either.
 */
import type { HostSpec } from './run-spec.ts';

/** The one message to the agent, sent right after the fork. */
export interface HostSpecMessage {
  readonly type: 'host-spec';
  readonly hostSpec: HostSpec;
}

/** Whether a message on the pipe is that one. Both ends are the same build. */
export function isHostSpecMessage(message: unknown): message is HostSpecMessage {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === 'host-spec';
}

/** The message of an agent that is still closing; never of one that has nothing left to do, because the parent waits for as long as it comes. */
export const SHUTDOWN_HEARTBEAT = 'closing';

/** How often it comes, in milliseconds. */
export const SHUTDOWN_HEARTBEAT_EVERY_MS = 500;
