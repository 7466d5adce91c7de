/**
 * Owns cases of the same kinds that were played after the rules had been written: limits and timeouts of well-known servers with others of
 * their settings, seen from another host. Must never be fitted to what the program says.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import { startApache, startHaproxy, startNginx, startPostgres, startSshd } from '../peers.ts';
import { type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { nodeServer, typed } from './parts.ts';

/** Closed, refused or left without an answer by the target. */
function ofTarget(rule: string | readonly string[], more: Partial<Expected> = {}): Expected {
  return { exit: 1, party: 'target', rule, ...more };
}

/** HAProxy on the target's host before an echo server or an answer of its own; `more` stands in its only section. */
async function haproxy(stage: Stage, mode: 'tcp' | 'http', more: string, args: string): Promise<PlayedRun> {
  const { client, server } = await stage.pair();
  await stage.serve(server, 8_001, ['--mode', 'echo']);
  const config = `defaults
  mode ${mode}
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen l
  bind ${SERVER}:8000 backlog 4096
  ${more}
`;
  await startHaproxy(stage, server, config, [8_000]);
  return await stage.run(client, typed(args), { far: server, farPorts: [8_000] });
}

async function apache(stage: Stage, more: string, args: string): Promise<PlayedRun> {
  const { client, server } = await stage.pair();
  await startApache(stage, server, 8_000, more);
  return await stage.run(client, typed(args), { far: server });
}

/** nginx with few connections for its worker. */
async function fewWorkerConnections(stage: Stage, args: string): Promise<PlayedRun> {
  const { client, server } = await stage.pair();
  const http = 'server { listen 8000 backlog=4096; location / { return 200 ok; } }';
  await startNginx(stage, server, http, [8_000], 60);
  return await stage.run(client, typed(args), { far: server });
}

/** A WebSocket server in Python; `handler` sees `c`, `n` (the number of those that came) and `open`. */
async function pythonWebSocket(stage: Stage, handler: string, args: string): Promise<PlayedRun> {
  const { client, server } = await stage.pair();
  const code = `import asyncio, websockets
came = 0
end = None
async def on(c, path=None):
  global came
  came += 1
  n = came
  ${handler.split('\n').join('\n  ')}
async def main():
  global end
  end = asyncio.Event()
  async with websockets.serve(on, '0.0.0.0', 8001, ping_interval=None, backlog=4096):
    await end.wait()
  await asyncio.sleep(3600)
asyncio.run(main())
`;
  await stage.python(server, code, [8_001]);
  return await stage.run(client, typed(args), { far: server });
}

/** Opens a session of PostgreSQL for each client, as a pooler does. */
const POSTGRES_CLIENT = `import asyncio, struct
body = struct.pack('!I', 196608) + b'user\\0postgres\\0database\\0postgres\\0\\0'
async def on(r, w):
  try:
    ur, uw = await asyncio.open_connection('127.0.0.1', 5432)
    uw.write(struct.pack('!I', len(body) + 4) + body)
    while True:
      d = await ur.read(4096)
      if not d: break
      w.write(d); await w.drain()
  except OSError: pass
  w.close()
async def main():
  s = await asyncio.start_server(on, '0.0.0.0', 6432, backlog=4096)
  await s.serve_forever()
asyncio.run(main())
`;

/** Takes 30 a second from a queue of 16. */
const SLOW_ACCEPT = `import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', 8000)); s.listen(16)
held = []
while True: held.append(s.accept()); time.sleep(0.033)
`;

