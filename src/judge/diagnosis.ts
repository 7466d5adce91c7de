/**
 * Owns who ran out: from the facts of a run to what gave out, with the evidence and the next command. Every rule has a
 * test made from a recorded run of that fault. Must never guess: what the facts cannot tell is called unknown.
 */

import { type Party, totalOf } from '../base/outcome.ts';
import { formatCount, formatMs } from '../base/units.ts';
import { translatedAddresses, translatedPairs } from '../stats/observed-sources.ts';
import { limitsPhrase } from './generator-health.ts';
import type { Diagnosis, RunReport } from './report.ts';

/** What a diagnosis rests on; a report has it all. */
type DiagnosisFacts = Pick<
  RunReport,
  'asked' | 'connections' | 'probes' | 'losses' | 'hold' | 'kernel' | 'target' | 'agents'
> & {
  readonly generator: Pick<RunReport['generator'], 'limits' | 'loopLagMsMax'>;
  /** only where a whoami target was asked */
  readonly seen?: RunReport['seen'];
};

/** Ports of one address behind a NAT, as path and proxy use them, and how many of them may be in use otherwise. */
const PORTS_OF_ONE_ADDRESS = [
  { ports: 64_512, slack: 512, words: 'all ports from 1024 upward' },
  { ports: 28_232, slack: 282, words: 'the default ephemeral range 32768-60999' },
] as const;
/** A plateau at more addresses than this is a coincidence. */
const PLATEAU_ADDRESSES_MAX = 64;

/** Usual descriptor limits of a process. What it holds besides connections takes up to 64 of them. */
const DESCRIPTOR_LIMITS = [1_024, 2_048, 4_096, 8_192, 10_240, 16_384, 32_768, 65_535, 65_536] as const;
const DESCRIPTORS_BESIDES_MAX = 64;

/** A share from which one cause stands for all. */
const MOST = 0.5;
const NEARLY_ALL = 0.9;
const TABLE_FULL_RATIO = 0.98;
const DELAYED_ACK_MS_MAX = 200;
/** A share of a port range from which it counts as used up: a few ports may rest after a try. */
const NEARLY_FULL = 0.99;
/** A shorter run of ports that are all in use may be a coincidence. */
const SPAN_TELLING_MIN = 100;

type Rule = (facts: DiagnosisFacts) => Diagnosis | null;

const n = formatCount;

function found(party: Party, what: string, count: number, message: string, next: string): Diagnosis {
  return { party, what, count, message, next };
}

function failed(facts: DiagnosisFacts, reason: keyof DiagnosisFacts['connections']['failed']): number {
  return facts.connections.failed[reason] ?? 0;
}

function dropped(facts: DiagnosisFacts, reason: keyof DiagnosisFacts['connections']['dropped']): number {
  return facts.connections.dropped[reason] ?? 0;
}

/** Connects without an answer, and those that were given up because of them. */
function silent(facts: DiagnosisFacts): number {
  return failed(facts, 'timeout') + (failed(facts, 'timeout') > 0 ? facts.connections.unattempted : 0);
}

/** Connections that are open at the end and whose far application never answered, where it had to. */
function unanswered(facts: DiagnosisFacts): number {
  const { open, verified } = facts.connections;
  return facts.asked.probeEveryMs === null ? 0 : Math.max(0, open - verified);
}

function localCounter(facts: DiagnosisFacts, name: string): number {
  let sum = 0;
  for (const host of facts.kernel.hosts) if (host.hasLocalEndpoint) sum += host.counters[name] ?? 0;
  return sum;
}

// ---- generator ----

const generatorPorts: Rule = (facts) => {
  const count = failed(facts, 'source-exhausted');
  if (count === 0) return null;
  return found(
    'generator',
    'generator-ports',
    count,
    `our side had no source port left for ${n(count)} connections`,
    'add source addresses (--source-ip) or endpoints; c100k-bench plan does the arithmetic',
  );
};

