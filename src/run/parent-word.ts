/**
 * Owns what a run tells the agent that it forks, over the pipe that fork(2) gave them: what belongs to this host. Nobody
 * on the control channel can say it. Must never send or wait for it.
 */
import type { HostSpec } from './run-spec.ts';

/** The one message, sent at once after the fork. */
export interface ParentWord {
  readonly type: 'host-spec';
  readonly hostSpec: HostSpec;
}

/** Whether a message on the pipe is that one. Both ends are the same build. */
export function isParentWord(message: unknown): message is ParentWord {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === 'host-spec';
}
