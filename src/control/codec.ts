/**
 * Owns text <-> message: JSON, checked against the schema of the side that may say it.
 * Must never let an unchecked value through.
 */
import * as v from 'valibot';
import {
  type AgentMessage,
  agentMessageSchema,
  type CoordinatorMessage,
  coordinatorMessageSchema,
  MESSAGE_BYTES_MAX,
} from './message.ts';

/** A message that was refused: `problem` is one line without any of the message's content but its path. */
export interface Malformed {
  readonly type: 'malformed';
  readonly problem: string;
}

/** The text of a message. The types make a wrong one impossible to write, so it is not checked again. */
export function encodeMessage(message: AgentMessage | CoordinatorMessage): string {
  return JSON.stringify(message);
}

function decode<T>(schema: v.GenericSchema<unknown, T>, text: string): T | Malformed {
  if (text.length > MESSAGE_BYTES_MAX) return { type: 'malformed', problem: 'message too large' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { type: 'malformed', problem: 'not JSON' };
  }
  const parsed = v.safeParse(schema, value, { abortEarly: true });
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  const path = v.getDotPath(issue) ?? 'message';
  return {
    type: 'malformed',
    problem: `${path.slice(0, 80)}: expected ${String(issue.expected).slice(0, 80)}`,
  };
}

/** What an agent said, or why it cannot be taken. Never throws, whatever the text. */
export function decodeAgentMessage(text: string): AgentMessage | Malformed {
  return decode(agentMessageSchema, text);
}

/** What the coordinator said, or why it cannot be taken. Never throws, whatever the text. */
export function decodeCoordinatorMessage(text: string): CoordinatorMessage | Malformed {
  return decode(coordinatorMessageSchema, text);
}
