/**
 * Owns the flags that only some protocols take: banner, message, status, host, TLS. Flags in, ProtocolOptions out.
 * Must never connect; the one file that it reads is the CA.
 */
import { readFileSync } from 'node:fs';
import { isAddress } from '../base/address.ts';
import {
  BANNER_BYTES_MAX,
  CA_CHARACTERS_MAX,
  canProbe,
  HOST_CHARACTERS_MAX,
  HOST_HEADER_PATTERN,
  hasPath,
  isTls,
  MESSAGE_BYTES_MAX,
  type ProtocolName,
  type ProtocolOptions,
  SERVERNAME_PATTERN,
  type TargetSpec,
  type TlsOptions,
} from '../base/endpoint.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import { flagAway, flagWith, formatCount } from '../base/units.ts';
import { readNumber } from './bounds.ts';
import type { FlagValues } from './flags/flag-values.ts';

/** Which protocols take a flag, and how to say so. */
const TAKEN_BY: readonly (readonly [flag: string, takes: (name: ProtocolName) => boolean, words: string])[] =
  [
    ['expect-banner', (name) => name === 'tcp' || name === 'tls', 'tcp:// and tls://'],
    ['ws-message', (name) => name === 'ws' || name === 'wss', 'ws:// and wss://'],
    ['http-status', (name) => name === 'http' || name === 'https', 'http:// and https://'],
    ['host-header', hasPath, 'ws://, wss://, http:// and https://'],
    ['tls-servername', isTls, 'tls://, wss:// and https://'],
    ['tls-ca', isTls, 'tls://, wss:// and https://'],
    ['insecure', isTls, 'tls://, wss:// and https://'],
  ];

function isGiven(values: FlagValues, flag: string): boolean {
  return flag === 'insecure' ? values.on(flag) : values.one(flag) !== null;
}

/**
 * What the protocol of a run was given; null: it needs nothing beyond its endpoints.
 * @param targets all of one protocol
 * @throws BenchError (exit code 2) for a flag that does not go with the protocol, or a value that cannot be
 */
export function readProtocolOptions(
  values: FlagValues,
  targets: readonly TargetSpec[],
  protocol: ProtocolName,
): ProtocolOptions | null {
  for (const [flag, takes, words] of TAKEN_BY) {
    if (!isGiven(values, flag) || takes(protocol)) continue;
    throw usageError(
      ErrorCode.usage,
      `${values.origin(flag)} goes with ${words} only, not with ${protocol}://`,
      `${flagAway(values.origin(flag))}, or give --target another scheme`,
    );
  }
  const banner = readBanner(values);
  if (!hasPath(protocol) && !isTls(protocol) && banner === null) return null;
  return {
    path: commonPath(targets) ?? '/',
    host: commonName(targets),
    hostHeader: readHostHeader(values),
    banner,
    message: readText(values, 'ws-message', MESSAGE_BYTES_MAX),
    httpStatus: readStatus(values),
    tls: readTls(values),
  };
}

function commonPath(targets: readonly TargetSpec[]): string | null {
  const paths = [...new Set(targets.map((target) => target.path))];
  if (paths.length > 1) {
    throw usageError(
      ErrorCode.badEndpoint,
      `one run asks for one path, not for ${paths.join(' and ')}`,
      'give every --target the same path, or start two runs',
    );
  }
  return paths[0] ?? null;
}

/** The name that all targets have in common; null for addresses and for several names. */
function commonName(targets: readonly TargetSpec[]): string | null {
  const hosts = [...new Set(targets.map((target) => target.host))];
  const [host = ''] = hosts;
  return hosts.length === 1 && host !== '' && !isAddress(host) ? host : null;
}

function readText(values: FlagValues, flag: string, bytesMax: number): string | null {
  const text = values.one(flag);
  if (text === null) return null;
  if (text === '' || Buffer.byteLength(text) > bytesMax) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin(flag)} must have 1 to ${formatCount(bytesMax)} bytes`,
      `give ${values.origin(flag)} a shorter text`,
    );
  }
  return text;
}

/** The expected text; empty for `any`. */
function readBanner(values: FlagValues): string | null {
  const text = readText(values, 'expect-banner', BANNER_BYTES_MAX);
  return text === 'any' ? '' : text;
}

function readHostHeader(values: FlagValues): string | null {
  const text = values.one('host-header');
  if (text === null || (text.length <= HOST_CHARACTERS_MAX + 6 && HOST_HEADER_PATTERN.test(text)))
    return text;
  throw usageError(
    ErrorCode.usage,
    `${values.origin('host-header')} ${text} is not a host with or without a port`,
    `type ${flagWith(values.origin('host-header'), 'www.example.com')}`,
  );
}

function readStatus(values: FlagValues): number | null {
  return readNumber(values, 'http-status');
}

function readTls(values: FlagValues): TlsOptions {
  const servername = values.one('tls-servername');
  if (
    servername !== null &&
    (servername.length > HOST_CHARACTERS_MAX || !SERVERNAME_PATTERN.test(servername))
  ) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('tls-servername')} ${servername} is not a host name`,
      'a name, not an address: addresses are not sent by SNI',
    );
  }
  return { servername, ca: readCa(values), isVerified: !values.on('insecure') };
}

function readCa(values: FlagValues): string | null {
  const path = values.one('tls-ca');
  if (path === null) return null;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    throw usageError(
      ErrorCode.usage,
      `${values.origin('tls-ca')} ${path} cannot be read (${code})`,
      'give a file with certificates in PEM form',
    );
  }
  if (!text.includes('-----BEGIN CERTIFICATE-----') || text.length > CA_CHARACTERS_MAX) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('tls-ca')} ${path} holds no certificates in PEM form, or more than 1 MiB`,
      'openssl x509 -in ca.der -inform der -out ca.pem turns the other form into it',
    );
  }
  return text;
}

/** Why a protocol cannot be asked again and again; null: it can. */
export function whyNoProbes(protocol: ProtocolName): string | null {
  if (canProbe(protocol)) return null;
  if (protocol === 'tcp' || protocol === 'tls') return `${protocol}:// is a silent hold`;
  return `${protocol}:// answers once`;
}
