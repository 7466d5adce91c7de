/**
 * Owns the causes of drawn runs: what each does to connections, and whose it is. Must never know a rule.
 */
import { type Cause, type Connection, type Draw, loseByKeepalive, loseByProbe } from './drawn-run.ts';

function share(draw: Draw, least: number, most: number): number {
  return Math.floor(draw.connections.length * (least + (most - least) * draw.random()));
}

function established(draw: Draw): Connection[] {
  return draw.connections.filter(({ result }) => result === 'established');
}

function fail(one: Connection, result: Exclude<Connection['result'], 'established'>): void {
  Object.assign(one, { result, answered: false });
}

function failAfter(draw: Draw, first: number, result: Exclude<Connection['result'], 'established'>): void {
  for (const one of draw.connections.slice(first)) fail(one, result);
}

/** SYNs that some rule takes at random; most get through when they are sent again. */
function loseSyns(draw: Draw, isLost: () => boolean): void {
  for (const one of draw.connections) {
    let tries = 0;
    while (tries < 4 && isLost()) tries++;
    if (tries === 4) fail(one, 'timeout');
    else one.latencyMs += tries * 1_000;
  }
}

function never(draw: Draw, list: readonly Connection[]): void {
  for (const one of list) {
    if (!draw.isProbed) continue;
    one.answered = false;
    // The probe is still out when the hold ends, or has timed out by then.
    if (draw.holdMs > 5_000)
      Object.assign(one, { lost: 'probe-timeout', probe: 'acknowledged', lostAtMs: one.callMs + 3_000 });
  }
}

function closeYoung(draw: Draw, list: readonly Connection[], how: 'fin' | 'rst'): void {
  for (const one of list) {
    const onProbe = draw.isProbed && how === 'rst' && draw.random() < 0.5;
    Object.assign(one, {
      lost: how,
      answered: false,
      onProbe,
      lostAtMs: one.callMs + one.latencyMs + draw.random() * 300,
    });
  }
}

function afterRamp(draw: Draw): number {
  return draw.rampMs + 100 + draw.random() * draw.holdMs * 0.5;
}

/** What a listener says of what it dropped; older kernels and agents do not. */
function overflow(draw: Draw): void {
  if (draw.farSide === null) return;
  const { queueDrops, ...side } = draw.farSide;
  const drops = 1 + Math.floor(draw.random() * 500);
  draw.farSide = queueDrops == null ? side : { ...side, queueDrops: drops };
  draw.counters.ListenDrops = (draw.counters.ListenDrops ?? 0) + drops;
}

/** An ICMP error answers a further connect, and our kernel has counted those before. */
function rejectsByIcmp(
  draw: Draw,
  { by, family, type, code, isOwn = false }: Rejection,
  count: number,
): void {
  const name = family === 4 ? 'IcmpInDestUnreachs' : 'Icmp6InDestUnreachs';
  draw.counters[name] = (draw.counters[name] ?? 0) + count;
  const answer = code === 3 || code === 4 ? 'refused' : 'unreachable';
  const rejected = { by, type, code, isOwn };
  if (draw.aftermath !== null)
    draw.aftermath = { ...draw.aftermath, connect: answer, planConnect: answer, rejected };
}

interface Rejection {
  readonly by: string;
  readonly family: 4 | 6;
  readonly type: number;
  readonly code: number;
  readonly isOwn?: boolean;
}

/** The target's queue fills up when it stops taking: some wait (a backlog of 0 holds one), and further SYNs are dropped. */
function stopTaking(draw: Draw, taken: number): void {
  const backlog = taken + 1 + Math.floor(draw.random() * 20);
  never(draw, draw.connections.slice(taken, backlog));
  failAfter(draw, backlog, 'timeout');
  if (draw.farSide === null) return;
  const waiting = Math.min(draw.connections.length, backlog) - taken;
  const isQueueFull = backlog < draw.connections.length;
  const queuedMax = waiting + Math.floor(draw.random() * 20);
  Object.assign(draw.farSide, { waitingMax: waiting, waitingLast: waiting, isQueueFull, queuedMax });
  if (isQueueFull) overflow(draw);
  draw.counters.ListenOverflows = 100;
}

