/**
 * Owns the rules that name the target by what it or its kernel did when connections came: did not take them, refused them,
 * answered with a no, closed them young. Must never name it for a counter of its host alone.
 */
import { totalOf } from '../base/outcome.ts';
import { counted, formatCount, formatMs } from '../base/units.ts';
import { ANSWER_DIFFERS, NO_ANSWER, protocolErrorNotes } from '../stats/protocol-errors.ts';
import {
  agesOfGroup,
  counterOf,
  type DiagnosisFacts,
  endedYoung,
  equalShareOf,
  farSidesOf,
  isLossy,
  isNear,
  lostUnanswered,
  medianMs,
  newConnects,
  orderOf,
  outlierOf,
  WHO_RESETS,
} from './evidence-shape.ts';
import type { Rule } from './generator-health.ts';
import type { Claim, Missing, MissingKinds } from './missing.ts';
import { limitNear } from './path-rules.ts';

const n = formatCount;

const MOST = 0.5;
const NEARLY_ALL = 0.9;
/** Refusals whose distance says that one of several back ends is not there. */
const REFUSALS_MIN = 20;
/** Limits that people type are multiples of this. */
const ROUND = 100;

/** What was said on so many more connections than a claim is about was said on others too. */
const SAID_TO_OTHERS = 1.1;

/**
 * What the target said on connections that failed or ended, the most frequent text, of equals the one that came last.
 * @param count of the connections that a claim is about, where others ended otherwise; absent: all
 * @returns null: nothing, or nothing that can be of most of these
 */
function saidBy(facts: DiagnosisFacts, count?: number): { text: string; count: number } | null {
  const texts = facts.evidence?.said?.texts ?? [];
  const isPart = count !== undefined && count < endedCount(facts) * NEARLY_ALL;
  let best: { text: string; count: number; last: number } | null = null;
  for (const { text, first, last } of texts) {
    const own = first + last;
    if (isPart && (own > count * SAID_TO_OTHERS || own < count * NEARLY_ALL)) continue;
    const isBetter = best === null || own > best.count || (own === best.count && last > best.last);
    if (isBetter) best = { text, count: own, last };
  }
  return best;
}

/** Connections on which something may have been said that counts. */
function endedCount({ connections }: DiagnosisFacts): number {
  const { handshake = 0, tls = 0, reset = 0 } = connections.failed;
  return totalOf(connections.dropped) + handshake + tls + reset;
}

/** The same as the end of a sentence. */
export function saidWords(facts: DiagnosisFacts, count?: number): string {
  const said = saidBy(facts, count);
  return said === null ? '' : `; it said "${said.text}"`;
}

/** Words of servers that refuse; a banner is none. */
const NO_IN_WORDS =
  /err(?:or)?\b|fatal|denied|refus|reject|too many|\bmax|exceed|limit|\bfull\b|not allowed|busy|unavailable|clos(?:ed|ing)|time(?:d[ _]?)?[ _]?out|\b[45]\d\d\b/i;

/** Whether the target itself said why. @param count as for `saidBy`: what it said to others proves nothing of these */
export function hasSaidNo(facts: DiagnosisFacts, count?: number): boolean {
  return NO_IN_WORDS.test(saidBy(facts, count)?.text ?? '');
}

function young(missing: Missing): MissingKinds {
  return missing.all('young', 'failed reset');
}

function sumOf(kinds: MissingKinds): number {
  return Object.values(kinds).reduce((sum, count) => sum + (count ?? 0), 0);
}

/** Handshakes of the protocol that failed: by what the target said, by its silence, and closed without a word. */
function failedHandshakes(
  facts: DiagnosisFacts,
  missing: Missing,
): { said: number; silent: number; closed: number } {
  const all = missing.of('failed handshake', 'failed tls');
  // Silence has a name too, where an answer was waited for.
  const details = Object.entries(facts.troubles ?? {}).reduce(
    (sum, [detail, count]) => sum + (detail === NO_ANSWER ? 0 : count),
    0,
  );
  const { dropped, failed } = facts.connections;
  const said = Math.min(all, Math.max(0, details - (dropped.protocol ?? 0) - (dropped.tls ?? 0)));
  const silentAt = facts.evidence?.connectsAt?.counts.silent;
  // What was overdue is silent; without the times nothing tells it from what was closed.
  const overdue = silentAt?.reduce((sum, count) => sum + count, 0) ?? Number.POSITIVE_INFINITY;
  const silent = Math.min(all - said, Math.max(0, overdue - (failed.timeout ?? 0)));
  return { said, silent, closed: all - said - silent };
}

