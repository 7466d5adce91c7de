/**
 * Owns what source addresses do for a whole run over a real link: IPv6, AnyIP, several endpoints, narrow ports.
 * Every count of connections is taken by `ss` in the server's namespace.
 */
import assert from 'node:assert/strict';
import { held, networkTest } from '../support/network-test.ts';
import { assertEven, PORT, SERVER, SERVER6, serveOn, serverView, sourceLab } from '../support/source-lab.ts';

networkTest('IPv6: aliases are usable at once, and gone afterwards', async (t) => {
  const lab = await sourceLab(t);
  await serveOn(lab, { host: SERVER6, workers: 2 });
  const before = await lab.addresses();
  const run = lab.bench([
    ...[
      '--target',
      `[${SERVER6}]:${PORT}`,
      '--conns',
      '6000',
      '--duration',
      '2s',
      '--source-ports',
      '20000-21999',
    ],
    ...['--source-ip', 'fd09::a1-fd09::a4', '--alias-dev', 'eth0'],
  ]);
  const seen = await held(run, () => serverView(lab.server));
  assert.equal(seen.total, 6_000);
  assert.equal(Object.keys(seen.bySource).length, 4);
  assertEven(Object.values(seen.bySource), 0.01);
  assert.equal(await lab.addresses(), before);
});

networkTest(
  'AnyIP: a network that is routed to the client makes a thousand sources with one address',
  async (t) => {
    const lab = await sourceLab(t, {
      server: { routes: ['10.1.0.0/22 via 10.9.0.2', 'fd01::/64 via fd09::2'] },
    });
    await serveOn(lab, { workers: 2 });
    const before = await lab.addresses();
    const routes = await lab.client.must('ip', 'route', 'show', 'table', 'all');
    const run = lab.bench([
      ...[
        '--target',
        `${SERVER}:${PORT}`,
        '--conns',
        '10220',
        '--duration',
        '2s',
        '--source-prefix',
        '10.1.0.0/22',
      ],
    ]);
    const seen = await held(run, async () => {
      assert.deepEqual(await lab.aliases(), ['10.1.0.1']);
      return serverView(lab.server);
    });
    assert.equal(seen.total, 10_220);
    assert.equal(Object.keys(seen.bySource).length, 1_022, 'every address but network and broadcast');
    assertEven(Object.values(seen.bySource), 0.01);
    assert.equal(await lab.addresses(), before);
    assert.equal(
      await lab.client.must('ip', 'route', 'show', 'table', 'all'),
      routes,
      'the routes are as they were',
    );
  },
);

networkTest(
  '81 endpoint ports from the one address of the client; a name with three addresses is three endpoints',
  async (t) => {
    const names = [SERVER, '10.9.0.11', '10.9.0.12'].map((address) => `${address} many.test\n`).join('');
    const lab = await sourceLab(t, {
      client: { etc: { hosts: `127.0.0.1 localhost\n${names}` } },
      server: { on: { lan: [`${SERVER}/24`, '10.9.0.11/24', '10.9.0.12/24'] } },
    });
    // One listener on each port, in a program that is not ours.
    const listeners = `const held = [];
    for (let port = 8000; port <= 8080; port++) require('net').createServer((s) => { s.on('error', () => {}); held.push(s); }).listen(port, '0.0.0.0', 4096);`;
    lab.server.spawn([process.execPath, '-e', listeners], { timeoutMs: 120_000 }).result.catch(() => {});
    const args = ['--duration', '2s', '--source-ports', '20000-20099'];
    const range = lab.bench(['--target', `${SERVER}:8000-8080`, '--conns', '8100', ...args]);
    const many = await held(range, () => serverView(lab.server, 8_000, 8_080));
    assert.equal(many.total, 8_100, '81 ports x 100 source ports, every tuple used');
    assert.deepEqual(many.bySource, { '10.9.0.2': 8_100 });
    assert.equal(Object.keys(many.byPort).length, 81);
    assertEven(Object.values(many.byPort), 0.01);
    assert.equal(Object.keys(range.report().byEndpoint).length, 81);

    const named = lab.bench(['--target', 'many.test:8000', '--conns', '300', ...args]);
    const three = await held(named, () => serverView(lab.server));
    assert.equal(three.total, 300);
    assert.match(named.stderr(), /many\.test resolves to 10\.9\.0\.1, 10\.9\.0\.11, 10\.9\.0\.12/);
    assert.deepEqual(named.report().byEndpoint, {
      '10.9.0.1:8000': 100,
      '10.9.0.11:8000': 100,
      '10.9.0.12:8000': 100,
    });
  },
);

networkTest('IPv4 and IPv6 endpoints in one run: each connection stays within its family', async (t) => {
  const lab = await sourceLab(t);
  await serveOn(lab, { workers: 1 });
  await serveOn(lab, { host: SERVER6, workers: 1 });
  const run = lab.bench([
    ...[
      '--target',
      `${SERVER}:${PORT}`,
      '--target',
      `[${SERVER6}]:${PORT}`,
      '--conns',
      '4000',
      '--duration',
      '2s',
    ],
    ...['--source-ip', '10.9.0.101', '--source-ip', 'fd09::a1', '--alias-dev', 'auto'],
    ...['--source-ports', '20000-21999'],
  ]);
  const seen = await held(run, () => serverView(lab.server));
  assert.deepEqual(seen.bySource, { '10.9.0.101': 2_000, 'fd09::a1': 2_000 });
  assert.deepEqual(run.report().byEndpoint, { '10.9.0.1:8000': 2_000, '[fd09::1]:8000': 2_000 });
});

networkTest(
  '1,000 ports: 1,001 connections need a second address, 2,000 use every tuple of two',
  async (t) => {
    const lab = await sourceLab(t);
    await serveOn(lab, { workers: 1 });
    const common = ['--target', `${SERVER}:${PORT}`, '--source-ports', '20000-20999', '--duration', '1s'];
    const refused = await lab.bench([...common, '--conns', '1001']).result;
    assert.equal(refused.code, 3, refused.stderr);
    const said = `${refused.stdout}${refused.stderr}`.replaceAll(/\s+/g, ' ');
    assert.match(said, /needs 1,001 tuples, has 1,000 \(1 source address x 1,000 ports x 1 endpoint\)/);
    assert.match(said, /--source-ip 10\.9\.0\.2 --source-ip FREE_1 --alias-dev eth0/);
    assert.equal((await serverView(lab.server)).total, 0, 'nothing was opened');

    const two = ['--source-ip', '10.9.0.2-10.9.0.3', '--alias-dev', 'auto'];
    assert.equal(
      (await held(lab.bench([...common, ...two, '--conns', '1001']), () => serverView(lab.server))).total,
      1_001,
    );
    const full = await held(lab.bench([...common, ...two, '--conns', '2000']), () => serverView(lab.server));
    assert.deepEqual(full.bySource, { '10.9.0.2': 1_000, '10.9.0.3': 1_000 });
  },
);
