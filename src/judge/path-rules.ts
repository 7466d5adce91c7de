/**
 * Owns the rules that name the way to the target: its tables, its ports, its limits, who rejects, and connects without an
 * answer. Must never name the path where the target's own host gives the same picture and nothing tells them apart.
 */
import { addressPart } from '../base/endpoint.ts';
import type { Party } from '../base/outcome.ts';
import { counted, formatCount } from '../base/units.ts';
import { translatedAddresses, translatedPairs } from '../stats/observed-sources.ts';
import {
  aftermathsOf,
  type DiagnosisFacts,
  equalShareOf,
  icmpErrors,
  isRouted,
  orderOf,
  outlierOf,
  rejectedBy,
} from './evidence-shape.ts';
import type { Rule } from './generator-health.ts';
import type { Claim, Missing, MissingKinds } from './missing.ts';

const n = formatCount;

/** Ports of one address behind a NAT, as path and proxy use them, and how many of them may be in use otherwise. */
const PORTS_OF_ONE_ADDRESS = [
  { ports: 64_512, slack: 512, words: 'all ports from 1024 upward' },
  { ports: 28_232, slack: 282, words: 'the default ephemeral range 32768-60999' },
] as const;
/** A plateau at more addresses than this is a coincidence. */
const PLATEAU_ADDRESSES_MAX = 64;

const MOST = 0.5;
const NEARLY_ALL = 0.9;
const TABLE_FULL_RATIO = 0.98;
/** A share of a port range from which it counts as used up: a few ports may rest after a try. */
const NEARLY_FULL = 0.99;
/** A shorter run of ports that are all in use may be a coincidence. */
const SPAN_TELLING_MIN = 100;
/** Fewer connects than this, or a smaller share of what was asked, are a handful and no plateau. */
const PLATEAU_COUNT_MIN = 10;
const PLATEAU_SHARE_MIN = 0.01;
/** A connect that took so long was sent again: the first SYN was dropped, and a later one was not. */
const SENT_AGAIN_MS = 900;
/** Successes of each second differ by no more than this from their mean where they are even. */
const EVEN_SHARE = 0.35;
const EVEN_SECONDS_MIN = 3;
/** Of the time from one success to the next; who waits in a queue waits for one at least. */
const WAIT_SHARE = 0.3;

/** Usual descriptor limits of a process. What it holds besides connections takes up to 64 of them. */
const DESCRIPTOR_LIMITS = [1_024, 2_048, 4_096, 8_192, 10_240, 16_384, 32_768, 65_535, 65_536] as const;
const DESCRIPTORS_BESIDES_MAX = 64;

/** The descriptor limit that a number is just below; null: none. */
export function limitNear(connections: number): number | null {
  const isNear = (one: number): boolean => connections <= one && connections >= one - DESCRIPTORS_BESIDES_MAX;
  return DESCRIPTOR_LIMITS.find(isNear) ?? null;
}

const pathConntrack: Rule = (facts, missing) => {
  for (const host of facts.kernel.hosts) {
    const sample = host.samples.conntrack;
    if (sample?.limit == null || sample.limit === 0) continue;
    if (sample.max < sample.limit * TABLE_FULL_RATIO) continue;
    return {
      party: 'path',
      what: 'path-conntrack',
      kinds: missing.all('failed timeout', 'unattempted', 'failed unreachable', 'failed prohibited'),
      message: `the connection tracking table of ${host.agent} was full: ${n(sample.max)} of ${n(sample.limit)} entries`,
      next: 'raise it: sysctl -w net.netfilter.nf_conntrack_max=1048576, or do not track: nft ... notrack',
    };
  }
  return null;
};

/** A whoami target saw every port of the range that a rewriting hop has: there is no further one. */
const pathTranslated: Rule = (facts, missing) => {
  const { seen = null } = facts;
  if (seen === null || seen.sourceChanged === 0 || seen.portMin === null || seen.portMax === null)
    return null;
  const pairs = translatedPairs(seen).length;
  const each = seen.portMax - seen.portMin + 1;
  if (each < SPAN_TELLING_MIN || seen.sourceChanged < pairs * each * NEARLY_FULL) return null;
  const addresses = translatedAddresses(seen);
  const from = addresses.length === 1 ? addresses[0] : `${n(addresses.length)} addresses`;
  return {
    party: 'path',
    what: 'path-translated',
    kinds: missing.all(
      'failed timeout',
      'unattempted',
      'failed handshake',
      'young',
      'dropped fin',
      'dropped rst',
    ),
    message: `the target sees ${n(seen.sourceChanged)} connections from ${from}, and every port from ${seen.portMin} to ${seen.portMax} is in use: the hop that rewrites our source has no further one`,
    next: 'c100k-bench path says what would lift it, and plan --via how far',
  };
};

