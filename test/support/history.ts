/**
 * Owns the judgement of a run's history: what was said on the control channel, and what the target saw, against the
 * promises that no fault may break. Must never believe the program's own state: only messages, and the target.
 *
 * All times are of one host's monotonic clock, in milliseconds.
 */
import type { AgentMessageOf } from '../../src/control/message.ts';
import type { RecordedMessage } from '../../src/coordinator/run-settings.ts';
import type { LeaseTimes } from '../../src/run/lease.ts';

/** One connection as the target saw it. */
export interface SeenConnection {
  readonly openedMs: number;
  /** null: still open at the end */
  closedMs: number | null;
  readonly source: string;
  readonly port: number;
}

export interface History {
  /** connections that were asked for */
  readonly total: number;
  readonly lease: LeaseTimes;
  readonly records: readonly RecordedMessage[];
  readonly connections: readonly SeenConnection[];
  /** the name of an agent by its source address */
  readonly agentOf: Readonly<Record<string, string>>;
  /** null: the coordinator was killed */
  readonly exitCode: number | null;
  /** of the report, when there is one */
  readonly held: number | null;
  readonly endedMs: number;
  /** how late the target may see what its kernel saw */
  readonly sightMs: number;
}

/** One agent in one epoch, as its messages show it. */
interface Share {
  readonly name: string;
  quota: number;
  lastHeardMs: number;
  isOver: boolean;
}

const FROM_AGENT: ReadonlySet<string> = new Set(['hello', 'offer', 'ready', 'refuse', 'stats', 'done']);

