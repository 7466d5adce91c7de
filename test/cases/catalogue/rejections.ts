/**
 * Owns cases of who says no and by what: ICMP of both families, a reset, real servers at their limits, with both engines. Must never touch a
 * rule outside of the case's own namespaces.
 */
import type { Host } from '../../support/network.ts';
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import { startHaproxy, startMemcached, startNginx, startRedis } from '../peers.ts';
import { CLIENT, FAR_SERVER, type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { filterRule, nodeServer, typed } from './parts.ts';

const SERVER_6 = 'fd83::1';
const CLIENT_6 = 'fd83::2';

function rejected(more: Partial<Expected> = {}): Expected {
  return { exit: 1, party: 'path', rule: 'path-rejected', explains: 300, held: 0, ...more };
}

/** One segment with IPv6, an echo server at its far end, and a filter on one of the two. */
async function six(
  stage: Stage,
  where: 'client' | 'server',
  hook: 'input' | 'output',
  rule: string,
): Promise<PlayedRun> {
  const { client, server } = await stage.pair();
  await client.must('ip', 'addr', 'add', `${CLIENT_6}/64`, 'dev', 'eth0', 'nodad');
  await server.must('ip', 'addr', 'add', `${SERVER_6}/64`, 'dev', 'eth0', 'nodad');
  await stage.script(server, nodeServer(8_000, 'socket.pipe(socket);', '::'), [8_000]);
  const filtered: Host = where === 'client' ? client : server;
  await filtered.nft(filterRule(hook, rule).replace('table ip', 'table ip6'));
  return await stage.run(client, typed(`-t echo://[${SERVER_6}]:8000 -c 300 -d 2s --connect-timeout 3s`), {
    far: server,
  });
}

/** A router that answers for what is behind it. */
async function behindRouter(stage: Stage, rule: string, more = ''): Promise<PlayedRun> {
  const { client, server } = await stage.routed(filterRule('forward', `tcp dport 8000 ${rule}`));
  await stage.serve(server, 8_000, ['--mode', 'echo']);
  const args = typed(`-t echo://${FAR_SERVER}:8000 -c 300 -d 2s --connect-timeout 3s ${more}`);
  return await stage.run(client, args, { far: server });
}

const ICMP_CASES: readonly CaseSpec[] = [
  {
    name: 'six-admin-prohibited',
    fault:
      'IPv6: the target rejects with ICMPv6 administratively prohibited, whose errno is that of our own firewall',
    looksLike: 'six-own-output-prohibited',
    play: (stage) => six(stage, 'server', 'input', 'tcp dport 8000 reject with icmpv6 type admin-prohibited'),
    expected: rejected({ cause: [/fd83::1/, /1\/1/], never: [/our own firewall/] }),
  },
  {
    name: 'six-port-unreachable',
    fault: 'IPv6: the target rejects with ICMPv6 port unreachable',
    looksLike: 'six-no-listener',
    play: (stage) => six(stage, 'server', 'input', 'tcp dport 8000 reject with icmpv6 type port-unreachable'),
    expected: rejected({ cause: [/1\/4/], never: [/no process listens/] }),
  },
  {
    name: 'six-own-output-prohibited',
    fault: 'IPv6: our own firewall rejects with ICMPv6',
    play: (stage) =>
      six(stage, 'client', 'output', 'tcp dport 8000 reject with icmpv6 type admin-prohibited'),
    expected: { exit: 4, party: 'generator', rule: 'generator-firewall', explains: 300, held: 0 },
  },
  {
    name: 'six-no-listener',
    fault: 'IPv6: the target is up, and no process listens on the port',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await client.must('ip', 'addr', 'add', `${CLIENT_6}/64`, 'dev', 'eth0', 'nodad');
      await server.must('ip', 'addr', 'add', `${SERVER_6}/64`, 'dev', 'eth0', 'nodad');
      return await stage.run(client, typed(`-t echo://[${SERVER_6}]:8000 -c 300 -d 2s --engine epoll`), {
        far: server,
      });
    },
    expected: { exit: 1, party: 'target', rule: 'target-refused', explains: 300, held: 0 },
  },
  {
    name: 'router-prohibits',
    fault: 'a router on the way rejects with ICMP administratively prohibited',
    looksLike: 'firewalld-admin-prohibited',
    play: (stage) => behindRouter(stage, 'reject with icmp type admin-prohibited'),
    expected: rejected({ cause: [/10\.83\.0\.254/, /3\/13/] }),
  },
  {
    name: 'router-prohibits-epoll',
    fault: 'the same with net-prohibited, and with epoll',
    looksLike: 'router-prohibits',
    play: (stage) => behindRouter(stage, 'reject with icmp type net-prohibited', '--engine epoll'),
    expected: rejected({ cause: [/10\.83\.0\.254/, /3\/9/] }),
  },
  {
    name: 'far-reject-host-unreachable',
    fault: "the target's own filter says host unreachable, as if there were no way to it",
    looksLike: 'router-has-no-route',
    play: async (stage) => {
      const rule = filterRule('input', 'tcp dport 8000 reject with icmp type host-unreachable');
      const { client, server } = await stage.pair({ server: { nft: rule } });
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const args = typed(`-t echo://${SERVER}:8000 -c 300 -d 2s --connect-timeout 3s`);
      return await stage.run(client, args, { far: server });
    },
    expected: rejected({ cause: [/3\/1\b/] }),
  },
  {
    name: 'random-quarter-rejected-by-icmp',
    fault:
      'a filter at the target rejects a random quarter of the connects with ICMP port unreachable, which the kernel reports as refused',
    looksLike: 'random-third-refused',
    play: async (stage) => {
      const random = 'tcp dport 8000 tcp flags & (syn|ack) == syn numgen random mod 4 0';
      const rule = filterRule('input', `${random} reject with icmp type port-unreachable`);
      const { client, server } = await stage.pair({
        server: { nft: rule, sysctls: { 'net.ipv4.icmp_ratelimit': 0 } },
      });
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 400 -r 200/s -d 2s`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: 'path-rejected',
      explains: ({ report }) => report?.connections.failed.refused ?? 0,
      // Where the answer was left out (icmp_msgs_burst), the SYN is sent again and let through.
      held: [250, 395],
      never: [/see who listens/],
    },
  },
  {
    name: 'no-such-host-on-our-segment',
    fault: 'an address of our own segment that no host has: our own kernel says by ICMP that there is no way',
    looksLike: 'own-output-prohibited',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      return await stage.run(client, typed('-t echo://10.83.0.77:8000 -c 300 -d 2s --connect-timeout 5s'), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: ['target-gone', 'path-unreachable'],
      held: 0,
      never: [/our own firewall/],
    },
  },
];

const SERVER_CASES: readonly CaseSpec[] = [
  {
    name: 'nginx-limit-conn-retry-after',
    fault: 'http: nginx with limit_conn answers 429 above 40 connections of one address, with Retry-After',
    looksLike: 'http-429-retry-after',
    needs: ['nginx-light'],
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
      const http = `limit_req_zone $binary_remote_addr zone=r:1m rate=1r/m; limit_req_status 429;
server { listen 8000 backlog=4096; add_header Retry-After 17 always; location / { limit_req zone=r burst=40 nodelay; try_files /none @ok; } location @ok { return 200 ok; } }`;
      await startNginx(stage, host, http, [8_000]);
      return await stage.run(
        host,
        typed('-t http://127.0.0.1:8000/ -c 100 -d 2s --probe-every 30s --engine epoll'),
      );
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-handshake',
      // At the end of the hold the first ones are asked once more, and get it too.
      explains: 100,
      held: 0,
      says: [/\b429\b/, /Retry-After:? 17|\b17 s\b/],
    },
  },
  {
    name: 'haproxy-maxconn-epoll',
    fault: 'HAProxy with maxconn 150 asked by echo with epoll: the further ones wait in its accept queue',
    looksLike: 'haproxy-has-room',
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
      await stage.serve(host, 8_001, ['--mode', 'echo']);
      const config = `global
  maxconn 150
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen l
  bind 127.0.0.1:8000 backlog 4096
  server s 127.0.0.1:8001
`;
      await startHaproxy(stage, host, config, [8_000]);
      return await stage.run(host, typed('-t echo://127.0.0.1:8000 -c 400 -d 6s --engine epoll'), {
        farPorts: [8_000],
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-accept-queue',
      explains: [249, 250],
      held: [150, 151],
    },
  },
  {
    name: 'redis-maxclients-epoll',
    fault: 'redis with maxclients 60, asked with epoll on the segment: it says that it has too many',
    looksLike: 'redis-maxclients',
    needs: ['redis-server'],
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await startRedis(stage, server, 6_379, [
        '--bind',
        '0.0.0.0',
        '--protected-mode',
        'no',
        '--maxclients',
        '60',
      ]);
      return await stage.run(client, typed(`-t ${SERVER}:6379 -c 150 -r 100/s -d 3s --engine epoll`), {
        far: server,
      });
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 90,
      held: 60,
      says: [/max number of clients reached/],
    },
  },
  {
    name: 'memcached-stops-accepting',
    fault:
      'memcached with -c 60 in its default way (maxconns_fast off): it stops accepting, and the further ones wait',
    looksLike: 'memcached-maxconns',
    needs: ['memcached'],
    play: async (stage) => {
      const host = await stage.lone();
      await startMemcached(stage, host, 11_211, ['-c', '60', '-t', '1', '-o', 'no_maxconns_fast']);
      return await stage.run(host, typed('-t 127.0.0.1:11211 -c 200 -d 4s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-accept-queue', held: [30, 65] },
  },
  {
    name: 'own-source-port-rejected',
    fault: 'our own firewall rejects with ICMP what leaves from our ports below 1200',
    looksLike: 'nacl-source-ports',
    play: async (stage) => {
      const rule = `ip saddr ${CLIENT} tcp sport < 1200 tcp dport 8000 reject with icmp type admin-prohibited`;
      const { client, server } = await stage.pair({ client: { nft: filterRule('output', rule) } });
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      const args = typed(`-t echo://${SERVER}:8000 -c 300 -d 2s --connect-timeout 3s`);
      return await stage.run(client, args, { far: server });
    },
    expected: {
      exit: 4,
      party: 'generator',
      rule: 'generator-firewall',
      explains: [170, 180],
      held: [120, 130],
    },
  },
];

export const REJECTION_CASES: readonly CaseSpec[] = [...ICMP_CASES, ...SERVER_CASES];
