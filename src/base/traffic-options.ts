/**
 * Owns what connections say beyond their handshake and what is expected of the answers, as plain data: message templates,
 * patterns, replies; how they are written as text, and their bounds. Must never read a file (api/protocol-request.ts) or
 * know a connection (engine/protocols/message-renderer.ts).
 */

/** What a template may name, and the most bytes that each becomes. */
const FIELD_BYTES = {
  /** number of the connection among those of its agent, from 0 */
  conn: 10,
  /** number of the message on its connection; 0: the first message */
  seq: 10,
  source: 45,
  port: 5,
  agent: 253,
  /** milliseconds since the epoch at which the message was meant to be sent */
  time: 15,
} as const;
type TemplateField = keyof typeof FIELD_BYTES;

/** One piece of a template. */
export type TemplatePart =
  | { readonly type: 'bytes'; readonly base64: string }
  | { readonly type: 'field'; readonly name: TemplateField }
  /** so many characters of 0 to 9 and a to f, others for each message */
  | { readonly type: 'rand'; readonly size: number }
  /** what a group of the pattern matched; 0: all of it */
  | { readonly type: 'group'; readonly index: number };

/** What is sent, or expected, with places for what differs. */
export interface MessageTemplate {
  /** a WebSocket message of bytes instead of text */
  readonly isBinary: boolean;
  readonly parts: readonly TemplatePart[];
}

/** What an answer is compared with. A regular expression sees one character for each byte. */
export type MessagePattern =
  | { readonly type: 'text'; readonly template: MessageTemplate }
  | { readonly type: 'regex'; readonly source: string; readonly flags: string };

/** What the target says, and what it is answered. */
interface AnswerRule {
  readonly pattern: MessagePattern;
  readonly reply: MessageTemplate;
}

/** What connections say. */
export interface TrafficOptions {
  /** once for each connection; null: nothing */
  readonly first: MessageTemplate | null;
  /** null: no answer is waited for */
  readonly expect: MessagePattern | null;
  readonly answers: readonly AnswerRule[];
  /** again and again; null: nothing */
  readonly send: { readonly template: MessageTemplate; readonly everyMs: number } | null;
}

/** Nothing asked for. */
export const NO_TRAFFIC: TrafficOptions = { first: null, expect: null, answers: [], send: null };

/** Bounds that the command line and the control channel share. */
export const MESSAGE_BYTES_MAX = 16_384;
export const TEMPLATE_PARTS_MAX = 64;
export const RAND_SIZE_MAX = 64;
export const ANSWERS_MAX = 16;
const REGEX_CHARACTERS_MAX = 512;
const REGEX_FLAGS = /^(?!.*(.).*\1)[ims]*$/;
/** Of what the target says, so much is seen by a pattern. */
export const HEARD_BYTES_MAX = 4_096;

/** A name, with a size for some. Whatever else stands in braces, such as JSON, is text. */
const PLACE = /^\{([a-z]+)(?::(\d{1,4}))?\}/;
const GROUP = /^\$(\d)/;
const ESCAPE = /^\\(?:x([0-9a-fA-F]{2})|([rnt0\\{}=$@/]))/;
const ESCAPED: Readonly<Record<string, string>> = { r: '\r', n: '\n', t: '\t', 0: '\0' };
const HEX = /^0x((?:[0-9a-fA-F]{2}\s*)+)$/;

/** What a text turned out to be; `problem` is a clause for a person. */
type Read<Value> = { readonly value: Value } | { readonly problem: string };

/** How a text is read: what a person types has escapes, a file has none. */
interface TemplateReading {
  readonly hasEscapes: boolean;
  /** `$1` is what a pattern matched */
  readonly hasGroups: boolean;
}

/** Reads a template: text with places and escapes, or bytes as `0x` and hexadecimal digits. */
export function readTemplate(
  bytes: Buffer,
  { hasEscapes, hasGroups }: TemplateReading,
): Read<MessageTemplate> {
  // One character for each byte: whatever is in a file stays as it is.
  const text = bytes.toString('latin1');
  const hex = HEX.exec(text.trim())?.[1];
  if (hex !== undefined) {
    const base64 = Buffer.from(hex.replace(/\s+/g, ''), 'hex').toString('base64');
    return bounded({ isBinary: true, parts: [{ type: 'bytes', base64 }] });
  }
  if (/^0x[0-9a-f\s]*$/i.test(text.trim())) return { problem: 'after 0x come pairs of hexadecimal digits' };
  const parts: TemplatePart[] = [];
  let plain = '';
  let whole = '';
  const flush = (): void => {
    if (plain !== '') parts.push({ type: 'bytes', base64: Buffer.from(plain, 'latin1').toString('base64') });
    whole += plain;
    plain = '';
  };
  for (let at = 0; at < text.length; ) {
    const rest = text.slice(at, at + 64);
    const escaped = hasEscapes && rest.startsWith('\\') ? ESCAPE.exec(rest) : null;
    if (hasEscapes && rest.startsWith('\\') && escaped === null)
      return {
        problem: `there is no escape ${visible(rest.slice(0, 2))}: \\r, \\n, \\t, \\0, \\xNN and \\\\ are`,
      };
    const place = escaped === null ? placeAt(rest, hasGroups) : null;
    if (place !== null && 'problem' in place) return place;
    if (place === null) plain += escaped === null ? rest[0] : unescaped(escaped);
    else {
      flush();
      parts.push(place.part);
    }
    at += place?.length ?? escaped?.[0].length ?? 1;
  }
  flush();
  return bounded({ isBinary: !isUtf8(Buffer.from(whole, 'latin1')), parts });
}

function unescaped([, hex, letter = '']: RegExpExecArray): string {
  return hex === undefined ? (ESCAPED[letter] ?? letter) : String.fromCharCode(Number.parseInt(hex, 16));
}

