/**
 * Owns endpoints: one `address:port` of the target each, the text that names them, and what a protocol needs beyond both:
 * path, host, banner, message, status, TLS, with bounds. Must never resolve a name (api/run-request.ts) or read a file: a CA
 * is carried as its text, because agents have no files of the coordinator.
 */
import assert from 'node:assert/strict';
import { type Family, isAddress, isLinkLocal, parseAddress, unmapV4 } from './address.ts';
import { BenchError, ErrorCode, usageError } from './errors.ts';
import type { RequestOptions } from './request-options.ts';
import type { MqttOptions } from './session-options.ts';
import type { TrafficOptions } from './traffic-options.ts';
import { formatCount } from './units.ts';

/** One `address:port` of the target. */
export interface Endpoint {
  /** canonical IP literal */
  readonly address: string;
  readonly port: number;
  readonly family: Family;
  /** of a link-local address, and of no other: the device of its link, as each host of the run calls it */
  readonly zone?: string;
}

/** Every protocol that is built, in the order in which help lists them. */
export const PROTOCOL_NAMES = [
  'tcp',
  'echo',
  'whoami',
  'ws',
  'http',
  'mqtt',
  'tls',
  'wss',
  'https',
  'mqtts',
] as const;

/** How a connection proves itself. More protocols join this union as they are built. */
export type ProtocolName = (typeof PROTOCOL_NAMES)[number];

/** Ports that need not be typed. */
const DEFAULT_PORTS: Partial<Record<ProtocolName, number>> = {
  ws: 80,
  http: 80,
  mqtt: 1_883,
  wss: 443,
  https: 443,
  mqtts: 8_883,
};

/** The port of a scheme that has one; null: it must be typed. */
export function defaultPortOf(protocol: ProtocolName): number | null {
  return DEFAULT_PORTS[protocol] ?? null;
}

/** Whether requests of this protocol name a path. */
export function hasPath(protocol: ProtocolName): boolean {
  return protocol === 'ws' || protocol === 'wss' || protocol === 'http' || protocol === 'https';
}

/** Whether the built-in target speaks it. */
function isSelfSpoken(protocol: ProtocolName): protocol is 'tcp' | 'echo' | 'whoami' {
  return protocol === 'tcp' || protocol === 'echo' || protocol === 'whoami';
}

/** Whether it runs inside TLS. */
export function isTls(protocol: ProtocolName): boolean {
  return protocol === 'tls' || protocol === 'wss' || protocol === 'https' || protocol === 'mqtts';
}

/** Whether it speaks MQTT. */
export function isMqtt(protocol: ProtocolName): boolean {
  return protocol === 'mqtt' || protocol === 'mqtts';
}

/** Whether a connection can be asked again and again. */
export function canProbe(protocol: ProtocolName): boolean {
  return protocol === 'echo' || hasPath(protocol) || isMqtt(protocol);
}

/** Whether an answer of the far application, and not its kernel alone, is part of an open connection. */
export function isVerifying(protocol: ProtocolName, options: ProtocolOptions | undefined): boolean {
  const hasAnswer = (options?.banner ?? null) !== null || (options?.traffic?.expect ?? null) !== null;
  return protocol !== 'tcp' || hasAnswer;
}

/** What `--target` names, before any name is resolved. */
export interface TargetSpec {
  /** as typed */
  readonly text: string;
  readonly protocol: ProtocolName;
  /** a host name, or a canonical IP literal without brackets and zone; 127.0.0.1 for `self` */
  readonly host: string;
  /** of a link-local address: the device of its link */
  readonly zone?: string;
  /** 1 to 65535; 0 for `self`: the built-in target chooses */
  readonly portFrom: number;
  /** at least `portFrom` */
  readonly portTo: number;
  /** with its slash; null for protocols that have none */
  readonly path: string | null;
  /** the built-in target, started by us on loopback */
  readonly self: boolean;
}

/** The most endpoints that one run can have. */
export const ENDPOINTS_MAX = 65_536;

/**
 * The name of a device of Linux: at most 15 bytes (IFNAMSIZ). The kernel takes more characters (dev_valid_name() in
 * net/core/dev.c); these can stand in a URL and in a command.
 */
