/**
 * Owns what the texts of flags mean: numbers within their range, addresses, names, each checked, with its error and a hint
 * that can be typed; and which known word a mistyped one was meant to be. Must never know which flag a text is of but for its name in a message, nor read a file.
 */
import { isIP } from 'node:net';
import { expandAddresses, isLinkLocal, parseCidr, withZone } from '../../base/address.ts';
import {
  HOST_CHARACTERS_MAX,
  HOST_HEADER_PATTERN,
  parseTarget,
  SERVERNAME_PATTERN,
  type TargetSpec,
} from '../../base/endpoint.ts';
import { BenchError, ErrorCode, usageError } from '../../base/errors.ts';
import { formatPortRanges, type PortRange, parsePortRanges } from '../../base/tuple-space.ts';
import {
  flagWith,
  formatCount,
  formatDuration,
  parseCount,
  parseDurationMs,
  parseRate,
} from '../../base/units.ts';
import { NAME_CHARACTERS_MAX } from '../../control/schema-part.ts';
import type { Tolerance } from '../../judge/comparison.ts';
import { METRICS } from '../../judge/metric.ts';
import { parseRequirement, type Requirement } from '../../judge/requirement.ts';
import { formatHop, type Hop, parseHop } from '../../path/path-plan.ts';
import { type AllowedTarget, parseAllowedSource, parseAllowedTarget } from '../../plan/allowance.ts';
import { DEVICE_NAME_PATTERN, parseSourcePrefix } from '../../run/alias.ts';
import type { ValueType } from './flag.ts';

/** A port that a name or an address is reached at. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Text is its own value where nothing is left to check. */
function textual(placeholder: string, check: (text: string, origin: string) => void): ValueType<string> {
  return {
    placeholder,
    parse: (text, origin) => {
      check(text, origin);
      return text;
    },
    write: (value) => value,
  };
}

/** A whole number; both ends are included. */
export function count(min: number, max: number): ValueType<number> {
  return {
    placeholder: 'COUNT',
    bounds: { kind: 'count', min, max },
    parse: (text, origin) => parseCount(text, origin, { min, max }),
    write: String,
  };
}

/** Whole milliseconds; both ends are included. */
export function duration(minMs: number, maxMs: number): ValueType<number> {
  return {
    placeholder: 'TIME',
    bounds: { kind: 'duration', minMs, maxMs },
    parse: (text, origin) => parseDurationMs(text, origin, { minMs, maxMs }),
    write: formatDuration,
  };
}

/** Below this `String` takes an exponent, which no rate has. */
const EXPONENT_BELOW = 1e-6;

/** Per second, above 0. */
export const rate: ValueType<number> = {
  placeholder: 'RATE',
  bounds: { kind: 'rate' },
  parse: parseRate,
  // 40 places are more than a number this small has that matter.
  write: (perSec) => (perSec < EXPONENT_BELOW ? perSec.toFixed(40) : String(perSec)),
};

/** One of a few words; the parser of the command line and of the environment says which. */
export function choice<const Word extends string>(...choices: readonly Word[]): ValueType<Word> {
  return {
    placeholder: choices.join('|'),
    choices,
    parse: (text, origin) => {
      const word = choices.find((known) => known === text);
      if (word !== undefined) return word;
      throw usageError(
        ErrorCode.usage,
        `${origin}: "${text}" is not known`,
        `use ${choices.map((known) => flagWith(origin, known)).join(' or ')}`,
      );
    },
    write: (word) => word,
  };
}

/** Any text; what takes it judges it. */
export function text(placeholder: string): ValueType<string> {
  return textual(placeholder, () => {});
}

/** The name of a file, which is opened later. */
export const file: ValueType<string> = { ...text('FILE'), file: true };

/** Text that goes over the wire. */
export function boundedText(bytesMax: number): ValueType<string> {
  return textual('TEXT', (given, origin) => {
    if (given !== '' && Buffer.byteLength(given) <= bytesMax) return;
    throw usageError(
      ErrorCode.usage,
      `${origin} must have 1 to ${formatCount(bytesMax)} bytes`,
      `give ${origin} ${given === '' ? 'a text' : 'a shorter text'}`,
    );
  });
}

/** What to connect to. */
export const target: ValueType<TargetSpec> = {
  placeholder: 'TARGET',
  parse: (given) => parseTarget(given),
  write: (spec) => spec.text,
};

/** Addresses, ranges and networks, as typed: each agent expands them again on its own host. */
export const sourceAddresses = textual('ADDRESSES', (given) => void expandAddresses([given]));

