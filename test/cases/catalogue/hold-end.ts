/**
 * Owns cases that passed and had not held: what happened after the last probe, or never was more than a kernel's handshake.
 * Must never be satisfied by what the program counts: the far side's kernel is asked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CaseSpec } from '../case.ts';
import { startApache, startDnsmasq, startPostgres } from '../peers.ts';
import { SERVER } from '../stage.ts';
import { filterRule, nodeServer, typed } from './parts.ts';

const LAST_PERIOD = '-c 300 -d 8s --probe-every 5s --probe-timeout 3s';
/** After every connection has been asked once in the hold, and before any is asked again. */
const AFTER_LAST_PROBE_MS = 6_800;

export const HOLD_END_CASES: readonly CaseSpec[] = [
  {
    name: 'frozen-in-the-last-period',
    fault: 'the target is stopped (SIGSTOP) after the last probe of the hold',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const peer = await stage.script(server, nodeServer(8_000, 'socket.pipe(socket);'), [8_000]);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${LAST_PERIOD}`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(AFTER_LAST_PROBE_MS);
          peer.signal('SIGSTOP');
        },
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-silent',
      explains: 300,
      held: 0,
      farSideDiffers: true,
    },
  },
  {
    name: 'cut-in-the-last-period',
    fault: 'the way to the target is cut after the last probe of the hold',
    looksLike: 'frozen-in-the-last-period',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${LAST_PERIOD}`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(AFTER_LAST_PROBE_MS);
          await server.nft(filterRule('input', 'tcp dport 8000 drop'));
        },
      });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-cut',
      explains: 300,
      held: 0,
      farSideDiffers: true,
    },
  },
  {
    name: 'held-to-the-end',
    fault: 'the same run, and nothing happens',
    looksLike: 'frozen-in-the-last-period',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 ${LAST_PERIOD}`), { far: server });
    },
    expected: { exit: 0, party: null, rule: null, held: 300 },
  },
  {
    name: 'backlog-behind-cookies',
    fault:
      'a server with a backlog of 12 that never accepts, behind a slow link: with SYN cookies every handshake is completed here',
    play: async (stage) => {
      const { client, server } = await stage.pair({ server: { sysctls: { 'net.ipv4.tcp_syncookies': 1 } } });
      const code = `import socket, time
s = socket.socket(); s.bind(('0.0.0.0', 8000)); s.listen(12); time.sleep(3600)`;
      await stage.python(server, code, [8_000]);
      // Its answers take so long that all SYNs are there before the first handshake is over.
      const slow = 'tc qdisc add dev eth0 root tbf rate 100kbit burst 100 latency 10s';
      await server.must(...typed(slow));
      return await stage.run(client, typed(`-t ${SERVER}:8000 -c 200 -d 10s`), { far: server });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-accept-queue',
      explains: ({ report }) => report?.connections.dropped.rst ?? 0,
      cause: [/SYN cookies/],
      // Those in its queue of 12, and those that are half open there: its kernel answers for both.
      held: [0, 30],
      farSideDiffers: true,
    },
  },
  {
    name: 'dnsmasq-twenty-at-a-time',
    fault: 'dnsmasq serves 20 TCP clients at a time and listens with a backlog of 32',
    needs: ['dnsmasq-base'],
    play: async (stage) => {
      const host = await stage.lone();
      await startDnsmasq(stage, host, 5_353);
      return await stage.run(host, typed('-t 127.0.0.1:5353 -c 100 -d 10s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-accept-queue', held: [0, 20] },
  },
  {
    name: 'postgres-silent-clients',
    fault: 'PostgreSQL with its 100 connections and 300 silent clients: it takes them all until one speaks',
    needs: ['postgresql'],
    play: async (stage) => {
      const host = await stage.lone();
      await startPostgres(stage, host, 5_432, ['max_connections=100']);
      return await stage.run(host, typed('-t 127.0.0.1:5432 -c 300 -d 12s'));
    },
    expected: {
      exit: 0,
      party: null,
      rule: null,
      held: 300,
      says: [/\bPASS \(kernel only\) held [\d,]+ of [\d,]+ for /],
    },
  },
  {
    name: 'apache-deferred-accept',
    fault: 'Apache asks its kernel to defer the accept: a silent connection is open here and half open there',
    reports: ['h5bp/server-configs-nginx#100', 'oven-sh/bun#28617', 'h2o/h2o#40'],
    needs: ['apache2-bin'],
    play: async (stage) => {
      const host = await stage.lone();
      await startApache(stage, host, 8_000);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 400 -d 10s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-deferred',
      explains: 400,
      held: 0,
    },
  },
  {
    name: 'apache-asked',
    fault: 'the same Apache, asked by HTTP',
    looksLike: 'apache-deferred-accept',
    needs: ['apache2-bin'],
    play: async (stage) => {
      const host = await stage.lone();
      await startApache(stage, host, 8_000);
      return await stage.run(host, typed('-t http://127.0.0.1:8000/ -c 20 -r 20/s -d 4s --probe-every 1s'));
    },
    expected: { exit: 0, party: null, rule: null, held: 20 },
  },
];
