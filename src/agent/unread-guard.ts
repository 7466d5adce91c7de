/**
 * Owns how much of what an agent says may lie unread in its own memory. Must never wait for a reader: the agent makes a
 * new channel, on which it says again what matters.
 */
import type { Channel } from '../control/channel.ts';
import { type AgentMessage, CONTROL_MESSAGE_BYTES_MAX } from '../control/message.ts';

/** Two of the largest messages. */
const UNREAD_BYTES_MAX = 2 * CONTROL_MESSAGE_BYTES_MAX;

/**
 * Sends a message, or gives the channel up because the other side does not read.
 * @param unreadBytesMax beyond so many bytes nothing more is sent
 * @returns whether the channel is still there
 */
export function sendGuarded(
  channel: Channel<AgentMessage>,
  message: AgentMessage,
  unreadBytesMax = UNREAD_BYTES_MAX,
): boolean {
  if (channel.bufferedBytes <= unreadBytesMax) {
    channel.send(message);
    return true;
  }
  channel.close('nothing of what this agent says is read');
  return false;
}
