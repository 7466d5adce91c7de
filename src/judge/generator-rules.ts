/**
 * Owns the rules that name our own side: ports, descriptors, memory, processes, addresses, a late loop, our own link, route and
 * firewall. Must never take a counter of the host for the cause of less than it counts.
 */
import { formatCount, formatMs } from '../base/units.ts';
import { counterOf, type DiagnosisFacts } from './diagnosis-facts.ts';
import { outlierOf } from './evidence-shape.ts';
import { limitsPhrase } from './generator-health.ts';
import type { Claim, Kind, Kinds, Missing } from './missing.ts';

export type Rule = (facts: DiagnosisFacts, missing: Missing) => Claim | null;

const n = formatCount;

/** What was missed by time while our own loop was late by so much of it is no proven fault of another party. */
const LAG_OF_TIMEOUT_MIN = 0.5;
const NEARLY_ALL = 0.9;

/** A rule that rests on what our own kernel said to each connect. */
function ours(what: string, kinds: readonly Kind[], message: (count: string) => string, next: string): Rule {
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
  const notSent = facts.evidence?.notSent ?? 0;
  const kinds = missing.some(notSent, 'dropped probe-timeout', 'dropped timeout', 'last-silent');
  if (notSent === 0) return null;
  const own = facts.kernel.hosts.flatMap(({ ownNetwork }) => (ownNetwork === undefined ? [] : [ownNetwork]));
  const links = own.flatMap(({ linksDown }) => Object.entries(linksDown));
  const addresses = own.flatMap(({ addressesLost }) => addressesLost);
  const routes = own.flatMap(({ routesLost }) => routesLost);
  const tell = (what: string, cause: string, next: string): Claim => ({
    party: 'generator',
    what,
    kinds,
    message: (count) => `${n(count)} probes never left this host: ${cause}`,
    next,
  });
  const [link] = links;
  if (link !== undefined) {
    const how = link[1] === 'carrier' ? 'has no carrier (cable, switch port or its peer)' : 'was set down';
    return tell(
      'generator-link',
      `our own link ${link[0]} ${how}`,
      `ip link show ${link[0]}; ip monitor link`,
    );
  }
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
  const answered: readonly Kind[] = ['failed refused', 'failed unreachable', 'failed prohibited'];
  const isLocal = facts.kernel.hosts.some(({ hasLocalEndpoint }) => hasLocalEndpoint);
  // What our own rules answer never came from elsewhere, so it is a matter of the way out alone.
  const kinds: Kinds = { 'failed prohibited': missing.of('failed prohibited') };
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
