/**
 * Owns cases in which the target answers the handshake with a plain no. Must never accept a made-up reason: `says` holds
 * what the server sent, or the name of its alert.
 */
import type { CaseSpec } from '../case.ts';
import type { Expected } from '../expectation.ts';
import { selfSigned, startHaproxy, startHttp2Only, startNginx, startOpenssl } from '../peers.ts';
import type { PlayedRun, Stage } from '../stage.ts';
import { nodeServer, typed } from './parts.ts';

/** What every plain no has in common. */
function refusal(explains: number, says: readonly RegExp[], more: Partial<Expected> = {}): Expected {
  return { exit: 1, party: 'target', rule: 'target-handshake', explains, held: 0, says, ...more };
}

/** nginx with TLS on 8443. */
async function tlsNginx(stage: Stage, inServer: string, args: string): Promise<PlayedRun> {
  const host = await stage.lone();
  const { key, cert } = selfSigned(stage);
  const config = `ssl_certificate ${cert}; ssl_certificate_key ${key}; server { listen 127.0.0.1:8443 ssl backlog=4096; ${inServer.replaceAll('CERT', cert)} location / { return 200 ok; } }`;
  await startNginx(stage, host, config, [8_443]);
  return await stage.run(host, typed(args.replaceAll('CERT', cert)));
}

/** An HTTP server in JavaScript that answers with `answer`, in which `n` counts requests. */
async function httpAnswer(stage: Stage, answer: string, args: string): Promise<PlayedRun> {
  const host = await stage.lone();
  const code = `import http from 'node:http';
let n = 0;
http.createServer((q, s) => { n++; ${answer} }).listen({ port: 8002, host: '127.0.0.1', backlog: 4096 });
`;
  await stage.script(host, code, [8_002]);
  return await stage.run(host, typed(args));
}

const NO_SERVER = (mode: string): string => `defaults
  mode ${mode}
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  retries 0
listen l
  bind 127.0.0.1:8000 backlog 4096
  server s 127.0.0.1:8001
`;

