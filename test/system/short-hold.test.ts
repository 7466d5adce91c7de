/** Owns the proof that a hold of any length passes on what was proven, and that the report does not claim more. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCapability } from '../../src/host/proc-file.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { temporaryFolder } from '../support/agents.ts';
import { startBench, until } from '../support/bench-run.ts';
import { makeCertificates } from '../support/certificates.ts';
import { kernelCounter } from '../support/kernel-view.ts';
import { createNetwork } from '../support/network.ts';
import { networkTest } from '../support/network-test.ts';
import { runCli } from '../support/run-cli.ts';
import { startWsServer } from '../support/ws-servers.ts';

const RUN = { timeoutMs: 120_000 };

/** @returns the end of the run, by exit code, proof and what was held */
async function held(
  t: TestContext,
  target: string,
  flags: readonly string[],
): Promise<{
  code: number | null;
  proof: string;
  held: number;
  verified: number;
  answered: number;
  stdout: string;
}> {
  const run = startBench(t, ['--target', target, '--conns', '300', ...flags], RUN);
  const { code, stdout } = await run.result;
  const { hold, connections, evidence } = run.report();
  const answered = evidence?.finalCheck.holdEnd.answered ?? 0;
  return {
    code,
    answered,
    proof: hold.proof,
    held: connections.held,
    verified: connections.verified,
    stdout,
  };
}

