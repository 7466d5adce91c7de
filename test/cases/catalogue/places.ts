/**
 * Owns cases in which the place decides who is lost: an endpoint, a source address, source ports, one back end of several;
 * and those in which it does not. Must never use more than 10,000 connections: the shares tell, not the size.
 */

import type { CaseSpec } from '../case.ts';
import { startHaproxy } from '../peers.ts';
import { FAR_SERVER, SERVER } from '../stage.ts';
import { countLimit, filterRule, nodeServer, typed } from './parts.ts';

const NACL = `table ip nacl {
 chain forward {
  type filter hook forward priority 0;
  iifname "eth1" tcp dport 32768-65535 accept
  iifname "eth1" drop
 }
}`;

/** Three back ends in turn, of which the third is not there. */
const THREE_BACKENDS = `table ip nat {
  chain pre {
    type nat hook prerouting priority -100;
    tcp dport 8000 dnat ip to 10.84.0.2 : numgen inc mod 3 map { 0 : 8001, 1 : 8002, 2 : 8003 }
  }
}`;

export const PLACE_CASES: readonly CaseSpec[] = [
  {
    name: 'three-source-ports-dropped',
    fault: 'a filter drops the SYNs of three source ports; all others are held',
    reports: ['eclipse-mosquitto/mosquitto#1505'],
    play: async (stage) => {
      const { client, server } = await stage.pair({
        server: { nft: filterRule('input', 'tcp dport 8000 tcp sport { 1100, 1200, 1300 } drop') },
      });
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 1000 -d 2s --connect-timeout 3s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'unknown',
      rule: 'unknown',
      explains: 3,
      held: 997,
      never: [/descriptor limit/],
    },
  },
  {
    name: 'nacl-source-ports',
    fault: 'a stateless filter lets answers back to ports 32768 to 65535 only',
    reports: ['base/docs#1663', 'ministryofjustice/modernisation-platform#6127'],
    play: async (stage) => {
      const { client, server } = await stage.routed(NACL);
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${FAR_SERVER}:8000 -c 1000 -d 2s --connect-timeout 4s`),
        { far: server },
      );
    },
    expected: {
      exit: [1, 3],
      party: 'path',
      rule: 'path-source-ports',
      explains: 1_000,
      held: 0,
      cause: [/32,?768/],
    },
  },
  {
    name: 'nacl-ephemeral-ports',
    fault: 'the same filter, and source ports that it lets through',
    looksLike: 'nacl-source-ports',
    play: async (stage) => {
      const { client, server } = await stage.routed(NACL);
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const args = `-t echo://${FAR_SERVER}:8000 -c 1000 -d 2s --source-ports 32768-60999`;
      return await stage.run(client, typed(args), { far: server });
    },
    expected: { exit: 0, party: null, rule: null, held: 1_000 },
  },
  {
    name: 'all-dropped',
    fault: 'a router drops everything towards the target, whatever the port',
    looksLike: 'nacl-source-ports',
    play: async (stage) => {
      const { client, server } = await stage.routed(filterRule('forward', 'tcp dport 8000 drop'));
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${FAR_SERVER}:8000 -c 500 -d 2s --connect-timeout 4s`),
        { far: server },
      );
    },
    expected: { exit: 1, party: 'unknown', rule: 'unknown', explains: 500, held: 0, never: [/source port/] },
  },
  {
    name: 'one-endpoint-refuses',
    fault: 'of three ports of the target one has no listener',
    looksLike: 'one-endpoint-drops',
    reports: ['grafana/k6#1109', 'envoyproxy/nighthawk#613'],
    play: async (stage) => {
      const host = await stage.lone();
      for (const port of [8_000, 8_001]) await stage.serve(host, port, ['--mode', 'echo']);
      return await stage.run(host, typed('-t echo://127.0.0.1:8000-8002 -c 900 -d 2s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-endpoint',
      explains: 300,
      held: 600,
      cause: [/127\.0\.0\.1:8002/],
    },
  },
  {
    name: 'one-endpoint-drops',
    fault: 'of three ports of the target one is dropped by a filter there',
    reports: ['fcsonline/drill#126'],
    play: async (stage) => {
      const { client, server } = await stage.pair({
        server: { nft: filterRule('input', 'tcp dport 8002 drop') },
      });
      for (const port of [8_000, 8_001, 8_002]) await stage.serve(server, port, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${SERVER}:8000-8002 -c 900 -d 2s --connect-timeout 3s`),
        { far: server },
      );
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-endpoint', 'target-endpoint'],
      explains: 300,
      held: 600,
      cause: [/10\.83\.0\.1:8002/],
      never: [/lets 600 connections through and no more/],
    },
  },
  {
    name: 'one-endpoint-drops-own-host',
    fault: 'the same on this host: the filter is in our own input',
    reports: ['xrootd/xrootd#326'],
    play: async (stage) => {
      const host = await stage.lone({ nft: filterRule('input', 'tcp dport 8002 drop') });
      for (const port of [8_000, 8_001, 8_002]) await stage.serve(host, port, ['--mode', 'echo']);
      return await stage.run(host, typed('-t echo://127.0.0.1:8000-8002 -c 900 -d 2s --connect-timeout 3s'));
    },
    expected: {
      exit: [1, 4],
      party: 'generator',
      orUnknown: true,
      rule: ['generator-firewall', 'path-endpoint', 'target-endpoint'],
      explains: 300,
      held: 600,
      cause: [/127\.0\.0\.1:8002/],
    },
  },
  {
    name: 'localhost-two-families',
    fault: 'localhost is ::1 and 127.0.0.1, and the server listens on 127.0.0.1 alone',
    play: async (stage) => {
      const host = await stage.lone({ etc: { hosts: '127.0.0.1 localhost\n::1 localhost\n' } });
      await stage.serve(host, 8_000, ['--mode', 'echo']);
      return await stage.run(host, typed('-t echo://localhost:8000 -c 1000 -d 2s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-endpoint',
      explains: 500,
      held: 500,
      cause: [/\[::1\]:8000/],
    },
  },
  {
    name: 'random-third-refused',
    fault: 'a filter resets a random third of the connects to all three ports',
    looksLike: 'one-endpoint-refuses',
    play: async (stage) => {
      const { client, server } = await stage.pair({
        server: {
          nft: filterRule(
            'input',
            'tcp dport 8000-8002 tcp flags & (syn|ack) == syn numgen random mod 3 0 reject with tcp reset',
          ),
        },
      });
      for (const port of [8_000, 8_001, 8_002]) await stage.serve(server, port, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000-8002 -c 900 -d 2s`), { far: server });
    },
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: ['target-refused', 'path-rejected'],
      explains: ({ report }) => report?.connections.failed.refused ?? 0,
      never: [/one (?:of several|back end|endpoint)/i],
    },
  },
  {
    name: 'hundred-per-source-silent',
    fault:
      'a filter at the target lets 100 connections of each source through and drops the rest; five sources',
    play: async (stage) => {
      const { client, server } = await stage.pair(
        { server: { nft: countLimit('input', 8_000, 100, 'source') } },
        5,
      );
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const args = `-t echo://${SERVER}:8000 -c 1000 -d 2s --connect-timeout 3s --source-ip 10.83.0.2-10.83.0.6`;
      return await stage.run(client, typed(args), { far: server });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-source-limit',
      explains: [480, 520],
      held: [480, 520],
      cause: [/\b100\b.*(?:source|client)/i],
    },
  },
  {
    name: 'fifty-per-source-closed',
    fault: 'HAProxy takes 50 connections of each source and closes the rest; five sources',
    needs: ['haproxy'],
    play: async (stage) => {
      const { client, server } = await stage.pair({}, 5);
      await stage.serve(server, 8_001);
      const config = `defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen l
  bind ${SERVER}:8000 backlog 4096
  stick-table type ip size 1k store conn_cur
  tcp-request connection track-sc0 src
  tcp-request connection reject if { sc0_conn_cur gt 50 }
  server s 127.0.0.1:8001
`;
      await startHaproxy(stage, server, config, [8_000]);
      const args = `-t ${SERVER}:8000 -c 1000 -d 2s --source-ip 10.83.0.2-10.83.0.6`;
      return await stage.run(client, typed(args), { far: server });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-source-limit',
      explains: [740, 760],
      held: [240, 260],
      cause: [/\b50\b.*(?:source|client)/i],
    },
  },
  {
    name: 'five-hundred-in-all',
    fault:
      'a filter lets 500 connections through, whoever they are; five sources come in turn, so each has a hundred',
    looksLike: 'hundred-per-source-silent',
    play: async (stage) => {
      const { client, server } = await stage.pair(
        { server: { nft: countLimit('input', 8_000, 500, 'all') } },
        5,
      );
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const args = `-t echo://${SERVER}:8000 -c 1000 -d 2s --connect-timeout 3s --source-ip 10.83.0.2-10.83.0.6`;
      return await stage.run(client, typed(args), { far: server });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-limit', 'path-ports'],
      explains: [480, 520],
      held: [480, 520],
      never: [/per (?:client|source)|for each source/i],
    },
  },
  {
    name: 'every-third-refused',
    fault: 'a load balancer sends every third connection to a back end that is not there',
    play: async (stage) => {
      const { client, server } = await stage.routed(THREE_BACKENDS);
      for (const port of [8_001, 8_002]) await stage.serve(server, port, ['--mode', 'echo']);
      const args = '-t echo://10.83.0.254:8000 -c 900 -r 600/s -d 2s';
      return await stage.run(client, typed(args), { far: server, farPorts: [8_001, 8_002] });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-backend',
      explains: [298, 302],
      held: [598, 602],
      cause: [/back end/],
    },
  },
  {
    name: 'stops-after-six-hundred',
    fault: 'a server stops listening after 600: a third is refused, the last third',
    looksLike: 'every-third-refused',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.script(
        server,
        nodeServer(8_000, 'socket.pipe(socket); if (count === 600) server.close();'),
        [8_000],
      );
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 900 -r 300/s -d 2s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-refused',
      // Three connects before the run look whether the path takes its ports: one for each end of them, and one of the kernel's choice.
      explains: [290, 305],
      held: [595, 610],
      never: [/back end/],
    },
  },
];
