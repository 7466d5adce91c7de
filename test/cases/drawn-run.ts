/**
 * Owns drawn runs with one known cause: connections one by one, as the cause would have them, and the facts that a report has of
 * them. Pure but for the generator of numbers that it is given. Must never put into facts what a run could not have seen.
 */
import type { Party } from '../../src/base/outcome.ts';
import type { diagnose } from '../../src/judge/diagnosis.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';

export type Facts = Parameters<typeof diagnose>[0];
type Evidence = NonNullable<Facts['evidence']>;
type Host = Facts['kernel']['hosts'][number];
type Aftermath = NonNullable<Host['aftermath']>[string];

/** Numbers from 0 to below 1 (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** One connection. Times in milliseconds since the start. */
export interface Connection {
  readonly callMs: number;
  readonly endpoint: string;
  readonly source: string;
  readonly port: number;
  result: 'established' | 'refused' | 'timeout' | 'unreachable' | 'reset' | 'handshake' | 'prohibited';
  /** from the call to established */
  latencyMs: number;
  /** its application has answered at least once; only where it is asked */
  answered: boolean;
  lost: 'fin' | 'rst' | 'probe-timeout' | 'alias-lost' | 'holder-lost' | null;
  lostAtMs: number;
  /** by a RST in answer to a probe */
  onProbe: boolean;
  /** by a RST in answer to the keepalive at the end of ramp or hold */
  byKeepalive: 'rampEnd' | 'holdEnd' | null;
  /** of a probe that timed out */
  probe: 'unsent' | 'unacknowledged' | 'acknowledged' | null;
}

/** What a cause decides beside its connections. */
export interface Draw {
  readonly random: () => number;
  readonly connections: Connection[];
  readonly endpoints: readonly string[];
  readonly isProbed: boolean;
  readonly probeEveryMs: number;
  readonly holdMs: number;
  readonly rampMs: number;
  readonly isLocal: boolean;
  counters: Record<string, number>;
  readonly samples: Host['samples'];
  aftermath: Aftermath | null;
  ownNetwork: NonNullable<Host['ownNetwork']>;
  farSide: NonNullable<Host['farSide']>[string] | null;
  said: string | null;
  troubles: Record<string, number>;
  loopLagMs: number;
  echoMs: number;
}

export interface Cause {
  readonly name: string;
  readonly party: Party;
  readonly apply: (draw: Draw) => void;
}

const CONNECT_TIMEOUT_MS = 4_000;
const PROBE_TIMEOUT_MS = 3_000;

function pick<T>(random: () => number, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)]!;
}

const NO_FAR_SIDE = {
  waitingMax: 0,
  waitingLast: 0,
  takenLast: 0,
  halfOpenMax: 0,
  isQueueFull: false,
  isOwnerGone: false,
  descriptorsUsed: 100,
  descriptorsMax: 1_000_000,
};

/** A listener whose queue nothing has gone wrong with: others wait in it for a moment, and older kernels or agents say less. */
function queueOf(random: () => number): Partial<NonNullable<Host['farSide']>[string]> {
  return {
    ...(random() < 0.8 ? { queuedMax: Math.floor(random() * 60) } : {}),
    ...(random() < 0.8 ? { queueDrops: random() < 0.2 ? null : 0 } : {}),
    ...(random() < 0.8 ? { halfOpenLast: 0 } : {}),
  };
}

