/**
 * Owns what a run was asked for: flags as typed in, a checked request and its RunSpec out; what only some protocols take
 * is checked against the protocol. Must never touch the host or the network but to resolve names; the one file that it
 * reads is the CA.
 */

import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { expandAddresses, isAddress } from '../base/address.ts';
import {
  CA_CHARACTERS_MAX,
  canProbe,
  ENDPOINTS_MAX,
  type Endpoint,
  endpointsOf,
  formatEndpoint,
  hasPath,
  isMqtt,
  isTls,
  type ProtocolName,
  type ProtocolOptions,
  type TargetSpec,
  type TlsOptions,
  zoneProblem,
} from '../base/endpoint.ts';
import { BenchError, ErrorCode, ExitCode, usageError } from '../base/errors.ts';
import { keepAliveProbeMs } from '../base/session-options.ts';
import type { TrafficOptions } from '../base/traffic-options.ts';
import { flagAway, formatCount } from '../base/units.ts';
import { freeName } from '../plan/alias-command.ts';
import { PREFIXES_MAX, parseSourcePrefix, prefixText } from '../run/alias.ts';
import { IMMEDIATE } from '../run/reopen-policy.ts';
import type { RunSpec } from '../run/run-spec.ts';
import { readCertificatePairs } from './client-certificates.ts';
import { type FlagValues, flagValue, flagValues } from './flags/flags.ts';
import { readLoad } from './load-request.ts';
import { readProxyHeader, readRequest } from './protocol-request.ts';
import { readMqtt } from './session-request.ts';
import { readTraffic } from './traffic-request.ts';

/** How often a connection proves itself, unless the user says otherwise. */
const PROBE_EVERY_MS = 10_000;

/** Everything of a run but the endpoints, whose names are not resolved yet. */
export interface RunRequest {
  readonly targets: readonly TargetSpec[];
  readonly spec: Omit<RunSpec, 'endpoints'>;
  /** `--tls-ca` as typed; the spec carries what is in it */
  readonly caPath: string | null;
}

/**
 * Reads and checks the flags of `run` and `plan`.
 * @param values the flags
 * @throws BenchError (exit code 2) on anything that cannot be
 */
export function readRunRequest(values: FlagValues): RunRequest {
  const targets = readTargets(values);
  const protocol = readProtocol(values, commonProtocol(targets));
  const protocolOptions = readProtocolOptions(values, targets, protocol);
  return {
    targets,
    caPath: flagValue(values, 'tls-ca'),
    spec: {
      protocol,
      ...(protocolOptions === null ? {} : { protocolOptions }),
      ...readProxyHeader(values, targets),
      ...readLoad(values),
      ...readProof(values, protocol, protocolOptions?.traffic),
      sources: readSources(values),
      holders: flagValue(values, 'holders'),
      ...engineOf(values),
      ...readReopening(values),
      ...readBackend(values, protocol),
      // Their times and places are in each of these.
      wantsLossDetails: ['events', 'html', 'json', 'live'].some((name) => values.one(name) !== null),
    },
  };
}

/** Where the name of a connection's back end stands. */
function readBackend(values: FlagValues, protocol: ProtocolName): Pick<RunSpec, 'backendFrom'> {
  const backendFrom = flagValue(values, 'backend-from');
  if (backendFrom === null) return {};
  const isHeader = backendFrom.startsWith('header:');
  if (protocol === 'whoami' || (isHeader && !hasPath(protocol))) {
    const what = isHeader ? 'has no headers' : 'says whom it sees, and nothing else';
    throw usageError(
      ErrorCode.usage,
      `${values.origin('backend-from')} ${backendFrom}: a ${protocol}:// target ${what}`,
      isHeader ? 'give a /regex/ with one group, or use http:// or ws://' : 'use --target tcp:// or http://',
    );
  }
  return { backendFrom };
}

/** What becomes of a lost connection, and when. */
function readReopening(values: FlagValues): Pick<RunSpec, 'onDrop' | 'reopen'> {
  const onDrop = flagValue(values, 'on-drop');
  const after = flagValue(values, 'reopen-after');
  const jitter = flagValue(values, 'reopen-jitter');
  const given = after !== null ? 'reopen-after' : jitter !== null ? 'reopen-jitter' : null;
  if (given === null) return { onDrop };
  if (onDrop !== 'reopen') {
    throw usageError(
      ErrorCode.usage,
      `${values.origin(given)} says when lost connections are opened again, and they are only counted`,
      'add --on-drop reopen',
    );
  }
  return { onDrop, reopen: { ...(after ?? IMMEDIATE), jitter: jitter ?? 0 } };
}

