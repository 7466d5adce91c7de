/**
 * Owns what the owner of an agent's host allows, whatever the coordinator says: targets, sources, devices, connections,
 * rate, time.
 * Must never trust a name: targets arrive as IP literals and are checked as such.
 */
import { cidrContains, isLoopback, isPrivate, parseCidr, unmapV4 } from '../base/address.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { BenchError, type Finding, usageError } from '../base/errors.ts';
import { type PortRange, parsePortRanges } from '../base/tuple-space.ts';
import { formatCount, formatDuration } from '../base/units.ts';
import { holdWords, isEndless, type RunSpec } from '../run/run-spec.ts';
import { lengthMsOf } from '../run/schedule.ts';

/** One `CIDR:ports` that may be a target; null ports: all. */
export interface AllowedTarget {
  readonly cidr: string;
  readonly ports: readonly PortRange[] | null;
}

export interface Allowance {
  /** null: what `isNear` says; an empty list allows nothing */
  readonly targets: readonly AllowedTarget[] | null;
  /** a token may narrow further: an endpoint must be in both lists */
  readonly tokenTargets: readonly AllowedTarget[] | null;
  /** CIDR; null: every address that this host would choose, or that its owner names */
  readonly sources: readonly string[] | null;
  /** devices that `--alias-dev auto` may choose; null: the one towards the target, whichever that is */
  readonly aliasDevices: readonly string[] | null;
  /** Infinity: no limit */
  readonly connectionsMax: number;
  readonly ratePerSecMax: number;
  /** from the start of the ramp until everything is closed */
  readonly runMsMax: number;
  /** the local agent serves the person who typed the target: no target is out of bounds */
  readonly isOwner: boolean;
}

/** The allowance of the agent that the CLI forks for the person who typed the target. */
export const OWNER_ALLOWANCE: Allowance = {
  targets: null,
  tokenTargets: null,
  sources: null,
  aliasDevices: null,
  connectionsMax: Number.POSITIVE_INFINITY,
  ratePerSecMax: Number.POSITIVE_INFINITY,
  runMsMax: Number.POSITIVE_INFINITY,
  isOwner: true,
};

/**
 * Reads `CIDR`, `CIDR:ports`, `[v6-CIDR]:ports` or a single address.
 * @throws BenchError (bad-address or bad-ports, exit 2)
 */
export function parseAllowedTarget(text: string): AllowedTarget {
  const typed = text.trim();
  const match = /^\[(?<v6>[^\]]+)\](?::(?<p6>.+))?$|^(?<v4>[^:]*\.[^:]*)(?::(?<p4>.+))?$|^(?<bare>.*)$/.exec(
    typed,
  );
  const groups = match?.groups ?? {};
  const network = groups.v6 ?? groups.v4 ?? groups.bare ?? '';
  const ports = groups.p6 ?? groups.p4 ?? null;
  const unbracketed = /^([\da-f:.]+\/\d+):([\d,-]+)$/i.exec(groups.bare ?? '');
  const example = unbracketed === null ? '10.0.0.0/8:8000-8080' : `[${unbracketed[1]}]:${unbracketed[2]}`;
  return reading(`--allow-target ${text}`, `--allow-target ${example}`, () => ({
    cidr: cidrOf(network),
    ports: ports === null ? null : parsePortRanges(ports),
  }));
}

/**
 * Reads `CIDR` or a single address.
 * @throws BenchError (bad-address, exit 2)
 */
export function parseAllowedSource(text: string): string {
  return reading(`--allow-source ${text}`, '--allow-source 10.1.0.0/16', () => cidrOf(text.trim()));
}

/** A network in canonical text. */
function cidrOf(network: string): string {
  const { address, prefix } = parseCidr(network);
  return `${address}/${prefix}`;
}

/** What `read` reads; its errors name the flag, and how that is typed. */
function reading<Read>(what: string, example: string, read: () => Read): Read {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    throw usageError(error.code, `${what}: ${error.message}`, `for example: ${example}`);
  }
}

function matches(target: AllowedTarget, endpoint: Endpoint): boolean {
  const address = unmapV4(endpoint.address);
  const { ports } = target;
  const isPortIn =
    ports === null || ports.some(({ from, to }) => endpoint.port >= from && endpoint.port <= to);
  return isPortIn && cidrContains(target.cidr, address);
}