/** Of these, those that were met by silence. */
function silentHandshakes(facts: DiagnosisFacts, missing: Missing): number {
  return failedHandshakes(facts, missing).silent;
}

const targetSaysDescriptors: Rule = (facts, missing) => {
  const { target } = facts;
  if (target === null || target.descriptorsFull === 0) return null;
  return {
    party: 'target',
    what: 'target-descriptors',
    kinds: {
      ...missing.all(
        'failed timeout',
        'failed handshake',
        'failed reset',
        'unattempted',
        'unanswered',
        'waiting',
      ),
      ...missing.all('dropped probe-timeout', 'young', 'dropped fin', 'dropped rst', 'reset-on-probe'),
    },
    message: `the target itself says that it had no descriptor left, with ${n(target.openMax)} connections at most`,
    next: "raise the target's limit: ulimit -n (LimitNOFILE= in systemd), or give it more processes",
  };
};

/** The kernel killed a process, and it was the one that listened. */
const targetMemory: Rule = (facts, missing) => {
  const isOwnerGone = farSidesOf(facts).some((side) => side.isOwnerGone === true);
  const oom = counterOf(facts, 'oom_kill');
  if (!isOwnerGone || oom === 0) return null;
  return {
    party: 'target',
    what: 'target-memory',
    kinds: missing.all('young', 'dropped fin', 'dropped rst', 'reset-on-probe'),
    message: (count) =>
      `the kernel killed ${n(oom)} processes of this host for lack of memory, and the process that listened there is gone: ${n(count)} connections closed`,
    next: 'see dmesg and the memory limit of the target',
  };
};

/**
 * Handshakes that the listeners of endpoints dropped for a full queue. A listener also counts what it drops of a deferred accept, and the
 * namespace counts apart what was dropped for a full queue (tcp_listendrop() in include/net/tcp.h), of whatever listener.
 */
function overflowsOf(facts: DiagnosisFacts, sides: ReturnType<typeof farSidesOf>): number {
  const dropped = sides.reduce((sum, { queueDrops }) => sum + (queueDrops ?? 0), 0);
  const ofQueues = Math.max(counterOf(facts, 'ListenDrops'), counterOf(facts, 'ListenOverflows'));
  return Math.max(0, Math.min(dropped - counterOf(facts, 'TCPDeferAcceptDrop'), ofQueues));
}

/** The process of an endpoint of this host whose descriptors are known; undefined: none is. */
function knownProcess(facts: DiagnosisFacts): ReturnType<typeof farSidesOf>[number] | undefined {
  return farSidesOf(facts).find(({ descriptorsMax }) => descriptorsMax !== null);
}

/** It has next to none left. */
function areDescriptorsFull(facts: DiagnosisFacts): boolean {
  const known = knownProcess(facts);
  return known !== undefined && (known.descriptorsUsed ?? 0) >= (known.descriptorsMax ?? 0) * 0.98;
}