const generatorDescriptors: Rule = (facts) => {
  const count = failed(facts, 'descriptors');
  if (count === 0) return null;
  return found(
    'generator',
    'generator-descriptors',
    count,
    `our side had no descriptor left for ${n(count)} connections`,
    'raise ulimit -n on the agent, or use more --holders',
  );
};

const generatorMemory: Rule = (facts) => {
  const count = failed(facts, 'memory');
  if (count === 0) return null;
  return found(
    'generator',
    'generator-memory',
    count,
    `our kernel had no memory or buffers left for ${n(count)} connections`,
    'see net.ipv4.tcp_mem, the memory limit of the control group, and free -h on the agent',
  );
};

const generatorLost: Rule = (facts) => {
  const count = dropped(facts, 'holder-lost') + dropped(facts, 'agent-lost');
  if (count === 0) return null;
  const oom = facts.kernel.counters.oom_kill ?? 0;
  const why = oom > 0 ? `; the kernel killed ${n(oom)} processes for lack of memory meanwhile` : '';
  return found(
    'generator',
    'generator-lost',
    count,
    `${n(count)} connections ended with a process or agent of ours${why}`,
    'see the notes for its name, and dmesg on its host',
  );
};

const generatorAlias: Rule = (facts) => {
  const count = dropped(facts, 'alias-lost') + failed(facts, 'source-lost');
  if (count === 0) return null;
  return found(
    'generator',
    'generator-alias',
    count,
    `a source address of ours went away under ${n(count)} connections`,
    'see who changes addresses on the agent: ip monitor address',
  );
};

/** What was missed by time while our own loop was late by so much of it is no proven fault of another party. */
const LAG_OF_TIMEOUT_MIN = 0.5;

/** Only where time is the cause: a busy generator does not make a target refuse. */
const generatorCpu: Rule = (facts) => {
  const { connectTimeoutMs, probeTimeoutMs } = facts.asked;
  const { limits, loopLagMsMax } = facts.generator;
  const connects = failed(facts, 'timeout');
  const probes = dropped(facts, 'probe-timeout');
  const shortestMs = Math.min(
    connects > 0 ? connectTimeoutMs : Number.POSITIVE_INFINITY,
    probes > 0 ? probeTimeoutMs : Number.POSITIVE_INFINITY,
  );
  if (loopLagMsMax < shortestMs * LAG_OF_TIMEOUT_MIN) return null;
  const why = limits.length > 0 ? ` (${limitsPhrase(limits)})` : '';
  return found(
    'generator',
    'generator-cpu',
    connects + probes,
    `generator limited: its own loop was late by up to ${formatMs(loopLagMsMax)}, and what timed out had ${formatMs(shortestMs)}${why}`,
    'use more hosts or cores, a lower --rate, or fewer probes',
  );
};

// ---- target ----

const targetSaysDescriptors: Rule = (facts) => {
  const { target } = facts;
  if (target === null || target.descriptorsFull === 0) return null;
  const count = Math.max(silent(facts), unanswered(facts), totalOf(facts.connections.dropped), 1);
  return found(
    'target',
    'target-descriptors',
    count,
    `the target itself says that it had no descriptor left, with ${n(target.openMax)} connections at most`,
    "raise the target's limit: ulimit -n (LimitNOFILE= in systemd), or give it more processes",
  );
};

/** What an application holds at most, where it is distinguished from its kernel. */
function plateauOf(facts: DiagnosisFacts): number {
  const { connections, losses } = facts;
  return facts.hold.proof === 'kernel-only' ? connections.established - losses.young : connections.verified;
}