/** Ports in order of preference. */
export const portRanges: ValueType<readonly PortRange[]> = {
  placeholder: 'PORTS',
  parse: (given, origin) => parsePortRanges(given, origin),
  write: formatPortRanges,
};

/** Networks, as typed. */
export const sourcePrefixes: ValueType<readonly string[]> = {
  placeholder: 'CIDR',
  parse: (given) => {
    const texts = given.split(',');
    for (const each of texts) parseSourcePrefix(each);
    return texts;
  },
  write: (texts) => texts.join(','),
};

/** A device of this host, or `auto`. */
export const aliasDevice = textual('DEVICE', (given, origin) => {
  if (DEVICE_NAME_PATTERN.test(given)) return;
  throw usageError(
    ErrorCode.badDevice,
    `${origin}: "${given}" is not the name of a device`,
    `type ${flagWith(origin, 'eth0')}, or ${flagWith(origin, 'auto')}`,
  );
});

/** A device that an owner names: `auto` says nothing here. */
export const allowedDevice = textual('DEVICE', (given, origin) => {
  if (DEVICE_NAME_PATTERN.test(given) && given !== 'auto') return;
  throw usageError(
    ErrorCode.badDevice,
    `${origin}: "${given}" is not the name of a device`,
    `type ${flagWith(origin, 'eth0')}; ip -br link lists the devices of a host`,
  );
});

/** `CIDR:ports`. */
export const allowedTarget: ValueType<AllowedTarget> = {
  placeholder: 'CIDR:PORTS',
  parse: (given) => parseAllowedTarget(given),
  write: ({ cidr, ports }) => {
    if (ports === null) return cidr;
    return `${cidr.includes(':') ? `[${cidr}]` : cidr}:${formatPortRanges(ports)}`;
  },
};

/** A network in canonical text. */
export const allowedSource: ValueType<string> = {
  placeholder: 'CIDR',
  parse: (given) => parseAllowedSource(given),
  write: (cidr) => cidr,
};

/** What must be true at the end. */
export const requirement: ValueType<Requirement> = {
  placeholder: 'REQUIREMENT',
  parse: (given) => parseRequirement(given, nearestWord),
  write: (value) => value.text,
};

function statsUrl(given: string, origin: string): URL {
  const url = URL.canParse(given) ? new URL(given) : null;
  if (url !== null && url.protocol === 'http:' && url.username === '') return url;
  throw usageError(
    ErrorCode.usage,
    `${origin}: "${given}" is no http:// address`,
    `start the target with c100k-bench serve --stats-listen 0.0.0.0:8001 and type ${flagWith(origin, 'http://HOST:8001')}`,
  );
}

/** Where targets report their counts. */
export const statsUrls: ValueType<readonly URL[]> = {
  placeholder: 'URL',
  parse: (given, origin) => given.split(',').map((each) => statsUrl(each.trim(), origin)),
  write: (urls) => urls.map((url) => url.href).join(','),
};

/** What is sent as Host. */
export const hostHeader = textual('HOST', (given, origin) => {
  if (given.length <= HOST_CHARACTERS_MAX + 6 && HOST_HEADER_PATTERN.test(given)) return;
  throw usageError(
    ErrorCode.usage,
    `${origin} ${given} is not a host with or without a port`,
    `type ${flagWith(origin, 'www.example.com')}`,
  );
});

/** What SNI sends. */
export const servername = textual('NAME', (given, origin) => {
  if (given.length <= HOST_CHARACTERS_MAX && SERVERNAME_PATTERN.test(given)) return;
  throw usageError(
    ErrorCode.usage,
    `${origin} ${given} is not a host name`,
    'a name, not an address: addresses are not sent by SNI',
  );
});

/** Who takes a quota. */
export const agentKinds: ValueType<{ readonly local: boolean; readonly remote: boolean }> = {
  placeholder: 'KINDS',
  parse: (given, origin) => {
    const kinds = given.split(',').map((kind) => kind.trim());
    if (kinds.every((kind) => kind === 'local' || kind === 'remote')) {
      return { local: kinds.includes('local'), remote: kinds.includes('remote') };
    }
    throw usageError(
      ErrorCode.usage,
      `${origin}: "${given}" is not a list of local and remote`,
      `write ${['local', 'remote', 'local,remote'].map((kinds) => flagWith(origin, kinds)).join(' or ')}`,
    );
  },
  write: ({ local, remote }) => [...(local ? ['local'] : []), ...(remote ? ['remote'] : [])].join(','),
};

