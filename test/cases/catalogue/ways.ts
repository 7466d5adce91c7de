/**
 * Owns cases of what a way does that were played after the rules had been written: filters that reset, routers that lose their state, links that
 * lose or delay packets. Must never touch anything outside of the case's own namespaces.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../support/network.ts';
import type { CaseSpec } from '../case.ts';
import { FAR_SERVER, type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { countLimit, filterRule, typed } from './parts.ts';

/** Client, router and an echo target; something may happen 3 s into the hold. */
async function routed(
  stage: Stage,
  nft: string | undefined,
  args: string,
  act?: (hosts: { client: Host; router: Host; server: Host }) => Promise<unknown>,
): Promise<PlayedRun> {
  const hosts = await stage.routed(nft);
  await stage.serve(hosts.server, 8_000, ['--mode', 'echo']);
  return await stage.run(hosts.client, typed(`-t echo://${FAR_SERVER}:8000 ${args}`), {
    far: hosts.server,
    ...(act === undefined
      ? {}
      : {
          during: async (running) => {
            await running.saw(/holding/);
            await sleep(3_000);
            await act(hosts);
          },
        }),
  });
}

/** A segment with an echo target; `rule` stands in a chain of the one or the other. */
async function segment(
  stage: Stage,
  where: 'client' | 'server',
  nft: string,
  args: string,
): Promise<PlayedRun> {
  const { client, server } = await stage.pair({ [where]: { nft } });
  await stage.serve(server, 8_000, ['--mode', 'echo']);
  return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${args}`), { far: server });
}

const PROBED = '-c 300 -d 10s --probe-every 2s --probe-timeout 3s';
const RESET = 'reject with tcp reset';

const RESETTING: readonly CaseSpec[] = [
  {
    name: 'router-resets',
    fault: 'a router on the way rejects every connect with a reset: a closed port looks the same from here',
    looksLike: 'router-no-listener',
    play: (stage) => routed(stage, filterRule('forward', `tcp dport 8000 ${RESET}`), '-c 300 -d 2s'),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'refused',
      explains: 300,
      held: 0,
      says: [/firewall|filter/, /traceroute -T|tcpdump/],
      never: [/no process listens there: every/],
    },
  },
  {
    name: 'router-no-listener',
    fault: 'the target behind a router is up, and no process listens on the port',
    play: async (stage) => {
      const { client, server } = await stage.routed();
      return await stage.run(client, typed(`-t echo://${FAR_SERVER}:8000 -c 300 -d 2s`), { far: server });
    },
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: ['refused', 'target-refused'],
      explains: 300,
      held: 0,
      says: [/listen/],
    },
  },
  {
    name: 'router-limit-resets',
    fault: 'a router lets 120 connections through and resets further ones',
    looksLike: 'stops-after-six-hundred',
    play: (stage) => routed(stage, countLimit('forward', 8_000, 120, 'all', RESET), '-c 300 -d 2s'),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'refused',
      explains: [175, 185],
      held: [115, 125],
    },
  },
  {
    name: 'host-limit-resets',
    fault: "the target's own firewall lets 120 connections through and resets further ones",
    looksLike: 'router-limit-resets',
    play: (stage) => segment(stage, 'server', countLimit('input', 8_000, 120, 'all', RESET), '-c 300 -d 2s'),
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: 'target-refused',
      explains: [175, 185],
      held: [115, 125],
    },
  },
  {
    name: 'router-rate-resets',
    fault: 'a router resets what comes faster than 40 connects a second',
    looksLike: 'syn-limit-at-the-router',
    play: (stage) =>
      routed(
        stage,
        filterRule(
          'forward',
          `tcp dport 8000 tcp flags & (syn|ack) == syn limit rate over 40/second burst 5 packets ${RESET}`,
        ),
        '-c 300 -r 100/s -d 2s',
      ),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'refused',
      explains: ({ report }) => 300 - (report?.connections.held ?? 0),
    },
  },
  {
    name: 'router-resets-after-handshake',
    fault: 'a router lets handshakes through and resets what is established, as a filter of contents does',
    looksLike: 'application-resets-above-100',
    play: (stage) =>
      routed(
        stage,
        filterRule('forward', `tcp dport 8000 tcp flags & (syn|psh) == psh ${RESET}`),
        '-c 200 -d 2s',
      ),
    expected: { exit: 1, party: 'path', orUnknown: true, rule: 'resets', explains: 200, held: 0 },
  },
  {
    name: 'router-resets-one-port',
    fault: 'a router resets connects to one of three ports',
    looksLike: 'one-endpoint-refuses',
    play: async (stage) => {
      const { client, server } = await stage.routed(filterRule('forward', `tcp dport 8001 ${RESET}`));
      for (const port of [8_000, 8_001, 8_002]) await stage.serve(server, port, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${FAR_SERVER}:8000-8002 -c 300 -d 2s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'target-endpoint',
      explains: 100,
      held: 200,
      says: [/10\.84\.0\.2:8001/],
    },
  },
  {
    name: 'router-limit-prohibits',
    fault: 'a router lets 120 connections through and rejects further ones with ICMP',
    looksLike: 'router-limit-300',
    play: (stage) =>
      routed(
        stage,
        countLimit('forward', 8_000, 120, 'all', 'reject with icmp type admin-prohibited'),
        '-c 300 -d 2s --connect-timeout 4s',
      ),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-rejected', 'path-limit'],
      explains: [175, 185],
      held: [115, 125],
    },
  },
  {
    name: 'own-output-limit',
    fault: 'our own firewall lets 120 connections out and drops further ones',
    looksLike: 'router-limit-300',
    play: (stage) =>
      segment(stage, 'client', countLimit('output', 8_000, 120, 'all'), '-c 300 -d 2s --connect-timeout 3s'),
    expected: {
      exit: 4,
      party: 'generator',
      rule: 'generator-firewall',
      explains: [175, 185],
      held: [115, 125],
    },
  },
  {
    name: 'own-output-limit-resets',
    fault: 'our own firewall lets 120 connections out and resets further ones',
    looksLike: 'router-limit-resets',
    play: (stage) => segment(stage, 'client', countLimit('output', 8_000, 120, 'all', RESET), '-c 300 -d 2s'),
    expected: {
      exit: 4,
      party: 'generator',
      rule: 'generator-firewall',
      explains: [175, 185],
      held: [115, 125],
    },
  },
];