function placeAt(
  rest: string,
  hasGroups: boolean,
): { readonly part: TemplatePart; readonly length: number } | { readonly problem: string } | null {
  const group = hasGroups ? GROUP.exec(rest) : null;
  if (group !== null) return { part: { type: 'group', index: Number(group[1]) }, length: group[0].length };
  const match = PLACE.exec(rest);
  if (match === null) return null;
  const [whole, name = '', size] = match;
  const { length } = whole;
  if (name === 'rand') {
    const characters = Number(size ?? 16);
    if (characters < 1 || characters > RAND_SIZE_MAX)
      return { problem: `{rand:${characters}} is not between 1 and ${RAND_SIZE_MAX}` };
    return { part: { type: 'rand', size: characters }, length };
  }
  if (size === undefined && isField(name)) return { part: { type: 'field', name }, length };
  const known = [...TEMPLATE_FIELDS, 'rand:16'].map((each) => `{${each}}`).join(', ');
  return { problem: `there is no ${whole} (${known} are); \\{ sends a brace` };
}

/** In the order in which the manual lists them. */
export const TEMPLATE_FIELDS = Object.keys(FIELD_BYTES) as readonly TemplateField[];

function isField(name: string): name is TemplateField {
  return Object.hasOwn(FIELD_BYTES, name);
}

function bounded(template: MessageTemplate): Read<MessageTemplate> {
  const problem = messageProblem(template);
  return problem === null ? { value: template } : { problem };
}

/** Why a template is not sent; null: it is. */
export function messageProblem(template: MessageTemplate): string | null {
  const { parts } = template;
  if (parts.length === 0) return 'it is empty';
  if (parts.length > TEMPLATE_PARTS_MAX) return `it has more than ${TEMPLATE_PARTS_MAX} pieces`;
  if (renderedBytesMax(template) > MESSAGE_BYTES_MAX)
    return `it may become longer than ${MESSAGE_BYTES_MAX} bytes`;
  return null;
}

/** The most bytes that a template becomes. */
export function renderedBytesMax({ parts }: MessageTemplate): number {
  return parts.reduce((sum, part) => sum + partBytesMax(part), 0);
}

function partBytesMax(part: TemplatePart): number {
  switch (part.type) {
    case 'bytes':
      return Buffer.byteLength(part.base64, 'base64');
    case 'field':
      return FIELD_BYTES[part.name];
    case 'rand':
      return part.size;
    case 'group':
      return HEARD_BYTES_MAX;
  }
}

/** Whether a template says what only one message, or one connection, has. */
function hasPlaces({ parts }: MessageTemplate): boolean {
  return parts.some(({ type }) => type !== 'bytes');
}

/** Where a regular expression that is typed ends: the index behind its flags; -1: it is none. */
function regexEnd(text: string): number {
  if (!text.startsWith('/')) return -1;
  for (let at = 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '/') return at + 1 + (/^[a-z]*/.exec(text.slice(at + 1))?.[0].length ?? 0);
  }
  return -1;
}

/** Reads `/regular expression/flags`, or text that an answer begins with. */
export function readPattern(text: string): Read<MessagePattern> {
  if (regexEnd(text) === text.length) {
    const close = text.lastIndexOf('/');
    const pattern = { type: 'regex', source: text.slice(1, close), flags: text.slice(close + 1) } as const;
    const problem = patternProblem(pattern);
    return problem === null ? { value: pattern } : { problem };
  }
  const read = readTemplate(Buffer.from(text), { hasEscapes: true, hasGroups: false });
  return 'problem' in read ? read : { value: { type: 'text', template: read.value } };
}

/** Why a pattern cannot be; null: it can. */
export function patternProblem(pattern: MessagePattern): string | null {
  if (pattern.type === 'text') return messageProblem(pattern.template);
  const { source, flags } = pattern;
  if (source === '') return 'an empty regular expression matches anything; /./s is any byte';
  if (source.length > REGEX_CHARACTERS_MAX)
    return `a regular expression has at most ${REGEX_CHARACTERS_MAX} characters`;
  if (!REGEX_FLAGS.test(flags))
    return `the flags of a regular expression are i, m and s, not ${visible(flags)}`;
  try {
    regexOf(pattern);
    return null;
  } catch (error) {
    return visible(error instanceof Error ? error.message : 'it is no regular expression');
  }
}

/** The expression that sees bytes: what is not ASCII in it becomes the bytes of its UTF-8. @throws SyntaxError */
export function regexOf({ source, flags }: MessagePattern & { readonly type: 'regex' }): RegExp {
  return new RegExp(Buffer.from(source).toString('latin1'), flags);
}

/** Reads `pattern=reply`; the first `=` that is not in a regular expression or behind a backslash parts them. */
export function readAnswer(text: string): Read<AnswerRule> {
  const end = regexEnd(text);
  const isRegex = end > 0 && text[end] === '=';
  const at = isRegex ? end : plainEnd(text);
  if (at < 0) return { problem: 'a pattern, = and what is answered' };
  const pattern = readPattern(text.slice(0, at));
  if ('problem' in pattern) return pattern;
  if (pattern.value.type === 'text' && hasPlaces(pattern.value.template))
    return { problem: 'the pattern is a text or a regular expression, without places; \\{ is a brace' };
  const reply = readTemplate(Buffer.from(text.slice(at + 1)), { hasEscapes: true, hasGroups: isRegex });
  return 'problem' in reply ? reply : { value: { pattern: pattern.value, reply: reply.value } };
}

function plainEnd(text: string): number {
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '=') return at;
  }
  return -1;
}

function isUtf8(bytes: Buffer): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function visible(text: string): string {
  return text.replace(/[^ -~]/g, '?').slice(0, 120);
}