const ZONE_PATTERN = /^[a-z0-9_][a-z0-9_.@+-]{0,14}$/i;

/** Whether a text can be the zone of an address: the name of a device. */
export function isZone(text: string): boolean {
  return ZONE_PATTERN.test(text);
}

const HOST_NAME_PATTERN =
  /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?$/i;

function badEndpoint(text: string, what: string, hint: string): BenchError {
  return usageError(ErrorCode.badEndpoint, `--target ${text === '' ? '""' : text}: ${what}`, hint);
}

function isProtocolName(text: string): text is ProtocolName {
  return (PROTOCOL_NAMES as readonly string[]).includes(text);
}

/** Splits off `scheme://`; without one the protocol is tcp. */
function splitScheme(text: string): { protocol: ProtocolName; prefix: string; rest: string } {
  const match = /^([^/]*):\/\/(.*)$/.exec(text);
  if (match === null) return { protocol: 'tcp', prefix: '', rest: text };
  const scheme = (match[1] ?? '').toLowerCase();
  const rest = match[2] ?? '';
  if (!isProtocolName(scheme)) {
    const known = PROTOCOL_NAMES.map((name) => `${name}://`).join(', ');
    throw badEndpoint(
      text,
      `unknown scheme "${scheme}://" (known: ${known})`,
      `type --target tcp://${rest === '' ? 'host:8000' : rest}`,
    );
  }
  return { protocol: scheme, prefix: `${scheme}://`, rest };
}

/** Host and port text; the host without brackets. */
function splitHostPort(text: string, prefix: string, rest: string): { host: string; portText: string } {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(rest);
  if (bracketed !== null) {
    const host = bracketed[1] ?? '';
    if (host.includes('%')) return { host, portText: bracketed[2] ?? '' };
    if (host.includes('.') || host.includes(':') ? !isAddress(host) : host !== '') {
      throw badEndpoint(text, `"${host}" in brackets is not an IPv6 address`, 'type --target [::1]:8000');
    }
    return { host, portText: bracketed[2] ?? '' };
  }
  const lastColon = rest.lastIndexOf(':');
  if (lastColon >= 0 && rest.indexOf(':') !== lastColon) {
    const zoned = /^([^%]*%.*?)(?::(\d{2,5}(?:-\d+)?))?$/.exec(rest);
    if (zoned !== null) {
      const meant = `[${zoned[1]}]:${zoned[2] ?? '8000'}`;
      throw badEndpoint(text, 'an IPv6 address needs brackets', `type --target ${prefix}${meant}`);
    }
    const before = rest.slice(0, lastColon);
    const after = rest.slice(lastColon + 1);
    const meant =
      isAddress(before) && /^\d{2,5}(-\d+)?$/.test(after) ? `[${before}]:${after}` : `[${rest}]:8000`;
    throw badEndpoint(
      text,
      'an IPv6 address needs brackets',
      `type --target ${prefix}${isAddress(before) || isAddress(rest) ? meant : '[::1]:8000'}`,
    );
  }
  if (lastColon < 0) return { host: rest, portText: '' };
  return { host: rest.slice(0, lastColon), portText: rest.slice(lastColon + 1) };
}

/** Reads `8000` or `8000-8080`. */
function parsePorts(text: string, portText: string, example: string): { portFrom: number; portTo: number } {
  const match = /^(\d+)(?:-(\d+))?$/.exec(portText);
  if (match === null) {
    throw badEndpoint(text, `"${portText}" is not a port or a range of ports`, `type --target ${example}`);
  }
  const portFrom = Number(match[1]);
  const portTo = match[2] === undefined ? portFrom : Number(match[2]);
  for (const port of [portFrom, portTo]) {
    if (port < 1 || port > 65_535) {
      throw badEndpoint(text, `port ${port} is outside 1 to 65535`, `type --target ${example}`);
    }
  }
  if (portTo < portFrom) {
    const swapped = `${example.slice(0, example.lastIndexOf(':'))}:${portTo}-${portFrom}`;
    throw badEndpoint(text, `the port range ${portText} ends before it starts`, `type --target ${swapped}`);
  }
  return { portFrom, portTo };
}

