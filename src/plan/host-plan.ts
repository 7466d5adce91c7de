/**
 * Owns what one host offers for a run: sources, capacity, what bounds it, holders, and what preflight found, of its
 * resources and of its source addresses. Must never gather a fact: plans and findings are pure functions of facts.
 */

import { cidrContains } from '../base/address.ts';
import type { Finding } from '../base/errors.ts';
import type { PortRange } from '../base/tuple-space.ts';
import { formatCount, formatDuration } from '../base/units.ts';
import type { HostFacts, ToolName } from '../host/host-facts.ts';
import type { NetworkSettings } from '../host/kernel-evidence.ts';
import { type Alias, addArguments } from '../run/alias.ts';
import type { EngineChoice } from '../run/run-spec.ts';
import { type BoundName, isOnThisHost, type PlanBasis, type PlanRequest, planBasis } from './capacity.ts';
import { HOLDERS_MAX, holdersFor, type Shape } from './cost.ts';
import { preflight } from './preflight.ts';

export interface HostPlan {
  readonly addresses: readonly string[];
  readonly ports: readonly PortRange[];
  /** possible connections: ports x (source address, endpoint) pairs of one family */
  readonly tuples: number;
  /** the most connections that this host can hold */
  readonly capacityMax: number;
  /** the resource that sets it */
  readonly boundBy: BoundName;
  readonly engine: EngineChoice;
  /** holder processes for the wanted connections, or for the capacity when that is less */
  readonly holders: number;
  /** what one holder can have; `holdersFor` takes it again once the quota is known */
  readonly shape: Shape;
  /** one per resource; some finding is `refuse` exactly when `capacityMax` is less than wanted */
  readonly findings: readonly Finding[];
  /** one line each, for a person */
  readonly notes: readonly string[];
}

/**
 * What this host can hold, what bounds it, and what preflight finds.
 * @param request the run, the connections wanted from this host, its facts and its source addresses
 */
export function planHost(request: PlanRequest): HostPlan {
  const basis = planBasis(request);
  const boundBy = smallestOf(basis);
  const capacityMax = basis.bounds[boundBy];
  return {
    addresses: request.addresses,
    ports: basis.choice.ports,
    tuples: basis.tuples,
    capacityMax,
    boundBy,
    engine: basis.engine,
    holders: holdersFor(Math.min(request.wanted, capacityMax), basis.shape),
    shape: basis.shape,
    findings: [...preflight(basis), ...missingTools(basis)],
    notes: notesOf(basis),
  };
}

function smallestOf({ bounds }: PlanBasis): BoundName {
  let smallest: BoundName = 'tuples';
  for (const name of Object.keys(bounds) as BoundName[]) {
    if (bounds[name] < bounds[smallest]) smallest = name;
  }
  return smallest;
}

/** What stays unknown without a program. */
const UNKNOWN_WITHOUT: Readonly<Record<ToolName, string>> = {
  ip: "this host's addresses, routes and next hops are not known, and no address can be added",
  ss: 'the processes of listeners on this host are not known, nor their descriptors',
  arping:
    'whether another host has an address that is added, and whether the host of a silent target is still there, is not known',
};
const PACKAGE_OF: Readonly<Record<ToolName, string>> = {
  ip: 'iproute2',
  ss: 'iproute2',
  arping: 'iputils-arping',
};

/** Programs that are not installed, and matter to this run; nothing is said where none was looked for. */
function missingTools({ facts, spec }: PlanBasis): Finding[] {
  const isLocal = spec.endpoints.every((endpoint) => isOnThisHost(endpoint, facts));
  const missing = (facts.toolsMissing ?? []).filter((tool) => tool !== 'arping' || !isLocal);
  if (missing.length === 0) return [];
  const packages = [...new Set(missing.map((tool) => PACKAGE_OF[tool]))].join(' ');
  return [
    {
      what: 'tools',
      unit: 'programs',
      severity: 'warn',
      needed: missing.length,
      available: 0,
      message: `not installed: ${missing.map((tool) => `${tool} (${UNKNOWN_WITHOUT[tool]})`).join('; ')}`,
      fix: `apt-get install ${packages}`,
    },
  ];
}

