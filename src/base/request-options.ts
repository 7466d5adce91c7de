/**
 * Owns what a request of HTTP or WebSocket says beyond its path and host: method, header fields, body, subprotocols; their
 * bounds, and what of them would break the connection that is to be held. Must never read a file (api/protocol-request.ts).
 */

/** Methods whose answer keeps to RFC 9110 and leaves the connection as it is. */
export const REQUEST_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

export type RequestMethod = (typeof REQUEST_METHODS)[number];

/** One header field as it is sent. */
export interface HeaderField {
  readonly name: string;
  /** without blanks at its ends */
  readonly value: string;
}

/** What is said beyond path and host. */
export interface RequestOptions {
  readonly method: RequestMethod;
  readonly headers: readonly HeaderField[];
  /** base64; null: no body */
  readonly body: string | null;
  /** what is offered to a WebSocket server, which must choose one of them; empty: nothing is */
  readonly subprotocols: readonly string[];
}

/** Nothing asked for. */
export const DEFAULT_REQUEST_OPTIONS: RequestOptions = {
  method: 'GET',
  headers: [],
  body: null,
  subprotocols: [],
};

/** Fields of one request, and the characters of all their names and values. */
export const HEADERS_MAX = 64;
export const HEADER_CHARACTERS_MAX = 8_192;
export const BODY_BYTES_MAX = 65_536;
export const SUBPROTOCOLS_MAX = 16;
const SUBPROTOCOL_CHARACTERS_MAX = 2_048;

/** A token of RFC 9110 section 5.6.2: a field's name, a subprotocol. */
const TOKEN = /^[!#$%&'*+.^`|~\w-]+$/;

/** Fields that belong to the connection or to the proof, by name in lower case, and what to do instead. */
const OWNED_FIELDS: ReadonlyMap<string, string> = new Map([
  ['connection', 'the connection is to be held'],
  ['keep-alive', 'the connection is to be held'],
  ['proxy-connection', 'the connection is to be held'],
  ['upgrade', 'the scheme of --target says it: ws:// or wss://'],
  ['transfer-encoding', '--body gives its length'],
  ['content-length', '--body gives its length'],
  ['expect', 'the body follows its head without being asked for'],
  ['te', 'trailers are read and thrown away'],
  ['trailer', 'none is sent'],
  ['sec-websocket-key', 'each connection has its own, which the answer is checked against'],
  ['sec-websocket-version', 'only version 13 is spoken'],
  ['sec-websocket-extensions', 'none is spoken'],
  ['sec-websocket-accept', 'it belongs to an answer'],
  ['sec-websocket-protocol', '--ws-protocol offers one, and checks what the server chooses'],
]);

/** Why a field is not sent; null: it is. What is quoted is visible. */
export function headerProblem({ name, value }: HeaderField): string | null {
  if (!TOKEN.test(name)) return 'its name must be letters, digits and -, and a colon must follow it';
  if (!/^[\t -~]*$/.test(value)) return `the value of ${name} must be one line of visible ASCII`;
  const why = OWNED_FIELDS.get(name.toLowerCase());
  return why === undefined ? null : `${name} is not to be given: ${why}`;
}

/** Whether all fields together keep to the bounds. */
export function areHeadersBounded(headers: readonly HeaderField[]): boolean {
  const characters = headers.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  return headers.length <= HEADERS_MAX && characters <= HEADER_CHARACTERS_MAX;
}

/** Whether a text can be offered as a subprotocol (RFC 6455 section 4.1). */
export function isSubprotocol(text: string): boolean {
  return text.length <= SUBPROTOCOL_CHARACTERS_MAX && TOKEN.test(text);
}

/**
 * The head of a request with its blank line; every line but the first and `Host` is a field.
 * @param first the request line
 * @param own the fields that we would send, which one of `headers` with the same name takes the place of
 */
export function requestHead(
  first: string,
  authority: string,
  own: readonly HeaderField[],
  headers: readonly HeaderField[],
): string {
  const given = new Set(headers.map(({ name }) => name.toLowerCase()));
  const fields = [...own.filter(({ name }) => !given.has(name.toLowerCase())), ...headers];
  const lines = fields.map(({ name, value }) => `${name}: ${value}`.trimEnd());
  return `${[first, `Host: ${authority}`, ...lines].join('\r\n')}\r\n\r\n`;
}