/** Established by the kernel of an endpoint of this host, and taken by no process. */
const targetAcceptQueue: Rule = (facts, missing) => {
  const sides = farSidesOf(facts);
  const waiting = sides.reduce((sum, { waitingMax }) => sum + waitingMax, 0);
  const drops = overflowsOf(facts, sides);
  const isFull = drops > 0 || sides.some(({ isQueueFull }) => isQueueFull);
  const queued = sides.reduce((sum, { queuedMax }) => sum + (queuedMax ?? 0), 0);
  if (waiting === 0 && queued === 0 && !isFull) return null;
  const silent = Math.min(Math.max(waiting, queued), silentHandshakes(facts, missing));
  // A probe that timed out ends its connection, which then waits no longer: its kernel had acknowledged it, and as many were in the queue.
  // Why the process takes none is known where it has no descriptor left.
  const silentNow = facts.evidence?.acknowledged ?? 0;
  const isHere = sides.length >= facts.asked.endpoints.length;
  const isQueued = queued >= silentNow * NEARLY_ALL && !isLossy(facts) && !areDescriptorsFull(facts);
  const asked = Math.max(waiting, isQueued ? silentNow : 0);
  const stuck: MissingKinds = {
    ...missing.some(asked, 'waiting', 'dropped probe-timeout', 'unanswered'),
    ...missing.some(silent, 'failed handshake', 'failed tls'),
  };
  // Established here and unknown there, because the end of its handshake was dropped: its probes are not acknowledged either. On this host no
  // way loses them.
  const unknownThere =
    isHere && drops > 0 ? (facts.evidence?.notAcknowledged ?? 0) + Math.min(queued, silentNow) : 0;
  const overflowed: MissingKinds = isFull
    ? {
        ...missing.some(Math.max(unknownThere, stuck['dropped probe-timeout'] ?? 0), 'dropped probe-timeout'),
        ...missing.all('failed timeout', 'failed reset', 'unattempted', 'final-reset', 'half-open'),
        ...missing.some(endedYoung(facts).rst, 'young'),
      }
    : {};
  const how = isFull
    ? `the accept queue of the target's own listener overflowed${drops > 0 ? ` (it dropped ${n(drops)} packets of handshakes)` : ''}`
    : `up to ${n(Math.max(waiting, queued))} connections waited in the accept queue of the target`;
  return {
    party: 'target',
    what: 'target-accept-queue',
    kinds: { ...stuck, ...overflowed },
    message: (count) =>
      `${how}: its application does not accept fast enough, has a limit, or has stopped; it never took ${n(count)} connections`,
    next: 'see Recv-Q against Send-Q of its listener: ss -ltn; its limit of connections, its backlog and net.core.somaxconn',
  };
};

const targetDeferred: Rule = (_, missing) => ({
  party: 'target',
  what: 'target-deferred',
  kinds: missing.all('half-open'),
  message: (count) =>
    `${n(count)} connections are open here and half open there: the target defers its accept until a byte comes (TCP_DEFER_ACCEPT), so no process has them`,
  next: 'let connections speak (http://, echo://), or switch the deferring off: AcceptFilter http none in Apache, deferred in nginx',
});

/** The number that the application holds, where it is distinguished from its kernel. */
function takenBy(facts: DiagnosisFacts): number {
  const { connections } = facts;
  return facts.hold.proof === 'kernel-only' ? connections.open : connections.verified;
}

/** Its kernel goes on completing handshakes and no application answers them, or it closes the young ones without a word. */
const targetDescriptors: Rule = (facts, missing) => {
  const taken = takenBy(facts);
  const limit = limitNear(taken);
  const acknowledged = facts.evidence?.acknowledged ?? 0;
  const kinds: MissingKinds = {
    ...missing.all('unanswered'),
    ...missing.some(acknowledged, 'dropped probe-timeout'),
    ...missing.some(silentHandshakes(facts, missing), 'failed handshake'),
    ...(saidBy(facts) === null ? young(missing) : {}),
  };
  const known = knownProcess(facts);
  const used = known?.descriptorsUsed ?? 0;
  const most = known?.descriptorsMax ?? limit;
  // A round number is as well a limit of clients that was typed.
  const isGuess = limit !== null && taken % ROUND !== 0;
  const isFull = known === undefined ? isGuess : areDescriptorsFull(facts);
  if (!isFull || most === null || taken === 0) return null;
  const how =
    known === undefined
      ? `just below a descriptor limit of ${n(most)} (or a limit of clients of its own)`
      : `its process had ${n(used)} of ${n(most)} descriptors in use`;
  return {
    party: 'target',
    what: 'target-descriptors',
    kinds,
    message: (count) =>
      `the target took ${n(taken)} connections, and ${n(count)} further ones were established and then closed or never answered: ${how}`,
    next: `see the target's limit: grep files /proc/PID/limits, and raise it (ulimit -n, LimitNOFILE=)`,
  };
};