/** Where a link-local address is: without a zone the kernel does not know (connect(2) gives EINVAL). */
function refuseBare(text: string, address: string, rest: string): void {
  if (!isLinkLocal(address)) return;
  throw badEndpoint(
    text,
    `${address} is link-local and needs a zone, the device of its link`,
    `type --target ${rest.replace('%', `${address}%eth0`)} with a device of the host that connects (\`ip -br link\` lists them)`,
  );
}

/**
 * An address with a zone, in brackets; in a URL `%` may be written as `%25` (RFC 6874 section 2).
 * @param example the target with `%` in place of the address
 */
function parseZoned(text: string, host: string, example: string): { host: string; zone: string } {
  const at = host.indexOf('%');
  const [literal, typed] = [host.slice(0, at), host.slice(at + 1)];
  const zone = /^25./.test(typed) ? typed.slice(2) : typed;
  const address = isAddress(literal) ? unmapV4(literal) : null;
  const put = (part: string): string => `type --target ${example.replace('%', part)}`;
  if (address === null || !address.includes(':')) {
    throw badEndpoint(
      text,
      `"${literal}" is not an IPv6 address, and only those have a zone`,
      put('fe80::1%eth0'),
    );
  }
  if (!isLinkLocal(address)) {
    throw badEndpoint(text, `${address} is not link-local (fe80::/10), and has no zone`, put(address));
  }
  if (!isZone(zone)) {
    throw badEndpoint(text, `"${zone}" is not the name of a device`, put(`${address}%eth0`));
  }
  return { host: address, zone };
}

/** Canonical literal, or the name in lower case. */
function parseHost(text: string, host: string): string {
  if (isAddress(host)) return parseAddress(host).address;
  if (/^[\d.]+$/.test(host)) {
    throw badEndpoint(text, `"${host}" is not an IPv4 address`, 'type --target 127.0.0.1:8000');
  }
  if (!HOST_NAME_PATTERN.test(host)) {
    throw badEndpoint(
      text,
      `"${host}" is not a host name`,
      'type --target host:8000 with a name or an IP address',
    );
  }
  return host.toLowerCase();
}

/** The path of a request; null for protocols that have none. A lone slash is allowed everywhere. */
function parsePath(text: string, protocol: ProtocolName, path: string, before: string): string | null {
  if (!hasPath(protocol)) {
    if (path !== '' && path !== '/')
      throw badEndpoint(text, `${protocol} has no path`, `type --target ${before}`);
    return null;
  }
  const whole = path.startsWith('/') ? path : `/${path}`;
  if (whole.length > PATH_CHARACTERS_MAX || !PATH_PATTERN.test(whole)) {
    throw badEndpoint(
      text,
      `the path must be visible ASCII without #, at most ${formatCount(PATH_CHARACTERS_MAX)} characters`,
      `type --target ${before}/ and percent-encode the rest`,
    );
  }
  return whole;
}

/** A target that can be typed: itself, or what its own hint says. */
function typeable(part: string): string {
  try {
    parseTarget(part);
    return part;
  } catch (error) {
    return (error instanceof BenchError && /^type --target (\S+)/.exec(error.hint)?.[1]) || 'host:8000';
  }
}