const GENERATOR: readonly Cause[] = [
  {
    name: 'our firewall drops output',
    party: 'generator',
    apply: (draw) => {
      const only = draw.random() < 0.3 ? draw.endpoints[0] : null;
      for (const one of draw.connections) if (only === null || one.endpoint === only) fail(one, 'timeout');
      Object.assign(draw.counters, { IpOutRequests: 90_000, IpOutTransmits: 9_000 });
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, connect: 'silent' };
    },
  },
  {
    name: 'our firewall rejects',
    party: 'generator',
    apply: (draw) => {
      failAfter(draw, 0, 'refused');
      Object.assign(draw.counters, { IpOutRequests: 90_000, IpOutTransmits: 9_000 });
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, connect: 'refused' };
    },
  },
  {
    name: 'our firewall rejects by ICMP',
    party: 'generator',
    apply: (draw) => {
      failAfter(draw, 0, 'unreachable');
      Object.assign(draw.counters, { IpOutRequests: 90_000, IpOutTransmits: 9_000 });
      rejectsByIcmp(
        draw,
        { by: '10.0.1.0', family: 4, type: 3, code: 13, isOwn: true },
        draw.connections.length,
      );
    },
  },
  {
    name: 'our link goes down',
    party: 'generator',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (!draw.isProbed) return;
      for (const one of draw.connections) loseByProbe(draw, one, atMs, 'unsent');
      draw.counters.IpOutNoRoutes = 500;
      if (draw.random() < 0.7) draw.ownNetwork = { ...draw.ownNetwork, linksDown: { eth0: 'carrier' } };
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, connect: 'unreachable' };
    },
  },
  {
    name: 'our loop is late',
    party: 'generator',
    apply: (draw) => {
      draw.loopLagMs = 5_000;
      for (const one of draw.connections.slice(share(draw, 0, 0.9))) fail(one, 'timeout');
    },
  },
  {
    name: 'a holder dies',
    party: 'generator',
    apply: (draw) => {
      for (const one of draw.connections.slice(share(draw, 0, 0.9)))
        Object.assign(one, { lost: 'holder-lost', lostAtMs: afterRamp(draw) });
    },
  },
];

const TARGET_CONNECTS: readonly Cause[] = [
  {
    name: 'nobody listens',
    party: 'target',
    apply: (draw) => {
      failAfter(draw, 0, 'refused');
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, connect: 'refused' };
    },
  },
  {
    name: 'its host is off, and our own kernel says so',
    party: 'target',
    apply: (draw) => {
      for (const one of draw.connections) fail(one, draw.random() < 0.5 ? 'unreachable' : 'timeout');
      // Its neighbour entry failed: our kernel sends the ICMP error to itself.
      rejectsByIcmp(
        draw,
        { by: '10.0.1.0', family: 4, type: 3, code: 1, isOwn: true },
        draw.connections.filter(({ result }) => result === 'unreachable').length,
      );
      if (draw.aftermath !== null)
        draw.aftermath = { ...draw.aftermath, isRouted: false, isNeighbourThere: false };
    },
  },
  {
    name: 'it completes handshakes behind SYN cookies and forgets them',
    party: 'target',
    apply: (draw) => {
      if (draw.isProbed) return;
      for (const one of draw.connections.slice(share(draw, 0, 0.9))) loseByKeepalive(draw, one, 'rampEnd');
      if (draw.farSide !== null) draw.farSide = { ...draw.farSide, isQueueFull: true };
      overflow(draw);
    },
  },
  {
    name: 'it defers its accept',
    party: 'target',
    apply: (draw) => {
      if (draw.isProbed || draw.farSide === null) return;
      const halfOpen = draw.connections.length;
      // Its listener also counts the acknowledgements that it dropped.
      const queueDrops = draw.farSide.queueDrops == null ? {} : { queueDrops: halfOpen * 3 };
      draw.farSide = { ...draw.farSide, halfOpenMax: halfOpen, halfOpenLast: halfOpen, ...queueDrops };
      draw.counters.TCPDeferAcceptDrop = halfOpen * 3;
    },
  },
  {
    name: 'it stops listening',
    party: 'target',
    apply: (draw) => failAfter(draw, share(draw, 0.1, 0.9), 'refused'),
  },
  { name: 'it stops taking', party: 'target', apply: (draw) => stopTaking(draw, share(draw, 0, 0.9)) },
  {
    name: 'it takes slowly',
    party: 'target',
    apply: (draw) => {
      const each = 1 + Math.floor(draw.random() * 10);
      for (const [at, one] of draw.connections.entries()) {
        const round = Math.floor(at / each);
        if (round > 3) fail(one, 'timeout');
        else one.latencyMs += round * 1_000;
      }
      // Each waits until those before it in the queue were taken.
      draw.echoMs = (1_000 / each) * (1 + draw.random() * 16);
      if (draw.farSide !== null) Object.assign(draw.farSide, { isQueueFull: true, waitingMax: each });
      overflow(draw);
      draw.counters.ListenOverflows = 100;
    },
  },
  {
    name: 'it closes what is above its limit',
    party: 'target',
    apply: (draw) => {
      closeYoung(draw, draw.connections.slice(share(draw, 0, 0.9)), draw.random() < 0.5 ? 'fin' : 'rst');
      draw.said = draw.random() < 0.5 ? 'too many clients' : null;
    },
  },
  {
    name: 'its application is stopped from the start',
    party: 'target',
    apply: (draw) => {
      if (draw.isProbed) never(draw, draw.connections);
      if (draw.farSide !== null) draw.farSide = { ...draw.farSide, waitingMax: draw.connections.length };
    },
  },
  {
    name: 'it answers with a no',
    party: 'target',
    apply: (draw) => {
      const first = share(draw, 0, 0.5);
      failAfter(draw, first, 'handshake');
      draw.troubles = { 'http status 503': draw.connections.length - first };
    },
  },
  {
    name: 'one back end refuses',
    party: 'target',
    apply: (draw) => {
      const each = 2 + Math.floor(draw.random() * 4);
      for (const [at, one] of draw.connections.entries()) if (at % each === 0) fail(one, 'refused');
    },
  },
  {
    name: 'one back end is silent',
    party: 'target',
    apply: (draw) => {
      // A balancer that takes turns just as we take turns over endpoints gives the picture of one endpoint.
      const turns = draw.endpoints.length === 1 ? 0 : draw.endpoints.length;
      const each = draw.random() < 0.5 ? turns + 2 : 2 * turns + 5;
      const first = draw.endpoints.length === 1 ? 0 : Math.floor(draw.random() * each);
      for (const [at, one] of draw.connections.entries()) if (at % each === first) fail(one, 'timeout');
    },
  },
  {
    name: 'the host of one endpoint is down',
    party: 'target',
    apply: (draw) => {
      const down = draw.endpoints[0]!.split(':')[0];
      for (const one of draw.connections) if (one.endpoint.split(':')[0] === down) fail(one, 'timeout');
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, connect: 'silent' };
    },
  },
];

