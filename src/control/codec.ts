/**
 * Owns text <-> message: JSON, checked against the schema of the side that may say it.
 * Must never let an unchecked value through.
 */
import * as v from 'valibot';
import { cleanText } from '../base/clean-text.ts';
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

/** A message of a type that only a later version knows: it is left unanswered, and is no fault. */
export interface Unknown {
  readonly type: 'unknown';
}

/** The text of a message. The types make a wrong one impossible to write, so it is not checked again. */
export function encodeMessage(message: AgentMessage | CoordinatorMessage): string {
  return JSON.stringify(message);
}

/** A type that a later version might have. */
const TYPE = /^[a-z][a-z0-9-]{0,63}$/;

function isUnknownType(value: unknown, known: ReadonlySet<string>): boolean {
  if (typeof value !== 'object' || value === null || !('type' in value)) return false;
  const { type } = value;
  return typeof type === 'string' && TYPE.test(type) && !known.has(type);
}

function decode<T>(
  schema: v.GenericSchema<unknown, T>,
  known: ReadonlySet<string>,
  text: string,
): T | Malformed | Unknown {
  if (text.length > MESSAGE_BYTES_MAX) return { type: 'malformed', problem: 'message too large' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { type: 'malformed', problem: 'not JSON' };
  }
  if (isUnknownType(value, known)) return { type: 'unknown' };
  const parsed = v.safeParse(schema, value, { abortEarly: true });
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  const path = v.getDotPath(issue) ?? 'message';
  const expected = issue.expected === null ? issue.message : `expected ${issue.expected}`;
  return { type: 'malformed', problem: cleanText(`${path.slice(0, 80)}: ${expected.slice(0, 80)}`) };
}

const AGENT_TYPES: ReadonlySet<string> = new Set(
  agentMessageSchema.options.map(({ entries }) => entries.type.literal),
);
const COORDINATOR_TYPES: ReadonlySet<string> = new Set(
  coordinatorMessageSchema.options.map(({ entries }) => entries.type.literal),
);

/** What an agent said, or why it cannot be taken. Never throws, whatever the text. */
export function decodeAgentMessage(text: string): AgentMessage | Malformed | Unknown {
  return decode(agentMessageSchema, AGENT_TYPES, text);
}

/** What the coordinator said, or why it cannot be taken. Never throws, whatever the text. */
export function decodeCoordinatorMessage(text: string): CoordinatorMessage | Malformed | Unknown {
  return decode(coordinatorMessageSchema, COORDINATOR_TYPES, text);
}