/** One endpoint of several that says no while the others say yes. */
const targetEndpoint: Rule = (facts, missing) => {
  const outlier = outlierOf(facts.evidence?.byEndpoint);
  if (outlier === null) return null;
  const names = outlier.bad.map(([name]) => name).join(', ');
  const of = (reason: 'refused' | 'reset' | 'handshake' | 'tls'): number =>
    outlier.bad.reduce((sum, [, { failed }]) => sum + (failed[reason] ?? 0), 0);
  const lost = (reason: 'fin' | 'rst'): number =>
    outlier.bad.reduce((sum, [, { dropped }]) => sum + (dropped[reason] ?? 0), 0);
  const byReset = of('refused') + of('reset') + lost('rst');
  const isProven = isNear(facts) || byReset <= (byReset + lost('fin') + of('handshake') + of('tls')) * MOST;
  return {
    party: isProven ? 'target' : 'unknown',
    what: 'target-endpoint',
    kinds: {
      ...missing.some(of('refused'), 'failed refused'),
      ...missing.some(of('reset'), 'failed reset'),
      ...missing.some(of('handshake'), 'failed handshake'),
      ...missing.some(of('tls'), 'failed tls'),
      ...missing.some(lost('fin') + lost('rst'), 'young', 'dropped fin', 'dropped rst', 'reset-on-probe'),
    },
    message: (count) =>
      `of ${n(outlier.bad.length + outlier.good.length)} endpoints only ${names} fails: ${counted(count, 'connection was', 'connections were')} refused or ended there, and next to none elsewhere${isProven ? '' : '. No process listens there, or a filter on the way resets for it: from here they look alike'}`,
    next: `see who listens at ${names}: ss -ltn${isProven ? '' : `; ${WHO_RESETS}`}`,
  };
};

/** Answered by the protocol, with a no: a status, an alert, a banner, another protocol. */
const targetHandshake: Rule = (facts, missing) => {
  const errors = facts.troubles ?? {};
  const [first] = protocolErrorNotes(errors);
  const kinds: MissingKinds = {
    ...missing.some(failedHandshakes(facts, missing).said, 'failed tls', 'failed handshake'),
    ...missing.all('dropped protocol', 'dropped tls', 'dropped probe-mismatch'),
  };
  const most = Object.entries(errors).sort(([, a], [, b]) => b - a)[0]?.[0] ?? '';
  if (most.startsWith('http keep-alive'))
    return {
      party: 'target',
      what: 'target-keep-alive',
      kinds,
      message: (count) =>
        `the target ends connections after so many requests: ${n(count)} ended with an answer that says so${saidWords(facts, count)}`,
      next: 'raise its number of requests per connection (keepalive_requests), let it speak HTTP/1.1 with keep-alive, or probe less often',
    };
  // What the user expects may be wrong as well.
  const isOther = most === ANSWER_DIFFERS;
  const how = isOther ? 'other than --expect says' : `with a no${first === undefined ? '' : `: ${first}`}`;
  const said = saidBy(facts)?.text ?? '';
  const next = isOther
    ? 'compare them: a text is how the answer must begin, letter by letter, and an expression stands between slashes: --expect /^OK/'
    : /HTTPS (?:port|server)|TLS|SSL-enabled/i.test(said) && /^(?:http|ws):/.test(facts.asked.target[0] ?? '')
      ? 'the target speaks TLS on this port: https:// or wss://'
      : /client certificate|SSL certificate was sent|certificate_required/i.test(said)
        ? 'it wants a client certificate: --tls-cert and --tls-key give one'
        : /SSL certificate error/i.test(said)
          ? 'it does not take our client certificate: compare the CA that it trusts (ssl_client_certificate) with --tls-cert'
          : 'see what it expects: its protocol, path, host name, certificate and credentials; its log says why';
  return {
    party: 'target',
    what: 'target-handshake',
    kinds,
    message: (count) =>
      `the target took ${n(count)} connections and answered ${how}${saidWords(facts, count)}`,
    next,
  };
};