async function portOf(t: TestContext, server: ReturnType<typeof createTcpServer>): Promise<number> {
  t.after(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

for (const [what, flags] of [
  ['shorter than the first probe', ['-d', '100ms']],
  ['as short as can be', ['-d', '1ms']],
  ['shorter than the period', ['-d', '1s', '--probe-every', '30s']],
  ['shorter than the timeout of a probe', ['-d', '500ms', '--probe-timeout', '1m']],
  ['of several periods', ['-d', '5s', '--probe-every', '500ms']],
] as const) {
  test(`echo: a hold ${what} passes, because each connection answers a probe after it`, async (t) => {
    const result = await held(t, 'echo://self', flags);
    assert.equal(result.code, 0, result.stdout);
    assert.deepEqual([result.held, result.verified, result.proof], [300, 300, 'probes'], result.stdout);
    assert.match(
      result.stdout.replaceAll(/\s+/g, ' '),
      /answered a probe that was sent after the hold was over/,
    );
    assert.equal(result.answered, 300, result.stdout);
  });
}

test('http and https: a hold of 100 ms passes', async (t) => {
  const answer: RequestListener = (_request, response) => response.end('ok');
  const plain = await portOf(t, createServer({ keepAliveTimeout: 600_000 }, answer));
  const result = await held(t, `http://127.0.0.1:${plain}/`, ['-d', '100ms']);
  assert.equal(result.code, 0, result.stdout);
  assert.deepEqual([result.held, result.verified], [300, 300]);
  const certificates = makeCertificates();
  t.after(() => certificates.remove());
  const { key, cert } = certificates.good;
  const tls = await portOf(t, createTlsServer({ key, cert, keepAliveTimeout: 600_000 }, answer));
  const secure = await held(t, `https://127.0.0.1:${tls}/`, [
    ...['-d', '100ms', '--tls-ca', certificates.ca.certPath, '--tls-servername', 'server.test'],
  ]);
  assert.equal(secure.code, 0, secure.stdout);
  assert.deepEqual([secure.held, secure.verified], [300, 300]);
});

test('ws: a hold of 100 ms passes', async (t) => {
  const { port } = await startWsServer(t, 'ws');
  const result = await held(t, `ws://127.0.0.1:${port}/`, ['-d', '100ms']);
  assert.equal(result.code, 0, result.stdout);
  assert.deepEqual([result.held, result.verified], [300, 300]);
});

test('a target that never answers is still found out, however short the hold', async (t) => {
  const port = await portOf(
    t,
    createTcpServer((socket) => socket.on('error', () => {}).resume()),
  );
  const result = await held(t, `echo://127.0.0.1:${port}`, ['-d', '100ms', '--probe-timeout', '500ms']);
  assert.equal(result.code, 1, result.stdout);
  assert.equal(result.held, 0);
  assert.match(result.stdout, /300 probes were not answered in time/);
});

for (const [who, wrap, counter, isSkipped] of [
  ['with CAP_NET_ADMIN is asked by window probes', undefined, 'TCPWinProbe', !hasCapability('CAP_NET_ADMIN')],
  [
    'without it is asked by keepalives',
    'cd /tmp; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"',
    'TCPKeepAlive',
    process.getuid?.() !== 0,
  ],
] as const)
  test(`a silent run ${who}, and holds to the end`, { skip: isSkipped }, async () => {
    const before = kernelCounter('TcpExt', counter);
    const flags = ['--target', 'self', '--conns', '2k', '-d', '100ms', '--json', '-', '--quiet'];
    const { code, stdout, stderr } = await runCli(flags, wrap === undefined ? RUN : { ...RUN, wrap });
    assert.equal(code, 0, stderr);
    const { connections, evidence } = JSON.parse(stdout) as RunReport;
    assert.equal(connections.held, 2_000);
    assert.deepEqual(evidence?.finalCheck.holdEnd, { asked: 2_000, answered: 2_000, reset: 0, silent: 0 });
    const sent = kernelCounter('TcpExt', counter) - before;
    assert(sent >= 2_000, `${sent} were sent`);
  });

/** Says when it has all, resets all at SIGUSR2, and goes on listening. */
const FORGETFUL = `const sockets = [];
require('node:net').createServer((socket) => {
  socket.on('error', () => {});
  sockets.push(socket);
}).listen({ port: 8000, host: '127.0.0.1', backlog: 4096 });
process.on('SIGUSR2', () => {
  for (const socket of sockets) socket.resetAndDestroy();
  console.error('forgot', sockets.length);
});`;

for (const engine of ['uring', 'epoll'])
  networkTest(
    `${engine}: what the target's kernel has forgotten in the hold, without a word, is not held`,
    async (t) => {
      const network = await createNetwork(t, { alone: { on: {} } });
      const host = network.host('alone');
      const server = host.spawn([process.execPath, '-e', FORGETFUL]);
      t.after(() => server.child.kill('SIGKILL'));
      await until('it listens', 60_000, async () => (await host.must('ss', '-Hltn')).includes(':8000'));
      const path = join(temporaryFolder(t), 'report.json');
      const flags = [
        '--target',
        '127.0.0.1:8000',
        '--conns',
        '2k',
        '-d',
        '4s',
        '--engine',
        engine,
        '--json',
        path,
      ];
      const run = host.startBench(flags, RUN);
      await run.saw(/ holding /);
      // The check at the end of the ramp is over, and what the target says from now on does not arrive.
      await sleep(1_800);
      await host.nft('add table ip away; add chain ip away out { type filter hook output priority 0; }');
      await host.nft('add rule ip away out tcp sport 8000 tcp flags rst drop');
      server.child.kill('SIGUSR2');
      await server.saw(/forgot 2000/);
      await host.nft('flush chain ip away out');
      const { code, stdout } = await run.result;
      assert.equal(code, 1, stdout);
      const { connections, evidence, diagnoses } = JSON.parse(readFileSync(path, 'utf8')) as RunReport;
      assert.deepEqual([connections.held, connections.open, connections.dropped], [0, 0, { rst: 2_000 }]);
      assert.deepEqual(evidence?.finalCheck.rampEnd, { asked: 2_000, answered: 2_000, reset: 0, silent: 0 });
      assert.deepEqual(evidence?.finalCheck.holdEnd, { asked: 2_000, answered: 0, reset: 2_000, silent: 0 });
      assert.deepEqual(
        diagnoses.map(({ party, what, count }) => [party, what, count]),
        [['target', 'target-rebooted', 2_000]],
      );
    },
  );
