/**
 * Owns what a protocol says about a connection that it gave up, beyond the reason: counts by detail, and the line for
 * a person with the next thing to type. Must never replace a reason: `failed` and `dropped` stay complete without it.
 *
 * A detail is a short text that begins with its layer: `tls CERT_HAS_EXPIRED`, `http status 503`, `ws close 1001`.
 */
import { addBounded } from '../base/outcome.ts';
import { formatCount } from '../base/units.ts';

/** Details that one process distinguishes; what goes beyond is counted under `OTHER_PROTOCOL_ERROR`. */
const PROTOCOL_ERRORS_MAX = 64;

/** The key of what no longer has a key of its own. */
export const OTHER_PROTOCOL_ERROR = 'other';

/** Details of the answers that `--expect` waits for before a connection is open. */
export const ANSWER_DIFFERS = 'answer differs from --expect';
export const NO_ANSWER = 'nothing was said that --expect waits for';

/** The longest detail; what is longer is cut. */
export const PROTOCOL_ERROR_CHARACTERS_MAX = 128;

/** Connections by detail; cumulative. */
export type ProtocolErrors = Readonly<Record<string, number>>;

/** Details that a run tells apart, however many agents add theirs. */
const PROTOCOL_ERRORS_OF_RUN_MAX = 256;

/** The sum of two parts of a run; it has a bound, because what is in it comes from elsewhere. */
export function addProtocolErrors(a: ProtocolErrors, b: ProtocolErrors): ProtocolErrors {
  return addBounded(a, b, PROTOCOL_ERRORS_OF_RUN_MAX, OTHER_PROTOCOL_ERROR);
}

/** What OpenSSL's and Node's codes mean, and what helps. */
const TLS_ERRORS: ReadonlyMap<string, readonly [what: string, fix: string]> = new Map(
  Object.entries<readonly [what: string, fix: string]>({
    CERT_HAS_EXPIRED: ['certificate has expired', 'pass --insecure, or renew it'],
    CERT_NOT_YET_VALID: [
      'certificate is not valid yet',
      'check the clocks of both hosts, or pass --insecure',
    ],
    ERR_TLS_CERT_ALTNAME_INVALID: [
      'certificate is for another name',
      'pass --tls-servername with a name that it carries, or --insecure',
    ],
    DEPTH_ZERO_SELF_SIGNED_CERT: [
      'certificate is self-signed',
      'pass --tls-ca with that certificate, or --insecure',
    ],
    SELF_SIGNED_CERT_IN_CHAIN: [
      'certificate comes from a CA that is not trusted here',
      'pass --tls-ca with the certificate of that CA, or --insecure',
    ],
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: [
      'certificate comes from a CA that is not trusted here',
      'pass --tls-ca with the certificate of that CA, or --insecure',
    ],
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: [
      'certificate comes from a CA that is not trusted here',
      'pass --tls-ca with the certificate of that CA, or --insecure',
    ],
    UNABLE_TO_GET_ISSUER_CERT: [
      'the chain of certificates is not complete',
      'pass --tls-ca with the CA, or have the target send its whole chain',
    ],
    CERT_SIGNATURE_FAILURE: [
      'certificate is not signed by the CA that is trusted here',
      'pass --tls-ca with the right CA, or --insecure',
    ],
    CERT_REVOKED: ['certificate was revoked', 'renew it'],
    HOSTNAME_MISMATCH: [
      'certificate is for another name',
      'pass --tls-servername with a name that it carries',
    ],
    ERR_SSL_WRONG_VERSION_NUMBER: [
      'the target does not speak TLS on this port',
      'use tcp://, ws:// or http://',
    ],
    ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: [
      'the target wants a client certificate',
      'pass --tls-cert and --tls-key with one of a CA that it trusts',
    ],
    ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: [
      'the target wants a client certificate, or does not take ours',
      'pass --tls-cert and --tls-key with one of a CA that it trusts',
    ],
    ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: [
      'the target found no cipher, version or name in common, or wants a client certificate',
      'see its log and its TLS configuration; --tls-cert gives a certificate',
    ],
    ERR_SSL_TLSV1_UNRECOGNIZED_NAME: [
      'the target knows no server of that name',
      'pass --tls-servername with a name that it serves',
    ],
    ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: [
      'the target speaks other versions of TLS',
      'see which ones it allows (ssl_protocols, ssl-min-ver)',
    ],
    ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: [
      'the target wants a protocol by ALPN, such as h2 alone',
      'let it offer http/1.1 too, or offer what it takes with --alpn',
    ],
    ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: [
      'the target does not know the CA of our certificate',
      'pass --tls-cert and --tls-key with one of a CA that it trusts',
    ],
    ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: [
      'the target says that our certificate has expired',
      'pass --tls-cert with one that is valid now, and compare the clocks of both hosts',
    ],
    ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED: [
      'the target says that our certificate was revoked',
      'pass --tls-cert with another one',
    ],
    ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: [
      'the target does not take our certificate',
      'see its log: which client certificates it takes (--tls-cert)',
    ],
    ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: [
      'the target does not take a certificate of this kind from a client',
      'see its log: which purpose it asks for (extendedKeyUsage clientAuth)',
    ],
    ERR_SSL_TLSV1_ALERT_ACCESS_DENIED: ['the target denies access', 'see its log and its rules for clients'],
    ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR: ['the target says that it failed itself', 'see its log'],
    'the target closed during the handshake': [
      'the target closed during the TLS handshake, without saying why',
      'see whether it speaks TLS on this port: tcp://, ws:// and http:// are without',
    ],
    ERR_SSL_PACKET_LENGTH_TOO_LONG: [
      'the target does not speak TLS on this port',
      'use tcp://, ws:// or http://',
    ],
  }),
);