/** Types and codes of ICMP and ICMPv6 that say that there is no way, or that packets go round, and not that a rule forbids it. */
const NO_WAY: ReadonlySet<string> = new Set(['3/0', '3/1', '3/6', '3/7', '11/0', '1/0', '1/3']);

/** Names of what filters send (RFC 792, RFC 1812, RFC 4443). */
const ICMP_NAMES: Readonly<Record<string, string>> = {
  '3/2': 'protocol unreachable',
  '3/3': 'port unreachable',
  '3/9': 'network prohibited',
  '3/10': 'host prohibited',
  '3/13': 'administratively prohibited',
  '1/1': 'administratively prohibited',
  '1/4': 'port unreachable',
  '1/5': 'source address refused',
  '1/6': 'route rejected',
  '11/0': 'time to live exceeded',
};

/** What one sender of ICMP errors explains of the connects to some endpoints. */
function rejectedKinds(
  facts: DiagnosisFacts,
  missing: Missing,
  endpoints: ReadonlySet<string>,
): MissingKinds {
  const places = facts.evidence?.byEndpoint ?? {};
  const own = Object.entries(places).filter(([name]) => endpoints.has(name));
  // Without places there is one endpoint, or all of them were rejected.
  const isAll = endpoints.size >= facts.asked.endpoints.length || own.length === 0;
  const of = (reason: 'refused' | 'unreachable' | 'prohibited'): number =>
    isAll
      ? missing.of(`failed ${reason}`)
      : own.reduce((sum, [, { failed }]) => sum + (failed[reason] ?? 0), 0);
  const errors = icmpErrors(facts, 4) + icmpErrors(facts, 6);
  const unreachable = Math.min(of('unreachable'), errors);
  const prohibited = Math.min(of('prohibited'), errors - unreachable);
  // Where nothing was established, what got no answer is of one piece with what was rejected.
  const dead = own.filter(([, { established }]) => established === 0);
  const silent = dead.reduce((sum, [, { failed }]) => sum + (failed.timeout ?? 0), 0);
  const isDead = facts.connections.established === 0 && isAll;
  return {
    'failed unreachable': unreachable,
    'failed prohibited': prohibited,
    // A port without a listener answers with a RST, which no ICMP error is counted for.
    'failed refused': Math.min(of('refused'), errors - unreachable - prohibited),
    ...(isDead ? missing.all('failed timeout', 'unattempted') : missing.some(silent, 'failed timeout')),
  };
}

/** One who rejects by ICMP. A kernel sends six to one destination and then one a second, so most connects get none. */
const pathRejected: Rule = (facts, missing) => {
  // Of a next hop that does not answer, our own kernel says by ICMP that there is no way.
  const all = rejectedBy(facts).filter(({ isOwn, type, code }) => !(isOwn && NO_WAY.has(`${type}/${code}`)));
  const [first] = all;
  if (first === undefined) return null;
  const { by, type, code, isOwn } = first;
  const same = all.filter((one) => one.by === by && one.type === type && one.code === code);
  const kinds = rejectedKinds(facts, missing, new Set(same.map(({ endpoint }) => endpoint)));
  const key = `${type}/${code}`;
  const isTarget = facts.asked.endpoints.some((one) => addressPart(one) === by);
  // The target's own host has a way to itself, whatever its filter says.
  const isNoWay = NO_WAY.has(key) && !isTarget;
  const how = isNoWay
    ? key === '11/0'
      ? 'says that packets to the target go round'
      : 'says that it has no way to the target'
    : 'rejects them: a filter there, and no port without a listener, which answers with a RST';
  const who = isTarget ? `${by}, the target's own address,` : by;
  const name = ICMP_NAMES[key];
  return {
    party: isOwn ? 'generator' : 'path',
    what: isOwn ? 'generator-firewall' : isNoWay ? 'path-unreachable' : 'path-rejected',
    kinds,
    message: (count) =>
      isOwn
        ? `our own firewall rejects ${n(count)} connects by ICMP (${key}${name === undefined ? '' : `, ${name}`})`
        : `${n(count)} connects failed, and ${who} answers one more by ICMP (type/code ${key}${name === undefined ? '' : `, ${name}`}): it ${how}; ${sentWords(facts)}`,
    next: isOwn
      ? 'see its rules on the agent: nft list ruleset; iptables-save -c'
      : `see the rules and routes of ${by}: nft list ruleset; ip route`,
  };
};