const HAPROXY_CASES: readonly CaseSpec[] = [
  {
    name: 'haproxy-tarpit',
    fault: 'http: HAProxy holds what is above 40 of one address for 2 s and then answers 500 (tarpit)',
    looksLike: 'http-status-500',
    needs: ['haproxy'],
    play: (stage) =>
      haproxy(
        stage,
        'http',
        `timeout tarpit 2s
  stick-table type ip size 1k expire 1m store conn_cur
  tcp-request connection track-sc0 src
  http-request tarpit if { sc_conn_cur(0) gt 40 }
  http-request return status 200`,
        `-t http://${SERVER}:8000/ -c 100 -d 3s --probe-every 30s --connect-timeout 8s`,
      ),
    expected: ofTarget('target-handshake', { held: [0, 41], says: [/\b500\b/] }),
  },
  {
    name: 'haproxy-silent-drop',
    fault: 'HAProxy forgets what is above 60 of one address without a word to it (silent-drop)',
    needs: ['haproxy'],
    play: (stage) =>
      haproxy(
        stage,
        'tcp',
        `stick-table type ip size 1k expire 1m store conn_cur
  tcp-request connection track-sc0 src
  tcp-request connection silent-drop if { sc0_conn_cur gt 60 }
  server s 127.0.0.1:8001`,
        `-t echo://${SERVER}:8000 -c 150 -d 4s --probe-timeout 3s`,
      ),
    expected: ofTarget(['target-closes', 'target-closed', 'target-rebooted', 'target-silent'], {
      orUnknown: true,
      explains: 90,
      held: 60,
      never: [/rebooted/, /descriptor limit/],
    }),
  },
  {
    name: 'haproxy-queue-timeout',
    fault: 'HAProxy opens 50 connections to its server; the further ones wait 2 s for one and are closed',
    looksLike: 'haproxy-idle-timeout',
    needs: ['haproxy'],
    play: (stage) =>
      haproxy(
        stage,
        'tcp',
        'timeout queue 2s\n  server s 127.0.0.1:8001 maxconn 50',
        `-t echo://${SERVER}:8000 -c 200 -d 5s --probe-every 10s`,
      ),
    expected: ofTarget(['target-closes', 'target-timeout'], { explains: 150, held: 50 }),
  },
  {
    name: 'haproxy-keep-alive-timeout',
    fault: 'http: HAProxy with timeout http-keep-alive 2 s, and a request each 10 s',
    looksLike: 'nginx-keepalive-timeout',
    needs: ['haproxy'],
    play: (stage) =>
      haproxy(
        stage,
        'http',
        'timeout http-keep-alive 2s\n  http-request return status 200',
        `-t http://${SERVER}:8000/ -c 150 -r 50/s -d 6s --probe-every 10s`,
      ),
    expected: ofTarget('target-timeout', { explains: 150, held: 0, cause: [/\b(?:1\.9|2\.0)\d s/] }),
  },
  {
    name: 'haproxy-maxconn-far',
    fault:
      'HAProxy on another host with maxconn 120 asked by echo: the further ones wait in its accept queue',
    looksLike: 'haproxy-maxconn-epoll',
    needs: ['haproxy'],
    play: (stage) =>
      haproxy(
        stage,
        'tcp',
        'maxconn 120\n  server s 127.0.0.1:8001',
        `-t echo://${SERVER}:8000 -c 300 -d 6s`,
      ),
    expected: ofTarget(['target-accept-queue', 'target-silent', 'target-descriptors'], {
      explains: [179, 180],
      held: [120, 121],
      never: [/descriptor limit of/],
    }),
  },
];

