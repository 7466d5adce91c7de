/**
 * Owns the rules about connections that were held and then lost: timeouts, evictions, an end or a restart, silence, and what a
 * device on the way forgot. Must never name the one for the other where a new connect, which tells them apart, was not made.
 */
import { type Party, totalOf } from '../base/outcome.ts';
import { counted, formatCount, formatMs } from '../base/units.ts';
import {
  aftermathsOf,
  agesOfGroup,
  alikeLength,
  type DiagnosisFacts,
  endShape,
  equalLength,
  farSidesOf,
  isEviction,
  isLossy,
  isNear,
  isRouted,
  medianMs,
  newConnects,
  WHO_RESETS,
} from './evidence-shape.ts';
import type { Rule } from './generator-health.ts';
import type { Missing, MissingKinds } from './missing.ts';
import { hasSaidNo, saidWords } from './target-rules.ts';

const n = formatCount;

const MOST = 0.5;
const NEARLY_ALL = 0.9;
/** A shorter age is no timeout. */
const LENGTH_MS_MIN = 300;
/** A kernel may keep an acknowledgement back for 200 ms (TCP_DELACK_MAX), hoping for bytes to send it with. */
const DELAYED_ACK_MS_MAX = 200;

function seconds(ms: number): string {
  return ms >= 1_000 ? `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s` : formatMs(ms);
}

/** Ended by the far side when they had been held, and not in answer to a probe. */
function ended(missing: Missing): MissingKinds {
  return missing.all('dropped fin', 'dropped rst');
}

function sumOf(kinds: MissingKinds): number {
  return Object.values(kinds).reduce((sum, count) => sum + (count ?? 0), 0);
}

/** Reset in answer to the same message of each connection, such as its second. */
const targetResetsMessage: Rule = (facts, missing) => {
  const { established, dropped } = facts.connections;
  const { sent, answered } = facts.probes;
  const lost = (dropped.rst ?? 0) + (dropped.fin ?? 0);
  const each = established === 0 ? 0 : sent / established;
  const isSame = Number.isInteger(each) && each >= 1 && answered === (each - 1) * established;
  // A NAT that forgets in the right moment gives the same numbers, so there must be none.
  if (!isSame || isRouted(facts) !== false) return null;
  if (lost < established * NEARLY_ALL || facts.losses.resetsOnProbe === 0) return null;
  return {
    party: 'target',
    what: 'target-closed',
    kinds: missing.all('young', 'dropped rst', 'dropped fin', 'reset-on-probe'),
    message: (count) =>
      `${counted(count, 'connection was', 'connections were')} reset, each in answer to its message number ${n(each)}, whenever that came: the application resets them`,
    next: 'see its log and what it expects in the place of that message',
  };
};

const targetEvicts: Rule = (facts, missing) => {
  if (!isEviction(facts)) return null;
  return {
    party: 'target',
    what: 'target-evicts',
    kinds: { ...ended(missing), ...missing.all('young') },
    message: (count) =>
      `the target keeps ${n(facts.connections.open)} connections and closed ${n(count)} others as new ones came, one for one, and none after the last one came: it evicts the oldest`,
    next: "see the target's limit of connections: what it closes to make room",
  };
};

/** How long, and whether it is the silence or the age that is equal. */
interface CommonLength {
  readonly ms: number;
  readonly since: string;
}

/** Connections that the far side ended: all, or those alone that had been held while others were closed young. */
interface Group {
  readonly name: 'all' | 'held';
  readonly kind: 'fin' | 'rst';
  readonly kinds: MissingKinds;
}

/** The age or silence at which each was ended, whenever it was opened; null: it may as well have been one moment. */
function timeoutOf(facts: DiagnosisFacts, { name, kind }: Group): CommonLength | null {
  const { open, established } = facts.connections;
  // What is still open is older than that: then it is no limit for all.
  if (open > established * (1 - NEARLY_ALL)) return null;
  const shape = endShape(facts, kind, name);
  // Where others were closed young, a target that lives on may have ended these in one moment for another reason.
  const livesOn = name === 'all' && newConnects(facts) === 'taken';
  if (shape === 'moment' || (shape === null && !livesOn)) return null;
  const ages = agesOfGroup(facts, kind, name);
  // Whose silence is whose is not known.
  const silence = name === 'all' ? equalLength(facts.evidence?.lossSilenceMs?.[kind]) : null;
  const age = equalLength(ages);
  if (silence !== null && age !== null) return { ms: age.lowMs, since: 'after it was opened and silent' };
  if (silence !== null) return { ms: silence.lowMs, since: 'after its last byte' };
  const alike = age ?? (livesOn ? alikeLength(ages) : null);
  return alike === null ? null : { ms: alike.lowMs, since: 'after it was opened' };
}