const LOST: readonly CaseSpec[] = [
  {
    name: 'router-stops-forwarding',
    fault: 'a router stops forwarding in mid-hold',
    looksLike: 'path-cut',
    play: (stage) =>
      routed(stage, undefined, PROBED, ({ router }) => router.sysctl('net.ipv4.ip_forward', 0)),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-cut',
      explains: 300,
      held: 0,
      never: [/forgotten/],
      farSideDiffers: true,
    },
  },
  {
    name: 'router-loses-its-route',
    fault: 'a router loses its route to the target in mid-hold, and says so by ICMP',
    looksLike: 'path-cut',
    play: (stage) =>
      routed(stage, undefined, PROBED, ({ router }) => router.must('ip', 'route', 'del', '10.84.0.0/24')),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-cut',
      explains: 300,
      held: 0,
      never: [/forgotten/, /our own/],
      farSideDiffers: true,
    },
  },
  {
    name: 'router-loses-our-side',
    fault: "a router's address on our segment is removed in mid-hold: our next hop is gone",
    looksLike: 'own-route-gone',
    play: (stage) =>
      routed(stage, undefined, PROBED, ({ router }) =>
        router.must('ip', 'addr', 'del', '10.83.0.254/24', 'dev', 'eth0'),
      ),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-cut',
      explains: 300,
      held: 0,
      never: [/forgotten/],
      farSideDiffers: true,
    },
  },
  {
    name: 'forty-percent-lost',
    fault: 'a router loses 40 % of the packets either way',
    looksLike: 'syn-rate-limit',
    play: async (stage) => {
      const { client, router, server } = await stage.routed();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      await router.nft(filterRule('forward', 'meta l4proto tcp numgen random mod 10 < 4 drop'));
      return await stage.run(
        client,
        typed(`-t echo://${FAR_SERVER}:8000 -c 300 -d 3s --connect-timeout 4s --probe-timeout 3s`),
        { far: server },
      );
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-loss',
      explains: ({ report }) => 300 - (report?.connections.held ?? 0),
      never: [/limit of connections/, /rate limit/, /forgotten/],
      farSideDiffers: true,
    },
  },
  {
    name: 'thin-link',
    fault: 'a link on which 30 answers a second have room',
    looksLike: 'syn-rate-limit',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'hold']);
      await server.must(...typed('tc qdisc add dev eth0 root tbf rate 18kbit burst 200 latency 60s'));
      return await stage.run(client, typed(`-t ${SERVER}:8000 -c 300 -d 2s --connect-timeout 4s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['unknown', 'path-rate-limit'],
      explains: ({ report }) => 300 - (report?.connections.held ?? 0),
      never: [/connections through and no more/],
      farSideDiffers: true,
    },
  },
];

export const WAY_CASES: readonly CaseSpec[] = [...RESETTING, ...LOST];
