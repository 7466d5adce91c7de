/**
 * Owns cases with servers and filters that no rule was written for: each protocol once, and limits of well-known servers as their
 * users meet them. Must never be the case that a rule was made from.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import {
  selfSigned,
  startHaproxy,
  startNginx,
  startOpenssl,
  startPgbouncer,
  startRedis,
  startSshd,
} from '../peers.ts';
import { FAR_SERVER, type PlayedRun, SERVER, type Stage } from '../stage.ts';
import { filterRule, nodeServer, typed } from './parts.ts';

/** Closed or refused by the target. */
function ofTarget(rule: string | readonly string[], more: Partial<Expected> = {}): Expected {
  return { exit: 1, party: 'target', rule, ...more };
}

/** nginx before which `http { }` stands, asked by HTTP. */
async function nginx(stage: Stage, http: string, args: string): Promise<PlayedRun> {
  const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
  await startNginx(stage, host, http, [8_000]);
  return await stage.run(host, typed(args));
}

/** nginx with TLS. */
async function secureNginx(stage: Stage, inServer: string, args: string): Promise<PlayedRun> {
  const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
  const { key, cert } = selfSigned(stage);
  const server = `server { listen 127.0.0.1:8443 ssl backlog=4096; ${inServer} }`;
  await startNginx(stage, host, `ssl_certificate ${cert}; ssl_certificate_key ${key}; ${server}`, [8_443]);
  return await stage.run(host, typed(args.replaceAll('CERT', cert)));
}

const WEBSOCKETS = `import { createRequire } from 'node:module';
import http from 'node:http';
import https from 'node:https';
import { readFileSync } from 'node:fs';
const { WebSocketServer } = createRequire(process.env.REPOSITORY + '/package.json')('ws');
const { KEY, CERT } = process.env;
const server = KEY ? https.createServer({ key: readFileSync(KEY), cert: readFileSync(CERT) }) : http.createServer();
let open = 0;
new WebSocketServer({ server }).on('connection', (c) => { ON_CONNECTION });
server.listen({ port: 8001, host: '0.0.0.0', backlog: 4096 });
`;

async function webSocket(
  stage: Stage,
  onConnection: string,
  args: string,
  isSecure = false,
): Promise<PlayedRun> {
  const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
  const { key, cert } = isSecure ? selfSigned(stage) : { key: '', cert: '' };
  await stage.script(host, WEBSOCKETS.replace('ON_CONNECTION', onConnection), [8_001], {
    env: { REPOSITORY: process.cwd(), KEY: key, CERT: cert },
  });
  return await stage.run(host, typed(args.replaceAll('CERT', cert)));
}

/** HAProxy in TCP mode before an echo server; `more` stands in its only section. */
async function proxied(stage: Stage, more: string, args: string): Promise<PlayedRun> {
  const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
  await stage.serve(host, 8_001, ['--mode', 'echo']);
  const config = `defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen l
  bind 127.0.0.1:8000 backlog 4096
  server s 127.0.0.1:8001
  ${more}
`;
  await startHaproxy(stage, host, config, [8_000]);
  return await stage.run(host, typed(args));
}

/** Something on the target's host or a router decides; the application is an echo server. */
async function segment(
  stage: Stage,
  nft: string,
  args: string,
  during?: (hosts: Awaited<ReturnType<Stage['pair']>>) => Promise<unknown>,
): Promise<PlayedRun> {
  const hosts = await stage.pair({ server: { nft } });
  await stage.serve(hosts.server, 8_000, ['--mode', 'echo']);
  return await stage.run(hosts.client, typed(args), {
    far: hosts.server,
    ...(during === undefined
      ? {}
      : {
          during: async (running) => {
            await running.saw(/holding/);
            await sleep(3_000);
            await during(hosts);
          },
        }),
  });
}

