/**
 * Owns the proof that link-local targets are reached by their zone: two hosts on a link without any other address, both drivers,
 * aliases as further sources. What is held is counted by the target's own kernel, what a request says by a server of its own.
 */
import assert from 'node:assert/strict';
import { after, type TestContext } from 'node:test';
import { startAgent, startCoordinator } from '../support/agents.ts';
import { startBench, until } from '../support/bench-run.ts';
import { makeCertificates } from '../support/certificates.ts';
import { createNetwork, type Host } from '../support/network.ts';
import { held, networkTest } from '../support/network-test.ts';
import { PORT, serveOn, serverView } from '../support/source-lab.ts';

const SERVER = 'fe80::1';
const certificates = makeCertificates();
after(() => certificates.remove());

/** A client with two addresses on its link, and another link where nobody has the server's address. */
async function link(t: TestContext): Promise<{ readonly client: Host; readonly server: Host }> {
  const own = { 'net.ipv6.conf.default.addr_gen_mode': 1 };
  const network = await createNetwork(t, {
    client: { on: { other: ['fe80::2/64'], lan: ['fe80::2/64', 'fe80::3/64'] }, sysctls: own },
    server: { on: { lan: [`${SERVER}/64`] }, sysctls: { ...own, 'net.core.somaxconn': 4_096 } },
    far: { on: { other: ['fe80::9/64'] }, sysctls: own },
  });
  return { client: network.host('client'), server: network.host('server') };
}

for (const engine of ['uring', 'epoll'] as const) {
  networkTest(`a link-local target is held from every address of its link: ${engine}`, async (t) => {
    const { client, server } = await link(t);
    await serveOn({ server }, { host: '::', workers: 2 });
    const target = `tcp://[${SERVER}%eth1]:${PORT}`;
    const run = startBench(
      t,
      ['-t', target, '-c', '3000', '-d', '2s', '--engine', engine, '--source-ports', '20000-21999'],
      { timeoutMs: 120_000, wrap: client.wrap },
    );
    const seen = await held(run, () => serverView(server));
    assert.equal(seen.total, 3_000);
    assert.deepEqual(
      Object.keys(seen.bySource)
        .map((name) => name.replace(/\]?%.*/, ''))
        .toSorted(),
      ['fe80::2', 'fe80::3'],
    );
    const report = run.report();
    assert.equal(report.verdict, 'pass');
    assert.deepEqual(report.asked.endpoints, [`[${SERVER}%eth1]:${PORT}`]);
    assert.deepEqual(
      report.agents.map((agent) => agent.engine?.name),
      [engine],
    );
    assert.equal(report.kernel.established, 3_000, 'the kernel of the client counts them too');
  });

  networkTest(`sources that are named, or added, are those of the zone: ${engine}`, async (t) => {
    const { client, server } = await link(t);
    await serveOn({ server }, { host: `${SERVER}%eth0`, workers: 2 });
    const before = await client.must('ip', 'addr', 'show', 'dev', 'eth1');
    const run = startBench(
      t,
      [
        ...['-t', `[${SERVER}%25eth1]:${PORT}`, '-c', '400', '-d', '2s', '--engine', engine],
        ...[
          '--source-ports',
          '20000-20099',
          '--source-ip',
          'fe80::3,fe80::a1-fe80::a9',
          '--alias-dev',
          'auto',
        ],
      ],
      { timeoutMs: 120_000, wrap: client.wrap },
    );
    const seen = await held(run, () => serverView(server));
    assert.equal(seen.total, 400);
    const sources = Object.keys(seen.bySource);
    assert.ok(
      sources.some((name) => name.includes('fe80::3')) && sources.some((name) => name.includes('fe80::a1')),
    );
    assert.equal(
      sources.some((name) => name.includes('fe80::2')),
      false,
    );
    assert.equal(await client.must('ip', 'addr', 'show', 'dev', 'eth1'), before);
  });
}

