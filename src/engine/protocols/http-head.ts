/**
 * Owns the head of an HTTP/1.1 response: collecting it over reads, within a bound, and taking it apart (RFC 9112).
 * Must never touch a body.
 */

/** The longest head that is accepted, in bytes. */
const HEAD_BYTES_MAX = 16_384;

export interface ResponseHead {
  readonly status: number;
  /** the first line, with its reason */
  readonly statusLine: string;
  /** 1.1 or later in the 1.x line: connections persist unless it says otherwise */
  readonly isHttp11: boolean;
  /** values by name in lower case; several of one name are joined by commas */
  readonly fields: ReadonlyMap<string, string>;
}

/** What a piece of a head makes of the whole. */
type HeadResult =
  | { readonly type: 'more' }
  | { readonly type: 'bad'; readonly what: string }
  | { readonly type: 'head'; readonly head: ResponseHead; readonly next: number };

const MORE: HeadResult = { type: 'more' };

/** Where the blank line that ends a head ends, at or after `from`; -1: not here. */
function endOfHead(bytes: Uint8Array, from: number, to: number): number {
  for (let at = from; at + 3 < to; at++) {
    if (bytes[at] !== 13) continue;
    if (bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10) return at + 4;
  }
  return -1;
}

/** Heads that came in pieces wait in a map that is nearly always empty. */
export class HeadReader {
  readonly #carry = new Map<number, Uint8Array>();

  /** Takes `bytes[from..to)` of a slot whose head is not complete. `next` of a head is an index of `bytes`. */
  take(slot: number, bytes: Uint8Array, from: number, to: number): HeadResult {
    const carried = this.#carry.get(slot);
    const before = carried?.length ?? 0;
    let whole = bytes;
    let begin = from;
    let end = to;
    if (carried !== undefined) {
      const added = Math.min(to - from, HEAD_BYTES_MAX + 1 - before);
      whole = new Uint8Array(before + added);
      whole.set(carried);
      whole.set(bytes.subarray(from, from + added), before);
      begin = 0;
      end = before + added;
    }
    const over = endOfHead(whole, begin, Math.min(end, begin + HEAD_BYTES_MAX));
    if (over >= 0) {
      this.#carry.delete(slot);
      const head = parseHead(
        Buffer.from(whole.buffer, whole.byteOffset + begin, over - 4 - begin).toString('latin1'),
      );
      if (typeof head === 'string') return { type: 'bad', what: head };
      return { type: 'head', head, next: carried === undefined ? over : from + over - before };
    }
    if (end - begin >= HEAD_BYTES_MAX) return { type: 'bad', what: `a head above ${HEAD_BYTES_MAX} bytes` };
    if (!looksLikeHttp(whole, begin, end)) return { type: 'bad', what: 'no HTTP/1.1 response' };
    this.#carry.set(slot, carried === undefined ? whole.slice(begin, end) : whole);
    return MORE;
  }

  forget(slot: number): void {
    this.#carry.delete(slot);
  }
}

const PREFIX = new TextEncoder().encode('HTTP/1.');

function looksLikeHttp(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = 0; at < PREFIX.length && from + at < to; at++) {
    if (bytes[from + at] !== PREFIX[at]) return false;
  }
  return true;
}

/** The head, or in words what is wrong with it. @param text without the blank line at its end */
function parseHead(text: string): ResponseHead | string {
  const [first = '', ...lines] = text.split('\r\n');
  const match = /^HTTP\/1\.(\d) (\d{3})(?: |$)/.exec(first);
  if (match === null) return 'no HTTP/1.1 response';
  const fields = new Map<string, string>();
  for (const line of lines) {
    const field = /^([!#$%&'*+.^`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    if (field === null) return 'a malformed header field';
    const name = field[1]!.toLowerCase();
    const before = fields.get(name);
    fields.set(name, before === undefined ? field[2]! : `${before}, ${field[2]}`);
  }
  return { status: Number(match[2]), statusLine: first, isHttp11: match[1] !== '0', fields };
}

/** Whether a comma list has a word, in any case. */
export function hasToken(list: string | undefined, token: string): boolean {
  if (list === undefined) return false;
  return list.split(',').some((each) => each.trim().toLowerCase() === token);
}

/** `name:port`, without the port where it is the scheme's own. */
export function authorityOf(host: string, port: number, defaultPort: number): string {
  const literal = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
  return port === defaultPort ? literal : `${literal}:${port}`;
}

/** Of a body, how much is looked at and how much is kept. */
const BODY_BYTES_MAX = 512;
const BODY_CHARACTERS_MAX = 80;

/** What a person would read of the begin of a body: its title, else its text without marks; empty where it is no text. */
function bodyWords({ fields }: ResponseHead, bytes: Uint8Array, from: number, to: number): string {
  if (fields.get('content-encoding') !== undefined) return '';
  if (!/^(?:text\/|application\/(?:problem\+)?json)/i.test(fields.get('content-type') ?? 'text/')) return '';
  const part = bytes.subarray(from, Math.min(to, from + BODY_BYTES_MAX));
  const whole = Buffer.from(part.buffer, part.byteOffset, part.length).toString('latin1');
  const text = fields.get('transfer-encoding') === undefined ? whole : whole.replace(/^[^\n]*\n/, '');
  const title = /<title>([^<]*)/i.exec(text)?.[1];
  const words = title ?? text.replace(/<style[\s\S]*?<\/style>/gi, ' ').replace(/<[^>]*>?/g, ' ');
  return words.replace(/\s+/g, ' ').trim().slice(0, BODY_CHARACTERS_MAX);
}

/**
 * What a response says of a refusal: its first line, when to come back and the begin of its body from `bytes[from..to)`, never
 * another field (`Date` differs each second).
 */
export function refusalText(head: ResponseHead, bytes: Uint8Array, from: number, to: number): Buffer {
  const { statusLine, fields } = head;
  const retry = fields.get('retry-after');
  const body = bodyWords(head, bytes, from, to);
  // Many servers repeat their status there.
  const isRepeated = body === '' || statusLine.endsWith(` ${body}`);
  const lines = [
    statusLine,
    ...(retry === undefined ? [] : [`Retry-After: ${retry}`]),
    ...(isRepeated ? [] : [body]),
  ];
  return Buffer.from(lines.join('\r\n'), 'latin1');
}

/** What bytes are that are no HTTP/1.1, where another protocol is known by its first bytes; null: it is not known. */
export function otherProtocol(bytes: Uint8Array, from: number, to: number): string | null {
  if (to - from < 5) return null;
  const [first, second, , type] = bytes.subarray(from, to);
  // A SETTINGS frame comes first (RFC 9113 section 3.4): 24 bits of length, then type 4.
  if (first === 0 && second === 0 && type === 4) return 'HTTP/2 alone: the target does not speak HTTP/1.1';
  // An alert (21) or a handshake (22) of TLS 1.x (RFC 8446 section 5.1).
  if ((first === 21 || first === 22) && second === 3) return 'TLS on this port: use https:// or wss://';
  return null;
}

const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** Where what was said ends that is no head: of HTTP only its first line counts. @returns exclusive */
export function saidEnd(bytes: Uint8Array, from: number, to: number): number {
  if (!looksLikeHttp(bytes, from, to)) return to;
  let at = from;
  while (at < to && bytes[at] !== LINE_FEED && bytes[at] !== CARRIAGE_RETURN) at++;
  return at;
}
