/**
 * Owns what an agent finds out about its host before anything is opened: facts, sources, plan, findings.
 * Must never open a connection to the target.
 *
 * The way of a source through this folder, from what was typed to what is given back: source-addresses.ts -> discover.ts ->
 * preparation.ts -> source-check.ts -> alias-lease.ts -> aliases.ts -> alias-records.ts.
 */

import assert from 'node:assert/strict';
import { cidrContains } from '../base/address.ts';
import { BenchError, ErrorCode, ExitCode, type Finding } from '../base/errors.ts';
import { slicesOf } from '../base/tuple-space.ts';
import { formatCount, formatDuration } from '../base/units.ts';
import { gatherHostFacts, type HostFacts } from '../host/host-facts.ts';
import type { NetworkSettings } from '../host/kernel-evidence.ts';
import { ANY_SOURCE, type SourceLimits } from '../plan/allowance.ts';
import { holdersFor } from '../plan/cost.ts';
import { type HostPlan, planHost } from '../plan/host-plan.ts';
import { type Alias, addArguments } from '../run/alias.ts';
import { splitEvenly, splitPending, splitRate } from '../run/quota.ts';
import type { HolderSpec, RunSpec } from '../run/run-spec.ts';
import { chooseFrom, findSources, type SourceChoice, type Sourcing } from './discover.ts';

/** What this host can do for `wanted` connections of a run. */
export interface Preparation {
  readonly plan: HostPlan;
  readonly notes: readonly string[];
  readonly wanted: number;
  readonly sourcing: Sourcing;
  /** the sources of the plan, and what must be added before they can be used */
  readonly choice: SourceChoice;
  /** what makes the sources impossible here, whatever the capacity; the plan's findings hold it too */
  readonly blocked: readonly Finding[];
}

/** Turns a refusal by exception into a finding, so that it crosses the control channel like the others. */
function findingOf(error: BenchError): Finding {
  return {
    what: error.code,
    severity: 'refuse',
    needed: null,
    available: null,
    unit: '',
    message: error.message,
    fix: error.hint,
  };
}

/**
 * Refuses a system whose kernel is not Linux: sockets are opened by its system calls.
 * @param platform as Node names it
 * @throws BenchError `not-linux`, exit 3
 */
function checkSystem(platform: string): void {
  if (platform === 'linux') return;
  throw new BenchError(
    ErrorCode.notLinux,
    ExitCode.refused,
    `agents and holders need Linux, and this is ${platform}`,
    'run it in a container or a virtual machine with Linux, or take agents on Linux hosts: --ssh user@host',
  );
}

/**
 * Gathers facts and plans.
 * @param wanted connections that this host is to hold
 * @param limits what the owner of this host says about sources
 * @returns the plan, or the findings that make one impossible
 */
export async function prepareHost(
  spec: RunSpec,
  wanted: number,
  limits: SourceLimits = ANY_SOURCE,
): Promise<Preparation | readonly Finding[]> {
  try {
    const facts = await gatherHostFacts(spec.endpoints);
    checkSystem(facts.platform);
    const sourcing = await findSources(spec, facts, wanted, undefined, limits);
    if (sourcing.forbidden !== null) return [sourcing.forbidden];
    return planSources(spec, wanted, sourcing);
  } catch (error) {
    if (error instanceof BenchError) return [findingOf(error)];
    throw error;
  }
}

/**
 * Plans with the sources of this host, less those that were found not to work.
 * @param wanted connections that this host is to hold
 */
export function planSources(
  spec: RunSpec,
  wanted: number,
  sourcing: Sourcing,
  excluded: ReadonlySet<string> = new Set(),
): Preparation {
  const choice = chooseFrom(sourcing, spec, wanted, excluded);
  const plan = planHost({ spec, wanted, facts: sourcing.facts, addresses: choice.addresses });
  const ofSources = sourceFindings({
    facts: sourcing.facts,
    settings: sourcing.settings,
    leavesBy: sourcing.leavesBy,
    addresses: choice.addresses,
    aliases: choice.aliases,
    spare: choice.spare,
    leaseMs: spec.sources.aliasLeaseMs,
    canChangeAddresses: sourcing.canChangeAddresses,
  });
  return {
    plan: { ...plan, findings: [...plan.findings, ...ofSources] },
    notes: [...sourcing.notes, ...plan.notes],
    wanted,
    sourcing,
    choice,
    blocked: ofSources.filter((finding) => finding.severity === 'refuse'),
  };
}

/** Where further holders of a grown quota go: behind the tuples and the numbers that are taken. */
interface Placement {
  readonly tuplesFrom: number;
  readonly indexFrom: number;
}

/**
 * Splits an agent's quota over its holders: disjoint slices, quotas that sum to the whole.
 * @param share connections, rate and pending cap of this agent
 * @param keepFree tuples that no holder gets now, for a quota that may grow
 */
export function holderSpecs(
  agent: string,
  spec: RunSpec,
  plan: HostPlan,
  share: { connections: number; ratePerSec: number | null; pendingMax: number },
  keepFree: number,
  placement: Placement = { tuplesFrom: 0, indexFrom: 0 },
): HolderSpec[] {
  const holders = holdersFor(share.connections, plan.shape);
  const quotas = splitEvenly(share.connections, holders);
  const rates = splitRate(share.ratePerSec, quotas);
  const pendings = splitPending(share.pendingMax, quotas);
  // The slice behind the last holder's is nobody's: a quota that grows takes its tuples from there.
  const tuples = plan.tuples - placement.tuplesFrom;
  const slices = slicesOf(tuples, [...quotas, Math.min(keepFree, tuples - share.connections)]);
  return quotas.map((connections, index) => {
    const [slice, ratePerSec, pendingMax] = [slices[index], rates[index], pendings[index]];
    assert(
      slice !== undefined && ratePerSec !== undefined && pendingMax !== undefined,
      'a part for each holder',
    );
    return {
      id: `${agent}/${placement.indexFrom + index + 1}`,
      addresses: plan.addresses,
      ports: plan.ports,
      endpoints: spec.endpoints,
      sliceFrom: placement.tuplesFrom + slice.from,
      sliceTo: placement.tuplesFrom + slice.to,
      connections,
      ratePerSec,
      pendingMax,
      connectTimeoutMs: spec.connectTimeoutMs,
      close: spec.close,
      protocol: spec.protocol,
      ...(spec.protocolOptions === undefined ? {} : { protocolOptions: spec.protocolOptions }),
      probeEveryMs: spec.probeEveryMs,
      probeTimeoutMs: spec.probeTimeoutMs,
      onDrop: spec.onDrop,
      wantsLossDetails: spec.wantsLossDetails,
    };
  });
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
          `${formatCount(group.length)} sources share a subnet on ${device} and promote_secondaries is off: whoever ` +
          `removes ${group[0]} removes them all`,
        fix: `sysctl -w net.ipv4.conf.${device}.promote_secondaries=1`,
      },
    ];
  }
  return [];
}