/** A run in which nothing has gone wrong yet. */
export function drawRun(random: () => number): Draw {
  const count = pick(random, [12, 30, 60, 100, 150]);
  const rampMs = pick(random, [20, 300, 1_500, 6_000]);
  const endpointCount = pick(random, [1, 1, 1, 2, 3]);
  const isOneHost = random() < 0.5;
  const endpoints = Array.from({ length: endpointCount }, (_, at) =>
    isOneHost ? `10.0.0.9:${8_000 + at}` : `10.0.0.${9 + at}:8000`,
  );
  const sourceCount = pick(random, [1, 1, 2, 5]);
  const isProbed = random() < 0.6;
  const connections = Array.from(
    { length: count },
    (_, at): Connection => ({
      callMs: (at * rampMs) / count,
      endpoint: endpoints[at % endpointCount]!,
      source: `10.0.1.${at % sourceCount}`,
      port: 1_024 + at * pick(random, [1, 1, 40]),
      result: 'established',
      latencyMs: 1 + random() * 30,
      answered: isProbed,
      lost: null,
      lostAtMs: 0,
      onProbe: false,
      byKeepalive: null,
      probe: null,
    }),
  );
  const isLocal = random() < 0.3;
  return {
    random,
    connections,
    endpoints,
    isProbed,
    probeEveryMs: pick(random, [1_000, 2_000, 10_000]),
    holdMs: pick(random, [2_000, 10_000, 60_000]),
    rampMs,
    isLocal,
    // What else goes on in the same namespace, or on the same machine.
    counters: {
      ...(random() < 0.2 ? { ListenOverflows: Math.floor(random() * 2_000) } : {}),
      ...(random() < 0.2 ? { oom_kill: 1 } : {}),
      ...(random() < 0.2 ? { IcmpInDestUnreachs: Math.floor(random() * 20) } : {}),
      ...(random() < 0.1 ? { Icmp6InDestUnreachs: Math.floor(random() * 20) } : {}),
    },
    samples:
      random() < 0.3
        ? { conntrack: { min: 0, max: Math.floor(random() * 250_000), last: 9, limit: 262_144 } }
        : {},
    aftermath:
      random() < 0.7
        ? { connect: 'taken', planConnect: null, isRouted: random() < 0.5, isNeighbourThere: null }
        : null,
    ownNetwork: { linksDown: {}, routesLost: [], addressesLost: [] },
    farSide: isLocal ? { ...NO_FAR_SIDE, ...queueOf(random) } : null,
    said: random() < 0.1 ? 'ready' : null,
    troubles: {},
    loopLagMs: 5 + random() * 100,
    echoMs: 1 + random() * 10,
  };
}

/** The far kernel does not have it, or something on the way does not: a keepalive is answered by a RST. */
export function loseByKeepalive(draw: Draw, one: Connection, at: 'rampEnd' | 'holdEnd'): void {
  const endMs = draw.rampMs + (at === 'holdEnd' ? draw.holdMs : 1_100);
  Object.assign(one, {
    lost: 'rst',
    byKeepalive: at,
    lostAtMs: Math.max(endMs, one.callMs + one.latencyMs + 1_050),
  });
}

/** Loses a connection by a probe that is due at some moment after `fromMs`. */
export function loseByProbe(
  draw: Draw,
  one: Connection,
  fromMs: number,
  how: NonNullable<Connection['probe']> | 'rst',
): void {
  const dueMs = fromMs + draw.random() * draw.probeEveryMs;
  if (how === 'rst') Object.assign(one, { lost: 'rst', onProbe: true, lostAtMs: dueMs });
  else Object.assign(one, { lost: 'probe-timeout', probe: how, lostAtMs: dueMs + PROBE_TIMEOUT_MS });
}

function countsOf(list: readonly (string | null)[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of list) if (one !== null) counts[one] = (counts[one] ?? 0) + 1;
  return counts;
}

function series<Kind extends string>(
  kinds: readonly Kind[],
  events: readonly (readonly [kind: Kind, atMs: number])[],
): { folds: number; counts: Record<Kind, number[]> } {
  const last = Math.max(0, ...events.map(([, atMs]) => atMs));
  let folds = 0;
  while (last / 2 ** folds >= 240) folds++;
  const counts = Object.fromEntries(kinds.map((kind) => [kind, [] as number[]])) as Record<Kind, number[]>;
  for (const [kind, atMs] of events) {
    const bucket = Math.floor(atMs / 2 ** folds);
    const list = counts[kind];
    while (list.length <= bucket) list.push(0);
    list[bucket]! += 1;
  }
  return { folds, counts };
}

