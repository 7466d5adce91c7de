/**
 * Owns the client certificates that `--tls-cert` and `--tls-key` name: read, and judged before anything connects. Must never
 * put anything of a key into a message.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { CertificatePair } from '../base/endpoint.ts';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';
import {
  arePairsBounded,
  PAIRS_CHARACTERS_MAX,
  PAIRS_MAX,
  PEM_CHARACTERS_MAX,
} from '../base/session-options.ts';
import { flagWith, formatCount } from '../base/units.ts';
import { type FlagValues, flagValue } from './flags/flags.ts';

const CERTIFICATE = '-----BEGIN CERTIFICATE-----';
const KEY = /-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----/;
const ENCRYPTED = /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m;
const CERTIFICATE_FILE = /\.(?:crt|cert|pem)$/i;
const KEY_FILE = /\.key$/i;

/**
 * The pairs in the order in which connections are dealt them; empty: none was asked for.
 * @throws BenchError (exit code 2) for what is no pair, or cannot be read
 */
export function readCertificatePairs(values: FlagValues): readonly CertificatePair[] {
  const certificate = flagValue(values, 'tls-cert');
  const key = flagValue(values, 'tls-key');
  const origin = values.origin('tls-cert');
  if (certificate === null) {
    if (key === null) return [];
    throw usageError(
      ErrorCode.usage,
      `${values.origin('tls-key')} without a certificate that it belongs to`,
      `add ${flagWith(origin, 'FILE')}`,
    );
  }
  if (!isFolder(certificate))
    return [
      pairOf(`${origin} ${certificate}`, certificate, key ?? certificate, keyName(values, key, certificate)),
    ];
  if (key !== null && key !== certificate) {
    throw usageError(
      ErrorCode.usage,
      `${origin} ${certificate} is a folder of pairs, and ${values.origin('tls-key')} names another key`,
      `leave ${values.origin('tls-key')} away: the key of NAME.crt is NAME.key there`,
    );
  }
  return pairsOfFolder(certificate, origin);
}

function keyName(values: FlagValues, key: string | null, certificate: string): string {
  return key === null ? `${values.origin('tls-cert')} ${certificate}` : `${values.origin('tls-key')} ${key}`;
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** The name of a certificate's file without its ending, which its key shares. */
function bare(name: string): string {
  return name.replace(CERTIFICATE_FILE, '');
}

/** `NAME.crt`, `.cert` or `.pem` with `NAME.key` each, in the order of their names by code unit; other files are left alone. */
function pairsOfFolder(folder: string, origin: string): readonly CertificatePair[] {
  const what = `${origin} ${folder}`;
  const files = namesIn(folder, what);
  const keys = new Set(files.filter((name) => KEY_FILE.test(name)).map((name) => name.replace(KEY_FILE, '')));
  const certificates = files.filter((name) => CERTIFICATE_FILE.test(name));
  const names = certificates.map(bare);
  const lonely = [
    ...certificates.filter((name) => !keys.has(bare(name))).map((name) => `${name} has no key`),
    ...[...keys].filter((name) => !names.includes(name)).map((name) => `${name}.key has no certificate`),
    ...names
      .filter((name, index) => names.indexOf(name) !== index)
      .map((name) => `${name} has two certificates`),
  ];
  if (lonely.length > 0 || names.length === 0 || names.length > PAIRS_MAX) {
    const wrong =
      names.length > PAIRS_MAX
        ? `${formatCount(names.length)} pairs are more than ${formatCount(PAIRS_MAX)}`
        : 'there is no pair in it';
    throw usageError(
      ErrorCode.usage,
      `${what}: ${lonely[0] ?? wrong}`,
      'each pair is NAME.crt (or .cert, .pem) and NAME.key; nothing else with these endings may be there',
    );
  }
  const pairs = certificates.map((name) => {
    const [path, key] = [join(folder, name), join(folder, `${bare(name)}.key`)];
    return pairOf(`${origin} ${path}`, path, key, `${origin} ${key}`);
  });
  if (arePairsBounded(pairs)) return pairs;
  throw usageError(
    ErrorCode.usage,
    `${what}: the pairs have more than ${formatCount(PAIRS_CHARACTERS_MAX)} characters together`,
    'give fewer pairs, or keys of an elliptic curve, which are shorter',
  );
}

function namesIn(folder: string, what: string): string[] {
  try {
    return readdirSync(folder).toSorted((a, b) => (a < b ? -1 : 1));
  } catch (error) {
    throw unreadable(what, error);
  }
}

function unreadable(what: string, error: unknown): BenchError {
  const code = (error as NodeJS.ErrnoException).code ?? 'error';
  return usageError(
    ErrorCode.usage,
    `${what} cannot be read (${code})`,
    'give a file in PEM form that this user can read',
  );
}

function textOf(path: string, what: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw unreadable(what, error);
  }
  if (text.length <= PEM_CHARACTERS_MAX) return text;
  const most = formatCount(PEM_CHARACTERS_MAX);
  throw usageError(
    ErrorCode.usage,
    `${what} has more than ${most} characters`,
    'give one certificate with its chain, and one key',
  );
}

/** @param certName what to call the file of the certificate in a message; `keyName` alike */
function pairOf(certName: string, certPath: string, keyPath: string, keyName: string): CertificatePair {
  const cert = textOf(certPath, certName);
  const certificate = certificateIn(cert, certName);
  const key = keyPath === certPath ? cert : textOf(keyPath, keyName);
  if (certificate.checkPrivateKey(keyIn(key, keyName))) return { cert, key };
  throw usageError(
    ErrorCode.usage,
    `${keyName}: this key does not belong to the certificate of ${certName}`,
    `compare openssl x509 -noout -pubkey -in ${certPath} with openssl pkey -pubout -in ${keyPath}`,
  );
}

function certificateIn(text: string, what: string): X509Certificate {
  if (!text.includes(CERTIFICATE)) {
    throw KEY.test(text)
      ? usageError(
          ErrorCode.usage,
          `${what} holds a key in place of a certificate`,
          'give the certificate to --tls-cert and the key to --tls-key',
        )
      : usageError(
          ErrorCode.usage,
          `${what} holds no certificate in PEM form`,
          'openssl x509 -in client.der -inform der -out client.crt turns the other form into it',
        );
  }
  try {
    // The first of a chain is the client's own.
    return new X509Certificate(text);
  } catch {
    throw usageError(
      ErrorCode.usage,
      `${what}: its certificate cannot be understood`,
      'see what openssl x509 -noout -text -in FILE says of it',
    );
  }
}

function keyIn(text: string, what: string): KeyObject {
  if (ENCRYPTED.test(text)) {
    throw usageError(
      ErrorCode.usage,
      `${what}: the key is encrypted, and no passphrase can be given`,
      'openssl pkey -in FILE -out FILE.key writes it without one: keep that file from others',
    );
  }
  if (!KEY.test(text)) {
    throw text.includes(CERTIFICATE)
      ? usageError(
          ErrorCode.usage,
          `${what} holds a certificate and no key`,
          'give the key of the certificate to --tls-key',
        )
      : usageError(
          ErrorCode.usage,
          `${what} holds no private key in PEM form`,
          'openssl pkey -in client.der -inform der -out client.key turns the other form into it',
        );
  }
  try {
    return createPrivateKey(text);
  } catch {
    throw usageError(
      ErrorCode.usage,
      `${what}: its key cannot be understood`,
      'see what openssl pkey -noout -in FILE says of it',
    );
  }
}
