/**
 * Owns what `--first-message`, `--expect`, `--answer`, `--send` and `--send-every` ask for, together: files read, contradictions
 * refused. Must never know the network.
 */
import { ErrorCode, usageError } from '../base/errors.ts';
import {
  ANSWERS_MAX,
  MESSAGE_BYTES_MAX,
  type MessagePattern,
  type MessageTemplate,
  readAnswer,
  readPattern,
  readTemplate,
  type TrafficOptions,
} from '../base/traffic-options.ts';
import { flagAway, flagWith } from '../base/units.ts';
import { type FlagValues, flagValue, flagValues } from './flags/flags.ts';
import { readWhole } from './protocol-request.ts';

/** How often a message is sent, unless the user says otherwise. */
const SEND_EVERY_MS = 1_000;

type MessageFlag = 'first-message' | 'send' | 'expect';

/**
 * Reads and checks what connections say.
 * @returns null: nothing beyond the handshake
 * @throws BenchError (exit code 2) for what cannot be sent, for files that cannot be read, and for flags that do not go together
 */
export function readTraffic(values: FlagValues): TrafficOptions | null {
  const first = readMessage(values, 'first-message');
  const template = readMessage(values, 'send');
  const expect = readExpectation(values);
  const answers = readAnswers(values);
  const everyMs = flagValue(values, 'send-every');
  if (everyMs !== null && template === null)
    refuse(values, 'send-every', 'needs --send', 'add --send with what to send');
  if (template !== null) {
    refuseBoth(values, 'send', 'probe-every', '--send-every says how often connections are asked');
    refuseBoth(values, 'send', 'ws-message', '--send says what is sent');
  }
  if (first === null && template === null && expect === null && answers.length === 0) return null;
  refuseBoth(values, 'expect-banner', 'expect', '--expect alone waits for what the target says first');
  for (const other of ['first-message', 'answer', 'send'] as const)
    refuseBoth(values, 'expect-banner', other, '--expect says what the target must say');
  const send = template === null ? null : { template, everyMs: everyMs ?? SEND_EVERY_MS };
  return { first, expect, answers, send };
}

function isGiven(values: FlagValues, name: string): boolean {
  return name === 'answer' ? values.list(name).length > 0 : values.one(name) !== null;
}

function refuseBoth(values: FlagValues, one: string, other: string, why: string): void {
  if (!isGiven(values, one) || !isGiven(values, other)) return;
  const [first, second] = [values.origin(one), values.origin(other)];
  throw usageError(ErrorCode.usage, `${first} and ${second} do not go together: ${why}`, flagAway(second));
}

function refuse(values: FlagValues, name: string, what: string, hint: string): never {
  throw usageError(ErrorCode.usage, `${values.origin(name)} ${what}`, hint);
}

/** What was typed, or what is in the file. */
function textOf(
  values: FlagValues,
  name: MessageFlag,
): { readonly bytes: Buffer; readonly isFile: boolean } | null {
  const given = flagValue(values, name);
  if (given === null) return null;
  if (!given.startsWith('@') || given.length === 1) return { bytes: Buffer.from(given), isFile: false };
  // Hexadecimal digits are two for each byte, with blanks between them.
  const bytes = readWhole(given.slice(1), `${values.origin(name)} ${given}`, 4 * MESSAGE_BYTES_MAX);
  return { bytes, isFile: true };
}

function readMessage(values: FlagValues, name: 'first-message' | 'send'): MessageTemplate | null {
  const text = textOf(values, name);
  if (text === null) return null;
  const read = readTemplate(text.bytes, { hasEscapes: !text.isFile, hasGroups: false });
  if ('value' in read) return read.value;
  return refuse(values, name, read.problem, `type ${flagWith(values.origin(name), "'PING'")}`);
}

function readExpectation(values: FlagValues): MessagePattern | null {
  const text = textOf(values, 'expect');
  if (text === null) return null;
  const { bytes, isFile } = text;
  if (!isFile) {
    const typed = readPattern(bytes.toString());
    if ('value' in typed) return typed.value;
    return refuse(values, 'expect', typed.problem, `type ${flagWith(values.origin('expect'), "'+PONG'")}`);
  }
  const read = readTemplate(bytes, { hasEscapes: false, hasGroups: false });
  if ('value' in read) return { type: 'text', template: read.value };
  return refuse(values, 'expect', read.problem, `type ${flagWith(values.origin('expect'), "'+PONG'")}`);
}

function readAnswers(values: FlagValues): TrafficOptions['answers'] {
  const given = flagValues(values, 'answer');
  if (given.length > ANSWERS_MAX)
    refuse(
      values,
      'answer',
      `is given ${given.length} times; at most ${ANSWERS_MAX} are possible`,
      'give fewer',
    );
  return given.map((text) => {
    const read = readAnswer(text);
    if ('value' in read) return read.value;
    return refuse(values, 'answer', read.problem, `type ${flagWith(values.origin('answer'), "'2=3'")}`);
  });
}