const targetDescriptors: Rule = (facts) => {
  const plateau = plateauOf(facts);
  const limit = DESCRIPTOR_LIMITS.find((one) => plateau < one && plateau >= one - DESCRIPTORS_BESIDES_MAX);
  // What a full process cannot take it closes at once, lets wait unanswered, or has its kernel drop.
  const refusedByFull =
    facts.losses.young + unanswered(facts) + dropped(facts, 'probe-timeout') + silent(facts);
  if (limit === undefined || refusedByFull === 0) return null;
  return found(
    'target',
    'target-descriptors',
    refusedByFull,
    `the target took ${n(plateau)} connections and no more: just below a descriptor limit of ${n(limit)}`,
    `see the target's limit: grep files /proc/PID/limits, and raise it (ulimit -n, LimitNOFILE=)`,
  );
};

const targetAcceptQueue: Rule = (facts) => {
  const overflows = localCounter(facts, 'ListenOverflows');
  const count = failed(facts, 'timeout');
  if (overflows === 0 || count === 0) return null;
  return found(
    'target',
    'target-accept-queue',
    count,
    `the target's accept queue overflowed ${n(overflows)} times: its application does not accept fast enough, or has stopped`,
    'see Recv-Q against Send-Q of its listener: ss -ltn; raise its backlog and net.core.somaxconn',
  );
};

const targetMemory: Rule = (facts) => {
  const oom = localCounter(facts, 'oom_kill');
  const count = dropped(facts, 'fin') + dropped(facts, 'rst');
  if (oom === 0 || count === 0 || dropped(facts, 'holder-lost') > 0) return null;
  return found(
    'target',
    'target-memory',
    count,
    `the kernel killed ${n(oom)} processes of the target's host for lack of memory while ${n(count)} connections closed`,
    'see dmesg and the memory limit of the target',
  );
};

const targetSilent: Rule = (facts) => {
  const acked = facts.probes.timedOutAcknowledged;
  const timedOut = dropped(facts, 'probe-timeout');
  const open = unanswered(facts);
  if (open === 0 && (timedOut === 0 || acked < timedOut * MOST)) return null;
  const never = facts.probes.answered === 0 ? 'never answered' : 'stopped answering';
  return found(
    'target',
    'target-silent',
    open + acked,
    `the application ${never}: ${n(open + acked)} connections are established, and only the target's kernel speaks`,
    'see what the target does: is it stopped, stuck or overloaded? ss -ltn shows its accept queue',
  );
};

const targetClosesAtOnce: Rule = (facts) => {
  const { young } = facts.losses;
  if (young === 0 || young < totalOf(facts.connections.dropped) * MOST) return null;
  return found(
    'target',
    'target-closes',
    young,
    `${n(young)} connections were closed within a second after they were opened`,
    "see the target's limit of clients, its log, and what it expects to be sent first",
  );
};

const targetEnded: Rule = (facts) => {
  const { burstMax, young, resetsOnProbe } = facts.losses;
  const count = dropped(facts, 'fin') + dropped(facts, 'rst') - young - resetsOnProbe;
  if (
    count <= 0 ||
    burstMax === null ||
    burstMax < count * MOST ||
    count < facts.connections.established * MOST
  )
    return null;
  return found(
    'target',
    'target-ended',
    count,
    `${n(burstMax)} connections were closed by the far side within one second: the target or its proxy ended or restarted`,
    'see whether its processes are as old as the run: ps -o pid,etime,args',
  );
};

/** What no better rule explains: the far side said so, at different times or to some only. */
const targetClosed: Rule = (facts) => {
  const { burstMax, young, resetsOnProbe } = facts.losses;
  const resets = dropped(facts, 'rst') - resetsOnProbe;
  const count = dropped(facts, 'fin') + resets - young;
  if (count <= 0) return null;
  const how = resets > count / 2 ? 'reset' : 'closed';
  const burst = burstMax === null ? '' : `, up to ${n(Math.min(burstMax, count))} of them within one second`;
  return found(
    'target',
    'target-closed',
    count,
    `${n(count)} connections were ${how} by the far side${burst}`,
    'see its log, its idle timeout and its limits; a proxy or firewall on the way may send this for it',
  );
};