function notesOf({ spec }: PlanBasis): string[] {
  if (spec.holders === null || spec.holders <= HOLDERS_MAX) return [];
  return [`--holders ${spec.holders} is taken as ${formatCount(HOLDERS_MAX)}, the most on one host`];
}

interface SourceSituation {
  readonly facts: Pick<HostFacts, 'hostAddresses' | 'routes'>;
  readonly settings: NetworkSettings;
  /** the device that a source's packets leave by, where the routing table was asked (a policy rule may send them elsewhere) */
  readonly leavesBy: ReadonlyMap<string, string>;
  /** every source of the plan */
  readonly addresses: readonly string[];
  /** what is to be added for it */
  readonly aliases: readonly Alias[];
  /** addresses that were named and are not needed */
  readonly spare: number;
  readonly leaseMs: number;
  readonly canChangeAddresses: boolean;
}

/** Commands written out in one finding; of more the first ones are shown. */
const COMMANDS_SHOWN_MAX = 64;

/** Above this share of `gc_thresh3` a segment's neighbour tables are near their end: other hosts are in them too. */
const NEIGHBOURS_WARN_RATIO = 0.85;
/** The kernel's default, which the next hop most likely has. */
const NEIGHBOURS_DEFAULT = 1_024;

/** Every finding about the sources of a plan. */
export function sourceFindings(situation: SourceSituation): Finding[] {
  return [
    ...aliasFinding(situation),
    ...neighbourFinding(situation),
    ...rpFilterFinding(situation),
    ...secondariesFinding(situation),
  ];
}

/** The commands that add aliases by hand, one line each, ready to type. */
function aliasCommands(aliases: readonly Alias[]): string {
  const shown = aliases.slice(0, COMMANDS_SHOWN_MAX).map((alias) => `ip ${addArguments(alias, null)}`);
  const more = aliases.length - shown.length;
  return shown.join(' && ') + (more > 0 ? ` (and ${formatCount(more)} more)` : '');
}

function aliasFinding(situation: SourceSituation): Finding[] {
  const { aliases, spare, leaseMs, canChangeAddresses } = situation;
  if (aliases.length === 0) return [];
  const commands = aliasCommands(aliases);
  const devices = [...new Set(aliases.map((alias) => alias.device))].join(', ');
  const count = `${formatCount(aliases.length)} ${aliases.length === 1 ? 'address' : 'addresses'}`;
  const common = { what: 'aliases', unit: 'addresses', needed: aliases.length, available: 0 };
  if (!canChangeAddresses) {
    return [
      {
        ...common,
        severity: 'refuse',
        message: `${count} must be added to ${devices} first, and this process may not (CAP_NET_ADMIN is missing)`,
        fix: `${commands}; or run as root`,
      },
    ];
  }
  const rest = spare > 0 ? `; ${formatCount(spare)} more are named and not needed` : '';
  return [
    {
      ...common,
      severity: 'ok',
      message:
        `${count} ${aliases.length === 1 ? 'is' : 'are'} added to ${devices} for the run, with a lifetime of ` +
        `${formatDuration(leaseMs)} that is renewed${rest}: ${commands}`,
      fix: null,
    },
  ];
}

