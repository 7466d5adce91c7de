/**
 * Owns cases in which the target says why it closes, and those in which it closes without a word. Must never match words that
 * the program makes up: each pattern is a text of the server.
 */
import type { CaseSpec } from '../case.ts';
import type { JudgedRun } from '../expectation.ts';
import { startMemcached, startMosquitto, startRedis, startSshd } from '../peers.ts';
import { nodeServer, typed } from './parts.ts';

const CLOSING_WEBSOCKET = `import { createRequire } from 'node:module';
const { WebSocketServer } = createRequire(process.env.REPOSITORY + '/package.json')('ws');
const server = new WebSocketServer({ port: 8001, host: '0.0.0.0' });
server.on('connection', (c) => { if (c.protocol !== 'graphql-transport-ws') c.close(4406, 'Subprotocol not acceptable'); });
`;

/**
 * Takes 50, says no to further ones behind its greeting, and ends the first ones after 4 s, as nats-server does with
 * `max_connections: 50` and clients that answer no ping. The greeting fills a text, and another one says why.
 */
const GREETS_AND_SAYS_NO = nodeServer(
  4_222,
  `const info = 'INFO {"server_id":"' + 'A'.repeat(280) + '","client_id":' + count + '} \\r\\n';
  if (count > 50) return void socket.end(info + "-ERR 'maximum connections exceeded'\\r\\n");
  socket.write(info);
  setTimeout(() => socket.end("-ERR 'Stale Connection'\\r\\n"), 4_000);`,
);

/** The same without a word to those that it has taken. */
const SAYS_NO_AND_TIMES_OUT = nodeServer(
  3_306,
  `if (count > 50) return void socket.end('ERROR 1040: Too many connections');
  setTimeout(() => socket.destroy(), 4_000);`,
);

function handshakesFailed({ report }: JudgedRun): number {
  return report?.connections.failed.handshake ?? 0;
}