/** What a server answers to each HTTP request. */
async function answers(stage: Stage, status: number, args = '-t http://127.0.0.1:8002/x -c 60 -d 2s') {
  const host = await stage.lone();
  const code = `import http from 'node:http';
http.createServer((q, s) => { s.writeHead(${status}, { 'Content-Type': 'text/plain' }); s.end(${JSON.stringify(`because of ${status}`)}); })
  .listen({ port: 8002, host: '127.0.0.1', backlog: 4096 });
`;
  await stage.script(host, code, [8_002]);
  return await stage.run(host, typed(args));
}

const PROTOCOL_CASES: readonly CaseSpec[] = [
  {
    name: 'tcp-banner-says-421',
    fault: 'tcp: a server says 421 and closes above 60 connections, as FTP servers do',
    play: async (stage) => {
      const host = await stage.lone();
      const code = nodeServer(
        8_000,
        'if (count > 60) socket.end("421 There are too many connected users, please try later.\\r\\n"); else socket.write("220 ready\\r\\n");',
      );
      await stage.script(host, code, [8_000]);
      return await stage.run(host, typed('-t tcp://127.0.0.1:8000 -c 200 -d 2s --expect-banner 220'));
    },
    expected: ofTarget('target-handshake', {
      held: 60,
      explains: 140,
      says: [/421 There are too many connected users/],
    }),
  },
  {
    name: 'echo-connections-live-four-seconds',
    fault: 'echo: a server ends each connection 4 s after it was opened, however much was said',
    looksLike: 'haproxy-idle-timeout',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(
        host,
        nodeServer(8_000, 'socket.pipe(socket); setTimeout(() => socket.end(), 4000);'),
        [8_000],
      );
      return await stage.run(host, typed('-t echo://127.0.0.1:8000 -c 300 -r 100/s -d 7s --probe-every 1s'));
    },
    expected: ofTarget('target-timeout', { held: 0, explains: 300, cause: [/\b(?:4|4\.\d+|3\.9\d*) s\b/] }),
  },
  {
    name: 'whoami-target-ends',
    fault: 'whoami: the target is killed in mid-hold and nothing listens any more',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      const peer = await stage.serve(server, 8_000, ['--mode', 'whoami']);
      return await stage.run(client, typed(`-t whoami://${SERVER}:8000 -c 300 -r 150/s -d 20s`), {
        far: server,
        during: async (running) => {
          await running.saw(/holding/);
          await sleep(2_000);
          await peer.end('SIGKILL');
        },
      });
    },
    expected: ofTarget(['target-ended', 'target-closed'], { held: 0, explains: 300 }),
  },
  {
    name: 'http-nginx-limit-req',
    fault: 'http: nginx with limit_req answers 503 to what comes faster than it allows',
    needs: ['nginx-light'],
    play: (stage) =>
      nginx(
        stage,
        'limit_req_zone $binary_remote_addr zone=r:1m rate=50r/m; server { listen 8000 backlog=4096; location / { limit_req zone=r burst=40 nodelay; try_files /none @ok; } location @ok { return 200 ok; } }',
        '-t http://127.0.0.1:8000/ -c 200 -d 2s --probe-every 30s',
      ),
    expected: ofTarget('target-handshake', { says: [/\b503\b/] }),
  },
  {
    name: 'https-nginx-keepalive-timeout',
    fault: 'https: nginx with keepalive_timeout 3 s ends idle TLS sessions',
    looksLike: 'https-unrecognized-name',
    needs: ['nginx-light', 'openssl'],
    play: (stage) =>
      secureNginx(
        stage,
        'keepalive_timeout 3s; location / { return 200 ok; }',
        '-t https://127.0.0.1:8443/ --tls-ca CERT -c 60 -r 30/s -d 7s --probe-every 20s',
      ),
    expected: ofTarget('target-timeout', {
      held: 0,
      explains: 60,
      cause: [/\b(?:3|3\.\d+|2\.[89]\d*) s\b/],
    }),
  },
  {
    name: 'tls-server-takes-thirty',
    fault: 'tls: a TLS server ends every session above 30 with close_notify, and says why',
    needs: ['openssl'],
    play: async (stage) => {
      const host = await stage.lone();
      const { key, cert } = selfSigned(stage);
      const code = `import tls from 'node:tls'; import { readFileSync } from 'node:fs';
let n = 0;
tls.createServer({ key: readFileSync('${key}'), cert: readFileSync('${cert}') }, (s) => { s.on('error', () => {}); if (++n > 30) s.end('ERR too many sessions\\r\\n'); })
  .listen({ port: 8445, host: '127.0.0.1', backlog: 512 });
`;
      await stage.script(host, code, [8_445]);
      return await stage.run(host, typed(`-t tls://127.0.0.1:8445 --tls-ca ${cert} -c 60 -d 3s`));
    },
    expected: ofTarget('target-closes', { held: 30, explains: 30, says: [/ERR too many sessions/] }),
  },
  {
    name: 'tls-old-version-only',
    fault: 'tls: a server that speaks TLS 1.1 at most sends an alert or closes',
    looksLike: 'tls-client-certificate',
    needs: ['openssl'],
    play: async (stage) => {
      const host = await stage.lone();
      const { key, cert } = selfSigned(stage);
      await startOpenssl(stage, host, 8_445, [
        '-key',
        key,
        '-cert',
        cert,
        '-tls1_1',
        '-cipher',
        'ALL:@SECLEVEL=0',
      ]);
      return await stage.run(host, typed(`-t tls://127.0.0.1:8445 --tls-ca ${cert} -c 10 -d 2s`));
    },
    expected: ofTarget(['target-handshake', 'target-closes'], {
      held: 0,
      explains: 10,
      says: [/TLS|version/i],
    }),
  },
  {
    name: 'ws-going-away',
    fault: 'ws: the server closes all with 1001 and a reason in mid-hold, as at a deployment',
    play: (stage) =>
      webSocket(
        stage,
        'setTimeout(() => c.close(1001, "server is restarting"), Math.max(0, 5000 - performance.now()));',
        '-t ws://127.0.0.1:8001/ -c 200 -r 100/s -d 7s',
      ),
    expected: ofTarget(
      ['target-ended', 'target-closed', 'target-handshake', 'target-timeout', 'target-closes'],
      {
        held: 0,
        says: [/1001/, /server is restarting/],
      },
    ),
  },
  {
    name: 'wss-policy-violation',
    fault: 'wss: the server closes what is above 40 with 1008 and says that it is full',
    needs: ['openssl'],
    play: (stage) =>
      webSocket(
        stage,
        'if (++open > 40) c.close(1008, "too many connections");',
        '-t wss://127.0.0.1:8001/ --tls-ca CERT -c 90 -d 3s',
        true,
      ),
    expected: ofTarget(['target-closes', 'target-handshake'], {
      held: 40,
      explains: 50,
      says: [/1008/, /too many connections/],
    }),
  },
];