const SERVER_CASES: readonly CaseSpec[] = [
  {
    name: 'apache-keepalive-timeout',
    fault: 'http: Apache with KeepAliveTimeout 2, and a request each 10 s',
    looksLike: 'nginx-keepalive-timeout',
    needs: ['apache2-bin'],
    play: (stage) =>
      apache(stage, 'KeepAliveTimeout 2', `-t http://${SERVER}:8000/ -c 150 -r 50/s -d 6s --probe-every 10s`),
    expected: ofTarget('target-timeout', { explains: 150, held: 0, cause: [/\b[12]\.\d+ s/] }),
  },
  {
    name: 'apache-max-request-workers',
    fault: 'http: Apache with 20 workers that keep each connection (AsyncRequestWorkerFactor 0)',
    looksLike: 'apache-asked',
    needs: ['apache2-bin'],
    play: (stage) =>
      apache(
        stage,
        'MaxRequestWorkers 20\nServerLimit 1\nThreadsPerChild 20\nThreadLimit 20\nStartServers 1\nMinSpareThreads 1\nMaxSpareThreads 20\nKeepAliveTimeout 60\nAsyncRequestWorkerFactor 1',
        `-t http://${SERVER}:8000/ -c 300 -d 3s --probe-every 30s --connect-timeout 5s`,
      ),
    expected: ofTarget(
      [
        'target-silent',
        'target-accept-queue',
        'target-descriptors',
        'target-evicts',
        'target-closed',
        'target-closes',
      ],
      { held: [0, 299], never: [/rebooted/, /descriptor limit of/] },
    ),
  },
  {
    name: 'apache-request-timeout',
    fault: 'Apache with mod_reqtimeout (header=2) and silent connections',
    looksLike: 'nginx-header-timeout',
    needs: ['apache2-bin'],
    play: (stage) =>
      apache(
        stage,
        'LoadModule reqtimeout_module /usr/lib/apache2/modules/mod_reqtimeout.so\nRequestReadTimeout header=2\nAcceptFilter http none',
        `-t ${SERVER}:8000 -c 60 -r 20/s -d 6s`,
      ),
    expected: ofTarget('target-timeout', { explains: 60, held: 0, cause: [/\b2\.\d+ s/] }),
  },
  {
    name: 'nginx-worker-connections',
    fault: 'http: nginx with worker_connections 60: it closes idle ones to make room',
    looksLike: 'evicts-the-oldest',
    needs: ['nginx-light'],
    play: (stage) =>
      fewWorkerConnections(stage, `-t http://${SERVER}:8000/ -c 200 -r 50/s -d 3s --probe-every 30s`),
    expected: ofTarget(['target-evicts', 'target-closes', 'target-closed'], {
      held: [20, 60],
      never: [/timeout of/, /descriptor limit/],
    }),
  },
  {
    name: 'nginx-worker-connections-silent',
    fault: 'the same, all at once, and silent',
    needs: ['nginx-light'],
    play: (stage) => fewWorkerConnections(stage, `-t ${SERVER}:8000 -c 200 -d 3s`),
    expected: ofTarget(['target-evicts', 'target-closes', 'target-closed'], {
      held: [20, 60],
      never: [/timeout of/, /descriptor limit/],
    }),
  },
  {
    name: 'postgres-too-many-clients',
    fault: 'PostgreSQL with max_connections 30, and a pooler that opens a session for each client',
    looksLike: 'redis-maxclients',
    needs: ['postgresql'],
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await startPostgres(stage, server, 5_432, ['max_connections=30']);
      await stage.python(server, POSTGRES_CLIENT, [6_432]);
      return await stage.run(client, typed(`-t ${SERVER}:6432 -c 80 -r 40/s -d 3s`), { far: server });
    },
    expected: ofTarget('target-closes', {
      explains: [50, 56],
      // Sessions of connects that were only tried stay open in the pooler.
      held: [24, 30],
      says: [/sorry, too many clients already/],
    }),
  },
  {
    name: 'sshd-per-source',
    fault: 'sshd takes 12 of each source that have not logged in (PerSourceMaxStartups), five sources',
    looksLike: 'sshd-maxstartups',
    needs: ['openssh-server'],
    play: async (stage) => {
      const { client, server } = await stage.pair({}, 5);
      await startSshd(stage, server, 2_222, [
        'MaxStartups=500',
        'PerSourceMaxStartups=12',
        'LoginGraceTime=120',
      ]);
      const args = `-t ${SERVER}:2222 --source-ip 10.83.0.2-10.83.0.6 -c 150 -r 60/s -d 4s`;
      return await stage.run(client, typed(args), { far: server });
    },
    expected: ofTarget('target-source-limit', { explains: 90, held: 60 }),
  },
  {
    name: 'ws-python-try-again-later',
    fault: 'ws: a Python server closes what is above 40 with 1013 and a reason',
    looksLike: 'wss-policy-violation',
    needs: ['python3-websockets'],
    play: (stage) =>
      pythonWebSocket(
        stage,
        'if n > 40: await c.close(1013, "all 40 seats are taken"); return\nasync for m in c: await c.send(m)',
        `-t ws://${SERVER}:8001/ -c 90 -d 3s`,
      ),
    expected: ofTarget(['target-closes', 'target-handshake'], {
      held: 40,
      explains: 50,
      says: [/1013/, /all 40 seats are taken/],
    }),
  },
  {
    name: 'ws-python-internal-error',
    fault: 'ws: the handler of a Python server fails 2 s after each connection came: closed with 1011',
    looksLike: 'ws-python-going-away',
    needs: ['python3-websockets'],
    play: (stage) =>
      pythonWebSocket(
        stage,
        'await asyncio.sleep(2)\nraise RuntimeError("no")',
        `-t ws://${SERVER}:8001/ -c 90 -r 30/s -d 5s`,
      ),
    expected: ofTarget(['target-timeout', 'target-closed', 'target-closes', 'target-handshake'], {
      held: 0,
      explains: 90,
      says: [/1011/],
    }),
  },
  {
    name: 'ws-python-going-away',
    fault: 'ws: a Python server shuts down in mid-hold: every connection gets 1001',
    needs: ['python3-websockets'],
    play: (stage) =>
      pythonWebSocket(
        stage,
        'if n == 90: asyncio.get_running_loop().call_later(3, end.set)\nasync for m in c: await c.send(m)',
        `-t ws://${SERVER}:8001/ -c 90 -r 30/s -d 7s`,
      ),
    expected: ofTarget(['target-ended', 'target-closed', 'target-closes', 'target-handshake'], {
      held: 0,
      explains: 90,
      says: [/1001/],
      never: [/timeout of about/],
    }),
  },
  {
    name: 'slow-accept-far',
    fault: 'a server on another host accepts 30 a second from a queue of 16: as even as a rate limit',
    looksLike: 'syn-rate-limit',
    play: async (stage) => {
      const { client, server } = await stage.pair({ server: { sysctls: { 'net.ipv4.tcp_syncookies': 0 } } });
      await stage.python(server, SLOW_ACCEPT, [8_000]);
      return await stage.run(client, typed(`-t ${SERVER}:8000 -c 600 -d 2s --connect-timeout 6s`), {
        far: server,
      });
    },
    expected: ofTarget('target-accept-queue', { orUnknown: true, farSideDiffers: true }),
  },
  {
    name: 'listener-closed-in-hold',
    fault: 'the server closes its listener in mid-hold and keeps its connections',
    looksLike: 'haproxy-killed-in-hold',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.script(
        server,
        nodeServer(8_000, 'socket.pipe(socket); if (count === 200) setTimeout(() => server.close(), 3000);'),
        [8_000],
      );
      return await stage.run(client, typed(`-t echo://${SERVER}:8000 -c 200 -d 7s --probe-every 2s`), {
        far: server,
      });
    },
    expected: { exit: 0, party: null, rule: null, held: 200 },
  },
  {
    name: 'target-stopped-for-a-while',
    fault: 'the target is stopped for 2 s, less than the probe timeout, and goes on',
    looksLike: 'target-frozen',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const peer = await stage.script(server, nodeServer(8_000, 'socket.pipe(socket);'), [8_000]);
      return await stage.run(
        client,
        typed(`-t echo://${SERVER}:8000 -c 200 -d 8s --probe-every 2s --probe-timeout 5s`),
        {
          far: server,
          during: async (running) => {
            await running.saw(/holding/);
            await sleep(2_000);
            peer.signal('SIGSTOP');
            await sleep(2_000);
            peer.signal('SIGCONT');
          },
        },
      );
    },
    expected: { exit: 0, party: null, rule: null, held: 200 },
  },
];

export const FURTHER_CASES: readonly CaseSpec[] = [...HAPROXY_CASES, ...SERVER_CASES];