const TARGET_LOSSES: readonly Cause[] = [
  {
    name: 'it has a timeout',
    party: 'target',
    apply: (draw) => {
      const afterMs = 300 + draw.random() * draw.holdMs * 0.8;
      for (const one of established(draw))
        Object.assign(one, {
          lost: 'fin',
          lostAtMs: one.callMs + one.latencyMs + afterMs * (1 + draw.random() * 0.01),
        });
    },
  },
  {
    name: 'it is killed',
    party: 'target',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      for (const one of established(draw))
        Object.assign(one, { lost: 'fin', lostAtMs: atMs + draw.random() * 30 });
      const connect = draw.random() < 0.7 ? 'refused' : 'taken';
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, connect };
      if (draw.farSide !== null) draw.farSide = { ...draw.farSide, isOwnerGone: true };
    },
  },
  {
    name: 'it evicts the oldest',
    party: 'target',
    apply: (draw) => {
      const kept = share(draw, 0.2, 0.8);
      for (const [at, one] of draw.connections.entries()) {
        const next = draw.connections[at + kept];
        if (next !== undefined)
          Object.assign(one, { lost: 'fin', lostAtMs: next.callMs + next.latencyMs + 5 });
      }
    },
  },
  {
    name: 'it is stopped in mid-hold',
    party: 'target',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (draw.isProbed) for (const one of draw.connections) loseByProbe(draw, one, atMs, 'acknowledged');
    },
  },
  {
    name: 'it is rebooted',
    party: 'target',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (draw.isProbed) for (const one of draw.connections) loseByProbe(draw, one, atMs, 'rst');
    },
  },
  {
    name: 'its host loses power',
    party: 'target',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (draw.isProbed) for (const one of draw.connections) loseByProbe(draw, one, atMs, 'unacknowledged');
      if (draw.aftermath === null) return;
      const isNeighbourThere = draw.aftermath.isRouted === true || draw.random() < 0.5 ? null : false;
      draw.aftermath = { ...draw.aftermath, connect: 'silent', isNeighbourThere };
    },
  },
  {
    name: 'its application resets some when they speak',
    party: 'target',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (draw.isProbed)
        for (const one of draw.connections) if (draw.random() < 0.5) loseByProbe(draw, one, atMs, 'rst');
    },
  },
];