const STATUS_CASES: readonly CaseSpec[] = [403, 405, 418, 426, 500, 502, 504].map((status) => ({
  name: `http-status-${status}`,
  fault: `every request is answered with ${status}, and the body says why`,
  looksLike: 'http-404',
  play: (stage) => answers(stage, status),
  expected: ofTarget('target-handshake', {
    held: 0,
    explains: 60,
    says: [new RegExp(`\\b${status}\\b`), new RegExp(`because of ${status}`)],
  }),
}));

const SERVER_CASES: readonly CaseSpec[] = [
  {
    name: 'redis-timeout',
    fault: 'redis with timeout 3: idle clients are closed, and it looks each second or so',
    looksLike: 'redis-maxclients',
    needs: ['redis-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startRedis(stage, host, 6_379, [
        '--bind',
        '127.0.0.1',
        '--protected-mode',
        'no',
        '--timeout',
        '3',
      ]);
      return await stage.run(host, typed('-t 127.0.0.1:6379 -c 100 -r 40/s -d 8s'));
    },
    expected: ofTarget(['target-timeout', 'target-closed'], { held: 0, explains: 100 }),
  },
  {
    name: 'pgbouncer-silent-clients',
    fault: 'pgbouncer with max_client_conn 100 and 200 silent clients: it takes them all until one logs in',
    looksLike: 'pgbouncer-login-timeout',
    needs: ['pgbouncer', 'postgresql'],
    play: async (stage) => {
      const host = await stage.lone();
      await startPgbouncer(stage, host, 6_432, ['max_client_conn=100', 'client_login_timeout=60']);
      return await stage.run(host, typed('-t 127.0.0.1:6432 -c 200 -d 4s'));
    },
    expected: {
      exit: 0,
      party: null,
      rule: null,
      held: 200,
      says: [/\bPASS \(kernel only\) held [\d,]+ of [\d,]+ for /],
    },
  },
  {
    name: 'sshd-login-grace-silent',
    fault: 'sshd with LoginGraceTime 3 s and no banner asked for',
    looksLike: 'sshd-maxstartups',
    needs: ['openssh-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startSshd(stage, host, 2_222, ['LoginGraceTime=3', 'MaxStartups=1000']);
      return await stage.run(host, typed('-t tcp://127.0.0.1:2222 -c 30 -r 15/s -d 7s'));
    },
    expected: ofTarget('target-timeout', { held: 0, explains: 30, cause: [/\b(?:2\.9\d*|3|3\.\d+) s\b/] }),
  },
  {
    name: 'haproxy-rate-limit-rejects',
    fault: 'HAProxy rejects what comes faster than 30 connections a second from one source',
    looksLike: 'takes-a-hundred-then-closes',
    needs: ['haproxy'],
    play: (stage) =>
      proxied(
        stage,
        'stick-table type ip size 1k expire 10s store conn_rate(1s)\n  tcp-request connection track-sc0 src\n  tcp-request connection reject if { sc0_conn_rate gt 30 }',
        '-t 127.0.0.1:8000 -c 300 -r 100/s -d 2s',
      ),
    expected: ofTarget(['target-closes', 'target-source-limit'], { never: [/descriptor limit/] }),
  },
  {
    name: 'nginx-444',
    fault: 'nginx closes without an answer to what it does not want (return 444)',
    looksLike: 'proxy-without-server-tcp',
    needs: ['nginx-light'],
    play: (stage) =>
      nginx(
        stage,
        'server { listen 8000 backlog=4096; location / { return 444; } }',
        '-t http://127.0.0.1:8000/ -c 100 -d 2s',
      ),
    expected: ofTarget(['target-closes', 'target-handshake', 'target-proxy'], {
      held: 0,
      explains: 100,
      // Not as a cause: the report counts the descriptors that our side has to spare.
      never: [/descriptor limit|(?:no|without|of) descriptors?\b/],
    }),
  },
  {
    name: 'every-second-reset-by-a-filter',
    fault: 'a filter at the target resets every second connect in turn, as one dead back end of two does',
    looksLike: 'every-third-refused',
    play: (stage) =>
      segment(
        stage,
        filterRule(
          'input',
          'tcp dport 8000 tcp flags & (syn|ack) == syn numgen inc mod 2 0 reject with tcp reset',
        ),
        `-t echo://${SERVER}:8000 -c 300 -d 2s`,
      ),
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: ['target-backend', 'target-refused'],
      held: [140, 160],
    },
  },
  {
    name: 'syn-limit-at-the-router',
    fault: 'a router lets 25 SYNs through in a second',
    looksLike: 'syn-rate-limit',
    play: async (stage) => {
      const { client, server } = await stage.routed(
        filterRule(
          'forward',
          'tcp dport 8000 tcp flags & (syn|ack) == syn limit rate over 25/second burst 5 packets drop',
        ),
      );
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${FAR_SERVER}:8000 -c 600 -d 2s --connect-timeout 8s`),
        {
          far: server,
        },
      );
    },
    expected: { exit: 1, party: 'path', orUnknown: true, rule: 'path-rate-limit' },
  },
  {
    name: 'conntrack-of-the-router-full',
    fault: 'a router drops new connections above 200, and the target is asked by HTTP',
    looksLike: 'router-limit-300',
    needs: ['nginx-light'],
    play: async (stage) => {
      const { client, server } = await stage.routed(
        filterRule('forward', 'tcp dport 8000 ct state new ct count over 200 drop'),
      );
      await startNginx(
        stage,
        server,
        'server { listen 8000 backlog=4096; location / { return 200 ok; } }',
        [8_000],
      );
      return await stage.run(
        client,
        typed(`-t http://${FAR_SERVER}:8000/ -c 400 -r 200/s -d 3s --connect-timeout 4s --probe-every 1s`),
        {
          far: server,
        },
      );
    },
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-limit', 'path-ports'],
      held: [195, 200],
    },
  },
  {
    name: 'far-reject-tcp-reset',
    fault: "the target's firewall rejects with a reset: a closed port looks the same from here",
    looksLike: 'no-listener',
    play: (stage) =>
      segment(
        stage,
        filterRule('input', 'tcp dport 8000 reject with tcp reset'),
        `-t echo://${SERVER}:8000 -c 200 -d 2s`,
      ),
    expected: {
      exit: 1,
      party: 'target',
      orUnknown: true,
      rule: 'target-refused',
      held: 0,
      cause: [/firewall/],
    },
  },
  {
    name: 'far-reject-host-prohibited',
    fault: 'iptables as firewalld and RHEL ship it: reject with icmp-host-prohibited',
    looksLike: 'firewalld-admin-prohibited',
    play: (stage) =>
      segment(
        stage,
        filterRule('input', 'tcp dport 8000 reject with icmp type host-prohibited'),
        `-t ${SERVER}:8000 -c 300 -d 2s --connect-timeout 4s`,
      ),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-rejected', 'path-unreachable'],
      held: 0,
    },
  },
  {
    name: 'link-down-at-the-other-end',
    fault: 'the other end of our cable goes down in mid-hold',
    looksLike: 'own-link-down',
    play: async (stage) => {
      const { client, server } = await stage.pair();
      await stage.serve(server, 8_000, ['--mode', 'echo']);
      return await stage.run(
        client,
        typed(`-t echo://${SERVER}:8000 -c 200 -d 9s --probe-every 1s --probe-timeout 2s`),
        {
          far: server,
          during: async (running) => {
            await running.saw(/holding/);
            await sleep(2_500);
            await server.must('ip', 'link', 'set', 'eth0', 'down');
          },
        },
      );
    },
    expected: {
      // A veth whose far end is down takes our carrier with it, as a switch port does: the state is ours, the blame is not known.
      exit: 1,
      party: 'unknown',
      rule: 'generator-link',
      held: 0,
      never: [/application stopped answering/],
      farSideDiffers: true,
    },
  },
  {
    name: 'nft-drops-established-later',
    fault:
      "the target's own firewall drops everything of the established from the third second on; new connects pass",
    looksLike: 'path-cut',
    play: (stage) =>
      segment(
        stage,
        filterRule('input', 'counter'),
        `-t echo://${SERVER}:8000 -c 200 -d 9s --probe-every 2s --probe-timeout 3s`,
        ({ server }) =>
          server.nft(
            filterRule('input', 'tcp dport 8000 ct state established drop').replace(
              'table ip cases',
              'table ip later',
            ),
          ),
      ),
    expected: {
      exit: 1,
      party: 'path',
      orUnknown: true,
      rule: ['path-forgot', 'path-cut'],
      held: 0,
      never: [/rebooted/],
      farSideDiffers: true,
    },
  },
];

export const STRANGER_CASES: readonly CaseSpec[] = [...PROTOCOL_CASES, ...STATUS_CASES, ...SERVER_CASES];
