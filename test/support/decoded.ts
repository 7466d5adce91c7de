/** Owns a decoded text as a test compares it: the message by itself, or why there is none. */
import {
  type AgentMessage,
  type CoordinatorMessage,
  type Decoded,
  decodeAgentMessage,
  decodeCoordinatorMessage,
} from '../../src/control/message.ts';

type Taken<Message> = Message | Exclude<Decoded<Message>, { type: 'message' }>;

function taken<Message>(decoded: Decoded<Message>): Taken<Message> {
  return decoded.type === 'message' ? decoded.message : decoded;
}

/** What an agent said in this text. */
export function agentMessageIn(text: string): Taken<AgentMessage> {
  return taken(decodeAgentMessage(text));
}

/** What the coordinator said in this text. */
export function coordinatorMessageIn(text: string): Taken<CoordinatorMessage> {
  return taken(decodeCoordinatorMessage(text));
}