const PATH: readonly Cause[] = [
  {
    name: 'a NAT has no port left',
    party: 'path',
    apply: (draw) => failAfter(draw, share(draw, 0.1, 0.95), 'timeout'),
  },
  {
    name: 'a firewall has a limit for each source',
    party: 'path',
    apply: (draw) => {
      const most = 2 + Math.floor(draw.random() * 20);
      const seen = new Map<string, number>();
      for (const one of draw.connections) {
        const own = (seen.get(one.source) ?? 0) + 1;
        seen.set(one.source, own);
        if (own > most) fail(one, 'timeout');
      }
    },
  },
  {
    name: 'a filter lets so many SYNs through in a second',
    party: 'path',
    apply: (draw) => {
      const each = 1 + Math.floor(draw.random() * 10);
      for (const [at, one] of draw.connections.entries()) {
        const round = Math.floor(at / each);
        if (round > 3) fail(one, 'timeout');
        else one.latencyMs += round * 1_000;
      }
    },
  },
  {
    name: 'it loses packets',
    party: 'path',
    apply: (draw) => {
      const lost = draw.random();
      loseSyns(draw, () => draw.random() < lost);
      if (!draw.isProbed || draw.random() < 0.5) return;
      // What is not answered after as many retransmits has timed out; the probe or only its answer got lost.
      for (const one of established(draw))
        if (draw.random() < lost ** 4)
          loseByProbe(draw, one, afterRamp(draw), draw.random() < 0.5 ? 'acknowledged' : 'unacknowledged');
      if (draw.aftermath !== null && draw.random() < lost)
        draw.aftermath = { ...draw.aftermath, connect: 'silent' };
    },
  },
  {
    name: 'everything is dropped',
    party: 'path',
    apply: (draw) => {
      failAfter(draw, 0, 'timeout');
      if (draw.aftermath !== null)
        draw.aftermath = { ...draw.aftermath, connect: 'silent', planConnect: 'silent' };
    },
  },
  {
    name: 'low source ports are dropped',
    party: 'path',
    apply: (draw) => {
      for (const one of draw.connections) if (one.port < 2_048) fail(one, 'timeout');
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, planConnect: 'silent' };
    },
  },
  {
    name: 'one endpoint is dropped',
    party: 'path',
    apply: (draw) => {
      for (const one of draw.connections) if (one.endpoint === draw.endpoints[0]) fail(one, 'timeout');
    },
  },
  {
    name: 'a firewall rejects by ICMP',
    party: 'path',
    apply: (draw) => {
      const each = 1 + Math.floor(draw.random() * 8);
      // Port unreachable is ECONNREFUSED; prohibited is EHOSTUNREACH of IPv4, and EACCES of IPv6.
      const [result, sent] = [
        ['unreachable', { family: 4, type: 3, code: 13 }],
        ['refused', { family: 4, type: 3, code: 3 }],
        ['prohibited', { family: 6, type: 1, code: 1 }],
        ['refused', { family: 6, type: 1, code: 4 }],
      ][Math.floor(draw.random() * 4)] as ['refused', Omit<Rejection, 'by'>];
      for (const [at, one] of draw.connections.entries()) fail(one, at < each ? result : 'timeout');
      rejectsByIcmp(draw, { by: draw.random() < 0.5 ? '10.0.0.9' : '10.0.2.1', ...sent }, each);
    },
  },
  {
    name: 'a router rejects by reset',
    party: 'path',
    apply: (draw) => {
      const kind = draw.random();
      const first = draw.random() < 0.5 ? 0 : share(draw, 0, 0.9);
      const portOf = draw.random() < 0.3 ? draw.endpoints[0] : null;
      for (const [at, one] of draw.connections.entries()) {
        if (portOf === null ? at < first : one.endpoint !== portOf) continue;
        if (kind < 0.6) fail(one, 'refused');
        else closeYoung(draw, [one], 'rst');
      }
      draw.farSide = null;
      if (draw.aftermath === null) return;
      draw.aftermath = { ...draw.aftermath, isRouted: true, connect: kind < 0.6 ? 'refused' : 'taken' };
    },
  },
  {
    name: 'it is cut',
    party: 'path',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (draw.isProbed) for (const one of draw.connections) loseByProbe(draw, one, atMs, 'unacknowledged');
      if (draw.aftermath === null) return;
      const isNeighbourThere = draw.aftermath.isRouted === false && draw.random() < 0.5 ? true : null;
      draw.aftermath = { ...draw.aftermath, connect: 'silent', isNeighbourThere };
    },
  },
  {
    name: 'a NAT forgets and drops',
    party: 'path',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      if (draw.isProbed) for (const one of draw.connections) loseByProbe(draw, one, atMs, 'unacknowledged');
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, isRouted: true };
    },
  },
  {
    name: 'a NAT forgets and resets',
    party: 'path',
    apply: (draw) => {
      const atMs = afterRamp(draw);
      for (const one of draw.connections)
        if (draw.isProbed) loseByProbe(draw, one, atMs, 'rst');
        else loseByKeepalive(draw, one, 'holdEnd');
      if (draw.aftermath !== null) draw.aftermath = { ...draw.aftermath, isRouted: true };
    },
  },
];

export const DRAWN_CAUSES: readonly Cause[] = [...GENERATOR, ...TARGET_CONNECTS, ...TARGET_LOSSES, ...PATH];
