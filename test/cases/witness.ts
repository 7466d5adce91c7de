/**
 * Owns the facts of a recording as rules get them: those of its report, and, where the program that was recorded sent no evidence
 * yet, what the capture, the counters and the looks at the far side say in its place. Must never use what a case expects.
 */
import type { diagnose } from '../../src/judge/diagnosis.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import type { Recording } from './recording.ts';
import type { PlaceCounts, Spread, WireEvidence } from './wire-evidence.ts';

type Facts = Parameters<typeof diagnose>[0];
type Evidence = NonNullable<Facts['evidence']>;
type Host = Facts['kernel']['hosts'][number];
type Connect = 'taken' | 'refused' | 'unreachable' | 'silent';

/** A bucket of about a second: 1 ms x 2^10. */
const SECOND_FOLDS = 10;
const RESULTS: Readonly<Record<string, 'established' | 'answeredNo' | 'silent'>> = {
  e: 'established',
  r: 'answeredNo',
  i: 'answeredNo',
};
const GAPS_MAX = 16;
/** What the built-in protocols send back on each living connection. */
const OWN_WORDS = /^c1kb/;

/** Outcomes in the order of the calls, at most 200 buckets. */
function connectsInOrder(order: WireEvidence['order']): Evidence['connectsAt'] {
  const outcomes: string[] = [];
  for (let at = 0; at < order.length; at += 2)
    for (let count = Number(order[at + 1]); count > 0; count--) outcomes.push(String(order[at]));
  const each = Math.ceil(outcomes.length / 200);
  const counts = { established: [] as number[], answeredNo: [] as number[], silent: [] as number[] };
  for (const [at, letter] of outcomes.entries()) {
    const bucket = Math.floor(at / each);
    for (const list of Object.values(counts)) list[bucket] ??= 0;
    const list = counts[RESULTS[letter] ?? 'silent'];
    list[bucket] = (list[bucket] ?? 0) + 1;
  }
  return { folds: 0, counts };
}

function connectsBySecond(wire: WireEvidence): Evidence['connectsAt'] {
  return { folds: SECOND_FOLDS, counts: { established: wire.successesPerSec, answeredNo: [], silent: [] } };
}

function lossesBySecond(wire: WireEvidence): Evidence['lossesAt'] {
  const all: number[] = [];
  for (let at = 0; at < wire.lossesPerSec.length; at += 2)
    all[wire.lossesPerSec[at] ?? 0] = wire.lossesPerSec[at + 1] ?? 0;
  const counts = Array.from(all, (count) => count ?? 0);
  const isFin = wire.endedByFin >= wire.endedByRst;
  return {
    folds: SECOND_FOLDS,
    counts: { fin: isFin ? counts : [], rst: isFin ? [] : counts, silent: [] },
  };
}

/** Evenly between least, median and most, where a capture kept no more. */
function durations(spread: Spread | null): { histogram: readonly number[]; leastMs: number; mostMs: number } {
  const recorder = new LatencyRecorder();
  if (spread === null) return { histogram: [], leastMs: 0, mostMs: 0 };
  const { count, minMs, medianMs, maxMs } = spread;
  for (let at = 0; at < count; at++) {
    const share = (at + 0.5) / count;
    recorder.record(
      share < 0.5
        ? minMs + (medianMs - minMs) * share * 2
        : medianMs + (maxMs - medianMs) * (share - 0.5) * 2 * 0.5,
    );
  }
  return { histogram: recorder.sparse(), leastMs: minMs, mostMs: maxMs };
}

function byEnd(wire: WireEvidence, spread: Spread | null): Evidence['lossAgeMs'] {
  const none = durations(null);
  return wire.endedByFin >= wire.endedByRst
    ? { fin: durations(spread), rst: none }
    : { fin: none, rst: durations(spread) };
}

function places(seen: Readonly<Record<string, PlaceCounts>>): NonNullable<Evidence['byEndpoint']> {
  return Object.fromEntries(
    Object.entries(seen).map(([name, one]) => [
      name,
      {
        asked: one.asked,
        established: one.established,
        failed: {
          refused: one.refused,
          unreachable: one.rejected,
          timeout: one.silent + one.unheard,
        },
        dropped: { fin: one.ended },
      },
    ]),
  );
}

function portBlocks(wire: WireEvidence): NonNullable<Evidence['byPortBlock']> {
  const blocks = {
    asked: [] as number[],
    established: [] as number[],
    answeredNo: [] as number[],
    silent: [] as number[],
  };
  for (const [port, one] of Object.entries(wire.portBlocks)) {
    const at = Math.floor(Number(port) / 1_024);
    blocks.asked[at] = one.asked;
    blocks.established[at] = one.established;
    blocks.answeredNo[at] = one.refused + one.rejected;
    blocks.silent[at] = one.silent;
  }
  return blocks;
}