/** Taken by its kernel, and silent when the protocol asked. */
const targetSilentHandshake: Rule = (facts, missing) => {
  const isTls = /^(?:https|wss|tls)\b/.test(facts.asked.target[0] ?? '');
  const asked = isTls ? 'our TLS hello (does it speak TLS on this port?)' : 'our first message';
  return {
    party: 'target',
    what: 'target-silent',
    kinds: missing.some(silentHandshakes(facts, missing), 'failed handshake', 'failed tls'),
    message: (count) =>
      `the target's kernel established ${n(count)} connections, and its application never answered ${asked}`,
    next: 'see whether the scheme of --target is the right one, and whether it accepts: ss -ltn (Recv-Q)',
  };
};

/** The same number kept of each source, and the further ones closed young. */
const targetSourceLimit: Rule = (facts, missing) => {
  const equal = equalShareOf(facts);
  const kinds = young(missing);
  if (equal === null || sumOf(kinds) < missing.rest * MOST) return null;
  const isProven = !isResetAmbiguous(facts, kinds);
  const both = equal.isProven
    ? ''
    : `, or of ${n(equal.each * equal.sources)} in all, which took turns (the same run with one --source-ip tells)`;
  return {
    party: isProven ? 'target' : 'unknown',
    what: 'target-source-limit',
    kinds,
    message: (count) =>
      `${n(equal.each)} connections of each of ${n(equal.sources)} source addresses are kept, and ${n(count)} further ones were closed within a second: a limit of ${n(equal.each)} for each source${both}${isProven ? '' : ', at the target or in a filter on the way that resets'}`,
    next: `see the target's limit of connections per client, or use more --source-ip${isProven ? '' : `; ${WHO_RESETS}`}`,
  };
};

/** Half of those that were closed young, by their age; empty: not known. */
function ageWords(facts: DiagnosisFacts): string {
  // Of an older agent: it counted those of less than a second.
  if (facts.evidence?.lossAgeMs === undefined) return ' (within a second)';
  const { fin, rst } = endedYoung(facts);
  const half = medianMs(agesOfGroup(facts, rst > fin ? 'rst' : 'fin', 'young'));
  return half === null ? '' : ` (half of them within ${formatMs(half)})`;
}

/** Most were reset and have said nothing, and more than the target's own host can have sent that. */
function isResetAmbiguous(facts: DiagnosisFacts, kinds: MissingKinds): boolean {
  const most = sumOf(kinds) * MOST;
  const resets = endedYoung(facts).rst + (facts.connections.failed.reset ?? 0);
  return !isNear(facts) && resets > most && !hasSaidNo(facts, sumOf(kinds));
}

/** Reset as soon as they were established, without a word, and a router is between (or it is not known). */
function resetsOf(facts: DiagnosisFacts, kinds: MissingKinds): Claim {
  return {
    party: 'unknown',
    what: 'resets',
    kinds,
    message: (count) =>
      `${counted(count, 'connection was', 'connections were')} reset soon after they were opened${ageWords(facts)}, without a word: by the target, or by a filter on the way that resets for it: from here they look alike`,
    next: `see the target's log and its limit of clients; ${WHO_RESETS}`,
  };
}

/** Taken and closed again within a second, or a while later where the target is busy. */
const targetCloses: Rule = (facts, missing) => {
  const { closed } = failedHandshakes(facts, missing);
  const kinds = { ...young(missing), ...missing.some(closed, 'failed handshake', 'failed tls') };
  const { established, open } = facts.connections;
  const said = saidBy(facts);
  const isWordless = said === null && Object.keys(facts.troubles ?? {}).length === 0;
  const isNoneHeld = open === 0 && sumOf(kinds) >= established * NEARLY_ALL;
  const hint =
    isNoneHeld && isWordless && facts.evidence != null
      ? ', from the first to the last and without a word: a proxy does so that has no server behind it, and so does a server that admits no client'
      : '';
  const why = protocolErrorNotes(facts.troubles ?? {})[0];
  // A FIN or a word is the application's, or its proxy's; a RST is also what a filter on the way sends.
  if (isResetAmbiguous(facts, kinds)) return resetsOf(facts, kinds);
  const never = lostUnanswered(facts);
  const when =
    closed + never.fin + never.rst >= sumOf(kinds) * NEARLY_ALL
      ? 'closed by the far side before they had answered anything'
      : `closed soon after they were opened${ageWords(facts)}`;
  return {
    party: 'target',
    what: hint === '' ? 'target-closes' : 'target-proxy',
    kinds,
    message: (count) =>
      `${counted(count, 'connection was', 'connections were')} ${when}${hint}${why === undefined ? '' : ` (${why})`}${saidWords(facts, count)}`,
    next:
      hint === ''
        ? "see the target's limit of clients, its log, and what it expects to be sent first"
        : 'see whether what it passes connections on to listens (the log of the proxy says so), and which clients it admits',
  };
};