/** What was said of the engine of this host. */
export function engineOf(values: FlagValues): Pick<RunSpec, 'engine'> {
  const engine = flagValue(values, 'engine');
  return engine === null ? {} : { engine };
}

function readTargets(values: FlagValues): readonly TargetSpec[] {
  const targets = flagValues(values, 'target');
  if (targets.length === 0) {
    throw usageError(
      ErrorCode.usage,
      'what to connect to? --target is missing',
      'add --target host:8000, or --target self for the built-in target',
    );
  }
  if (targets.length > 1 && targets.some((target) => target.self)) {
    throw usageError(
      ErrorCode.badEndpoint,
      '--target self goes with no other target',
      'give --target self alone, or start one with c100k-bench serve',
    );
  }
  return targets;
}

function commonProtocol(targets: readonly TargetSpec[]): ProtocolName {
  const protocols = [...new Set(targets.map((target) => target.protocol))];
  if (protocols.length > 1) {
    throw usageError(
      ErrorCode.badEndpoint,
      `one run speaks one protocol, not ${protocols.join(' and ')}`,
      'give every --target the same scheme, or start two runs',
    );
  }
  return protocols[0] ?? 'tcp';
}

/** `--probe` says what a tcp:// target answers with. */
function readProtocol(values: FlagValues, named: ProtocolName): ProtocolName {
  const probe = flagValue(values, 'probe');
  if (probe === null || probe === named) return named;
  if (named !== 'tcp') {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('probe')} ${probe} does not go with ${named}://`,
      `${flagAway(values.origin('probe'))}, or write the target without ${named}://`,
    );
  }
  return probe;
}