function gaps(order: WireEvidence['order']): number[] {
  const list = Array.from({ length: GAPS_MAX + 1 }, () => 0);
  let since: number | null = null;
  for (let at = 0; at < order.length; at += 2) {
    const count = Number(order[at + 1]);
    if (order[at] === 'e') since = since === null ? null : since + count;
    else if (order[at] === 'r')
      for (let each = 0; each < count; each++) {
        if (since !== null) list[Math.min(since, GAPS_MAX)]! += 1;
        since = 0;
      }
  }
  return list;
}

function said(wire: WireEvidence): NonNullable<Evidence['said']> {
  const texts = wire.said
    .filter(({ text }) => !OWN_WORDS.test(text))
    .map(({ when, text, count }) => ({
      text,
      first: when === 'first' ? count : 0,
      last: when === 'last' ? count : 0,
    }));
  return { texts };
}

function evidenceOf(recording: Recording, facts: Facts): Evidence | null {
  const { wire, counters } = recording;
  if (wire === null) return null;
  const timedOut = facts.connections.dropped['probe-timeout'] ?? 0;
  const isUnsent = (counters.ours?.IpOutNoRoutes ?? 0) > 0;
  const acknowledged = isUnsent ? 0 : facts.probes.timedOutAcknowledged;
  const isLong = wire.successesPerSec.length > 2 && wire.total.silent + wire.total.refused === 0;
  return {
    ...(wire.order.length === 0
      ? {}
      : { connectsAt: isLong ? connectsBySecond(wire)! : connectsInOrder(wire.order)! }),
    lossesAt: lossesBySecond(wire)!,
    lossAgeMs: byEnd(wire, wire.ageAtLoss)!,
    lossSilenceMs: byEnd(wire, wire.silenceBeforeLoss)!,
    byEndpoint: places(wire.endpoints),
    bySourceOutcome: places(wire.sources),
    byPortBlock: portBlocks(wire),
    gapsBetweenFailures: gaps(wire.order),
    said: said(wire),
    notSent: isUnsent ? timedOut : 0,
    notAcknowledged: isUnsent ? 0 : timedOut - acknowledged,
    acknowledged,
  };
}

function hostOf(recording: Recording, facts: Facts, host: Host): Host {
  const { farSide, aftermath, counters } = recording;
  const overflows = facts.kernel.counters.ListenOverflows ?? 0;
  const connects = Object.entries(aftermath?.connects ?? {});
  const isRefused = connects.length > 0 && connects.every(([, connect]) => connect === 'refused');
  const gone = Object.entries(aftermath?.targets ?? {}).filter(([, { hasRoute }]) => !hasRoute);
  return {
    ...host,
    ownNetwork: {
      linksDown: aftermath?.link === 'down' ? { eth0: 'administrative' } : {},
      routesLost: gone.map(([address]) => address),
      addressesLost: [],
    },
    ...(farSide === null || !host.hasLocalEndpoint
      ? {}
      : {
          farSide: {
            [facts.asked.endpoints[0] ?? '']: {
              waitingMax: farSide.waitingMax,
              waitingLast: farSide.waitingLast ?? 0,
              takenLast: farSide.takenLast ?? 0,
              halfOpenMax: farSide.synReceivedMax,
              isQueueFull: overflows > 0 && farSide.acceptQueueMax > 0,
              isOwnerGone: isRefused && (counters.ours?.TcpActiveOpens ?? 0) > 0,
              descriptorsUsed: null,
              descriptorsMax: null,
            },
          },
        }),
    aftermath: Object.fromEntries(
      connects.map(([endpoint, connect]) => [
        endpoint,
        {
          connect: connect as Connect,
          planConnect: null,
          isRouted: /^10\.84\./.test(endpoint),
          isNeighbourThere: null,
        },
      ]),
    ),
  };
}

/** What the rules are given of a recording. */
export function factsOf(recording: Recording, report: NonNullable<Recording['report']>): Facts {
  if ('evidence' in report && report.evidence !== null) return report as Facts;
  const ip = Object.entries(recording.counters.ours ?? {}).filter(([name]) =>
    /^Ip6?(?:In|Out|Forw)/.test(name),
  );
  return {
    ...report,
    evidence: evidenceOf(recording, report),
    kernel: {
      ...report.kernel,
      counters: { ...report.kernel.counters, ...Object.fromEntries(ip) },
      hosts: report.kernel.hosts.map((host) => hostOf(recording, report, host)),
    },
  };
}