/** One `--target` names one host; several in one text are distinguished from a host name that is no name. */
function refuseList(typed: string): void {
  // A comma or a semicolon may stand in a path, never before it.
  const authority = typed.replace(/^[^/,;\s]*:\/\//, '').split(/[/?#]/, 1)[0] ?? '';
  if (!/[,;\s]/.test(authority)) return;
  const each = typed
    .split(/[,;\s]+/)
    .filter((part) => part !== '')
    .map(typeable);
  const hint =
    each.length > 1
      ? `type ${each.map((part) => `--target ${part}`).join(' ')}`
      : `type --target ${each[0] ?? 'host:8000'}`;
  throw badEndpoint(typed, 'one --target names one host, and this is a list', hint);
}

/**
 * Reads what `--target` names: `host:8000`, `host:8000-8080`, `[::1]:8000`, with `tcp://` or `echo://` in front if
 * wanted, or `self` (also `echo://self`) for the built-in target. A link-local address has its zone: `[fe80::1%eth0]:8000`. Names stay names.
 * @param text as typed
 * @throws BenchError `bad-endpoint`, exit code 2
 */
export function parseTarget(text: string): TargetSpec {
  const typed = text.trim();
  refuseList(typed);
  const { protocol, prefix, rest } = splitScheme(typed);
  if (rest.toLowerCase() === 'self') {
    if (!isSelfSpoken(protocol)) {
      throw badEndpoint(typed, `the built-in target does not speak ${protocol}`, 'type --target self');
    }
    return { text: typed, protocol, host: '127.0.0.1', portFrom: 0, portTo: 0, path: null, self: true };
  }
  const slash = rest.search(/[/?#]/);
  const authority = slash < 0 ? rest : rest.slice(0, slash);
  const path = parsePath(typed, protocol, slash < 0 ? '' : rest.slice(slash), `${prefix}${authority}`);
  const { host, portText } = splitHostPort(typed, prefix, authority);
  const literal = host.includes(':') ? `[${host}]` : host;
  if (host === '') {
    const port = /^\d+$/.test(portText) ? portText : '8000';
    throw badEndpoint(typed, 'the host is missing', `type --target ${prefix}127.0.0.1:${port}`);
  }
  const example = `${prefix}[%]${portText === '' ? '' : `:${portText}`}${path ?? ''}`;
  const { host: hostParsed, zone } = host.includes('%')
    ? parseZoned(typed, host, example)
    : { host: parseHost(typed, host), zone: undefined };
  if (zone === undefined) refuseBare(typed, hostParsed, example);
  const defaultPort = portText === '' ? defaultPortOf(protocol) : null;
  if (portText === '' && defaultPort === null) {
    throw badEndpoint(typed, 'the port is missing', `type --target ${prefix}${literal}:8000`);
  }
  const { portFrom, portTo } =
    defaultPort === null
      ? parsePorts(typed, portText, `${prefix}${literal}:8000`)
      : { portFrom: defaultPort, portTo: defaultPort };
  const at = { protocol, host: hostParsed, ...(zone === undefined ? {} : { zone }), portFrom, portTo, path };
  return { text: typed, ...at, self: false };
}

/**
 * `1.2.3.4:80`, `[::1]:80` or `[fe80::1%eth0]:80`. This text is the key of `openByEndpoint`.
 * @param endpoint with a canonical address
 */
export function formatEndpoint({ address, port, family, zone }: Endpoint): string {
  if (family === 4) return `${address}:${port}`;
  return zone === undefined ? `[${address}]:${port}` : `[${address}%${zone}]:${port}`;
}

/** The zone of a run's link-local addresses, its sources' as well: there is one; absent: it has none. */
export function zoneOf(endpoints: readonly Endpoint[]): string | undefined {
  return endpoints.find(({ zone }) => zone !== undefined)?.zone;
}

/**
 * Why endpoints cannot belong to one run: each source address of a family goes to each endpoint of that family, and a
 * link-local one reaches its own link alone. null: they can.
 */
export function zoneProblem(endpoints: readonly Endpoint[]): string | null {
  const of6 = endpoints.filter(({ family }) => family === 6);
  const [first] = of6;
  const other = of6.find(({ zone }) => zone !== first?.zone);
  if (first === undefined || other === undefined) return null;
  return `${formatEndpoint(first)} and ${formatEndpoint(other)} cannot be reached from the same source addresses`;
}

/** The address in the text of an endpoint, without zone. @param endpoint as `formatEndpoint` writes it */
export function addressPart(endpoint: string): string {
  return endpoint.slice(0, endpoint.lastIndexOf(':')).replace(/^\[|(?:%.*)?\]$/g, '');
}

/**
 * One endpoint for each address and port; the address varies fastest, equal addresses count once, and a `::ffff:`
 * address becomes IPv4, which is what the kernel makes of it.
 * @param target its ports; must not be `self` with port 0 (asserted): say first where the built-in target listens
 * @param addresses what the host resolved to, IP literals
 * @throws BenchError `bad-endpoint` above `ENDPOINTS_MAX`, `bad-address` for what is no literal
 */
export function endpointsOf(target: TargetSpec, addresses: readonly string[]): Endpoint[] {
  assert(target.portFrom >= 1 && target.portTo >= target.portFrom, 'a target without ports has no endpoints');
  const parsed = [...new Set(addresses.map((address) => unmapV4(address)))].map((address) =>
    parseAddress(address),
  );
  const count = parsed.length * (target.portTo - target.portFrom + 1);
  if (count > ENDPOINTS_MAX) {
    throw badEndpoint(
      target.text,
      `${formatCount(count)} endpoints; at most ${formatCount(ENDPOINTS_MAX)} are possible`,
      'name fewer ports',
    );
  }
  const endpoints: Endpoint[] = [];
  for (let port = target.portFrom; port <= target.portTo; port += 1) {
    for (const { address, family } of parsed) {
      endpoints.push({ address, port, family, ...(target.zone === undefined ? {} : { zone: target.zone }) });
    }
  }
  return endpoints;
}

/** What the TLS layer of `tls://`, `wss://`, `https://` and `mqtts://` is given. */
export interface TlsOptions {
  /** the name that is asked for (SNI) and that the certificate must carry; null: the host of the target */
  readonly servername: string | null;
  /** certificates that are trusted, PEM; null: those that Node brings along */
  readonly ca: string | null;
  /** false (`--insecure`): any certificate will do */
  readonly isVerified: boolean;
  /** client certificates, dealt out by the number of the connection; absent: none is shown */
  readonly pairs?: readonly CertificatePair[];
  /** what is offered by ALPN, the preferred first; absent: what the protocol inside goes by */
  readonly alpn?: readonly string[];
  /** each connection offers the latest session of its endpoint; absent: full handshakes alone */
  readonly resumes?: true;
}

/** A client certificate with its chain, and its key; PEM. */
export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

/** What a protocol needs beyond its endpoint. */
export interface ProtocolOptions {
  /** with its slash */
  readonly path: string;
  /** the host as typed in the target, for `Host` and SNI; null: the address of the endpoint */
  readonly host: string | null;
  /** `--host-header`, sent as it is; null: made from `host` and the endpoint's port */
  readonly hostHeader: string | null;
  /** text that the target must begin with; empty: any byte will do; null: nothing is expected */
  readonly banner: string | null;
  /** a text message that goes out before each ping; null: none */
  readonly message: string | null;
  /** the one HTTP status that is good; null: 200 to 399 */
  readonly httpStatus: number | null;
  readonly tls: TlsOptions;
  /** absent: a plain GET */
  readonly request?: RequestOptions;
  /** of `mqtt://` and `mqtts://` */
  readonly mqtt?: MqttOptions;
  /** absent: nothing is said beyond the handshake and its probes */
  readonly traffic?: TrafficOptions;
}

/** Nothing asked for. */
export const DEFAULT_PROTOCOL_OPTIONS: ProtocolOptions = {
  path: '/',
  host: null,
  hostHeader: null,
  banner: null,
  message: null,
  httpStatus: null,
  tls: { servername: null, ca: null, isVerified: true },
};

/** Bounds that the command line and the control channel share. */
export const PATH_CHARACTERS_MAX = 2_048;
export const HOST_CHARACTERS_MAX = 253;
export const BANNER_BYTES_MAX = 254;
export const WS_MESSAGE_BYTES_MAX = 4_096;
export const CA_CHARACTERS_MAX = 1_048_576;

/** What may stand in a request line: visible ASCII, no fragment. */
export const PATH_PATTERN = /^\/[!"$-~]*$/;

/** What may stand in a Host header: a name or literal, perhaps with a port. */
export const HOST_HEADER_PATTERN = /^[\w.:[\]-]+$/;

/** What may be asked for by SNI: a name, never an address (RFC 6066 section 3). */
export const SERVERNAME_PATTERN = /^(?=.*[a-z])[\w.-]+$/i;
