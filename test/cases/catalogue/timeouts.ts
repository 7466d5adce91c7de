/**
 * Owns cases in which connections end because of their age or silence, and those that look so. Must never need a real
 * default: every timeout here is a fifth of what is shipped, or less.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CaseSpec } from '../case.ts';
import { startHaproxy, startNginx, startPgbouncer, startPostgres, startSshd } from '../peers.ts';
import type { Stage } from '../stage.ts';
import { typed } from './parts.ts';

function tcpProxy(clientTimeout: string): string {
  return `global
  maxconn 5000
defaults
  mode tcp
  timeout connect 2s
  timeout client ${clientTimeout}
  timeout server ${clientTimeout}
listen l
  bind 127.0.0.1:8000 backlog 4096
  server s 127.0.0.1:8001
`;
}

/** HAProxy before a silent server. */
async function proxied(stage: Stage, clientTimeout: string, args: string, killAfterMs?: number) {
  const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
  await stage.serve(host, 8_001);
  const proxy = await startHaproxy(stage, host, tcpProxy(clientTimeout), [8_000]);
  return await stage.run(host, typed(`-t 127.0.0.1:8000 ${args}`), {
    ...(killAfterMs === undefined
      ? {}
      : {
          during: async (running) => {
            await running.saw(/holding/);
            await sleep(killAfterMs);
            proxy.signal('SIGKILL');
          },
        }),
  });
}

const SOCKET_IO = `import http from 'node:http';
import { createRequire } from 'node:module';
const { Server } = createRequire(process.env.REPOSITORY + '/package.json')('socket.io');
const server = http.createServer().listen(8000, '0.0.0.0');
new Server(server, { pingInterval: 5000, pingTimeout: 4000, connectTimeout: 6000 });
`;