/** A limit closes some young, and a timeout those that it had let in: then each group has its own age. */
const targetTimeout: Rule = (facts, missing) => {
  const late = ended(missing);
  const [fin, rst] = [late['dropped fin'] ?? 0, late['dropped rst'] ?? 0];
  const all: Group = {
    name: 'all',
    kind: (facts.connections.dropped.fin ?? 0) >= rst ? 'fin' : 'rst',
    kinds: { ...late, ...missing.all('young') },
  };
  const held: Group = { name: 'held', kind: fin >= rst ? 'fin' : 'rst', kinds: late };
  // What ends because it is asked has no timeout, though all that were opened together are of one age then.
  if (endedWhenAsked(facts) > sumOf(late) * MOST) return null;
  return timeoutClaim(facts, all) ?? (missing.of('young') > 0 ? timeoutClaim(facts, held) : null);
};

/** Closed in order once it was asked for at the end of the hold, before or after it answered. */
function endedWhenAsked({ evidence, connections }: DiagnosisFacts): number {
  const { asked = 0, reset = 0, silent = 0 } = evidence?.finalCheck?.holdEnd ?? {};
  return asked - reset - silent - connections.open;
}

function timeoutClaim(facts: DiagnosisFacts, group: Group): ReturnType<Rule> {
  const { kind, kinds } = group;
  const said = saidWords(facts, sumOf(kinds));
  const found = timeoutOf(facts, group);
  const isSaid = /time(?:d[ _]?)?[ _]?out/i.test(said);
  const ms = found?.ms ?? (isSaid ? medianMs(agesOfGroup(facts, kind, group.name)) : null);
  if (ms === null || ms < LENGTH_MS_MIN) return null;
  const isProven = kind === 'fin' || hasSaidNo(facts, sumOf(kinds)) || isNear(facts);
  const whose = isProven
    ? 'at the target or its proxy'
    : 'at the target, its proxy, or a device on the way that resets what is idle';
  return {
    party: isProven ? 'target' : 'unknown',
    what: 'target-timeout',
    kinds,
    message: (count) =>
      `${counted(count, 'connection was', 'connections were')} closed by the far side, each ${seconds(ms)} ${found?.since ?? 'after it was opened'}, whenever that was: a timeout of about ${seconds(ms)} ${whose}${said}`,
    next: `an idle timeout: stay below it with --probe-every (less than ${seconds(ms)}), or raise it there; a timeout for login, header or handshake: send what the target expects first`,
  };
}

/** Nearly all ended in one moment, whatever their age, or a new connect is refused. */
const targetEnded: Rule = (facts, missing) => {
  const { burstMax } = facts.losses;
  const kinds: MissingKinds = { ...ended(missing), ...missing.all('young') };
  const count = sumOf(kinds);
  const { established } = facts.connections;
  if (burstMax === null || burstMax < count * MOST || count < established * MOST) return null;
  // What was closed young was never held, so that nothing has ended.
  if (missing.of('young') > count * MOST) return null;
  const kind = (kinds['dropped fin'] ?? 0) >= count / 2 ? 'fin' : 'rst';
  const refused = newConnects(facts) === 'refused';
  if (endShape(facts, kind) !== 'moment' && !refused) return null;
  return {
    party: 'target',
    what: 'target-ended',
    kinds,
    message: `${counted(burstMax, 'connection was', 'connections were')} closed by the far side within one second, whatever their age${refused ? ', and a new connect is refused' : ''}: the target or its proxy ended or restarted`,
    next: 'see whether its processes are as old as the run: ps -o pid,etime,args',
  };
};

/** A broker of MQTT that gives a client id to another connection says so in MQTT 5, and not always then. */
function sessionWords({ asked }: DiagnosisFacts): string {
  return /^mqtts?:/.test(asked.target[0] ?? '')
    ? '; a broker may also have given a session to another client with the same id (--mqtt-client-id): its log says so'
    : '';
}