const targetRefused: Rule = (facts) => {
  const count = failed(facts, 'refused');
  if (count === 0) return null;
  const isUnheard = facts.connections.established === 0;
  return found(
    'target',
    'target-refused',
    count,
    isUnheard
      ? 'no process listens there: every connect that was answered was refused'
      : `${n(count)} connects were refused after ${n(facts.connections.established)} had been accepted`,
    'see who listens on the target: ss -ltn; a firewall that rejects looks the same',
  );
};

// ---- path ----

const pathConntrack: Rule = (facts) => {
  for (const host of facts.kernel.hosts) {
    const sample = host.samples.conntrack;
    const count = silent(facts) + failed(facts, 'unreachable') + failed(facts, 'prohibited');
    if (sample?.limit == null || sample.limit === 0 || count === 0) continue;
    if (sample.max < sample.limit * TABLE_FULL_RATIO) continue;
    return found(
      'path',
      'path-conntrack',
      count,
      `the connection tracking table of ${host.agent} was full: ${n(sample.max)} of ${n(sample.limit)} entries`,
      'raise it: sysctl -w net.netfilter.nf_conntrack_max=1048576, or do not track: nft ... notrack',
    );
  }
  return null;
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

/**
 * Nothing is refused, what is established works, and further SYNs vanish: a device on the way has no port left. A full
 * accept queue looks alike, but leaves connections that no application answers.
 */
const pathPorts: Rule = (facts) => {
  const { established, verified, dropped: drops } = facts.connections;
  const count = silent(facts);
  const missing = facts.asked.connections - established;
  if (count === 0 || established === 0 || count < missing * NEARLY_ALL) return null;
  const areAllProven = facts.hold.proof !== 'kernel-only' && verified + totalOf(drops) >= established;
  const plateau = portPlateau(established);
  if (plateau === null && !areAllProven) return null;
  const evidence =
    plateau === null
      ? `the path lets ${n(established)} connections through and no more: each of them is answered by the target, and ${n(count)} further connects got no answer at all`
      : `the path ends at ${n(established)} connections: ${plateau.addresses === 1 ? 'one address' : `${plateau.addresses} addresses`} x ${n(plateau.ports)} ports (${plateau.words}); ${n(count)} further connects got no answer at all`;
  return found(
    'path',
    'path-ports',
    count,
    evidence,
    'on the router or proxy: conntrack -S (insert_failed), the port range of its masquerade, its source addresses',
  );
};

/** A whoami target saw every port of the range that a rewriting hop has: there is no further one. */
const pathTranslated: Rule = (facts) => {
  const { seen = null } = facts;
  if (seen === null || seen.sourceChanged === 0 || seen.portMin === null || seen.portMax === null)
    return null;
  const count = silent(facts) + failed(facts, 'handshake') + dropped(facts, 'fin') + dropped(facts, 'rst');
  const pairs = translatedPairs(seen).length;
  const each = seen.portMax - seen.portMin + 1;
  if (count === 0 || each < SPAN_TELLING_MIN || seen.sourceChanged < pairs * each * NEARLY_FULL) return null;
  const addresses = translatedAddresses(seen);
  const from = addresses.length === 1 ? addresses[0] : `${n(addresses.length)} addresses`;
  return found(
    'path',
    'path-translated',
    count,
    `the target sees ${n(seen.sourceChanged)} connections from ${from}, and every port from ${seen.portMin} to ${seen.portMax} is in use: the hop that rewrites our source has no further one`,
    'c100k-bench path says what would lift it, and plan --via how far',
  );
};

/** Probes that the far kernel did not even acknowledge, or that a RST answers: a device on the way forgot the connection. */
const pathForgot: Rule = (facts) => {
  const timedOut = dropped(facts, 'probe-timeout');
  // A kernel may keep an acknowledgement back for 200 ms (TCP_DELACK_MAX), hoping for bytes to send it with.
  const isConclusive = facts.asked.probeTimeoutMs >= DELAYED_ACK_MS_MAX * 2;
  const unacked = isConclusive ? timedOut - facts.probes.timedOutAcknowledged : 0;
  const { resetsOnProbe } = facts.losses;
  const count = (unacked > timedOut * MOST ? unacked : 0) + resetsOnProbe;
  if (count === 0 || facts.probes.answered === 0) return null;
  const how =
    resetsOnProbe > unacked
      ? 'a RST came as the answer to their next probe'
      : 'their next probe was not even acknowledged';
  const stillThere =
    facts.target !== null && facts.target.openNow > facts.connections.open
      ? `; the target still holds ${n(facts.target.openNow)}`
      : '';
  return found(
    'path',
    'path-forgot',
    count,
    `${n(count)} connections had answered and were found dead: ${how}, so something on the way has forgotten them${stillThere}`,
    'see the idle timeout and the uptime of NAT and firewall on the way; keep below it with --probe-every',
  );
};

const pathUnreachable: Rule = (facts) => {
  const count = failed(facts, 'unreachable') + dropped(facts, 'unreachable');
  if (count === 0) return null;
  return found(
    'path',
    'path-unreachable',
    count,
    `${n(count)} connections found the target unreachable, as a router or our own kernel says`,
    'see the route and who rejects: ip route get ADDRESS, traceroute -T -p PORT ADDRESS',
  );
};

/** The most certain evidence first: what a party says of itself, then what can only have one cause. */
const RULES: readonly Rule[] = [
  generatorPorts,
  generatorDescriptors,
  generatorMemory,
  generatorLost,
  generatorAlias,
  generatorCpu,
  targetSaysDescriptors,
  targetMemory,
  pathConntrack,
  pathTranslated,
  targetDescriptors,
  targetAcceptQueue,
  pathPorts,
  pathForgot,
  targetSilent,
  targetClosesAtOnce,
  targetEnded,
  targetClosed,
  targetRefused,
  pathUnreachable,
];

/** Rules that explain the same connections: of these only the first that matches is reported. */
const SAME_CONNECTIONS: readonly (readonly string[])[] = [
  [
    'generator-cpu',
    'target-descriptors',
    'target-accept-queue',
    'target-silent',
    'path-forgot',
    'path-ports',
  ],
  [
    'path-conntrack',
    'path-translated',
    'target-descriptors',
    'target-accept-queue',
    'path-ports',
    'path-unreachable',
  ],
  ['path-translated', 'target-descriptors', 'target-silent', 'target-closes', 'target-ended'],
  ['target-memory', 'target-ended', 'target-closes', 'target-closed'],
];

function isReported(name: string, before: readonly Diagnosis[]): boolean {
  return SAME_CONNECTIONS.some(
    (group) => group.includes(name) && before.some(({ what }) => what !== name && group.includes(what)),
  );
}

/**
 * Names what ran out.
 * @param facts of a run that has ended
 * @returns the most certain first; one of party `unknown` when connections are missing and nothing tells why; empty
 *   when nothing is missing
 */
export function diagnose(facts: DiagnosisFacts): Diagnosis[] {
  const list: Diagnosis[] = [];
  for (const rule of RULES) {
    const diagnosis = rule(facts);
    if (diagnosis === null || list.some(({ what }) => what === diagnosis.what)) continue;
    if (!isReported(diagnosis.what, list)) list.push(diagnosis);
  }
  const missing = totalOf(facts.connections.failed) + totalOf(facts.connections.dropped) + unanswered(facts);
  if (list.length > 0 || missing === 0) return list;
  return [
    found(
      'unknown',
      'unknown',
      missing,
      `nothing tells who lost ${n(missing)} connections: target and path look alike from here`,
      facts.hold.proof === 'kernel-only'
        ? 'let connections prove themselves (echo://, ws://, --expect-banner), or ask the target: --target-stats'
        : 'ask the target: c100k-bench serve --stats-listen there, --target-stats here',
    ),
  ];
}