export const HANDSHAKE_CASES: readonly CaseSpec[] = [
  {
    name: 'https-client-certificate',
    fault: 'nginx wants a client certificate and says so in a 400',
    reports: ['shekyan/slowhttptest#86', 'fcsonline/drill#184'],
    needs: ['nginx-light', 'openssl'],
    play: (stage) =>
      tlsNginx(
        stage,
        'ssl_client_certificate CERT; ssl_verify_client on;',
        '-t https://127.0.0.1:8443/ --tls-ca CERT -c 50 -d 2s',
      ),
    expected: refusal(50, [/No required SSL certificate was sent|client certificate/i], {
      never: [/--host-header/],
    }),
  },
  {
    name: 'tls-client-certificate',
    fault: 'a TLS 1.3 server wants a client certificate: the alert comes after the handshake',
    needs: ['openssl'],
    play: async (stage) => {
      const host = await stage.lone();
      const { key, cert } = selfSigned(stage);
      await startOpenssl(stage, host, 8_445, [
        '-key',
        key,
        '-cert',
        cert,
        '-Verify',
        '1',
        '-CAfile',
        cert,
        '-verify_return_error',
      ]);
      return await stage.run(host, typed(`-t tls://127.0.0.1:8445 --tls-ca ${cert} -c 5 -d 2s`));
    },
    expected: refusal(5, [/certificate[_ ]required/i, /client certificate/i]),
  },
  {
    name: 'http-to-https-port',
    fault: 'plain HTTP to a TLS port: nginx answers 400',
    reports: ['hatoo/oha#338'],
    needs: ['nginx-light', 'openssl'],
    play: (stage) => tlsNginx(stage, '', '-t http://127.0.0.1:8443/ -c 50 -d 2s'),
    expected: refusal(50, [/The plain HTTP request was sent to HTTPS port/, /https:\/\//], {
      never: [/--host-header/],
    }),
  },
  {
    name: 'https-to-silent-port',
    fault: 'TLS to a port whose server waits in silence',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.serve(host, 8_005);
      return await stage.run(host, typed('-t https://127.0.0.1:8005/ -c 50 -d 2s --connect-timeout 3s'));
    },
    expected: refusal(50, [/TLS/], { rule: ['target-handshake', 'target-silent'] }),
  },
  {
    name: 'https-to-plain-port',
    fault: 'TLS to a plain HTTP port: nginx answers 400 in clear text',
    looksLike: 'https-to-silent-port',
    needs: ['nginx-light'],
    play: async (stage) => {
      const host = await stage.lone();
      await startNginx(
        stage,
        host,
        'server { listen 127.0.0.1:8000; location / { return 200 ok; } }',
        [8_000],
      );
      return await stage.run(host, typed('-t wss://127.0.0.1:8000/chat --insecure -c 50 -d 2s'));
    },
    expected: refusal(50, [/does not speak TLS/, /ws:\/\//]),
  },
  {
    name: 'http10-server',
    fault: 'a server that speaks HTTP/1.0 and closes after each answer',
    play: async (stage) => {
      const host = await stage.lone();
      const folder = stage.file('index.html', 'hi\n').replace(/\/[^/]+$/, '');
      await stage.start(
        host,
        ['/usr/bin/python3', '-m', 'http.server', '8000', '--bind', '127.0.0.1', '-d', folder],
        [8_000],
      );
      return await stage.run(host, typed('-t http://127.0.0.1:8000/ -c 20 -d 2s'));
    },
    expected: refusal(20, [/HTTP\/1\.0/, /keep-alive/], { rule: ['target-handshake', 'target-keep-alive'] }),
  },
  {
    name: 'http2-only',
    fault: 'a server that speaks HTTP/2 alone',
    reports: ['grafana/k6#2348'],
    needs: ['nghttp2-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startHttp2Only(stage, host, 8_001);
      return await stage.run(host, typed('-t http://127.0.0.1:8001/ -c 20 -d 2s'));
    },
    expected: refusal(20, [/HTTP\/2/]),
  },
  {
    name: 'ws-401',
    fault: 'the upgrade is answered with 401',
    play: (stage) =>
      httpAnswer(stage, 's.writeHead(401); s.end("no");', '-t ws://127.0.0.1:8002/ -c 20 -d 2s'),
    expected: refusal(20, [/\b401\b/]),
  },
  {
    name: 'http-503-from-the-101st',
    fault: 'the first 100 requests are answered, every further one with 503',
    reports: ['istio/istio#20475'],
    play: (stage) =>
      httpAnswer(
        stage,
        'if (n > 100) { s.writeHead(503); return s.end("full"); } s.end("ok");',
        '-t http://127.0.0.1:8002/ -c 500 -d 2s',
      ),
    // The first hundred are asked again and again, until one of them has the 101st answer too.
    expected: refusal(500, [/\b503\b/], {
      explains: [480, 500],
      // Its server ends what it has answered, sometimes before the answer is read to its end.
      besides: ['target-closed', 'target-closes'],
    }),
  },
  {
    name: 'http-429-retry-after',
    fault: 'every request is answered with 429, and says when to come back',
    looksLike: 'http-503-from-the-101st',
    play: (stage) =>
      httpAnswer(
        stage,
        's.writeHead(429, { "Retry-After": "37" }); s.end("slow down");',
        '-t http://127.0.0.1:8002/ -c 100 -d 2s',
      ),
    expected: refusal(100, [/\b429\b/, /Retry-After:? 37|\b37 s\b/]),
  },
  {
    name: 'http-404',
    fault: 'the path is not there',
    play: (stage) =>
      httpAnswer(stage, 's.writeHead(404); s.end("none");', '-t http://127.0.0.1:8002/health -c 100 -d 2s'),
    expected: refusal(100, [/\b404\b/, /path/]),
  },
  {
    name: 'ws-redirected',
    fault: 'the upgrade is answered with a redirection to another address',
    play: (stage) =>
      httpAnswer(
        stage,
        's.writeHead(301, { Location: "https://example.test/ws" }); s.end();',
        '-t ws://127.0.0.1:8002/ -c 20 -d 2s',
      ),
    expected: refusal(20, [/\b301\b/]),
  },
  {
    name: 'https-unrecognized-name',
    fault: 'nginx knows no server of that name and sends the alert unrecognized_name',
    needs: ['nginx-light', 'openssl'],
    play: (stage) =>
      tlsNginx(stage, 'ssl_reject_handshake on;', '-t https://127.0.0.1:8443/ --tls-ca CERT -c 50 -d 2s'),
    expected: refusal(50, [/unrecognized[_ ]name/i, /--tls-servername/]),
  },
  {
    name: 'tls-closed-on-hello',
    fault: 'a server closes as soon as a TLS hello comes, without an alert',
    looksLike: 'https-unrecognized-name',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, nodeServer(8_000, 'socket.on("data", () => socket.end());'), [8_000]);
      return await stage.run(host, typed('-t tls://127.0.0.1:8000 --insecure -c 50 -d 2s'));
    },
    expected: refusal(50, [/TLS/], { rule: ['target-handshake', 'target-closes'], never: [/alert/i] }),
  },
  {
    name: 'proxy-without-server-http',
    fault: 'HAProxy in HTTP mode whose only server is down: 503 No server is available',
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone();
      await startHaproxy(stage, host, NO_SERVER('http'), [8_000]);
      return await stage.run(host, typed('-t http://127.0.0.1:8000/ -c 100 -d 2s'));
    },
    expected: refusal(100, [/\b503\b/, /No server is available/], {
      rule: ['target-handshake', 'target-proxy'],
    }),
  },
  {
    name: 'proxy-without-server-tcp',
    fault:
      'HAProxy in TCP mode whose only server is down: every connection is taken and closed without a word',
    needs: ['haproxy'],
    play: async (stage) => {
      const host = await stage.lone();
      await startHaproxy(stage, host, NO_SERVER('tcp'), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 300 -d 2s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: ['target-proxy', 'target-closes'],
      explains: 300,
      held: 0,
      cause: [/server behind|proxy/],
    },
  },
  {
    name: 'takes-a-hundred-then-closes',
    fault: 'a server takes 100 and closes every further one at once, without a word',
    looksLike: 'proxy-without-server-tcp',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, nodeServer(8_000, 'if (count > 100) socket.end();'), [8_000]);
      return await stage.run(host, typed('-t 127.0.0.1:8000 -c 300 -d 2s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 200,
      held: 100,
      never: [/server behind/],
    },
  },
];