function readProof(
  values: FlagValues,
  protocol: ProtocolName,
  traffic: TrafficOptions | undefined,
): Pick<RunSpec, 'probeEveryMs' | 'probeTimeoutMs'> {
  const every = flagValue(values, 'probe-every');
  if (traffic?.send != null) {
    // A message that is answered is a probe.
    const isAnswered = canProbe(protocol) || traffic.expect !== null;
    return {
      probeEveryMs: isAnswered ? traffic.send.everyMs : null,
      probeTimeoutMs: flagValue(values, 'probe-timeout'),
    };
  }
  const why = whyNoProbes(protocol);
  if (every !== null && why !== null) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('probe-every')} needs a target that answers, and ${why}`,
      'use --target echo://host:port when the target sends back what it gets, or ws:// or http:// when it speaks these',
    );
  }
  const everyMs = Math.min(every ?? PROBE_EVERY_MS, keepAliveMs(values, protocol));
  return {
    probeEveryMs: why === null ? everyMs : null,
    probeTimeoutMs: flagValue(values, 'probe-timeout'),
  };
}

const TLS_WORDS = 'tls://, wss://, https:// and mqtts://';
const MQTT_WORDS = 'mqtt:// and mqtts://';

/** Whether what is said and answered is up to the user. */
function isTalked(name: ProtocolName): boolean {
  return name === 'tcp' || name === 'tls' || name === 'ws' || name === 'wss';
}

/** Which protocols take a flag, and how to say so. */
const TAKEN_BY: readonly (readonly [flag: string, takes: (name: ProtocolName) => boolean, words: string])[] =
  [
    ['first-message', isTalked, 'tcp://, tls://, ws:// and wss://'],
    ['expect', isTalked, 'tcp://, tls://, ws:// and wss://'],
    ['answer', isTalked, 'tcp://, tls://, ws:// and wss://'],
    ['send', (name) => isTalked(name) || name === 'echo', 'tcp://, tls://, echo://, ws:// and wss://'],
    ['send-every', (name) => isTalked(name) || name === 'echo', 'tcp://, tls://, echo://, ws:// and wss://'],
    ['expect-banner', (name) => name === 'tcp' || name === 'tls', 'tcp:// and tls://'],
    ['ws-message', (name) => name === 'ws' || name === 'wss', 'ws:// and wss://'],
    ['http-status', (name) => name === 'http' || name === 'https', 'http:// and https://'],
    ['host-header', hasPath, 'ws://, wss://, http:// and https://'],
    ['header', hasPath, 'ws://, wss://, http:// and https://'],
    ['ws-protocol', (name) => name === 'ws' || name === 'wss', 'ws:// and wss://'],
    ['method', (name) => name === 'http' || name === 'https', 'http:// and https://'],
    ['body', (name) => name === 'http' || name === 'https', 'http:// and https://'],
    ['tls-servername', isTls, TLS_WORDS],
    ['tls-ca', isTls, TLS_WORDS],
    ['insecure', isTls, TLS_WORDS],
    ['tls-cert', isTls, TLS_WORDS],
    ['tls-key', isTls, TLS_WORDS],
    ['alpn', isTls, TLS_WORDS],
    ['tls-resume', isTls, TLS_WORDS],
    ['mqtt-version', isMqtt, MQTT_WORDS],
    ['mqtt-client-id', isMqtt, MQTT_WORDS],
    ['mqtt-user', isMqtt, MQTT_WORDS],
    ['mqtt-password', isMqtt, MQTT_WORDS],
    ['mqtt-keep-alive', isMqtt, MQTT_WORDS],
    ['mqtt-subscribe', isMqtt, MQTT_WORDS],
  ];

/** A session of MQTT lives from its probes, however rarely they are asked for. */
function keepAliveMs(values: FlagValues, protocol: ProtocolName): number {
  const keepAlive = isMqtt(protocol) ? flagValue(values, 'mqtt-keep-alive') : 0;
  return keepAlive === 0 ? Number.POSITIVE_INFINITY : keepAliveProbeMs(keepAlive / 1_000);
}

function isGiven(values: FlagValues, flag: string): boolean {
  if (flag === 'header' || flag === 'ws-protocol' || flag === 'answer') return values.list(flag).length > 0;
  if (flag === 'insecure' || flag === 'tls-resume') return values.on(flag);
  return values.one(flag) !== null && values.isGiven(flag);
}

/**
 * What the protocol of a run was given; null: it needs nothing beyond its endpoints.
 * @param targets all of one protocol
 * @throws BenchError (exit code 2) for a flag that does not go with the protocol, or a value that cannot be
 */
function readProtocolOptions(
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
  const traffic = readTraffic(values);
  const isBare = !hasPath(protocol) && !isTls(protocol) && !isMqtt(protocol);
  if (isBare && banner === null && traffic === null) return null;
  const { request, hostHeader } = readRequest(values);
  return {
    path: commonPath(targets) ?? '/',
    host: commonName(targets),
    hostHeader,
    banner,
    message: flagValue(values, 'ws-message'),
    httpStatus: flagValue(values, 'http-status'),
    tls: readTls(values),
    ...(request === null ? {} : { request }),
    ...(isMqtt(protocol) ? { mqtt: readMqtt(values) } : {}),
    ...(traffic === null ? {} : { traffic }),
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

/** The expected text; empty for `any`. */
function readBanner(values: FlagValues): string | null {
  const text = flagValue(values, 'expect-banner');
  return text === 'any' ? '' : text;
}

function readTls(values: FlagValues): TlsOptions {
  const pairs = readCertificatePairs(values);
  const alpn = flagValue(values, 'alpn');
  return {
    servername: flagValue(values, 'tls-servername'),
    ca: readCa(values),
    isVerified: !values.on('insecure'),
    ...(pairs.length === 0 ? {} : { pairs }),
    ...(alpn === null ? {} : { alpn }),
    ...(values.on('tls-resume') ? { resumes: true } : {}),
  };
}

function readCa(values: FlagValues): string | null {
  const path = flagValue(values, 'tls-ca');
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
function whyNoProbes(protocol: ProtocolName): string | null {
  if (canProbe(protocol)) return null;
  if (protocol === 'tcp' || protocol === 'tls') return `${protocol}:// is a silent hold`;
  return `${protocol}:// answers once`;
}

/** The source addresses and ports of this host as typed. */
export function readSources(values: FlagValues): RunSpec['sources'] {
  const addresses = flagValues(values, 'source-ip');
  // Each agent expands them again on its own host; here a wrong one is found before anything starts.
  if (addresses.length > 0) expandAddresses(addresses);
  return {
    addresses,
    ports: flagValue(values, 'source-ports'),
    aliasDevice: readAliasDevice(values, addresses),
    aliasLeaseMs: Math.ceil(flagValue(values, 'alias-lease') / 1_000) * 1_000,
    prefixes: readPrefixes(values),
  };
}