const indexes = new Map<number, number>();

/** Where the histogram counts a length; asked once for each, because a recorder is large. */
function indexOf(ms: number): number {
  const rounded = Math.max(1, Math.round(ms / 5) * 5);
  let index = indexes.get(rounded);
  if (index === undefined) {
    const recorder = new LatencyRecorder();
    recorder.record(rounded);
    index = recorder.sparse()[0]!;
    indexes.set(rounded, index);
  }
  return index;
}

function durations(list: readonly number[]): {
  histogram: readonly number[];
  leastMs: number;
  mostMs: number;
} {
  const counts = new Map<number, number>();
  for (const one of list) counts.set(indexOf(one), (counts.get(indexOf(one)) ?? 0) + 1);
  const histogram = [...counts].sort(([a], [b]) => a - b).flat();
  return { histogram, leastMs: Math.min(0, ...list), mostMs: Math.max(0, ...list) };
}

const KINDS_OF_RESULT = {
  established: 'established',
  refused: 'answeredNo',
  unreachable: 'answeredNo',
  reset: 'answeredNo',
  handshake: 'answeredNo',
  prohibited: 'answeredNo',
  timeout: 'silent',
} as const;

function placesOf(
  list: readonly Connection[],
  keyOf: (one: Connection) => string,
): NonNullable<Evidence['byEndpoint']> {
  const byKey = new Map<string, Connection[]>();
  for (const one of list) byKey.set(keyOf(one), [...(byKey.get(keyOf(one)) ?? []), one]);
  return Object.fromEntries(
    [...byKey].map(([key, own]) => [
      key,
      {
        asked: own.length,
        established: own.filter(({ result }) => result === 'established').length,
        failed: countsOf(own.map(({ result }) => (result === 'established' ? null : result))),
        dropped: countsOf(own.map(({ lost }) => lost)),
      },
    ]),
  );
}

function gapsOf(list: readonly Connection[]): number[] {
  const gaps = Array.from({ length: 17 }, () => 0);
  let since: number | null = null;
  for (const { result } of list) {
    if (result === 'established') since = since === null ? null : since + 1;
    else if (result !== 'timeout') {
      if (since !== null) gaps[Math.min(since, 16)]! += 1;
      since = 0;
    }
  }
  return gaps;
}

function blocksOf(list: readonly Connection[]): NonNullable<Evidence['byPortBlock']> {
  const blocks = { asked: [], established: [], answeredNo: [], silent: [] } as Record<
    'asked' | 'established' | 'answeredNo' | 'silent',
    number[]
  >;
  for (const { port, result } of list) {
    const at = Math.floor(port / 1_024);
    for (const name of ['asked', KINDS_OF_RESULT[result]] as const)
      blocks[name][at] = (blocks[name][at] ?? 0) + 1;
  }
  return blocks;
}

/** The last question to each connection that was still there. */
function finalCheckOf({ connections, rampMs, holdMs }: Draw): NonNullable<Evidence['finalCheck']> {
  const at = (name: 'rampEnd' | 'holdEnd', endMs: number) => {
    const asked = connections.filter(
      ({ result, lost, lostAtMs, byKeepalive }) =>
        result === 'established' && (lost === null || lostAtMs > endMs || byKeepalive === name),
    );
    const reset = asked.filter(({ byKeepalive }) => byKeepalive === name).length;
    return { asked: asked.length, answered: asked.length - reset, reset, silent: 0 };
  };
  return { rampEnd: at('rampEnd', rampMs), holdEnd: at('holdEnd', rampMs + holdMs) };
}