networkTest('a zone that this host lacks is refused in one line that names those it has', async (t) => {
  const { client } = await link(t);
  for (const command of [['run'], ['plan']]) {
    const at = command[0] === 'plan' ? ['plan'] : [];
    const { code, stderr, stdout } = await client.bench([
      ...at,
      '-t',
      `[${SERVER}%eth7]:${PORT}`,
      '-c',
      '5',
      '-d',
      '1s',
    ]);
    assert.equal(code, 3, stderr);
    const text = `${stdout}${stderr}`;
    assert.match(text, /this host has no device eth7, the zone of the target \[fe80::1%eth7\]:8000/);
    assert.match(text, /--target \[fe80::1%eth0\]:8000; devices of this host: eth0, eth1/);
  }
  const bare = await client.bench(['-t', `[${SERVER}]:${PORT}`, '-c', '5', '-d', '1s']);
  assert.equal(bare.code, 2, bare.stderr);
  assert.match(bare.stderr, /fe80::1 is link-local and needs a zone/);
  const wrong = await client.bench(['-t', '10.0.0.1:80', '-c', '5', '-d', '1s', '--source-ip', 'fe80::2']);
  assert.equal(wrong.code, 3, wrong.stderr);
});

networkTest(
  'an agent joins over its link, by the line that is printed, and holds a target with TLS',
  async (t) => {
    const { client, server } = await link(t);
    const { cert, key } = certificates.good;
    const tls = `
    const server = require('node:tls').createServer(JSON.parse(process.argv[1]), (socket) => socket.on('error', () => {}).resume());
    server.listen(${PORT}, '::', () => console.error('listens'));`;
    const pair = JSON.stringify({ cert, key });
    const far = server.spawn([process.execPath, '-e', tls, pair], { timeoutMs: 240_000 });
    await until('the server listens', 60_000, async () => far.stderr().includes('listens'));
    const coordinator = startCoordinator(
      t,
      [
        ...['-t', `tls://[${SERVER}%eth1]:${PORT}`, '-c', '300', '-d', '5s', '--expect-agents', '1'],
        ...['--tls-ca', certificates.ca.certPath, '--tls-servername', 'server.test', '--listen', '[::]:0'],
      ],
      { place: { host: client } },
    );
    const port = await coordinator.port();
    const printed = /--join (\S+)/.exec(coordinator.stderr())?.[1] ?? '';
    assert.match(printed, /^\[fe80::[23]%eth[01]\]:\d+$/);
    const refused = startAgent(t, `[fe80::2]:${port}`, 'bare', coordinator.tokenText, [], {
      place: { host: client },
    });
    assert.equal((await refused.result).code, 2);
    const agent = startAgent(t, printed, 'ada', coordinator.tokenText, ['--allow-target', 'fe80::/10'], {
      place: { host: client },
    });
    await coordinator.saw(/ holding /);
    const sockets = await server.must('ss', '-Htn', 'state', 'established', 'sport', '=', `:${PORT}`);
    assert.equal(sockets.trim().split('\n').length, 300, 'what the kernel of the target holds');
    const { code, stdout } = await coordinator.result;
    assert.equal(code, 0, stdout);
    assert.equal((await agent.result).code, 0);
    assert.deepEqual(
      coordinator.report().agents.map(({ name, held }) => [name, held]),
      [['ada', 300]],
    );
  },
);

networkTest('no zone goes out: not in Host of http, and not of ws', async (t) => {
  const { client, server } = await link(t);
  const echo = `
    const { createServer } = require('node:http');
    const { createHash } = require('node:crypto');
    const say = (scheme, { headers }) => console.error('host ' + scheme + ' ' + headers.host);
    const server = createServer({ keepAliveTimeout: 60000 }, (request, response) => { say('http', request); response.end('fine'); });
    server.on('upgrade', (request, socket) => {
      say('ws', request);
      const key = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
      socket.on('error', () => {});
      socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\n\\r\\n');
    });
    server.listen(${PORT}, '::', () => console.error('listens'));`;
  const far = server.spawn([process.execPath, '-e', echo], { timeoutMs: 120_000 });
  await until('the server listens', 60_000, async () => far.stderr().includes('listens'));
  for (const scheme of ['http', 'ws']) {
    const { code, stderr } = await client.bench(
      ['-t', `${scheme}://[${SERVER}%25eth1]:${PORT}/`, '-c', '3', '-d', '1s'],
      { timeoutMs: 60_000 },
    );
    // It answers no ping of a WebSocket: what is held at the end is another matter.
    assert.equal(code, scheme === 'ws' ? 1 : 0, stderr);
  }
  const hosts = new Set(
    far
      .stderr()
      .split('\n')
      .filter((line) => line.startsWith('host ')),
  );
  assert.deepEqual([...hosts], [`host http [${SERVER}]:${PORT}`, `host ws [${SERVER}]:${PORT}`]);
});