function sentWords(facts: DiagnosisFacts): string {
  const errors = icmpErrors(facts, 4) + icmpErrors(facts, 6);
  const rest =
    (facts.connections.failed.timeout ?? 0) === 0
      ? ''
      : ', and a kernel sends few of them (icmp_ratelimit), so the other connects got no answer';
  return `our kernel counted ${n(errors)} such messages${rest}`;
}

/** Refused, and our kernel counted as many ICMP errors: no RST of a port without a listener. Who sent them was not seen. */
const refusedByIcmp: Rule = (facts, missing) => {
  const errors = icmpErrors(facts, 4) + icmpErrors(facts, 6);
  const refused = missing.of('failed refused');
  if (refused === 0 || errors < refused * NEARLY_ALL) return null;
  // Answered by a RST once more: the errors are of something else, such as UDP of another program.
  const tries = aftermathsOf(facts);
  if (tries.length > 0 && tries.every((one) => one.connect === 'refused' && one.rejected === undefined))
    return null;
  return {
    party: 'unknown',
    what: 'path-rejected',
    kinds: missing.all('failed refused'),
    message: (count) =>
      `${counted(count, 'connect was', 'connects were')} refused, and our kernel counted ${n(errors)} ICMP errors meanwhile: a filter on the way or at the target rejects so, and a port without a listener answers with a RST; one more connect did not show who sends them`,
    next: 'see who sends them: tcpdump -n icmp or icmp6; nft list ruleset on the way and at the target',
  };
};

/** What our own kernel said without any ICMP message: no host answers for the next hop. */
const pathUnreachable: Rule = (facts, missing) => {
  const own = aftermathsOf(facts);
  const isNoneThere = own.length > 0 && own.every(({ isNeighbourThere }) => isNeighbourThere === false);
  const routed = isRouted(facts);
  const party: Party = routed === false && isNoneThere ? 'target' : 'unknown';
  return {
    party,
    what: party === 'target' ? 'target-gone' : 'path-unreachable',
    kinds: missing.all('failed unreachable', 'failed prohibited', 'dropped unreachable'),
    message: (count) =>
      party === 'target'
        ? `no host answers for the target's address on our own segment: ${n(count)} connects found it unreachable`
        : `${n(count)} connections found the target unreachable, as a router or our own kernel says`,
    next: 'see the route and who rejects: ip route get ADDRESS, ip neigh, traceroute -T -p PORT ADDRESS',
  };
};

/** k addresses' worth of ports; null: no such plateau. */
function portPlateau(established: number): { addresses: number; ports: number; words: string } | null {
  for (const { ports, slack, words } of PORTS_OF_ONE_ADDRESS) {
    const addresses = Math.ceil(established / ports);
    if (addresses < 1 || addresses > PLATEAU_ADDRESSES_MAX) continue;
    if (addresses * ports - established <= slack) return { addresses, ports, words };
  }
  return null;
}

/** What a number may mean beside the path: a remark, and the command that tells. */
function remarkOn(established: number): string {
  const limit = limitNear(established);
  return limit === null
    ? ''
    : `; ${n(established)} is also just below a descriptor limit of ${n(limit)}, but a target without descriptors would leave connections open that it never answers (grep files /proc/PID/limits there tells)`;
}

/** Whether all that were established have proven themselves, so that no application has stopped taking them. */
function areAllProven({ connections, hold, evidence }: DiagnosisFacts): boolean {
  const isAnyUnanswered = (connections.dropped['probe-timeout'] ?? 0) + (evidence?.acknowledged ?? 0) > 0;
  return hold.proof !== 'kernel-only' && connections.verified >= connections.open && !isAnyUnanswered;
}