/** A line for a person: how many, what, and what helps where that is known. */
function protocolErrorNote(detail: string, count: number): string {
  const number = formatCount(count);
  if (!detail.startsWith('tls ')) return `${number} x ${detail}${hintOf(detail)}`;
  const code = detail.slice('tls '.length);
  const known = TLS_ERRORS.get(code);
  if (known === undefined) return `${number} tls: ${code}`;
  return `${number} tls: ${known[0]}${code.includes(' ') ? '' : ` (${code})`}; ${known[1]}`;
}

function hintOf(detail: string): string {
  const status = /^(?:ws|http) status (\d{3})$/.exec(detail)?.[1];
  if (status === '404') return '; check the path of --target';
  if (status === '421') return '; check --host-header';
  if (status === '400') return '; the target does not take the request: its own words say why';
  if (status === '426') return '; the target wants an upgrade: ws://';
  if (status === '405')
    return '; the target does not take that method there: check --method and the path of --target';
  if (status === '502' || status === '504') return '; a proxy got no answer from the server behind it';
  if (status === '401' || status === '403')
    return '; the target asks for a permission that we do not have: --header gives one';
  if (status === '429') return '; the target limits how many requests it takes';
  if (status === '503') return '; the target says that it is overloaded, or has no server behind it';
  if (detail.startsWith('http status 3') || detail.startsWith('ws status 3'))
    return '; the target sends clients elsewhere: aim --target there';
  if (detail === 'ws no subprotocol of those offered was chosen')
    return '; check --ws-protocol against what the server takes';
  if (detail === 'ws a subprotocol that was not offered') return '; offer it with --ws-protocol';
  if (detail.startsWith('mqtt ')) return mqttHintOf(detail);
  if (detail.startsWith('http keep-alive')) return '; raise the number of requests per connection there';
  return '';
}

/** What helps with a reason that a broker gives; the codes are those of 3.1.1 and of 5. */
function mqttHintOf(detail: string): string {
  const [, packet, code] = /^mqtt (CONNACK|SUBACK|DISCONNECT) (\d+):/.exec(detail) ?? [];
  switch (packet === 'SUBACK' ? 'SUBACK' : code) {
    case 'SUBACK':
      return '; check --mqtt-subscribe against what the broker lets this user read';
    case '1':
    case '132':
      return '; the broker speaks another version: check --mqtt-version';
    case '2':
    case '133':
      return '; the broker does not take the client id, or not such a keep alive: check --mqtt-client-id and --mqtt-keep-alive';
    case '4':
    case '5':
    case '134':
    case '135':
      return '; check --mqtt-user and --mqtt-password, and what the broker allows this user';
    case '142':
      return '; give --mqtt-client-id a name that no other client has';
    default:
      return '';
  }
}

/** One line for each detail, the most frequent first. */
export function protocolErrorNotes(errors: ProtocolErrors): string[] {
  return Object.entries(errors)
    .sort(([, a], [, b]) => b - a)
    .map(([detail, count]) => protocolErrorNote(detail, count));
}

/** Counts by detail, in one process. */
export class ProtocolErrorTally {
  readonly #counts = new Map<string, number>();

  add(detail: string): void {
    const own = detail.slice(0, PROTOCOL_ERROR_CHARACTERS_MAX);
    const key = this.#counts.has(own) || this.#counts.size < PROTOCOL_ERRORS_MAX ? own : OTHER_PROTOCOL_ERROR;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  get isEmpty(): boolean {
    return this.#counts.size === 0;
  }

  counts(): ProtocolErrors {
    return Object.fromEntries(this.#counts);
  }
}