/** What no better rule explains: the far side said so, at different times or to some only. */
const targetClosed: Rule = (facts, missing) => {
  const { burstMax } = facts.losses;
  const kinds = ended(missing);
  const count = sumOf(kinds);
  const [fin, rst] = [kinds['dropped fin'] ?? 0, kinds['dropped rst'] ?? 0];
  const isReset = rst > count / 2;
  const how = isReset && fin === 0 ? 'reset' : 'closed';
  const mix = fin > 0 && rst > 0 ? ` (${n(fin)} by FIN, ${n(rst)} by RST)` : '';
  // A FIN is the application's, or its proxy's; a RST is also what a filter on the way sends.
  const isProven = !isReset || isNear(facts) || hasSaidNo(facts, count);
  // The largest second may be that of others, which were closed young.
  const isAll = count >= totalOf(facts.connections.dropped) * NEARLY_ALL;
  const burst =
    burstMax === null || !isAll ? '' : `, up to ${n(Math.min(burstMax, count))} of them within one second`;
  const median = medianMs(agesOfGroup(facts, isReset ? 'rst' : 'fin', 'held'));
  const age = median === null ? '' : `, half of them after ${seconds(median)} or less`;
  return {
    party: isProven ? 'target' : 'unknown',
    what: isProven ? 'target-closed' : 'resets',
    kinds,
    message: (all) =>
      `${counted(all, 'connection was', 'connections were')} ${how} by the far side${mix}${burst}${age}${saidWords(facts, count)}${isProven ? '' : ': by the target, or by a filter on the way that resets for it'}`,
    next: `see its log, its idle timeout and its limits, and whether it ended: ps -o pid,etime; a proxy or firewall on the way may send this for it${sessionWords(facts)}${isProven ? '' : `; ${WHO_RESETS}`}`,
  };
};

/** The far kernel acknowledged our bytes (or is this host's own), and its application did not answer. */
const targetSilent: Rule = (facts, missing) => {
  const acknowledged = facts.evidence?.acknowledged ?? 0;
  // On this host there is no way on which an answer could have been lost.
  const isHere = farSidesOf(facts).length >= facts.asked.endpoints.length;
  if (acknowledged === 0 && !isHere) return null;
  const never = facts.probes.answered === 0 ? 'never answered' : 'stopped answering';
  return {
    party: 'target',
    what: 'target-silent',
    kinds: {
      ...missing.some(acknowledged, 'dropped probe-timeout', 'dropped timeout'),
      ...missing.all('unanswered'),
    },
    message: (count) =>
      `the application ${never}: ${n(count)} connections are established, and only the target's kernel speaks`,
    next: 'see what the target does: is it stopped, stuck or overloaded? ss -ltn shows its accept queue',
  };
};

/**
 * Connected, and unknown to the far kernel a second later, where no router is between that could have forgotten: a handshake that it answered
 * with a SYN cookie while its queue was full. What an application resets is reset without being asked, and a process that ended refuses.
 */
const targetForgotHandshake: Rule = (facts, missing) => {
  const { rampEnd, holdEnd } = facts.evidence?.finalCheck ?? {};
  const atRampEnd = rampEnd?.reset ?? 0;
  const connect = newConnects(facts);
  const isReachable = connect === 'taken' || connect === 'silent';
  if (atRampEnd === 0 || isRouted(facts) !== false || !isReachable) return null;
  // A half-open one among them is given up by that kernel a while later.
  const later = holdEnd?.reset ?? 0;
  const count = later <= atRampEnd * (1 - NEARLY_ALL) ? atRampEnd + later : atRampEnd;
  return {
    party: 'target',
    what: 'target-accept-queue',
    kinds: missing.some(count, 'final-reset'),
    message: (all) =>
      `the target's kernel had answered the handshakes of ${n(all)} connections, and reset them when it was asked for them (by a segment without payload): it does not have them, and no router is between that could have forgotten them. So does a kernel whose accept queue is full, behind SYN cookies`,
    next: 'at the target: ss -ltn (Recv-Q against Send-Q of its listener), nstat -az TcpExtListenOverflows TcpExtTCPReqQFullDoCookies; its backlog and net.core.somaxconn',
  };
};

/** Some of everything got no answer, from the first SYN on, and the others live. */
const pathLoss: Rule = (facts, missing) => {
  if (missing.of('dropped probe-timeout') === 0 || !isLossy(facts)) return null;
  const kinds = missing.all('dropped probe-timeout', 'dropped timeout', 'failed timeout');
  const again = facts.ramp?.retransmittedConnects ?? 0;
  const { established, open } = facts.connections;
  return {
    party: 'unknown',
    what: 'path-loss',
    kinds,
    message: (count) =>
      `${n(again)} of ${n(established)} connects needed a further SYN, and ${n(count)} connects or probes got no answer in time${open === 0 ? '' : ` while ${n(open)} connections live`}: packets get lost, on the way or at a host that is overloaded`,
    next: 'where they get lost: nstat -az TcpRetransSegs here and there, ip -s link, ethtool -S, mtr; at the target ss -ltn (Recv-Q)',
  };
};

/** Whether the target itself says that it still has what we have lost. */
function stillThere({ target, connections }: DiagnosisFacts): string | null {
  if (target === null || target.openNow <= connections.open) return null;
  return `; the target still holds ${n(target.openNow)}`;
}

