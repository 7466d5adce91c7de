/**
 * Owns what a run was asked for: flags as typed in, a checked request and its RunSpec out.
 * Must never touch the host or the network but to resolve names.
 */
import { expandAddresses } from '../base/address.ts';
import {
  ENDPOINTS_MAX,
  type Endpoint,
  endpointsOf,
  formatEndpoint,
  type ProtocolName,
  parseTarget,
  type TargetSpec,
} from '../base/endpoint.ts';
import { ErrorCode, usageError } from '../base/errors.ts';
import { parsePortRanges } from '../base/tuple-space.ts';
import { counted, DURATION_MS_MAX, flagAway, flagWith, formatCount, formatDuration } from '../base/units.ts';
import { resolveHost } from '../host/resolver.ts';
import { freeName } from '../plan/alias-command.ts';
import { DEVICE_NAME_PATTERN, PREFIXES_MAX, parseSourcePrefix, prefixText } from '../run/alias.ts';
import type { CloseMode, DropPolicy, RunSpec } from '../run/run-spec.ts';
import { needNumber, readNumber } from './bounds.ts';
import type { FlagValues } from './flags/flag-values.ts';
import { readProtocolOptions, whyNoProbes } from './protocol-request.ts';

/** How often a connection proves itself, unless the user says otherwise. */
const PROBE_EVERY_MS = 10_000;

/** The longest ramp that a rate may ask for: as long as the longest hold. */
const RAMP_MS_MAX = DURATION_MS_MAX;

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
    caPath: values.one('tls-ca'),
    spec: {
      protocol,
      ...(protocolOptions === null ? {} : { protocolOptions }),
      ...readLoad(values),
      ...readProof(values, protocol),
      sources: readSources(values),
      holders: readHolders(values),
      onDrop: readDropPolicy(values),
      wantsLossDetails: values.one('events') !== null,
    },
  };
}

function readLoad(
  values: FlagValues,
): Pick<RunSpec, 'connections' | 'ratePerSec' | 'pendingMax' | 'connectTimeoutMs' | 'holdMs' | 'close'> {
  const conns = values.one('conns');
  if (conns === null) {
    throw usageError(
      ErrorCode.usage,
      'how many connections? --conns is missing',
      'add --conns 130k, or try c100k-bench --target self --conns 130k',
    );
  }
  const connections = needNumber(values, 'conns');
  return {
    connections,
    ratePerSec: readRate(values, connections),
    holdMs: needNumber(values, 'duration'),
    connectTimeoutMs: needNumber(values, 'connect-timeout'),
    pendingMax: needNumber(values, 'max-pending'),
    close: required(values, 'close', (text) => text as CloseMode),
  };
}

/** A rate at which the ramp would not end within a year is a slip, and no process lives for it. */
function readRate(values: FlagValues, connections: number): number | null {
  const ratePerSec = readNumber(values, 'rate');
  if (ratePerSec === null || (connections / ratePerSec) * 1_000 <= RAMP_MS_MAX) return ratePerSec;
  const flag = values.origin('rate');
  const days = formatCount(connections / ratePerSec / 86_400);
  const leastPerHour = Math.ceil((connections * 3_600_000) / RAMP_MS_MAX);
  throw usageError(
    ErrorCode.badRate,
    `${flag} ${values.one('rate')} takes ${days} days for ${counted(connections, 'connection')}, more than ${formatDuration(RAMP_MS_MAX)}`,
    `type ${flagWith(flag, `${leastPerHour}/h`)} or more`,
  );
}

function readTargets(values: FlagValues): readonly TargetSpec[] {
  const texts = values.list('target');
  if (texts.length === 0) {
    throw usageError(
      ErrorCode.usage,
      'what to connect to? --target is missing',
      'add --target host:8000, or --target self for the built-in target',
    );
  }
  const targets = texts.map(parseTarget);
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
  const probe = values.one('probe');
  if (probe === null || probe === named) return named;
  if (named !== 'tcp') {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('probe')} ${probe} does not go with ${named}://`,
      `${flagAway(values.origin('probe'))}, or write the target without ${named}://`,
    );
  }
  return probe === 'whoami' ? 'whoami' : 'echo';
}

function readProof(
  values: FlagValues,
  protocol: ProtocolName,
): Pick<RunSpec, 'probeEveryMs' | 'probeTimeoutMs'> {
  const every = readNumber(values, 'probe-every');
  const why = whyNoProbes(protocol);
  if (every !== null && why !== null) {
    throw usageError(
      ErrorCode.usage,
      `${values.origin('probe-every')} needs a target that answers, and ${why}`,
      'use --target echo://host:port when the target sends back what it gets, or ws:// or http:// when it speaks these',
    );
  }
  return {
    probeEveryMs: why === null ? (every ?? PROBE_EVERY_MS) : null,
    probeTimeoutMs: needNumber(values, 'probe-timeout'),
  };
}

/** Holder processes of this host; null: as many as descriptors and cores ask for. */
export function readHolders(values: FlagValues): number | null {
  return readNumber(values, 'holders');
}

/** The source addresses and ports of this host as typed. */
export function readSources(values: FlagValues): RunSpec['sources'] {
  const addresses = values.list('source-ip');
  // Each agent expands them again on its own host; here a wrong one is found before anything starts.
  if (addresses.length > 0) expandAddresses(addresses);
  return {
    addresses,
    ports: optional(values, 'source-ports', parsePortRanges),
    aliasDevice: readAliasDevice(values, addresses),
    aliasLeaseMs: readAliasLease(values),
    prefixes: readPrefixes(values),
  };
}

function readAliasDevice(values: FlagValues, addresses: readonly string[]): string | null {
  const device = values.one('alias-dev');
  if (device === null) return null;
  const flag = values.origin('alias-dev');
  if (!DEVICE_NAME_PATTERN.test(device)) {
    throw usageError(
      ErrorCode.badDevice,
      `${flag}: "${device}" is not the name of a device`,
      'type --alias-dev eth0, or --alias-dev auto',
    );
  }
  if (addresses.length === 0) {
    throw usageError(
      ErrorCode.usage,
      `${flag} adds addresses, and --source-ip names none`,
      `type --source-ip ${freeName(1)} --alias-dev ${device}, with an address that no other host has for ${freeName(1)}`,
    );
  }
  return device;
}

function readAliasLease(values: FlagValues): number {
  return Math.ceil(needNumber(values, 'alias-lease') / 1_000) * 1_000;
}

function readPrefixes(values: FlagValues): readonly string[] {
  const texts = values.list('source-prefix').flatMap((text) => text.split(','));
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

/** What becomes of a connection that is lost while it is held. */
function readDropPolicy(values: FlagValues): DropPolicy {
  return values.one('on-drop') === 'reopen' ? 'reopen' : 'count';
}

function optional<Value>(
  values: FlagValues,
  name: string,
  parse: (text: string, flag: string) => Value,
): Value | null {
  const text = values.one(name);
  return text === null ? null : parse(text, values.origin(name));
}

function required<Value>(
  values: FlagValues,
  name: string,
  parse: (text: string, flag: string) => Value,
): Value {
  const text = values.one(name);
  if (text === null) throw new Error(`the flag ${name} has no default`);
  return parse(text, values.origin(name));
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