/** Addresses that a neighbour must resolve one by one: those on a device's own segment. */
function neighbourFinding({ addresses, facts, settings }: SourceSituation): Finding[] {
  const isRemote = facts.routes.some((route) => !route.local && route.device !== null);
  const onSegment = isRemote ? addresses.filter((address) => isOnSegment(address, facts)).length : 0;
  const most = settings.neighboursMax ?? NEIGHBOURS_DEFAULT;
  const here = `${formatCount(most)} ${settings.neighboursMax === null ? 'by default' : 'here'}`;
  if (onSegment <= 64) return [];
  const isTight = onSegment > NEIGHBOURS_WARN_RATIO * most;
  return [
    {
      what: 'neighbour-table',
      unit: 'neighbours',
      severity: isTight ? 'warn' : 'ok',
      needed: onSegment,
      available: most,
      message:
        `${formatCount(onSegment)} source addresses on one segment: the target (or the router towards it) needs a ` +
        `neighbour entry for each, and its table ends at gc_thresh3, ${here}`,
      fix: isTight
        ? `on the target or router: sysctl -w net.ipv4.neigh.default.gc_thresh3=${4 * onSegment}; or route a network to this host and use --source-prefix`
        : null,
    },
  ];
}

function isOnSegment(address: string, facts: SourceSituation['facts']): boolean {
  return facts.hostAddresses.some(
    (own) =>
      own.device !== 'lo' &&
      own.prefix < (own.family === 4 ? 32 : 128) &&
      own.prefix > 0 &&
      cidrContains(`${own.address}/${own.prefix}`, address),
  );
}

/**
 * Strict reverse-path filtering drops answers that arrive by another device than the one towards their sender. A rule
 * that sends a source's packets out by its own device counts: the kernel looks the way back up with the source as
 * `from` (fib_validate_source in net/ipv4/fib_frontend.c). There is no such filter for IPv6.
 */
function rpFilterFinding({ addresses, aliases, facts, settings, leavesBy }: SourceSituation): Finding[] {
  const out = facts.routes.find((route) => !route.local && !route.address.includes(':'))?.device ?? null;
  if (out === null) return [];
  const deviceOf = new Map<string, string>(facts.hostAddresses.map((own) => [own.address, own.device]));
  for (const alias of aliases) deviceOf.set(alias.address, alias.device);
  const elsewhere = addresses.filter((address) => {
    const device = deviceOf.get(address);
    if (device === undefined || device === 'lo' || address.includes(':')) return false;
    return (leavesBy.get(address) ?? out) !== device && settings.rpFilter[device] === 1;
  });
  const [first] = elsewhere;
  if (first === undefined) return [];
  const device = deviceOf.get(first) ?? '';
  return [
    {
      what: 'rp-filter',
      unit: 'addresses',
      severity: 'warn',
      needed: 0,
      available: elsewhere.length,
      message:
        `${first} is on ${device}, its packets leave by ${leavesBy.get(first) ?? out}, and rp_filter on ${device} is strict (1): answers ` +
        `that come in by ${device} are dropped`,
      fix: `sysctl -w net.ipv4.conf.${device}.rp_filter=2`,
    },
  ];
}

/** Without promote_secondaries the kernel deletes a subnet's other addresses with its first one. */
function secondariesFinding({ addresses, facts, settings }: SourceSituation): Finding[] {
  const used = new Set(addresses);
  const groups = new Map<string, string[]>();
  for (const own of facts.hostAddresses) {
    if (own.family !== 4 || own.prefix >= 32 || own.device === 'lo' || !used.has(own.address)) continue;
    const key = [...groups.keys()].find((known) => {
      const [network = '', device] = known.split(' ');
      return (
        device === own.device && network.endsWith(`/${own.prefix}`) && cidrContains(network, own.address)
      );
    });
    if (key === undefined) groups.set(`${own.address}/${own.prefix} ${own.device}`, [own.address]);
    else groups.get(key)?.push(own.address);
  }
  for (const [key, group] of groups) {
    const device = key.split(' ')[1] ?? '';
    if (group.length < 2 || (settings.promoteSecondaries[device] ?? 1) !== 0) continue;
    return [
      {
        what: 'promote-secondaries',
        unit: 'addresses',
        severity: 'warn',
        needed: null,
        available: group.length,
        message:
          `${formatCount(group.length)} sources share a subnet on ${device} and promote_secondaries is off: ` +
          `removing ${group[0]} removes them all`,
        fix: `sysctl -w net.ipv4.conf.${device}.promote_secondaries=1`,
      },
    ];
  }
  return [];
}