/** What agents of today send. */
function evidenceOf(draw: Draw): Evidence {
  const list = draw.connections;
  const establishedMs = (one: Connection): number => one.callMs + one.latencyMs;
  const lost = list.filter(({ lost: reason }) => reason !== null);
  const ages = (kind: 'fin' | 'rst') =>
    durations(lost.filter((one) => one.lost === kind).map((one) => one.lostAtMs - establishedMs(one)));
  // Where nothing is sent, nothing was heard since it was opened; a probe was the last byte where one was out.
  const silences = (kind: 'fin' | 'rst') =>
    durations(
      lost
        .filter((one) => one.lost === kind)
        .map((one) =>
          one.onProbe
            ? 1
            : draw.isProbed
              ? draw.random() * draw.probeEveryMs
              : one.lostAtMs - establishedMs(one),
        ),
    );
  const said = draw.said === null ? [] : [{ text: draw.said, first: lost.length, last: 0 }];
  return {
    connectsAt: series(
      ['established', 'answeredNo', 'silent'],
      list.map((one) => [KINDS_OF_RESULT[one.result], one.callMs] as const),
    ),
    lossesAt: series(
      ['fin', 'rst', 'silent'],
      lost.map(
        (one) => [one.lost === 'fin' || one.lost === 'rst' ? one.lost : 'silent', one.lostAtMs] as const,
      ),
    ),
    lossAgeMs: { fin: ages('fin'), rst: ages('rst') },
    lossSilenceMs: { fin: silences('fin'), rst: silences('rst') },
    byEndpoint: placesOf(list, ({ endpoint }) => endpoint),
    bySourceOutcome: placesOf(list, ({ source }) => source),
    byPortBlock: blocksOf(list),
    gapsBetweenFailures: gapsOf(list),
    said: { texts: said },
    notSent: list.filter(({ probe }) => probe === 'unsent').length,
    notAcknowledged: list.filter(({ probe }) => probe === 'unacknowledged').length,
    acknowledged: list.filter(({ probe }) => probe === 'acknowledged').length,
    lostUnanswered: {
      fin: lost.filter(({ lost: how, answered }) => how === 'fin' && !answered).length,
      rst: lost.filter(({ lost: how, answered }) => how === 'rst' && !answered).length,
    },
    finalCheck: finalCheckOf(draw),
  };
}