/** Successes stop for good before connects without an answer begin, and all that are open are answered. */
const pathLimit: Rule = (facts, missing) => {
  const { established, open } = facts.connections;
  const silent = missing.of('failed timeout');
  const isHandful = silent < Math.max(PLATEAU_COUNT_MIN, facts.asked.connections * PLATEAU_SHARE_MIN);
  const isAlone = silent >= missing.rest * NEARLY_ALL && established > 0;
  if (isHandful || !isAlone || outlierOf(facts.evidence?.byEndpoint) !== null) return null;
  const order = orderOf(facts, 'silent');
  const wasSentAgain = (facts.connectMs?.max ?? 0) >= SENT_AGAIN_MS;
  const kinds = missing.all('failed timeout', 'unattempted');
  const isPlateau = order === 'stops' && !wasSentAgain && areAllProven(facts);
  const plateau = portPlateau(established);
  if (!isPlateau) return null;
  if (plateau !== null) {
    const { addresses, ports, words } = plateau;
    return {
      party: 'path',
      what: 'path-ports',
      kinds,
      message: (count) =>
        `the path ends at ${n(established)} connections: ${addresses === 1 ? 'one address' : `${addresses} addresses`} x ${n(ports)} ports (${words}); ${n(count)} further connects got no answer at all`,
      next: 'on the router or proxy: conntrack -S (insert_failed), the port range of its masquerade, its source addresses',
    };
  }
  return limitClaim(facts, kinds, open);
};

function limitClaim(facts: DiagnosisFacts, kinds: MissingKinds, open: number): Claim {
  const equal = equalShareOf(facts);
  if (equal?.isProven === true)
    return {
      party: 'path',
      what: 'path-source-limit',
      kinds,
      message: (count) =>
        `each of our ${n(equal.sources)} source addresses keeps ${n(equal.each)} connections, though they asked for different numbers: a limit of ${n(equal.each)} for each source; ${n(count)} further connects got no answer`,
      next: 'on the way and in the firewall of the target: nft list ruleset (ct count), iptables -m connlimit; or use more --source-ip',
    };
  const both =
    equal === null
      ? ''
      : `; ${n(equal.each)} at each of ${n(equal.sources)} source addresses, which took turns: a limit of ${n(equal.each)} a source, or of ${n(open)} in all (the same run with one --source-ip tells)`;
  return {
    party: equal === null ? 'path' : 'unknown',
    what: equal === null ? 'path-limit' : 'unknown',
    kinds,
    message: (count) =>
      `${n(open)} connections are held and answered, and from then on nothing got through: ${n(count)} further connects got no answer at all. A limit of connections on the way (a NAT's ports, a firewall), or the same in the firewall of the target's host, which looks alike from here${both}${remarkOn(open)}`,
    next: 'on the router and on the target: conntrack -S, nft list ruleset (ct count), the port range of a masquerade',
  };
}

/** Connections established in each full second of the ramp; the first one left out. */
function perSecond(facts: DiagnosisFacts): number[] {
  const points = (facts.timeline ?? []).filter(({ phase }) => phase === 'ramping');
  const rates: number[] = [];
  for (const [at, point] of points.entries()) {
    const before = points[at - 1];
    if (before === undefined) continue;
    const sec = point.atSec - before.atSec;
    if (sec >= 0.5) rates.push((point.established - before.established) / sec);
  }
  return rates;
}

/** Successes go on evenly while other connects get no answer: so many a second are let through. */
const pathRateLimit: Rule = (facts, missing) => {
  const silent = missing.of('failed timeout');
  if (silent < PLATEAU_COUNT_MIN || silent < missing.rest * NEARLY_ALL) return null;
  if ((facts.connectMs?.max ?? 0) < SENT_AGAIN_MS) return null;
  const rates = perSecond(facts).filter((rate) => rate > 0);
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  if (rates.length < EVEN_SECONDS_MIN || rates.some((rate) => Math.abs(rate - mean) > mean * EVEN_SHARE))
    return null;
  // A full accept queue is emptied as evenly; what waits in it is answered late where it is asked.
  const waitMs = (1_000 / mean) * WAIT_SHARE;
  const isQueueRuledOut = areAllProven(facts) && (facts.echoMs?.p90 ?? Number.POSITIVE_INFINITY) < waitMs;
  const { ratePerSec } = facts.asked;
  if (ratePerSec !== null && Math.abs(mean - ratePerSec) <= ratePerSec * EVEN_SHARE) return null;
  return {
    party: isQueueRuledOut ? 'path' : 'unknown',
    what: isQueueRuledOut ? 'path-rate-limit' : 'unknown',
    kinds: missing.all('failed timeout', 'unattempted'),
    message: (count) =>
      `about ${n(Math.round(mean))} connections a second get through, evenly to the end, and ${n(count)} connects beside them got no answer: a rate limit${isQueueRuledOut ? '' : ', or an application that accepts so many a second from a full queue'}`,
    next: `on the way and at the target: nft list ruleset (limit rate), ss -ltn (Recv-Q); or ask for less: --rate ${n(Math.max(1, Math.floor(mean * 0.9)))}/s`,
  };
};