export const TIMEOUT_CASES: readonly CaseSpec[] = [
  {
    name: 'haproxy-idle-timeout',
    fault: 'HAProxy in TCP mode with timeout client 5 s, silent connections opened over 5 s',
    reports: ['nextcloud/HaRP#115', 'd2iq-archive/marathon-lb#649', 'hashicorp/boundary#3133'],
    needs: ['haproxy'],
    play: (stage) => proxied(stage, '5s', '-c 1000 -r 200/s -d 9s'),
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: 1_000,
      held: 0,
      cause: [/\b(?:5|5\.0\d*|4\.9\d*) s\b/, /probe/],
    },
  },
  {
    name: 'haproxy-killed-in-hold',
    fault: 'HAProxy is killed in mid-hold: ages at loss differ by the length of the ramp',
    looksLike: 'haproxy-idle-timeout',
    needs: ['haproxy'],
    play: (stage) => proxied(stage, '60s', '-c 1000 -r 200/s -d 6s', 1_500),
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-ended',
      explains: 1_000,
      held: 0,
      never: [/timeout of/],
    },
  },
  {
    name: 'haproxy-idle-timeout-at-once',
    fault:
      'the same timeout, all connections opened in one moment: they also end in one moment, and HAProxy lives on',
    looksLike: 'killed-after-five-seconds',
    needs: ['haproxy'],
    play: (stage) => proxied(stage, '5s', '-c 1000 -d 8s'),
    expected: {
      exit: 1,
      party: 'target',
      rule: ['target-timeout', 'target-closed'],
      explains: 1_000,
      held: 0,
      never: [/ended or restarted/],
    },
  },
  {
    name: 'killed-after-five-seconds',
    fault:
      'HAProxy is killed 5 s after all connections were opened in one moment: equal ages, and no timeout',
    looksLike: 'haproxy-idle-timeout-at-once',
    needs: ['haproxy'],
    play: (stage) => proxied(stage, '60s', '-c 1000 -d 8s', 5_000),
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-ended',
      explains: 1_000,
      held: 0,
      never: [/timeout of/],
    },
  },
  {
    name: 'postgres-authentication-timeout',
    fault: 'PostgreSQL with authentication_timeout 5 s and max_connections 50, silent clients',
    needs: ['postgresql'],
    play: async (stage) => {
      const host = await stage.lone();
      await startPostgres(stage, host, 5_432, ['authentication_timeout=5s', 'max_connections=50']);
      return await stage.run(host, typed('-t 127.0.0.1:5432 -c 200 -d 8s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: [150, 200],
      held: 0,
      cause: [/\b5(?:\.\d+)? s\b/],
    },
  },
  {
    name: 'pgbouncer-login-timeout',
    fault: 'pgbouncer with client_login_timeout 5 s: it says so in one message, and closes',
    reports: ['pgbouncer/pgbouncer#445', 'pgbouncer/pgbouncer#768'],
    needs: ['pgbouncer', 'postgresql'],
    play: async (stage) => {
      const host = await stage.lone();
      const peer = await startPgbouncer(stage, host, 6_432, [
        'max_client_conn=100',
        'client_login_timeout=5',
      ]);
      const run = await stage.run(host, typed('-t 127.0.0.1:6432 -c 200 -d 9s'));
      return {
        ...run,
        truth: { loginTimeouts: peer.log().match(/closing because: client_login_timeout/g)?.length ?? 0 },
      };
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: 200,
      held: 0,
      says: [/client_login_timeout/],
    },
  },
  {
    name: 'socketio-connect-timeout',
    fault: 'a Socket.IO server whose clients never send its connect message: closed after connectTimeout 6 s',
    reports: ['artilleryio/artillery#782', 'centrifugal/centrifuge#602'],
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, SOCKET_IO, [8_000], { env: { REPOSITORY: process.cwd() } });
      return await stage.run(
        host,
        typed('-t ws://127.0.0.1:8000/socket.io/?EIO=4&transport=websocket -c 200 -r 50/s -d 10s'),
      );
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: 200,
      held: 0,
      cause: [/\b[56](?:\.\d+)? s\b/],
    },
  },
  {
    name: 'nginx-keepalive-timeout',
    fault: 'nginx with keepalive_timeout 3 s, and a request each 10 s',
    needs: ['nginx-light'],
    play: async (stage) => {
      const host = await stage.lone();
      await startNginx(
        stage,
        host,
        'keepalive_timeout 3s; server { listen 8000 backlog=4096; location / { return 200 ok; } }',
        [8_000],
      );
      return await stage.run(
        host,
        typed('-t http://127.0.0.1:8000/ -c 300 -r 150/s -d 7s --probe-every 10s'),
      );
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: 300,
      held: 0,
      cause: [/\b(?:3|3\.0\d*|2\.9\d*) s\b/, /--probe-every/],
    },
  },
  {
    name: 'nginx-keepalive-requests',
    fault: 'nginx with keepalive_requests 3, and a request each second: closed after the third',
    looksLike: 'nginx-keepalive-timeout',
    needs: ['nginx-light'],
    play: async (stage) => {
      const host = await stage.lone();
      await startNginx(
        stage,
        host,
        'keepalive_requests 3; server { listen 8000 backlog=4096; location / { return 200 ok; } }',
        [8_000],
      );
      return await stage.run(host, typed('-t http://127.0.0.1:8000/ -c 300 -r 150/s -d 6s --probe-every 1s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: ['target-keep-alive', 'target-handshake'],
      explains: 300,
      held: 0,
      cause: [/requests/],
      never: [/timeout of/],
    },
  },
  {
    name: 'nginx-header-timeout',
    fault: 'nginx with client_header_timeout 3 s, and silent connections',
    needs: ['nginx-light'],
    play: async (stage) => {
      const host = await stage.lone();
      await startNginx(
        stage,
        host,
        'client_header_timeout 3s; server { listen 8000 backlog=4096; location / { return 200 ok; } }',
        [8_000],
      );
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 400 -r 200/s -d 6s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-timeout', explains: 400, held: 0 },
  },
  {
    name: 'sshd-login-grace',
    fault: 'sshd with LoginGraceTime 4 s and room for all: each one that does not log in is closed',
    needs: ['openssh-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startSshd(stage, host, 2_222, ['LoginGraceTime=4', 'MaxStartups=1000']);
      return await stage.run(
        host,
        typed('-t tcp://127.0.0.1:2222 -c 40 -r 20/s -d 8s --expect-banner SSH-2.0-'),
      );
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-timeout',
      explains: 40,
      held: 0,
      cause: [/\b(?:3\.9\d*|4|4\.\d+) s\b/],
    },
  },
];
