/**
 * Messages through the real command line, against servers that this project did not write: each held for longer than its own timeouts; and 20,000
 * connections that say something each second, where what the far side did wrongly is what is counted.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { startBench, until } from '../support/bench-run.ts';
import { startRedis, whyNot } from '../support/targets.ts';
import { ENGINES } from '../support/test-engine.ts';

const RUN = { timeoutMs: 240_000 };
const MEMCACHED = '/usr/bin/memcached';

/** A program, or a script of Node.js, that says its port in its first line. */
function started(t: TestContext, command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

/** A script that writes lines of JSON: its port first, then its counts whenever a line comes in. */
async function server(t: TestContext, script: string) {
  const child = started(t, process.execPath, ['-e', script]);
  assert(child.stdout !== null && child.stdin !== null);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<Record<string, number>> =>
    JSON.parse((await lines.next()).value ?? '{}') as Record<string, number>;
  const { port } = await next();
  const { stdin } = child;
  return {
    port,
    counts: () => {
      stdin.write('counts\n');
      return next();
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  assert(address !== null && typeof address === 'object');
  probe.close();
  await once(probe, 'close');
  return address.port;
}

const SOCKET_IO = JSON.stringify(createRequire(import.meta.url).resolve('socket.io'));
const WS = JSON.stringify(createRequire(import.meta.url).resolve('ws'));
const SAYS = `const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');`;

/** Its timeouts are a tenth of its defaults, and shorter than the holds. */
const SOCKET_IO_SERVER = `${SAYS}
const http = require('http').createServer();
const io = new (require(${SOCKET_IO}).Server)(http, { pingInterval: 1000, pingTimeout: 1500, connectTimeout: 2500 });
let logins = 0;
io.on('connection', () => logins++);
http.listen(0, '127.0.0.1', () => say({ port: http.address().port }));
process.stdin.on('data', () => say({ logins, clients: io.engine.clientsCount }));`;

/** Centrifugo asks for a connect command within seconds, pings with {}, and closes with 3012 where no {} comes back. */
const CENTRIFUGO_LIKE = `${SAYS}
const server = new (require(${WS}).WebSocketServer)({ port: 0, host: '127.0.0.1' }, () => say({ port: server.address().port }));
let pongs = 0;
server.on('connection', (client) => {
  let asked = 0;
  const stale = setTimeout(() => client.close(3501, 'stale'), 2500);
  client.on('message', (data) => {
    const text = data.toString();
    if (text === '{}') { pongs++; asked = 0; return; }
    const { id, connect } = JSON.parse(text);
    if (connect === undefined) return client.close(3501, 'bad request');
    clearTimeout(stale);
    client.send(JSON.stringify({ id, connect: { client: 'c', ping: 1, pong: true } }));
    const timer = setInterval(() => {
      if (asked > 1) client.close(3012, 'no pong');
      asked++;
      client.send('{}');
    }, 700);
    client.on('close', () => clearInterval(timer));
  });
});
process.stdin.on('data', () => say({ pongs, clients: server.clients.size }));`;

/** Answers each line with itself, every thousandth with another one. */
const ALMOST_AN_ECHO = `${SAYS}
let heard = 0, wrong = 0;
const server = require('net').createServer((socket) => {
  let rest = '';
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    const lines = (rest + chunk.toString('latin1')).split('\\n');
    rest = lines.pop();
    for (const line of lines) {
      const isWrong = ++heard % 1000 === 0;
      if (isWrong) wrong++;
      socket.write((isWrong ? line.slice(0, -1) + '!' : line) + '\\n');
    }
  });
}).listen(0, '127.0.0.1', 4096, () => say({ port: server.address().port }));
process.stdin.on('data', () => say({ heard, wrong }));`;

test('redis: 500 connections log in by PING, and are asked again and again', {
  skip: whyNot('redis-server'),
}, async (t) => {
  const redis = await startRedis({ maxclients: 2_000 });
  t.after(() => redis.stop());
  const target = ['-t', `tcp://127.0.0.1:${redis.port}`, '-c', '500', '-d', '4s'];
  const ping = ['--first-message', 'PING\\r\\n', '--expect', '+PONG'];
  const run = startBench(t, [...target, ...ping, '--require', 'verified'], RUN);
  assert.equal((await run.result).code, 0, (await run.result).stdout);
  assert.equal(run.report().connections.verified, 500);
  const said = [
    '--send',
    'ECHO {conn}.{seq}.{rand:8}\\r\\n',
    '--expect',
    '/^\\$\\d+\\r\\n\\d+\\.\\d+\\.[0-9a-f]{8}\\r\\n$/',
  ];
  const talking = startBench(t, [...target, ...said, '--require', 'messages_missing=0'], RUN);
  assert.equal((await talking.result).code, 0, (await talking.result).stdout);
  const { messages } = talking.report();
  assert(messages != null && messages.answered >= 1_500, JSON.stringify(messages));
  assert.equal(messages.sent, messages.answered);
  const wrong = startBench(t, [...target, '--first-message', 'PUNG\\r\\n', '--expect', '+PONG'], RUN);
  assert.equal((await wrong.result).code, 1);
  assert.deepEqual(wrong.report().connections.failed, { handshake: 500 });
  assert.deepEqual(wrong.report().troubles, { 'answer differs from --expect': 500 });
  assert.match(wrong.report().evidence?.said.texts[0]?.text ?? '', /^-ERR unknown command/);
});

test('memcached: 300 connections ask for its version', {
  skip: existsSync(MEMCACHED) ? false : 'no memcached',
}, async (t) => {
  const port = await freePort();
  started(t, MEMCACHED, ['-l', '127.0.0.1', '-p', String(port), '-U', '0', '-u', 'nobody']);
  const said = ['--first-message', 'version\\r\\n', '--send', 'version\\r\\n', '--expect', 'VERSION '];
  let code = 1;
  await until('it is answered', 60_000, async () => {
    code =
      (await startBench(t, ['-t', `127.0.0.1:${port}`, '-c', '1', '-d', '1s', ...said], RUN).result).code ??
      1;
    return code === 0;
  });
  const run = startBench(t, ['-t', `127.0.0.1:${port}`, '-c', '300', '-d', '3s', ...said], RUN);
  assert.equal((await run.result).code, 0, (await run.result).stdout);
  const { messages, connections } = run.report();
  assert.deepEqual([connections.verified, messages?.wrong, messages?.missing], [300, 0, 0]);
});

for (const engine of ENGINES) {
  test(`Socket.IO, ${engine}: 200 clients are held beyond its pingTimeout and its connectTimeout`, async (t) => {
    const peer = await server(t, SOCKET_IO_SERVER);
    const target = ['-t', `ws://127.0.0.1:${peer.port}/socket.io/?EIO=4&transport=websocket`, '-c', '200'];
    const said = ['--first-message', '40', '--expect', '40{', '--answer', '2=3'];
    const run = startBench(t, [...target, ...said, '-d', '6s', '--engine', engine, '--close', 'fin'], RUN);
    const { code, stdout } = await run.result;
    assert.equal(code, 0, stdout);
    assert.equal((await peer.counts()).logins, 200);
    assert.equal(run.report().connections.held, 200);
    const mute = startBench(t, [...target, '-d', '6s', '--engine', engine], RUN);
    assert.equal((await mute.result).code, 1, 'without a login it closes them');
  });

  test(`a server like Centrifugo, ${engine}: 200 clients answer each ping`, async (t) => {
    const peer = await server(t, CENTRIFUGO_LIKE);
    const target = [
      '-t',
      `ws://127.0.0.1:${peer.port}/connection/websocket`,
      '-c',
      '200',
      '--engine',
      engine,
    ];
    const said = ['--first-message', '{"connect":{"name":"js"},"id":1}', '--expect', '{"id":1,"connect":{'];
    const run = startBench(t, [...target, ...said, '--answer', '{}={}', '-d', '6s'], RUN);
    const { code, stdout } = await run.result;
    assert.equal(code, 0, stdout);
    const { pongs = 0 } = await peer.counts();
    assert(pongs >= 200 * 5, `${pongs} pongs`);
    const mute = startBench(t, [...target, ...said, '-d', '6s'], RUN);
    assert.equal((await mute.result).code, 1);
    assert.equal(mute.report().troubles['ws close 3012'], 200);
  });

  test(`20,000 connections say something each second, ${engine}: none lost, none wrong`, async (t) => {
    const load = ['-t', 'echo://self', '-c', '20k', '-d', '8s', '--engine', engine, '--probe-timeout', '60s'];
    const said = ['--send', '{agent} {conn} {seq} {rand:16} {source}:{port}\\n'];
    const required = [
      '--require',
      'held>=100%',
      '--require',
      'messages_missing=0',
      '--require',
      'messages_wrong=0',
    ];
    const run = startBench(t, [...load, ...said, ...required], RUN);
    const { code, stdout } = await run.result;
    assert.equal(code, 0, stdout);
    const { messages, target, generator } = run.report();
    assert(messages != null);
    assert.equal(messages.sent, messages.answered, 'each was answered, byte for byte');
    assert.equal(target?.openMax, 20_000);
    assert(messages.sent >= 20_000 * 3, `${messages.sent} sent`);
    t.diagnostic(
      `${messages.sent} messages, ${messages.ratePerSec.toFixed(0)}/s, ${generator.cpuMs} ms of CPU`,
    );
  });

  test(`a server that answers every thousandth wrongly, ${engine}: each is counted`, async (t) => {
    const peer = await server(t, ALMOST_AN_ECHO);
    const load = ['-t', `echo://127.0.0.1:${peer.port}`, '-c', '5k', '-d', '6s', '--engine', engine];
    const run = startBench(
      t,
      [...load, '--send', '{conn} {seq} {rand:16}\\n', '--probe-timeout', '60s'],
      RUN,
    );
    const { code, stdout } = await run.result;
    assert.equal(code, 1, stdout);
    const { heard, wrong = 0 } = await peer.counts();
    const { messages, reason, requirements } = run.report();
    assert(wrong >= 10, `${wrong} were wrong`);
    assert.deepEqual([messages?.sent, messages?.wrong, messages?.missing], [heard, wrong, 0]);
    assert.equal(messages?.answered, (heard ?? 0) - wrong);
    assert(requirements.some(({ requirement, passed }) => requirement === 'messages_wrong==0' && !passed));
    // What was never answered rightly before is lost with it: all others are held.
    t.diagnostic(reason);
  });
}