/** No answer came to the ports of the plan, and a new connect with a port of the kernel's choice was taken. */
const pathSourcePorts: Rule = (facts, missing) => {
  const silent = missing.of('failed timeout');
  const blocks = facts.evidence?.byPortBlock;
  if (silent === 0 || blocks === undefined) return null;
  const asked = [...blocks.asked.keys()].filter((at) => (blocks.asked[at] ?? 0) > 0);
  const dead = asked.filter((at) => (blocks.silent[at] ?? 0) >= (blocks.asked[at] ?? 0) * 0.98);
  const alive = asked.filter((at) => (blocks.established[at] ?? 0) >= (blocks.asked[at] ?? 0) * 0.98);
  const tries = aftermathsOf(facts);
  const isKernelsTaken =
    tries.length > 0 &&
    tries.every(({ connect, planConnect }) => connect === 'taken' && planConnect === 'silent');
  // Ports are used in turn, so a limit that is reached leaves the later ones without an answer as well.
  const inBlocks = (list: readonly number[], counts: readonly number[]): number =>
    list.reduce((sum, at) => sum + (counts[at] ?? 0), 0);
  // Two connects in a block of their own are no filter: what is missing must be there, and not in the block that is mixed.
  const { established } = facts.connections;
  const isByBlock =
    inBlocks(dead, blocks.silent) >= Math.max(PLATEAU_COUNT_MIN, silent * MOST) &&
    inBlocks(alive, blocks.established) >= Math.max(PLATEAU_COUNT_MIN, established * MOST) &&
    dead.length + alive.length >= asked.length - 1 &&
    orderOf(facts, 'silent') === 'goes-on';
  if (!isByBlock && !(isKernelsTaken && dead.length === asked.length)) return null;
  const ports = (list: readonly number[]): string =>
    list.length === 0 ? '' : `${(list[0] ?? 0) * 1_024} to ${((list.at(-1) ?? 0) + 1) * 1_024 - 1}`;
  const others = isByBlock ? ports(alive) : "the kernel's own choice (32768 to 60999 by default)";
  return {
    party: 'path',
    what: 'path-source-ports',
    kinds: missing.all('failed timeout', 'unattempted'),
    message: (count) =>
      `${n(count)} connects from source ports ${ports(dead)} got no answer at all, and those from ${others} are taken: a filter on the way (a stateless one, such as a network ACL) lets other source ports through only`,
    next: 'let the filter pass the ports of the plan, or give ports that it passes: --source-ports 32768-60999',
  };
};

/** One endpoint of several that gives no answer at all while the others give one. */
const pathEndpoint: Rule = (facts, missing) => {
  const outlier = outlierOf(facts.evidence?.byEndpoint);
  if (outlier === null) return null;
  const silent = outlier.bad.reduce((sum, [, { failed }]) => sum + (failed.timeout ?? 0), 0);
  const addressOf = (endpoint: string): string => endpoint.slice(0, endpoint.lastIndexOf(':'));
  const alive = new Set(outlier.good.map(([name]) => addressOf(name)));
  // Where another port of the same address answers, its kernel is there and would refuse what it does not serve.
  const isFiltered = outlier.bad.every(([name]) => alive.has(addressOf(name)));
  const names = outlier.bad.map(([name]) => name).join(', ');
  return {
    party: isFiltered ? 'path' : 'unknown',
    what: 'path-endpoint',
    kinds: missing.some(silent, 'failed timeout'),
    message: (count) =>
      `of ${n(outlier.bad.length + outlier.good.length)} endpoints only ${names} gives no answer: ${n(count)} connects; ${isFiltered ? 'other ports of that address answer, so a filter drops this one' : 'its host is down, or something on the way drops it'}`,
    next: `see the firewall on the way and at ${names}: nft list ruleset; traceroute -T`,
  };
};

/** Before anything that looks at the target alone. */
export const PATH_FACT_RULES: readonly Rule[] = [pathConntrack, pathTranslated];
/** Connects that did not get through. */
export const PATH_CONNECT_RULES: readonly Rule[] = [
  pathRejected,
  refusedByIcmp,
  pathEndpoint,
  pathSourcePorts,
  pathLimit,
  pathRateLimit,
  pathUnreachable,
];
