/**
 * Owns the proof that messages work inside TLS against servers that this project did not write: redis behind HAProxy, which ends the TLS, and the npm `ws` server over https. What was said is counted by those servers.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { startBench } from '../support/bench-run.ts';
import { makeCertificates } from '../support/certificates.ts';
import { freePort } from '../support/net-target.ts';
import { findProgram, startRedis, whyNot } from '../support/targets.ts';
import { settled, until } from '../support/waiting.ts';

const RUN = { timeoutMs: 240_000 };
const WS = JSON.stringify(createRequire(import.meta.url).resolve('ws'));

/** A folder with a server's certificate and key in one file; it goes with the test. */
function pemIn(t: TestContext): { readonly folder: string; readonly pem: string; readonly ca: string } {
  const certificates = makeCertificates();
  const folder = mkdtempSync(join(tmpdir(), 'c100k-messages-'));
  t.after(() => {
    certificates.remove();
    rmSync(folder, { recursive: true, force: true });
  });
  const pem = join(folder, 'both.pem');
  writeFileSync(pem, certificates.good.cert + certificates.good.key);
  return { folder, pem, ca: certificates.ca.certPath };
}

/** Starts what ends the TLS in front of a port. @returns its own port */
async function startFront(
  t: TestContext,
  { folder, pem }: { readonly folder: string; readonly pem: string },
  behind: number,
): Promise<number> {
  const port = await freePort();
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(
    file,
    `defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen tls
  bind 127.0.0.1:${port} ssl crt ${pem}
  server redis 127.0.0.1:${behind}
`,
  );
  const child = spawn(findProgram('haproxy') ?? '', ['-f', file, '-db'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
  });
  t.after(async () => {
    if (child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await settled('HAProxy ends', ended);
  });
  await until('HAProxy listens', async () => {
    assert.equal(child.exitCode, null, said);
    const socket = connect(port, '127.0.0.1');
    const isOpened = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    return isOpened;
  });
  return port;
}

test('redis in TLS: a first message opens each connection, and each message is answered', {
  skip: whyNot('redis-server') || whyNot('haproxy'),
}, async (t) => {
  const made = pemIn(t);
  const redis = await startRedis({ maxclients: 2_000 });
  t.after(() => redis.stop());
  const port = await startFront(t, made, redis.port);
  const target = ['-t', `tls://127.0.0.1:${port}`, '-c', '200', '-d', '3s', '--tls-ca', made.ca];
  const ping = ['--first-message', 'PING\\r\\n', '--expect', '+PONG'];
  const run = startBench(t, [...target, ...ping, '--require', 'verified'], RUN);
  assert.equal((await run.result).code, 0, (await run.result).stdout);
  assert.equal(run.report().connections.verified, 200);

  const echo = ['--send', 'ECHO {conn}.{seq}.{rand:8}\\r\\n'];
  const answer = ['--expect', '/^\\$\\d+\\r\\n\\d+\\.\\d+\\.[0-9a-f]{8}\\r\\n$/'];
  const talking = startBench(t, [...target, ...echo, ...answer, '--require', 'messages_missing=0'], RUN);
  assert.equal((await talking.result).code, 0, (await talking.result).stdout);
  const { messages } = talking.report();
  assert(messages != null && messages.answered >= 400, JSON.stringify(messages));
  assert.deepEqual([messages.sent, messages.wrong], [messages.answered, 0]);

  const wrong = startBench(t, [...target, '--first-message', 'PUNG\\r\\n', '--expect', '+PONG'], RUN);
  assert.equal((await wrong.result).code, 1);
  assert.deepEqual(wrong.report().connections.failed, { handshake: 200 });
  assert.deepEqual(wrong.report().troubles, { 'answer differs from --expect': 200 });
});

/** Answers each text with `ok ` and the text, the first of a connection with `welcome`; every 50th one wrongly where it is asked to. */
const SERVER = `
const { WebSocketServer } = require(${WS});
const { readFileSync } = require('node:fs');
const [pem, isWrong] = process.argv.slice(1);
const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
const server = require('node:https').createServer({ cert: readFileSync(pem), key: readFileSync(pem) });
let [firsts, heard, wrong] = [0, 0, 0];
new WebSocketServer({ server }).on('connection', (socket) => {
  let isFirst = true;
  socket.on('error', () => {});
  socket.on('message', (data) => {
    const text = String(data);
    if (isFirst) {
      isFirst = false;
      if (text === 'hello') firsts++;
      socket.send('welcome');
      return;
    }
    heard++;
    const isBad = isWrong === 'wrong' && heard % 50 === 0;
    if (isBad) wrong++;
    socket.send(isBad ? 'no' : 'ok ' + text);
  });
});
server.listen(0, '127.0.0.1', 4096, () => say({ port: server.address().port }));
process.stdin.on('data', () => say({ firsts, heard, wrong }));`;

for (const kind of ['right', 'wrong'] as const) {
  test(`the ws server over https, ${kind} answers: what it counts is what the report says`, async (t) => {
    const { pem, ca } = pemIn(t);
    const child = spawn(process.execPath, ['-e', SERVER, pem, kind], { stdio: ['pipe', 'pipe', 'inherit'] });
    t.after(async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<Record<string, number>> =>
      JSON.parse((await lines.next()).value ?? '{}') as Record<string, number>;
    const { port } = await next();
    const run = startBench(
      t,
      [
        ...['-t', `wss://127.0.0.1:${port}/chat`, '-c', '200', '-d', '4s', '--tls-ca', ca],
        ...['--first-message', 'hello', '--send', '{conn} {seq} {rand:8}', '--probe-timeout', '60s'],
        ...['--expect', '/^(welcome|ok \\d+ \\d+ [0-9a-f]{8})$/'],
      ],
      RUN,
    );
    const { code, stdout } = await run.result;
    child.stdin.write('counts\n');
    const { firsts, heard, wrong } = await next();
    const { messages, connections, agents } = run.report();
    assert.deepEqual(
      agents.map(({ engine }) => engine?.name),
      ['epoll'],
      'TLS is what epoll alone drives',
    );
    assert.equal(firsts, 200, stdout);
    assert.ok(heard !== undefined && heard >= 400, `${heard} heard`);
    assert.deepEqual([messages?.sent, messages?.wrong, messages?.missing], [heard, wrong, 0]);
    assert.equal(code, kind === 'right' ? 0 : 1, stdout);
    if (kind === 'right') assert.deepEqual([wrong, connections.held], [0, 200]);
    else assert.ok((wrong ?? 0) >= 5);
  });
}