interface Cause {
  readonly party: Party;
  readonly what: string;
  readonly words: string;
}

/** Who is named by resets in answer to probes, all from one moment on. */
function causeOfResets(facts: DiagnosisFacts): Cause {
  const connect = newConnects(facts);
  const routed = isRouted(facts);
  const open = stillThere(facts);
  if (open !== null)
    return { party: 'path', what: 'path-forgot', words: `something on the way has forgotten them${open}` };
  if (routed === false && (connect === 'taken' || connect === 'refused'))
    return {
      party: 'target',
      what: 'target-rebooted',
      words: `a new connect is ${connect}, and no router is between: the target's kernel does not know them any more, as after a reboot`,
    };
  return {
    party: 'unknown',
    what: connect === 'taken' && routed === true ? 'path-forgot' : 'unknown',
    words: `${connect === 'taken' ? 'new connects are taken: ' : ''}either a NAT or firewall on the way has lost its table and resets what it does not know, or the target was rebooted, or its application resets them`,
  };
}

/** Who is named by probes that no kernel acknowledged. */
function causeOfSilence(facts: DiagnosisFacts): Cause {
  const connect = newConnects(facts);
  const routed = isRouted(facts);
  const neighbours = aftermathsOf(facts).map(({ isNeighbourThere }) => isNeighbourThere);
  const open = stillThere(facts) ?? '';
  if (connect === 'taken')
    return {
      party: 'path',
      what: 'path-forgot',
      words: `and a new connect is taken: something on the way has forgotten them${open}`,
    };
  if (connect === null)
    return {
      party: 'unknown',
      what: 'unknown',
      words: `the way was cut, the target is gone, or something on the way has lost its table${open}`,
    };
  if (routed === false && neighbours.length > 0 && neighbours.every((one) => one === false))
    return {
      party: 'target',
      what: 'target-gone',
      words: 'no host on our own segment answers for its address any more: the target is down or has lost it',
    };
  const isFiltered = routed === false && neighbours.length > 0 && neighbours.every((one) => one === true);
  return {
    party: isFiltered ? 'path' : 'unknown',
    what: isFiltered || routed === true ? 'path-cut' : 'unknown',
    words: isFiltered
      ? 'and a new connect is not answered either, though its host answers for its address: a filter drops everything from one moment on'
      : `and a new connect is not answered either: the way was cut from one moment on, or the target's host is down${open}`,
  };
}

const deadOnProbe: Rule = (facts, missing) => {
  if (facts.probes.answered === 0) return null;
  const resets = missing.all('reset-on-probe');
  if (sumOf(resets) > 0) {
    const { party, what, words } = causeOfResets(facts);
    return {
      party,
      what,
      kinds: resets,
      message: (count) =>
        `${n(count)} connections had answered, and a RST came as the answer to their next probe: ${words}`,
      next: NEXT,
    };
  }
  return null;
};

/** Silent ones, of which a kernel said at the end that it does not have them. */
const deadAtEnd: Rule = (facts, missing) => {
  if (missing.of('final-reset') === 0) return null;
  const { party, what, words } = causeOfResets(facts);
  return {
    party,
    what,
    kinds: missing.all('final-reset'),
    message: (count) =>
      `${counted(count, 'connection was', 'connections were')} open, and a RST came as the answer when they were asked for at the end: ${words}`,
    next: NEXT,
  };
};

const NEXT =
  'see the idle timeout and the uptime of NAT and firewall on the way, and of the target (uptime); keep below the timeout with --probe-every';

const silentOnProbe: Rule = (facts, missing) => {
  const unacknowledged = facts.evidence?.notAcknowledged ?? 0;
  // Too short a timeout proves nothing: the acknowledgement may still have been on its way.
  if (unacknowledged === 0 || facts.asked.probeTimeoutMs < DELAYED_ACK_MS_MAX * 2) return null;
  if (facts.probes.answered === 0) return null;
  const { party, what, words } = causeOfSilence(facts);
  return {
    party,
    what,
    kinds: missing.some(unacknowledged, 'dropped probe-timeout', 'dropped timeout'),
    message: (count) =>
      `${n(count)} connections had answered, and their next probe was not even acknowledged, ${words}`,
    next: NEXT,
  };
};

/** How connections ended, by a shape that has one cause. */
export const SHAPE_RULES: readonly Rule[] = [targetResetsMessage, targetEvicts, targetTimeout, targetEnded];
/** What is left of losses. */
export const LOSS_RULES: readonly Rule[] = [
  targetForgotHandshake,
  pathLoss,
  targetSilent,
  deadOnProbe,
  silentOnProbe,
  deadAtEnd,
  targetClosed,
];