/** `name#7` is what the run calls an agent that came back after its lease. */
function nameOf(agent: string): string {
  return agent.replace(/#\d+$/, '');
}

/**
 * Every promise that the history breaks, in words; empty when it keeps all.
 */
export function violationsOf(history: History): string[] {
  return [
    ...quotaViolations(history),
    ...countViolations(history),
    ...tupleViolations(history),
    ...leaseViolations(history),
    ...counterViolations(history),
    ...verdictViolations(history),
  ];
}

/** The sum of the quotas of all who may still act never exceeds the total. */
function quotaViolations({ records, total, lease }: History): string[] {
  const violations: string[] = [];
  const shares = new Map<string, Share>();
  for (const { agent, epoch, atMs, message } of records) {
    const key = `${agent} ${epoch}`;
    const share = shares.get(key) ?? { name: agent, quota: 0, lastHeardMs: atMs, isOver: false };
    shares.set(key, share);
    if (FROM_AGENT.has(message.type)) share.lastHeardMs = atMs;
    if (message.type === 'done' || message.type === 'refuse') share.isOver = true;
    if (message.type !== 'quota') continue;
    if (message.connections < share.quota) violations.push(`${agent}: its quota shrank at ${atMs}`);
    share.quota = message.connections;
    const mayAct = [...shares.values()].filter(
      (each) => each === share || (!each.isOver && atMs - each.lastHeardMs <= lease.leaseMs),
    );
    const sum = mayAct.reduce((all, each) => all + each.quota, 0);
    if (sum > total) {
      const parts = mayAct.map((each) => `${each.name} ${each.quota}`).join(', ');
      violations.push(`at ${atMs} quotas of ${sum} are out, of ${total}: ${parts}`);
    }
  }
  return violations;
}

interface Change {
  readonly atMs: number;
  readonly by: 1 | -1;
  readonly connection: SeenConnection;
}

/** Opens and closes in order; of those at one moment the closes first. */
function changesOf(connections: readonly SeenConnection[]): Change[] {
  const changes = connections.flatMap((connection): Change[] => {
    const opened: Change = { atMs: connection.openedMs, by: 1, connection };
    if (connection.closedMs === null) return [opened];
    return [opened, { atMs: connection.closedMs, by: -1, connection }];
  });
  return changes.sort((a, b) => a.atMs - b.atMs || a.by - b.by);
}

/** The target never holds more than was asked for, nor more of one agent than its quotas allow. */
function countViolations({ connections, total, records, agentOf }: History): string[] {
  const quotas = new Map<string, Map<string, number>>();
  for (const { agent, epoch, message } of records) {
    if (message.type !== 'quota') continue;
    const ofName = quotas.get(nameOf(agent)) ?? new Map<string, number>();
    ofName.set(`${agent} ${epoch}`, message.connections);
    quotas.set(nameOf(agent), ofName);
  }
  const open = new Map<string, number>();
  let openNow = 0;
  for (const { atMs, by, connection } of changesOf(connections)) {
    const name = agentOf[connection.source] ?? connection.source;
    openNow += by;
    open.set(name, (open.get(name) ?? 0) + by);
    if (openNow > total) return [`at ${atMs} the target has ${openNow} connections, of ${total}`];
    const allowed = [...(quotas.get(name)?.values() ?? [])].reduce((sum, quota) => sum + quota, 0);
    if ((open.get(name) ?? 0) > allowed) {
      return [`at ${atMs} ${name} has ${open.get(name)} connections, its quotas allow ${allowed}`];
    }
  }
  return [];
}

/** No 4-tuple is held twice at a time. */
function tupleViolations({ connections }: History): string[] {
  const held = new Set<string>();
  for (const { atMs, by, connection } of changesOf(connections)) {
    const tuple = `${connection.source}:${connection.port}`;
    if (by === -1) held.delete(tuple);
    else if (held.has(tuple)) return [`at ${atMs} ${tuple} has two owners`];
    else held.add(tuple);
  }
  return [];
}

/**
 * An agent opens nothing when it was not heard for the quiet time, and holds nothing after the lease. The coordinator
 * hears a message after it was sent, so the agent's own clock ends earlier.
 */
function leaseViolations({ connections, records, lease, agentOf, endedMs, sightMs }: History): string[] {
  const heard = new Map<string, number[]>();
  for (const { agent, atMs, message } of records) {
    if (!FROM_AGENT.has(message.type)) continue;
    const name = nameOf(agent);
    heard.set(name, [...(heard.get(name) ?? []), atMs]);
  }
  for (const { source, port, openedMs, closedMs } of connections) {
    const name = agentOf[source] ?? source;
    const times = heard.get(name) ?? [];
    const lastBefore = (atMs: number): number =>
      times.findLast((time) => time <= atMs) ?? Number.NEGATIVE_INFINITY;
    const what = `${name} ${source}:${port}`;
    if (openedMs > lastBefore(openedMs) + lease.quietMs + sightMs) {
      return [`${what} was opened at ${openedMs}, the agent was heard at ${lastBefore(openedMs)}`];
    }
    // The longest silence while it was open: it must have ended, or the connection must have been closed, in time.
    const untilMs = closedMs ?? endedMs;
    const marks = [
      lastBefore(openedMs),
      ...times.filter((time) => time > openedMs && time < untilMs),
      untilMs,
    ];
    for (let index = 1; index < marks.length; index++) {
      const silentMs = (marks[index] ?? 0) - (marks[index - 1] ?? 0);
      if (silentMs > lease.leaseMs + sightMs) {
        return [`${what} was open until ${untilMs} through a silence of ${Math.round(silentMs)} ms`];
      }
    }
  }
  return [];
}

/** What only ever grows. `attempted` is not: a connect that is given up in flight counts as unattempted again. */
const COUNTERS = [
  'established',
  'closed',
  'synRetransmits',
  'retransmittedConnects',
  'bytesIn',
  'bytesOut',
  'probesSent',
  'probesAnswered',
] as const;
const COUNTERS_BY_REASON = ['failed', 'dropped', 'localSkips'] as const;

function countersOf({ stats }: AgentMessageOf<'stats'> | AgentMessageOf<'done'>): Map<string, number> {
  const counters = new Map<string, number>();
  for (const name of COUNTERS) counters.set(name, stats[name]);
  for (const name of COUNTERS_BY_REASON) {
    for (const [reason, count] of Object.entries(stats[name])) counters.set(`${name}.${reason}`, count);
  }
  return counters;
}

/** Counters never decrease within an epoch, and a counter that was there stays. */
function counterViolations({ records }: History): string[] {
  const last = new Map<string, Map<string, number>>();
  for (const { agent, epoch, atMs, message } of records) {
    if (message.type !== 'stats' && message.type !== 'done') continue;
    if (message.epoch !== epoch) return [`at ${atMs} ${agent} counts for epoch ${message.epoch} in ${epoch}`];
    const counters = countersOf(message);
    for (const [name, before] of last.get(`${agent} ${epoch}`) ?? []) {
      const now = counters.get(name) ?? 0;
      if (now < before) return [`at ${atMs} ${name} of ${agent} fell from ${before} to ${now}`];
    }
    last.set(`${agent} ${epoch}`, counters);
  }
  return [];
}

/** Exit 0 only if what was asked was held: by the report, and by the target for the whole hold phase. */
function verdictViolations(history: History): string[] {
  const { exitCode, held, total, records, connections, sightMs, agentOf } = history;
  if (exitCode !== 0) return [];
  if (held !== total) return [`exit 0, but held is ${held} of ${total}`];
  const holdMs = records.find(({ message }) => message.type === 'hold')?.atMs;
  const stopMs = records.findLast(({ message }) => message.type === 'stop')?.atMs;
  if (holdMs === undefined || stopMs === undefined) return ['exit 0 without a hold phase'];
  const firstStopMs =
    records.find(({ message, atMs }) => message.type === 'stop' && atMs >= holdMs)?.atMs ?? stopMs;
  let open = 0;
  for (const { atMs, by, connection } of changesOf(connections)) {
    const isHeld = atMs > holdMs + sightMs && atMs < firstStopMs;
    open += by;
    if (!isHeld || open >= total) continue;
    const change = `${agentOf[connection.source] ?? connection.source} ${by === 1 ? 'opened' : 'closed'} one`;
    const when = `${atMs - holdMs} ms into the hold of ${firstStopMs - holdMs} ms, with ${sightMs} ms to see it`;
    return [`exit 0, but the target held ${open} of ${total} at ${atMs}: ${change} ${when}`];
  }
  const before = connections.filter(
    (each) => each.openedMs <= holdMs + sightMs && (each.closedMs ?? Infinity) > holdMs,
  );
  return before.length < total
    ? [`exit 0, but the target had ${before.length} of ${total} when the hold began`]
    : [];
}