/** Whether an agent with this allowance may open connections to `endpoint`. */
export function allowsEndpoint(allowance: Allowance, endpoint: Endpoint): boolean {
  if (allowance.isOwner) return true;
  const { targets, tokenTargets } = allowance;
  if (tokenTargets !== null && !tokenTargets.some((target) => matches(target, endpoint))) return false;
  if (targets !== null) return targets.some((target) => matches(target, endpoint));
  // A token that names targets is its maker's decision; without one, only what is near is allowed.
  if (tokenTargets !== null) return true;
  return isNear(unmapV4(endpoint.address));
}

/**
 * Metadata services that are not link-local but private by their address. They give a host's credentials to any process that
 * asks from that host: Alibaba, Amazon (a network of services of the hypervisor), Google, Scaleway.
 */
const METADATA_NETWORKS = ['100.100.100.200', 'fd00:ec2::/32', 'fd20:ce::254', 'fd00:42::42'] as const;

/** What an agent may connect to unless its owner says otherwise: loopback and private networks, no metadata service. */
function isNear(address: string): boolean {
  if (METADATA_NETWORKS.some((network) => cidrContains(network, address))) return false;
  return isLoopback(address) || isPrivate(address);
}

/** What an owner says about the sources of an agent. */
export type SourceLimits = Pick<Allowance, 'sources' | 'aliasDevices'>;

/** Of an agent whose owner has said nothing. */
export const ANY_SOURCE: SourceLimits = { sources: null, aliasDevices: null };

/** Whether an agent may bind connections to an address of its host. */
export function allowsSource({ sources }: SourceLimits, address: string): boolean {
  return sources === null || sources.some((cidr) => cidrContains(cidr, address));
}

/** Whether an agent may add addresses to a device. */
export function allowsDevice({ aliasDevices }: SourceLimits, device: string): boolean {
  return aliasDevices === null || aliasDevices.includes(device);
}

/**
 * Why the owner's word about sources leaves none for a run, whose target chose the device.
 * @param leftOut sources that were left out, some of them
 * @param devices that they were to be added to, and may not
 */
export function noSourceAllowed(
  limits: SourceLimits,
  leftOut: readonly string[],
  devices: readonly string[],
): Finding {
  const [device] = devices;
  if (device !== undefined) {
    return refusal(
      'allow-alias-dev',
      `this agent may not add addresses to ${device}, the device towards the target; it may to ${limits.aliasDevices?.join(', ')}`,
      `its owner decides: c100k-bench agent --allow-alias-dev ${device}`,
    );
  }
  const named = leftOut.slice(0, 3).join(', ');
  const more = leftOut.length > 3 ? ` and ${formatCount(leftOut.length - 3)} more` : '';
  return refusal(
    'allow-source',
    `this agent may not connect from ${named}${more}, where the target is reached from; it may from ${limits.sources?.join(', ')}`,
    `its owner decides: c100k-bench agent --allow-source ${leftOut[0]}`,
  );
}

function refusal(what: string, message: string, fix: string): Finding {
  return { what, severity: 'refuse', needed: null, available: null, unit: '', message, fix };
}

/** Every way in which a run asks for more than the host's owner allows; empty when it may run. */
export function checkAllowance(allowance: Allowance, spec: RunSpec): Finding[] {
  const findings: Finding[] = [];
  const forbidden = spec.endpoints.filter((endpoint) => !allowsEndpoint(allowance, endpoint));
  if (forbidden.length > 0) {
    const named = forbidden.slice(0, 3).map(formatEndpoint).join(', ');
    const more = forbidden.length > 3 ? ` and ${formatCount(forbidden.length - 3)} more` : '';
    findings.push(
      refusal(
        'allow-target',
        `this agent may not open connections to ${named}${more}`,
        `its owner decides: c100k-bench agent --allow-target ${forbidden[0]!.address}:${forbidden[0]!.port}`,
      ),
    );
  }
  const takesMs = spec.stages === undefined ? spec.holdMs : lengthMsOf(spec.stages);
  if (takesMs > allowance.runMsMax || (isEndless(spec) && Number.isFinite(allowance.runMsMax))) {
    findings.push(
      refusal(
        'max-duration',
        `the run holds ${holdWords(spec.holdMs)}, this agent allows ${formatDuration(allowance.runMsMax)} in all`,
        `ask for less: --duration ${formatDuration(allowance.runMsMax / 2)}`,
      ),
    );
  }
  return findings;
}

/**
 * The rate that this agent may use.
 * @param ratePerSec its share of the run's rate; null: unlimited
 */
export function allowedShare(allowance: Allowance, ratePerSec: number | null): number | null {
  if (!Number.isFinite(allowance.ratePerSecMax)) return ratePerSec;
  return ratePerSec === null ? allowance.ratePerSecMax : Math.min(ratePerSec, allowance.ratePerSecMax);
}