function hostPortText({ host, port }: HostPort): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** A link-local address is on one link, and listen(2) does not know which. */
function listening(host: string, port: number, origin: string): HostPort {
  if (host.includes('%') || !isLinkLocal(host.toLowerCase())) return { host, port };
  throw usageError(
    ErrorCode.badEndpoint,
    `${origin}: ${host} is link-local and needs a zone, the device of its link`,
    `type ${flagWith(origin, `[${host}%eth0]:${port}`)} with a device of this host (\`ip -br link\` lists them)`,
  );
}

/** Where the coordinator listens: an address, a link-local one with its zone, or a name, or nothing for every address. */
export const listenAddress: ValueType<HostPort> = {
  placeholder: 'ADDRESS:PORT',
  parse: (given, origin) => {
    const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+(?:%[^\s\]]+)?)\]|(?<host>[^:]*)):(?<port>\d{1,5})$/.exec(given);
    const port = Number(match?.groups?.port ?? Number.NaN);
    if (match !== null && port <= 65_535) {
      return listening(match.groups?.v6 ?? (match.groups?.host || '0.0.0.0'), port, origin);
    }
    throw usageError(
      ErrorCode.badEndpoint,
      `${origin}: "${given}" is not an address and a port`,
      `for example: ${flagWith(origin, '0.0.0.0:7100')}`,
    );
  },
  write: hostPortText,
};

/** Where the built-in target reports its counts. */
export const statsAddress: ValueType<HostPort> = {
  placeholder: 'ADDRESS:PORT',
  parse: (given, origin) => {
    const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+(?:%[^\s\]]+)?)\]|(?<v4>[0-9.]+)):(?<port>\d{1,5})$/.exec(given);
    const host = match?.groups?.v6 ?? match?.groups?.v4 ?? '';
    const port = Number(match?.groups?.port ?? Number.NaN);
    if (isIP(host) !== 0 && port <= 65_535) return listening(host, port, origin);
    throw usageError(
      ErrorCode.badEndpoint,
      `${origin}: "${given}" is not an address and a port`,
      `for example: ${flagWith(origin, '127.0.0.1:8001')}`,
    );
  },
  write: hostPortText,
};

/** Where a collector of OpenTelemetry takes metrics; its own path where none is given. */
export const collectorUrl: ValueType<URL> = {
  placeholder: 'URL',
  parse: (given, origin) => {
    const url = URL.canParse(given) ? new URL(given) : null;
    if (url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '') {
      if (url.pathname === '/') url.pathname = '/v1/metrics';
      return url;
    }
    throw usageError(
      ErrorCode.badEndpoint,
      `${origin}: "${given}" is not an http address`,
      `for example: ${flagWith(origin, 'http://127.0.0.1:4318')}`,
    );
  },
  write: String,
};

/** The coordinator that an agent joins. */
export const coordinatorAddress: ValueType<HostPort> = {
  placeholder: 'HOST:PORT',
  parse: (given, origin) => {
    try {
      const { host, zone, portFrom, portTo, self } = parseTarget(given);
      if (!self && portFrom === portTo) return { host: withZone(host, zone), port: portFrom };
    } catch (error) {
      if (!(error instanceof BenchError)) throw error;
    }
    throw usageError(
      ErrorCode.badEndpoint,
      `${origin}: "${given}" is not a host and one port`,
      `add ${flagWith(origin, 'host:port')}, as the coordinator prints it`,
    );
  },
  write: hostPortText,
};

/** A port to listen on; 0: a free one. */
export const listenPort: ValueType<number> = {
  placeholder: 'PORT',
  parse: (given, origin) => {
    const port = /^\d{1,6}$/.test(given) ? Number(given) : Number.NaN;
    if (port >= 0 && port <= 65_535) return port;
    throw usageError(
      ErrorCode.badPorts,
      `${origin}: "${given}" is not a port`,
      `type ${flagWith(origin, '8000')}, or ${flagWith(origin, '0')} for a free one`,
    );
  },
  write: String,
};

/** Hosts that ssh reaches; what begins with a dash would be an option of ssh. */
export const sshHosts: ValueType<readonly string[]> = {
  placeholder: 'USER@HOST',
  parse: (given, origin) => {
    const hosts = given.split(',').map((host) => host.trim());
    const bad = hosts.find((host) => !/^[A-Za-z0-9_][A-Za-z0-9_.@:%-]*$/.test(host));
    if (bad === undefined) return hosts;
    throw usageError(
      ErrorCode.usage,
      `${origin}: "${bad}" is not user@host`,
      `for example: ${flagWith(origin, 'root@10.0.0.2,root@10.0.0.3')}`,
    );
  },
  write: (hosts) => hosts.join(','),
};

