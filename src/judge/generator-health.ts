/**
 * Owns what our own side did: the bounds within which its numbers can be trusted, and the rules that name it: ports, descriptors, memory,
 * processes, addresses, a late loop, link, route and firewall. Must never take a counter of the host for the cause of more than it counts.
 */

import { formatSeconds, STAND_STILL_MS_MIN } from '../base/clock.ts';
import { counted, formatCount, formatMs } from '../base/units.ts';
import type { HolderHealth, PhaseLoad } from '../stats/stats.ts';
import { counterOf, type DiagnosisFacts, icmpErrors, outlierOf } from './evidence-shape.ts';
import type { Claim, Missing, MissingKind, MissingKinds } from './missing.ts';

/** Above this share of a core a holder has no time left: what it measures is its own queue. */
const CPU_SHARE_MAX = 0.9;
/** Above this share of the time a holder was ready to run and had no core. */
const CPU_WAIT_SHARE_MAX = 0.25;
/** A phase shorter than this says nothing about shares. */
const PHASE_MS_MIN = 500;
/** 99 % of the loop's turns must be no later than this. */
const LOOP_LAG_P99_MS_MAX = 100;
/** 99 % of the connects must be called no later than this after their intended time. */
const SCHEDULE_LAG_P99_MS_MAX = 100;
/** A holder that was late for its rate by so much at once, or by this share of the ramp in all, has changed the load. */
const SCHEDULE_SHIFT_MS_MAX = 1_000;
const SCHEDULE_SHIFT_SHARE_MAX = 0.05;
/** Above this share of the run a holder stood still for garbage collection. */
const GC_SHARE_MAX = 0.05;

