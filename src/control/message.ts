/**
 * Owns the conversation on the control channel as a whole: its version, and who says what when. What an agent may say is
 * in agent-message.ts, what the coordinator may say in coordinator-message.ts. Must never send or act on one.
 *
 *   agent --> coordinator : hello         protocol version, host facts
 *   agent <-- coordinator : spec          what to open where, how fast, how to prove it
 *   agent --> coordinator : offer         capacity, what bounds it, what preflight found
 *   agent <-- coordinator : quota         connections, rate share, pending share
 *   agent --> coordinator : ready         source addresses and holders that stand by
 *   agent --> coordinator : refuse        (instead of offer or ready) what is missing here
 *   agent <-- coordinator : start         barrier: everyone is ready
 *   agent --> coordinator : stats         cumulative, every second; doubles as a heartbeat
 *   agent --> coordinator : losses        details of lost connections, where they are wanted
 *   agent <-- coordinator : renew         the answer to each stats: extends the lease
 *   agent <-- coordinator : resumed       (after a cut, for hello with resume) go on
 *   agent <-- coordinator : stop-opening  the ramp has stalled: give up what is not open yet
 *   agent <-- coordinator : hold          the ramp is over everywhere: `held` counts from now
 *   agent <-- coordinator : stop          reason
 *   agent --> coordinator : done          final stats
 */

export { AgentBound, type AgentMessage, type AgentMessageOf, agentMessageSchema } from './agent-message.ts';
export {
  type CoordinatorMessage,
  type CoordinatorMessageOf,
  coordinatorMessageSchema,
} from './coordinator-message.ts';
export { NAME_CHARACTERS_MAX } from './schema-part.ts';

/** Major differences are refused; see docs/PROTOCOL.md. */
export const PROTOCOL_VERSION = '1.1';

/** The largest message in bytes: the final stats of an agent with 65,536 source addresses fit. */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;