/** What an agent is called; never changed, because tokens, messages and reports carry it as it is. */
export const agentName = textual('NAME', (given, origin) => {
  if (given.length > 0 && given.length <= NAME_CHARACTERS_MAX) return;
  throw usageError(
    ErrorCode.usage,
    `${origin}: the name of an agent has 1 to ${NAME_CHARACTERS_MAX} characters, this one has ${given.length}`,
    'choose another one, for example the short name of the host',
  );
});

/** Hops between us and the server, in order. */
export const hops: ValueType<readonly Hop[]> = {
  placeholder: 'HOP',
  parse: (given) => given.split(',').map(parseHop),
  write: (some) => some.map(formatHop).join(','),
};

/** The first address of a hop, with the length of its prefix if wanted. */
export const firstAddress = textual('ADDRESS', (given) => void parseCidr(given));

/** An image of a container. */
export const image = textual('IMAGE', (given, origin) => {
  if (/^[\w][\w.:/@-]*$/.test(given)) return;
  throw usageError(
    ErrorCode.usage,
    `${origin}: "${given}" is not the name of an image`,
    `build one from docs/deploy/Dockerfile, push it, and add ${flagWith(origin, 'registry.example/c100k-bench:1')}`,
  );
});

/** A name of a Kubernetes object (RFC 1123 label). */
export function label(charsMax: number): ValueType<string> {
  return textual('NAME', (given, origin) => {
    if (/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(given) && given.length <= charsMax) return;
    throw usageError(
      ErrorCode.usage,
      `${origin}: "${given}" is not a name that Kubernetes takes`,
      `use at most ${charsMax} small letters, digits and dashes`,
    );
  });
}

/** A quantity of Kubernetes. */
export const quantity = textual('QUANTITY', (given, origin) => {
  if (/^\d+(\.\d+)?(m|k|M|G|Ki|Mi|Gi)?$/.test(given)) return;
  throw usageError(
    ErrorCode.badNumber,
    `${origin}: "${given}" is not a quantity`,
    'for example: --cpu 500m --memory 2Gi',
  );
});

/** A label with its reports. */
export const labelledFiles: ValueType<{ readonly label: string; readonly paths: readonly string[] }> = {
  placeholder: 'NAME=FILES',
  file: true,
  parse: (given, origin) => {
    const [, label = '', files = ''] = /^([^=]{1,64})=(.+)$/s.exec(given) ?? [];
    const paths = files.split(',').filter((path) => path !== '');
    if (label !== '' && paths.length > 0) return { label, paths };
    throw usageError(
      ErrorCode.usage,
      `${origin}: "${given}" is not a name and files`,
      `for example: ${flagWith(origin, 'before=a1.json,a2.json,a3.json')}`,
    );
  },
  write: ({ label, paths }) => `${label}=${paths.join(',')}`,
};

/** A metric and by how much it may get worse. */
export const tolerance: ValueType<Tolerance> = {
  placeholder: 'METRIC:TOLERANCE',
  parse: (given, origin) => {
    const match = /^(?<metric>\w+):(?<limit>\d+(?:\.\d+)?) ?(?<unit>%|ms|s)?$/.exec(given);
    const { metric = '', limit = '', unit } = match?.groups ?? {};
    const kind = METRICS[metric];
    const isLatency = kind === 'latency';
    if (kind !== undefined && (unit === undefined || unit === '%' || isLatency)) {
      return {
        text: given,
        metric,
        limit: Number(limit) * (unit === 's' ? 1_000 : 1),
        isPercent: unit === '%',
      };
    }
    const near = nearestWord(metric === '' ? given : metric, Object.keys(METRICS));
    throw usageError(
      ErrorCode.badRequirement,
      `${origin}: "${given}" is not a metric and a tolerance`,
      `for example: ${flagWith(origin, `${near ?? 'connect_p99'}:10%`)}`,
    );
  },
  write: ({ text: typed }) => typed,
};

/** The number of single-letter changes that turn `a` into `b`; two neighbours in the wrong order are one change. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? (beforePrevious[j - 2] ?? 0) + 1 : substituted;
      current[j] = Math.min(substituted, swapped, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/**
 * The known word nearest to a mistyped one: one that begins with it or that it begins with, else one at most
 * a third of its letters away; null when none is near.
 * @param typed what was typed, without dashes
 * @param known the words that exist
 */
export function nearestWord(typed: string, known: readonly string[]): string | null {
  if (typed === '') return null;
  let best: string | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const word of known) {
    const related = typed.length >= 3 && (word.startsWith(typed) || typed.startsWith(word));
    const distance = related ? 0.5 : editDistance(typed, word);
    const allowed = Math.max(1, Math.floor(Math.max(typed.length, word.length) / 3));
    if (distance <= allowed && distance < bestDistance) {
      best = word;
      bestDistance = distance;
    }
  }
  return best;
}