function burstOf(lost: readonly Connection[]): number {
  const times = lost.map(({ lostAtMs }) => lostAtMs).sort((a, b) => a - b);
  let most = 0;
  for (let first = 0, last = 0; last < times.length; last++) {
    while (times[last]! - times[first]! > 1_000) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

/** The ramp as the timeline shows it: a point a second until the last connect is settled. */
function timelineOf(draw: Draw): NonNullable<Facts['timeline']> {
  const settledMs = Math.max(
    ...draw.connections.map(
      (one) => one.callMs + (one.result === 'timeout' ? CONNECT_TIMEOUT_MS : one.latencyMs),
    ),
  );
  return Array.from({ length: Math.floor(settledMs / 1_000) + 1 }, (_, at) => ({
    atSec: at,
    phase: 'ramping',
    open: 0,
    established: draw.connections.filter(
      (one) => one.result === 'established' && one.callMs + one.latencyMs <= at * 1_000,
    ).length,
    pending: 0,
    failed: 0,
    dropped: 0,
    verified: 0,
    seenByTarget: null,
  }));
}

/**
 * The facts of a report.
 * @param sends whether the agent is one of today, and not an older one without evidence
 */
export function factsOf(draw: Draw, sends: boolean): Facts {
  const { isProbed } = draw;
  // An older agent asks no connection once more at the end, and so loses none by that.
  const list = draw.connections.map(
    (one): Connection => (sends || one.byKeepalive === null ? one : { ...one, lost: null }),
  );
  const established = list.filter(({ result }) => result === 'established');
  const lost = established.filter(({ lost: reason }) => reason !== null);
  const open = established.filter(({ lost: reason }) => reason === null);
  const verified = isProbed ? open.filter(({ answered }) => answered).length : 0;
  const retried = established.filter(({ latencyMs }) => latencyMs >= 1_000).length;
  const timedOut = list.filter(({ result }) => result === 'timeout').length;
  const young = lost.filter(
    (one) => !one.onProbe && one.lostAtMs - one.callMs - one.latencyMs < 1_000,
  ).length;
  const out =
    draw.counters.IpOutRequests === undefined ? { IpOutRequests: 5_000, IpOutTransmits: 5_000 } : {};
  const into = draw.counters.IpInReceives === undefined ? { IpInReceives: 5_000, IpInDelivers: 5_000 } : {};
  const counters = {
    ...draw.counters,
    ...(sends ? { ...out, ...into } : {}),
    TCPSynRetrans: timedOut * 3 + retried,
  };
  const host: Host = {
    agent: 'local',
    counters,
    samples: draw.samples,
    synLadderSec: [1, 3, 7],
    hasLocalEndpoint: draw.isLocal,
    ...(sends
      ? {
          ownNetwork: draw.ownNetwork,
          ...(draw.farSide === null ? {} : { farSide: { [draw.endpoints[0]!]: draw.farSide } }),
          ...(draw.aftermath === null ? {} : { aftermath: { [draw.endpoints[0]!]: draw.aftermath } }),
        }
      : {}),
  };
  const answered = established.filter((one) => one.answered).length;
  const rounds = Math.max(1, Math.floor(draw.holdMs / draw.probeEveryMs));
  const notTaken =
    draw.farSide === null || !sends ? 0 : draw.farSide.waitingLast + (draw.farSide.halfOpenLast ?? 0);
  const held = isProbed ? verified : open.length - Math.min(open.length, notTaken);
  return {
    ramp: { retransmittedConnects: retried },
    asked: {
      connections: list.length,
      target: [isProbed ? 'echo://10.0.0.9:8000' : 'tcp://10.0.0.9:8000'],
      protocol: isProbed ? 'echo' : 'tcp',
      endpoints: draw.endpoints,
      ratePerSec: null,
      pendingMax: 1_000,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      holdMs: draw.holdMs,
      close: 'rst',
      probeEveryMs: isProbed ? draw.probeEveryMs : null,
      probeTimeoutMs: PROBE_TIMEOUT_MS,
      onDrop: 'count',
    },
    connections: {
      attempted: list.length,
      established: established.length,
      open: open.length,
      verified,
      held,
      closed: open.length,
      unattempted: 0,
      failed: countsOf(list.map(({ result }) => (result === 'established' ? null : result))),
      dropped: countsOf(established.map(({ lost: reason }) => reason)),
      localSkips: {},
      reopened: 0,
    },
    probes: {
      sent: isProbed ? established.length * rounds + Math.floor(draw.random() * 9) : 0,
      answered: isProbed ? answered * Math.max(1, rounds - 1) : 0,
      timedOutAcknowledged: list.filter(({ probe }) => probe === 'acknowledged' || probe === 'unsent').length,
    },
    losses: {
      counts: [],
      young,
      resetsOnProbe: lost.filter(({ onProbe }) => onProbe).length,
      burstMax: burstOf(lost),
      detailsCut: 0,
    },
    hold: {
      seconds: established.length === 0 ? 0 : draw.holdMs / 1_000,
      proof: isProbed ? 'probes' : 'kernel-only',
    },
    kernel: { established: open.length, counts: [], counters, hosts: [host] },
    target: null,
    agents: [
      {
        name: 'local',
        quota: list.length,
        established: established.length,
        open: open.length,
        held,
        verified,
        failed: {},
        dropped: {},
        capacity: 100_000,
        boundBy: 'tuples',
        sources: [...new Set(list.map(({ source }) => source))],
        lost: false,
        engine: null,
        holders: [],
      },
    ],
    generator: { limits: [], loopLagMsMax: draw.loopLagMs },
    evidence: sends ? evidenceOf(draw) : null,
    timeline: timelineOf(draw),
    connectMs: { max: Math.max(0, ...established.map(({ latencyMs }) => latencyMs)) },
    echoMs: { p90: isProbed ? draw.echoMs : null },
    troubles: draw.troubles,
  };
}