export const WORD_CASES: readonly CaseSpec[] = [
  {
    name: 'redis-protected-mode',
    fault: 'redis-server as it is installed: protected mode denies every address but 127.0.0.1',
    reports: ['redis/docker-library-redis#257', 'redis/ioredis#809'],
    needs: ['redis-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startRedis(stage, host, 6_379, ['--bind', '127.0.0.1']);
      return await stage.run(host, typed('-t 127.0.0.1:6379 -c 500 -d 2s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 500,
      held: 0,
      says: [/-DENIED Redis is running in protected mode/],
    },
  },
  {
    name: 'redis-maxclients',
    fault:
      'redis-server with maxclients 1000, a number near a descriptor limit: it says one line to each further one',
    reports: ['redis/redis-rb#604'],
    needs: ['redis-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startRedis(stage, host, 6_380, [
        '--bind',
        '127.0.0.1',
        '--protected-mode',
        'no',
        '--maxclients',
        '1000',
        // So that the ramp of a fast machine finds room: what waits for redis is not what it turns away.
        '--tcp-backlog',
        '4096',
      ]);
      return await stage.run(host, typed('-t 127.0.0.1:6380 -c 2000 -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 1_000,
      held: 1_000,
      says: [/-ERR max number of clients reached/],
      never: [/descriptor limit of 1,024/],
    },
  },
  {
    name: 'node-descriptors-1024',
    fault: 'a Node server with ulimit -n 1024: it closes the further ones without a word',
    looksLike: 'redis-maxclients',
    play: async (stage) => {
      const host = await stage.lone({ sysctls: { 'net.core.somaxconn': 4_096 } });
      const path = stage.file('limited.mjs', nodeServer(8_000, 'socket.pipe(socket);'));
      await stage.start(
        host,
        ['bash', '-c', 'ulimit -n 1024; exec "$0" "$1"', process.execPath, path],
        [8_000],
      );
      return await stage.run(host, typed('-t echo://127.0.0.1:8000 -c 2000 -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-descriptors',
      explains: [970, 1_050],
      held: [950, 1_023],
    },
  },
  {
    name: 'memcached-maxconns',
    fault: 'memcached with -c 100: it says ERROR Too many open connections, and closes',
    needs: ['memcached'],
    play: async (stage) => {
      const host = await stage.lone();
      await startMemcached(stage, host, 11_211, ['-c', '100', '-t', '1']);
      return await stage.run(host, typed('-t 127.0.0.1:11211 -c 500 -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: [390, 420],
      held: [80, 110],
      says: [/Too many open connections/],
    },
  },
  {
    name: 'mosquitto-max-connections',
    fault: 'mosquitto with max_connections 100 closes the further ones without a word',
    looksLike: 'memcached-maxconns',
    needs: ['mosquitto'],
    play: async (stage) => {
      const host = await stage.lone();
      await startMosquitto(stage, host, 1_883, ['max_connections 100']);
      return await stage.run(host, typed('-t 127.0.0.1:1883 -c 500 -d 3s'));
    },
    expected: { exit: 1, party: 'target', rule: 'target-closes', explains: [395, 405], held: [95, 105] },
  },
  {
    name: 'sshd-maxstartups',
    fault:
      'sshd as it is installed (MaxStartups 10:30:100): it says Exceeded MaxStartups in place of its banner',
    reports: ['ronf/asyncssh#55', 'mwiede/jsch#123', 'postgrespro/pg_probackup#258'],
    needs: ['openssh-server'],
    play: async (stage) => {
      const host = await stage.lone();
      await startSshd(stage, host, 2_222, []);
      return await stage.run(host, typed('-t tcp://127.0.0.1:2222 -c 100 -d 3s --expect-banner SSH-2.0-'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-handshake',
      explains: handshakesFailed,
      says: [/Exceeded MaxStartups/],
    },
  },
  {
    name: 'ws-close-4406',
    fault: 'a WebSocket server that wants a subprotocol closes with 4406 and says which',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, CLOSING_WEBSOCKET, [8_001], { env: { REPOSITORY: process.cwd() } });
      return await stage.run(host, typed('-t ws://127.0.0.1:8001/graphql -c 200 -d 3s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 200,
      held: 0,
      says: [/4406/, /Subprotocol not acceptable/],
    },
  },
  {
    name: 'greets-and-says-no',
    fault:
      'a server says no behind its greeting to all but 50, and ends those four seconds later for another reason',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, GREETS_AND_SAYS_NO, [4_222]);
      return await stage.run(host, typed('-t 127.0.0.1:4222 -c 120 -d 7s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 70,
      held: 0,
      besides: ['target-closed', 'target-timeout'],
      cause: [/-ERR 'maximum connections exceeded'/],
      says: [
        /50 connections were closed by the far side, [^:]*(?:3\.9|[4-6]\.)\d* s[^:]*; it said "-ERR 'Stale Connection'/,
      ],
      // What was said to each of them explains none.
      never: [/it said "INFO/],
    },
  },
  {
    name: 'says-no-and-times-out',
    fault: 'a server has no room for more than 50, says so, and ends those four seconds later without a word',
    looksLike: 'greets-and-says-no',
    play: async (stage) => {
      const host = await stage.lone();
      await stage.script(host, SAYS_NO_AND_TIMES_OUT, [3_306]);
      return await stage.run(host, typed('-t 127.0.0.1:3306 -c 200 -d 7s'));
    },
    expected: {
      exit: 1,
      party: 'target',
      rule: 'target-closes',
      explains: 150,
      held: 0,
      besides: ['target-closed', 'target-timeout'],
      cause: [/Too many connections/],
      says: [/50 connections were closed by the far side, [^:;]*(?:3\.9|[4-6]\.)\d* s/],
      // That was said to the others.
      never: [/50 connections were closed by the far side[^:]*Too many/],
    },
  },
];
