/**
 * Owns the conversation on the control channel as a whole: its version, who says what when, and a message as text and
 * back. What an agent may say is in agent-message.ts, what the coordinator may say in coordinator-message.ts. Must never
 * let an unchecked value through.
 *
 *   agent --> coordinator : hello         protocol version, host facts
 *   agent <-- coordinator : spec          what to open where, how fast, how to prove it
 *   agent --> coordinator : offer         capacity, what bounds it, what preflight found
 *   agent <-- coordinator : quota         connections, rate share, pending share
 *   agent --> coordinator : ready         source addresses and holders that stand by
 *   agent --> coordinator : refuse        (instead of offer or ready) what is missing here
 *   agent <-- coordinator : start         barrier: all are ready
 *   agent --> coordinator : stats         cumulative, every second; doubles as a heartbeat
 *   agent --> coordinator : losses        details of lost connections, where they are wanted
 *   agent <-- coordinator : renew         the answer to each stats: extends the lease
 *   agent <-- coordinator : resumed       (after a cut, for hello with resume) go on
 *   agent <-- coordinator : stop-opening  the ramp has stalled: give up what is not open yet
 *   agent <-- coordinator : hold          the ramp is over everywhere: `held` counts from now
 *   agent <-- coordinator : stop          reason
 *   agent --> coordinator : done          final stats
 *   agent <-- coordinator : counted       `done` is read; the verdict comes when all are done
 *   agent <-- coordinator : verdict       of the whole run, for a person
 */

import * as v from 'valibot';
import { cleanText } from '../base/clean-text.ts';
import { isMqtt, zoneOf } from '../base/endpoint.ts';
import { DEFAULT_REQUEST_OPTIONS } from '../base/request-options.ts';
import { NO_TRAFFIC } from '../base/traffic-options.ts';
import { isEndless, type SharedSpec } from '../run/run-spec.ts';
import { type AgentMessage, agentMessageSchema } from './agent-message.ts';
import { type CoordinatorMessage, coordinatorMessageSchema } from './coordinator-message.ts';

export type { AgentMessage, AgentMessageOf } from './agent-message.ts';
export type { CoordinatorMessage, CoordinatorMessageOf } from './coordinator-message.ts';

/** Major differences are refused; see docs/PROTOCOL.md. */
export const PROTOCOL_VERSION = '1.2';

/**
 * What of a spec agents below a minor version would leave out, and so do something else than was asked; null: nothing is.
 * @returns `minor` is the first version that has it, `words` are the flags
 */
export function needsOf(spec: SharedSpec): { readonly minor: number; readonly words: string } | null {
  const { request = DEFAULT_REQUEST_OPTIONS, traffic = NO_TRAFFIC } = spec.protocolOptions ?? {};
  const asked: readonly (readonly [string, boolean])[] = [
    [`${spec.protocol}://`, isMqtt(spec.protocol)],
    ['--target with a zone', zoneOf(spec.endpoints) !== undefined],
    ['--tls-cert', spec.protocolOptions?.tls.pairs !== undefined],
    ['--alpn', spec.protocolOptions?.tls.alpn !== undefined],
    ['--tls-resume', spec.protocolOptions?.tls.resumes === true],
    ['--header', request.headers.length > 0],
    ['--ws-protocol', request.subprotocols.length > 0],
    ['--method', request.method !== 'GET'],
    ['--body', request.body !== null],
    ['--first-message', traffic.first !== null],
    ['--expect', traffic.expect !== null],
    ['--answer', traffic.answers.length > 0],
    ['--send', traffic.send !== null],
    // An earlier agent's own --max-duration would end what it was not asked for.
    ['--duration forever', isEndless(spec)],
    ['--proxy-protocol', spec.proxyHeader !== undefined],
    ['--reopen-after', spec.reopen !== undefined && spec.reopen.kind !== 'immediate'],
    ['--reopen-jitter', (spec.reopen?.jitter ?? 0) > 0],
    ['--backend-from', spec.backendFrom !== undefined],
    ['--stage', spec.stages !== undefined],
    ['--close-order', spec.closeOrder !== undefined],
    ['--churn', spec.churn?.kind === 'rate'],
    ['--lifetime', spec.churn !== undefined && spec.churn.kind !== 'rate'],
  ];
  const words = asked.filter(([, isAsked]) => isAsked).map(([flag]) => flag);
  return words.length === 0 ? null : { minor: 2, words: words.join(' and ') };
}

/** The largest message in bytes: the final stats of an agent with 65,536 source addresses fit. */
export const CONTROL_MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

/** What a text turned out to be. */
export type Decoded<Message> =
  | { readonly type: 'message'; readonly message: Message }
  /** refused: `problem` is one line without any of the message's content but its path */
  | { readonly type: 'malformed'; readonly problem: string }
  /** of a type that only a later version knows: it is left unanswered, and is no fault */
  | { readonly type: 'unknown' };

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
): Decoded<T> {
  if (text.length > CONTROL_MESSAGE_BYTES_MAX) return { type: 'malformed', problem: 'message too large' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { type: 'malformed', problem: 'not JSON' };
  }
  if (isUnknownType(value, known)) return { type: 'unknown' };
  const parsed = v.safeParse(schema, value, { abortEarly: true });
  if (parsed.success) return { type: 'message', message: parsed.output };
  const issue = parsed.issues[0];
  const path = v.getDotPath(issue) ?? 'message';
  const isOurs = issue.type === 'custom' || issue.expected === null;
  const expected = isOurs ? issue.message : `expected ${issue.expected}`;
  return { type: 'malformed', problem: cleanText(`${path.slice(0, 80)}: ${expected.slice(0, 80)}`) };
}

const AGENT_TYPES: ReadonlySet<string> = new Set(
  agentMessageSchema.options.map(({ entries }) => entries.type.literal),
);
const COORDINATOR_TYPES: ReadonlySet<string> = new Set(
  coordinatorMessageSchema.options.map(({ entries }) => entries.type.literal),
);

/** What an agent said, or why it cannot be taken. Never throws, whatever the text. */
export function decodeAgentMessage(text: string): Decoded<AgentMessage> {
  return decode(agentMessageSchema, AGENT_TYPES, text);
}

/** What the coordinator said, or why it cannot be taken. Never throws, whatever the text. */
export function decodeCoordinatorMessage(text: string): Decoded<CoordinatorMessage> {
  return decode(coordinatorMessageSchema, COORDINATOR_TYPES, text);
}