/** How many successes lie between two refusals, where it is nearly always the same number. */
function backEndsOf(gaps: readonly number[]): number | null {
  const all = gaps.reduce((sum, count) => sum + count, 0);
  const most = gaps.indexOf(Math.max(...gaps));
  const isTelling = all >= REFUSALS_MIN && most >= 1 && most < gaps.length - 1;
  return isTelling && (gaps[most] ?? 0) >= all * NEARLY_ALL ? most + 1 : null;
}

/** Refused by the target's own host. */
function refusedHere({ connections }: DiagnosisFacts, kinds: MissingKinds): Claim {
  const { established } = connections;
  return {
    party: 'target',
    what: 'target-refused',
    kinds,
    message: (count) =>
      established === 0
        ? 'no process listens there: every connect that was answered was refused'
        : `${counted(count, 'connect was', 'connects were')} refused beside ${n(established)} that were accepted`,
    next: 'see who listens on the target: ss -ltn; a firewall of its host that rejects looks the same: nft list ruleset',
  };
}

/** Refused behind a router: a closed port and a filter on the way that rejects by reset give the same packet. */
function refusedSomewhere(facts: DiagnosisFacts, kinds: MissingKinds): Claim {
  const { established } = facts.connections;
  const stops = orderOf(facts, 'answeredNo') === 'stops' && newConnects(facts) === 'refused';
  const both =
    established === 0
      ? 'no process listens there, or a filter on the way rejects'
      : stops
        ? `the target stopped listening, or a firewall on the way or there lets ${n(established)} through and rejects further ones`
        : 'the target does not listen all the time or everywhere (a back end, a restart), or a firewall on the way or there rejects some, such as those above a rate';
  return {
    party: 'unknown',
    what: 'refused',
    kinds,
    message: (count) =>
      `${established === 0 ? `every connect that was answered was refused (${n(count)})` : `${counted(count, 'connect was', 'connects were')} refused beside ${n(established)} that were accepted`}: ${both}; a reset looks the same from here, whoever sends it`,
    next: `see who listens on the target: ss -ltn; ${WHO_RESETS}`,
  };
}

const targetRefused: Rule = (facts, missing) => {
  const { established } = facts.connections;
  const backEnds = backEndsOf(facts.evidence?.gapsBetweenFailures ?? []);
  const kinds = missing.all('failed refused');
  if (backEnds !== null && established > 0)
    return {
      party: 'target',
      what: 'target-backend',
      kinds,
      message: (count) =>
        `every ${n(backEnds)}. connect is refused, from the first to the last (${n(count)} in all): one back end of ${n(backEnds)} behind a load balancer is not there`,
      next: 'see the health of each back end, and whether the load balancer checks it',
    };
  return isNear(facts) ? refusedHere(facts, kinds) : refusedSomewhere(facts, kinds);
};

/** What the target or its kernel says of itself. */
export const TARGET_FACT_RULES: readonly Rule[] = [
  targetSaysDescriptors,
  targetMemory,
  targetAcceptQueue,
  targetDeferred,
];
/** What it did with new connections. */
export const TARGET_CONNECT_RULES: readonly Rule[] = [
  targetEndpoint,
  targetSourceLimit,
  targetDescriptors,
  targetHandshake,
  targetSilentHandshake,
  targetCloses,
  targetRefused,
];