function readAliasDevice(values: FlagValues, addresses: readonly string[]): string | null {
  const device = flagValue(values, 'alias-dev');
  if (device === null) return null;
  if (addresses.length === 0) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('alias-dev')} adds addresses, and --source-ip names none`,
      `type --source-ip ${freeName(1)} --alias-dev ${device}, with an address that no other host has for ${freeName(1)}`,
    );
  }
  return device;
}

function readPrefixes(values: FlagValues): readonly string[] {
  const texts = flagValues(values, 'source-prefix').flat();
  if (texts.length > PREFIXES_MAX) {
    throw usageError(
      ErrorCode.badAddress,
      `--source-prefix names ${texts.length} networks; at most ${PREFIXES_MAX} are possible`,
      'name fewer and larger networks',
    );
  }
  const seen = new Set<string>();
  for (const prefix of texts.map(parseSourcePrefix)) {
    const text = prefixText(prefix);
    if (seen.has(text)) {
      throw usageError(ErrorCode.badAddress, `--source-prefix names ${text} twice`, 'leave it out once');
    }
    seen.add(text);
  }
  return texts;
}

/** Endpoints, and what was learnt on the way to them, one line each. */
export interface ResolvedTargets {
  readonly endpoints: readonly Endpoint[];
  readonly lines: readonly string[];
}

/**
 * Resolves every name once. Each address and port becomes one endpoint; doubles count once.
 * @param targets none of them `self`
 * @throws BenchError (exit code 2) when a name does not resolve or the endpoints are too many
 */
export async function resolveTargets(targets: readonly TargetSpec[]): Promise<ResolvedTargets> {
  const endpoints = new Map<string, Endpoint>();
  const lines: string[] = [];
  for (const target of targets) {
    const addresses = await resolveHost(target.host);
    if (addresses.length > 1 || addresses[0] !== target.host) {
      lines.push(`${target.host} resolves to ${addresses.join(', ')}`);
    }
    for (const endpoint of endpointsOf(target, addresses)) endpoints.set(formatEndpoint(endpoint), endpoint);
  }
  const problem = zoneProblem([...endpoints.values()]);
  if (problem !== null) {
    throw usageError(ErrorCode.badEndpoint, problem, 'start one run for each link, with its --target alone');
  }
  if (endpoints.size > ENDPOINTS_MAX) {
    throw usageError(
      ErrorCode.badEndpoint,
      `${formatCount(endpoints.size)} endpoints; at most ${formatCount(ENDPOINTS_MAX)} are possible`,
      'name fewer ports',
    );
  }
  return { endpoints: [...endpoints.values()], lines };
}

/** The RunSpec of a request whose names are resolved. */
export function specOf(request: RunRequest, endpoints: readonly Endpoint[]): RunSpec {
  return { ...request.spec, endpoints };
}

/**
 * All addresses of a host, through the system's own resolver (hosts file, DNS, as the system is set up).
 * @param host a name, or an IPv4 or IPv6 literal with or without brackets
 * @returns IP literals in the resolver's order, each once; a literal returns itself
 * @throws BenchError `name-not-resolved`, exit 2
 */
async function resolveHost(host: string): Promise<string[]> {
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
  if (isIP(bare) !== 0) return [bare];
  try {
    const found = await lookup(bare, { all: true, order: 'verbatim' });
    // An address with a zone (fe80::1%eth0) is of use on one link only: endpoints cannot carry it.
    const addresses = [...new Set(found.map((one) => one.address).filter((one) => !one.includes('%')))];
    if (addresses.length > 0) return addresses;
  } catch (cause) {
    throw notResolved(bare, cause);
  }
  throw notResolved(bare, undefined);
}

function notResolved(host: string, cause: unknown): BenchError {
  const why = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : '';
  return new BenchError(
    ErrorCode.nameNotResolved,
    ExitCode.usage,
    `the name ${host} does not resolve to any address${why}`,
    `check it with \`getent ahosts ${host}\`, or give an address such as 192.0.2.7:8000`,
    cause,
  );
}
