/**
 * Owns what `--header`, `--ws-protocol`, `--method` and `--body` ask for, together: files read, contradictions refused; and what
 * is said before any protocol.
 * Must never know the network.
 */
import { readFileSync } from 'node:fs';
import { HOST_CHARACTERS_MAX, HOST_HEADER_PATTERN, type TargetSpec } from '../base/endpoint.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import {
  areHeadersBounded,
  BODY_BYTES_MAX,
  DEFAULT_REQUEST_OPTIONS,
  HEADER_CHARACTERS_MAX,
  HEADERS_MAX,
  type HeaderField,
  type RequestOptions,
  SUBPROTOCOLS_MAX,
} from '../base/request-options.ts';
import { flagAway, flagWith, formatCount } from '../base/units.ts';
import type { SharedSpec } from '../run/run-spec.ts';
import { type FlagValues, flagValue, flagValues } from './flags/flags.ts';
import { header } from './flags/request-types.ts';

/** A file of header fields with comments is larger than what is sent of it. */
const HEADER_FILE_BYTES_MAX = 65_536;

/** What requests say beyond path and host. */
interface RequestAsked {
  /** null: a plain GET */
  readonly request: RequestOptions | null;
  /** the value of `Host`; null: none was given */
  readonly hostHeader: string | null;
}

/**
 * Reads and checks what requests say.
 * @throws BenchError (exit code 2) for what cannot be sent, and for files that cannot be read
 */
export function readRequest(values: FlagValues): RequestAsked {
  const fields = readHeaders(values);
  const others = fields.filter(({ name }) => name.toLowerCase() !== 'host');
  const subprotocols = flagValues(values, 'ws-protocol');
  if (subprotocols.length > SUBPROTOCOLS_MAX) {
    const origin = values.origin('ws-protocol');
    const what = `${origin} is given ${subprotocols.length} times; at most ${SUBPROTOCOLS_MAX} are offered`;
    throw usageError(ErrorCode.usage, what, `give ${origin} for those that the server may know`);
  }
  const body = readBody(values);
  const method = readMethod(values, body !== null);
  const hostHeader = readHost(
    values,
    fields.filter(({ name }) => name.toLowerCase() === 'host'),
  );
  const isPlain = others.length === 0 && subprotocols.length === 0 && body === null && method === 'GET';
  return { request: isPlain ? null : { method, headers: others, body, subprotocols }, hostHeader };
}

function readHeaders(values: FlagValues): readonly HeaderField[] {
  const origin = values.origin('header');
  const fields = flagValues(values, 'header').flatMap((given) =>
    typeof given === 'string' ? headersOfFile(given, origin) : [given],
  );
  if (areHeadersBounded(fields)) return fields;
  throw usageError(
    ErrorCode.usage,
    `${origin}: ${fields.length} header fields, or their length, are too much: at most ${HEADERS_MAX} with ${formatCount(HEADER_CHARACTERS_MAX)} characters are sent`,
    'give fewer or shorter ones: servers refuse long requests',
  );
}

function headersOfFile(path: string, origin: string): HeaderField[] {
  const text = readWhole(path, `${origin} @${path}`, HEADER_FILE_BYTES_MAX).toString('utf8');
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'));
  return lines.flatMap((line) => {
    const field = header.parse(line.startsWith('@') ? ` ${line}` : line, `${origin} @${path}`);
    return typeof field === 'string' ? [] : [field];
  });
}

/** A file as it is. @throws BenchError (exit code 2) naming it as `what` */
export function readWhole(path: string, what: string, bytesMax: number): Buffer {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    throw usageError(
      ErrorCode.usage,
      `${what} cannot be read (${code})`,
      'give a file that this user can read',
    );
  }
  if (bytes.length <= bytesMax) return bytes;
  throw usageError(
    ErrorCode.usage,
    `${what} has ${formatCount(bytes.length)} bytes, more than ${formatCount(bytesMax)}`,
    'give a smaller file',
  );
}

function readHost(values: FlagValues, hosts: readonly HeaderField[]): string | null {
  const [host] = hosts;
  const given = flagValue(values, 'host-header');
  if (host === undefined) return given;
  const origin = values.origin('header');
  if (hosts.length > 1 || given !== null) {
    const other = given === null ? origin : values.origin('host-header');
    throw usageError(
      ErrorCode.usage,
      `Host is given twice, by ${origin} and ${other}`,
      `${flagAway(other)} once`,
    );
  }
  if (host.value.length <= HOST_CHARACTERS_MAX + 6 && HOST_HEADER_PATTERN.test(host.value)) return host.value;
  throw usageError(
    ErrorCode.usage,
    `${origin}: "${host.value}" is not a host with or without a port`,
    `type ${flagWith(origin, "'Host: www.example.com'")}`,
  );
}

/** Base64; null: no body. */
function readBody(values: FlagValues): string | null {
  const given = flagValue(values, 'body');
  if (given === null) return null;
  if (!given.startsWith('@')) return Buffer.from(given).toString('base64');
  return readWhole(given.slice(1), `${values.origin('body')} ${given}`, BODY_BYTES_MAX).toString('base64');
}

function readMethod(values: FlagValues, hasBody: boolean): RequestOptions['method'] {
  const given = flagValue(values, 'method');
  if (given === 'HEAD' && hasBody) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('method')} HEAD has no body, and ${values.origin('body')} gives one`,
      `type ${flagWith(values.origin('method'), 'POST')}`,
    );
  }
  return given ?? (hasBody ? 'POST' : DEFAULT_REQUEST_OPTIONS.method);
}

/**
 * What is said before any protocol; the built-in target reads none.
 * @throws BenchError (exit code 2) for clients without a header, and for the built-in target
 */
export function readProxyHeader(
  values: FlagValues,
  targets: readonly TargetSpec[],
): Pick<SharedSpec, 'proxyHeader'> {
  const version = flagValue(values, 'proxy-protocol');
  const clients = flagValue(values, 'proxy-source');
  if (version === null) {
    if (clients === null) return {};
    throw usageError(
      ErrorCode.usage,
      `${values.origin('proxy-source')} says what is in a PROXY header, and none is sent`,
      'add --proxy-protocol v2',
    );
  }
  if (targets.some(({ self }) => self)) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('proxy-protocol')} needs a target that reads the header, and the built-in one does not`,
      'name a proxy, such as HAProxy with accept-proxy: --target 10.0.0.1:8000',
    );
  }
  return { proxyHeader: { version, clients } };
}