/** What is beyond its bound, in words; empty: nothing. */
interface GeneratorHealth {
  readonly limits: readonly string[];
  /** whether connect and probe latencies measure the target rather than us */
  readonly isLatencyTrustworthy: boolean;
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function loadLimits(id: string, phase: string, load: PhaseLoad): string[] {
  if (load.wallMs < PHASE_MS_MIN) return [];
  const limits: string[] = [];
  const cpu = load.cpuMs / load.wallMs;
  const wait = load.waitMs / load.wallMs;
  if (cpu > CPU_SHARE_MAX) limits.push(`holder ${id} used ${percent(cpu)} of a core while ${phase}`);
  if (wait > CPU_WAIT_SHARE_MAX) {
    limits.push(`holder ${id} waited for a core ${percent(wait)} of the time while ${phase}`);
  }
  return limits;
}

function holderLimits(holder: HolderHealth): string[] {
  const { id } = holder;
  const limits = [...loadLimits(id, 'ramping', holder.ramp), ...loadLimits(id, 'holding', holder.hold)];
  if (holder.loopLagMsMax >= STAND_STILL_MS_MIN) {
    limits.push(`holder ${id} stood still for ${formatSeconds(holder.loopLagMsMax)}`);
  }
  if (holder.loopLagMsP99 > LOOP_LAG_P99_MS_MAX) {
    limits.push(`holder ${id}: 1 % of its turns were late by ${formatMs(holder.loopLagMsP99)} or more`);
  }
  if (holder.scheduleLagMsP99 > SCHEDULE_LAG_P99_MS_MAX) {
    limits.push(
      `holder ${id}: 1 % of its connects were called ${formatMs(holder.scheduleLagMsP99)} or more after their time`,
    );
  }
  limits.push(...shiftLimits(holder));
  const wallMs = holder.ramp.wallMs + holder.hold.wallMs;
  if (wallMs >= PHASE_MS_MIN && holder.gcMs / wallMs > GC_SHARE_MAX) {
    limits.push(`holder ${id} stood still ${percent(holder.gcMs / wallMs)} of the time to collect garbage`);
  }
  return limits;
}

/** A rate is never caught up with, so a late holder opens later than was asked. */
function shiftLimits({ id, scheduleShiftMs, scheduleShiftMsMax, ramp }: HolderHealth): string[] {
  const isLong = scheduleShiftMsMax >= SCHEDULE_SHIFT_MS_MAX;
  const isLarge = ramp.wallMs >= PHASE_MS_MIN && scheduleShiftMs / ramp.wallMs > SCHEDULE_SHIFT_SHARE_MAX;
  if (!isLong && !isLarge) return [];
  const longest = `(${formatMs(scheduleShiftMsMax)} at once)`;
  return [
    `holder ${id} was late for its rate: its connects came ${formatMs(scheduleShiftMs)} later than asked ${longest}`,
  ];
}

/** Looks at the health of every holder of a run. */
export function judgeGenerator(holders: readonly HolderHealth[]): GeneratorHealth {
  const limits = holders.flatMap(holderLimits);
  return { limits, isLatencyTrustworthy: limits.length === 0 };
}

/** The limits in one phrase: the first one, and how many more there are. */
export function limitsPhrase(limits: readonly string[]): string {
  const more = limits.length > 1 ? ` (and ${limits.length - 1} more)` : '';
  return `${limits[0] ?? ''}${more}`;
}

/** A holder that was blind for longer than a probe may take. */
export interface BlindHolder {
  readonly id: string;
  /** milliseconds */
  readonly forMs: number;
}

/**
 * The holder that stood still for longest during the hold, where that breaks the proof by probes: an answer that was overdue
 * meanwhile was not noticed. Without probes the kernel is the proof, and it does not stand still with us.
 * @param probeTimeoutMs null: nothing is probed
 * @returns null: none
 */
export function blindHolder(
  holders: readonly HolderHealth[],
  probeTimeoutMs: number | null,
): BlindHolder | null {
  if (probeTimeoutMs === null) return null;
  let blind: BlindHolder | null = null;
  for (const { id, holdLagMsMax } of holders) {
    if (holdLagMsMax > Math.max(probeTimeoutMs, blind?.forMs ?? 0)) blind = { id, forMs: holdLagMsMax };
  }
  return blind;
}

export type Rule = (facts: DiagnosisFacts, missing: Missing) => Claim | null;

const n = formatCount;

/** What was missed by time while our own loop was late by so much of it is no proven fault of another party. */
const LAG_OF_TIMEOUT_MIN = 0.5;
const NEARLY_ALL = 0.9;

/** A rule that rests on what our own kernel said to each connect. */
function ours(
  what: string,
  kinds: readonly MissingKind[],
  message: (count: string) => string,
  next: string,
): Rule {
  return (_, missing) => ({
    party: 'generator',
    what,
    kinds: missing.all(...kinds),
    message: (count) => message(n(count)),
    next,
  });
}

const generatorPorts = ours(
  'generator-ports',
  ['failed source-exhausted'],
  (count) => `our side had no source port left for ${count} connections`,
  'add source addresses (--source-ip) or endpoints; c100k-bench plan does the arithmetic',
);

const generatorDescriptors = ours(
  'generator-descriptors',
  ['failed descriptors'],
  (count) => `our side had no descriptor left for ${count} connections`,
  'raise ulimit -n on the agent, or use more --holders',
);

const generatorMemory = ours(
  'generator-memory',
  ['failed memory'],
  (count) => `our kernel had no memory or buffers left for ${count} connections`,
  'see net.ipv4.tcp_mem, the memory limit of the control group, and free -h on the agent',
);

const generatorAlias = ours(
  'generator-alias',
  ['dropped alias-lost', 'failed source-lost'],
  (count) => `a source address of ours went away under ${count} connections`,
  'see who changes addresses on the agent: ip monitor address',
);

const generatorLost: Rule = (facts, missing) => {
  const oom = counterOf(facts, 'oom_kill');
  const why = oom > 0 ? `; the kernel killed ${n(oom)} processes for lack of memory meanwhile` : '';
  return {
    party: 'generator',
    what: 'generator-lost',
    kinds: missing.all('dropped holder-lost', 'dropped agent-lost'),
    message: (count) => `${n(count)} connections ended with a process or agent of ours${why}`,
    next: 'see the notes for its name, and dmesg on its host',
  };
};

/** Only where time is the cause: a busy generator does not make a target refuse. */
const generatorCpu: Rule = (facts, missing) => {
  const { connectTimeoutMs, probeTimeoutMs } = facts.asked;
  const { limits, loopLagMsMax } = facts.generator;
  const shortestMs = Math.min(
    missing.of('failed timeout') > 0 ? connectTimeoutMs : Number.POSITIVE_INFINITY,
    missing.of('dropped probe-timeout') > 0 ? probeTimeoutMs : Number.POSITIVE_INFINITY,
  );
  if (loopLagMsMax < shortestMs * LAG_OF_TIMEOUT_MIN) return null;
  const why = limits.length > 0 ? ` (${limitsPhrase(limits)})` : '';
  return {
    party: 'generator',
    what: 'generator-cpu',
    kinds: missing.all('failed timeout', 'dropped probe-timeout'),
    message: `generator limited: its own loop was late by up to ${formatMs(loopLagMsMax)}, and what timed out had ${formatMs(shortestMs)}${why}`,
    next: 'use more hosts or cores, a lower --rate, or fewer probes',
  };
};

/** Probes that never left our own queue, with the state of link, route and address as it was seen. */
const generatorNetwork: Rule = (facts, missing) => {
  const { notSent = 0, notAcknowledged = 0 } = facts.evidence ?? {};
  const own = facts.kernel.hosts.flatMap(({ ownNetwork }) => (ownNetwork === undefined ? [] : [ownNetwork]));
  const links = own.flatMap(({ linksDown }) => Object.entries(linksDown));
  const addresses = own.flatMap(({ addressesLost }) => addressesLost);
  const routes = own.flatMap(({ routesLost }) => routesLost);
  const tell = (what: string, cause: string, next: string): Claim => ({
    party: 'generator',
    what,
    kinds: missing.some(notSent, 'dropped probe-timeout', 'dropped timeout'),
    message: (count) => `${n(count)} probes never left this host: ${cause}`,
    next,
  });
  const [link] = links;
  if (link !== undefined) {
    const see = `ip link show ${link[0]}; ip monitor link`;
    if (link[1] !== 'carrier') return tell('generator-link', `our own link ${link[0]} was set down`, see);
    // The state is ours, and whose fault it is cannot be seen from this end of the cable.
    return {
      party: 'unknown',
      what: 'generator-link',
      kinds: missing.some(notSent + notAcknowledged, 'dropped probe-timeout', 'dropped timeout'),
      message: (count) =>
        `${counted(count, 'probe was', 'probes were')} not answered, and our own link ${link[0]} has no carrier: the cable, the switch port or whoever is at its other end`,
      next: `${see}; the state of the switch port, and of the target where it is the other end`,
    };
  }
  if (notSent === 0) return null;
  if (addresses[0] !== undefined)
    return tell('generator-address', `our own address ${addresses[0]} is gone`, 'ip monitor address');
  if (routes[0] !== undefined || counterOf(facts, 'IpOutNoRoutes') + counterOf(facts, 'Ip6OutNoRoutes') > 0) {
    const where = routes[0] === undefined ? 'the target' : routes[0];
    return tell(
      'generator-route',
      `our own kernel had no route to ${where} any more`,
      'ip route get ADDRESS; ip monitor route',
    );
  }
  return null;
};

/** Packets that our own kernel did not let out, or did not let in; null: it does not count both sides. */
function droppedHere(facts: DiagnosisFacts, family: 'Ip' | 'Ip6'): { out: number; in: number } {
  const of = (name: string): number => counterOf(facts, `${family}${name}`);
  const out = of('OutTransmits') > 0 ? of('OutRequests') - of('OutTransmits') : 0;
  // A host that forwards receives what it never delivers.
  const inward =
    of('ForwDatagrams') > 0 || of('OutForwDatagrams') > 0 ? 0 : of('InReceives') - of('InDelivers');
  return { out: Math.max(0, out), in: Math.max(0, inward) };
}

/** The endpoint that alone fails, in words. */
function whereOf(facts: DiagnosisFacts): string {
  const outlier = outlierOf(facts.evidence?.byEndpoint);
  return outlier === null ? '' : ` towards ${outlier.bad.map(([name]) => name).join(', ')}`;
}

/** Packets that this host's own rules dropped or rejected: at least as many as the connects that it explains. */
export const generatorFirewall: Rule = (facts, missing) => {
  const four = droppedHere(facts, 'Ip');
  const six = droppedHere(facts, 'Ip6');
  const out = Math.max(four.out, six.out);
  const inward = Math.max(four.in, six.in);
  const answered: readonly MissingKind[] = ['failed refused', 'failed unreachable', 'failed prohibited'];
  const isLocal = facts.kernel.hosts.some(({ hasLocalEndpoint }) => hasLocalEndpoint);
  // What our own rules answer never came from elsewhere, so it is a matter of the way out alone.
  // Of an IPv6 connect the same errno also comes of an ICMPv6 error (icmpv6_err_convert in net/ipv6/icmp.c).
  const prohibited = Math.max(0, missing.of('failed prohibited') - icmpErrors(facts, 6));
  const kinds: MissingKinds = { 'failed prohibited': prohibited };
  if (out > 0 && out >= missing.of(...answered)) Object.assign(kinds, missing.all(...answered));
  // Every SYN and every one sent again was dropped, or its answer was.
  const syns = missing.of('failed timeout') + counterOf(facts, 'TCPSynRetrans');
  if (missing.of('failed timeout') > 0 && Math.max(out, inward) >= syns * NEARLY_ALL)
    Object.assign(kinds, missing.all('failed timeout'));
  const side = out >= inward ? 'output' : 'input';
  const local = isLocal
    ? '; the target is on this host, so that its input is filtered by the same rules'
    : '';
  return {
    party: 'generator',
    what: 'generator-firewall',
    kinds,
    message: (count) =>
      `our own firewall dropped or rejected ${n(count)} connects${whereOf(facts)}: this host's kernel dropped ${n(Math.max(out, inward, count))} packets at its ${side}${local}`,
    next: 'see its rules on the agent: nft list ruleset; iptables-save -c',
  };
};

export const GENERATOR_RULES: readonly Rule[] = [
  generatorPorts,
  generatorDescriptors,
  generatorMemory,
  generatorLost,
  generatorAlias,
  generatorCpu,
  generatorNetwork,
];
