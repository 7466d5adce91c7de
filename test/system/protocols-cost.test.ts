/**
 * What many proving connections cost one holder, against servers that this project did not write: 20,000, or as many as
 * a holder may have where a process has fewer descriptors. Two server processes share them.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import type { RunReport } from '../../src/judge/report.ts';
import { DESCRIPTORS_RESERVED } from '../../src/plan/cost.ts';
import { startBench, until } from '../support/bench-run.ts';
import { type ForeignWsServer, startWsServer, whyNoPython } from '../support/ws-servers.ts';

/** `ulimit -Hn`: what the kernel gives any one process. */
const DESCRIPTORS_MAX = Number(execFileSync('bash', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim());
const WS_CONNECTIONS = Math.min(20_000, (DESCRIPTORS_MAX || 1e6) - DESCRIPTORS_RESERVED);
const RUN = { timeoutMs: 180_000 };
/** beside the machine's noise, of which a holder's heap has some megabytes */
const USER_BYTES_PER_CONNECTION_MAX = 1_024;

async function holdWs(
  t: TestContext,
  servers: readonly ForeignWsServer[],
  connections: number,
): Promise<RunReport> {
  const targets = servers.flatMap(({ port }) => ['--target', `ws://127.0.0.1:${port}/held`]);
  // On a busy machine the servers need their time for 20,000 upgrades: that is not what is tested.
  const args = [
    '--conns',
    `${connections}`,
    '--duration',
    '6s',
    '--holders',
    '1',
    '--connect-timeout',
    '60s',
  ];
  const probes = ['--probe-every', '4s', '--probe-timeout', '30s'];
  const run = startBench(t, [...targets, ...args, ...probes], RUN);
  let isOver = false;
  void run.result.then(() => {
    isOver = true;
  });
  let most = 0;
  await until('the servers hold them all, or the run is over', RUN.timeoutMs, async () => {
    const counts = await Promise.all(servers.map((server) => server.counts()));
    most = Math.max(
      most,
      counts.reduce((sum, { clients }) => sum + clients, 0),
    );
    return most >= connections || isOver;
  });
  const { code, stdout } = await run.result;
  assert.equal(code, 0, stdout);
  assert.equal(most, connections, 'what the servers themselves counted');
  const report = run.report();
  assert.equal(report.connections.verified, connections);
  assert.equal(report.connections.held, connections);
  assert.equal(report.hold.proof, 'probes');
  assert(report.probes.answered >= connections, `${report.probes.answered} pongs`);
  return report;
}

for (const [kind, name, skip] of [
  ['ws', 'the ws package', false],
  ['python', "Python's websockets", whyNoPython()],
] as const) {
  test(`${WS_CONNECTIONS} ws:// connections from one holder to ${name}: all verified, at most 1 KB each`, {
    skip,
  }, async (t) => {
    const servers = await Promise.all([startWsServer(t, kind), startWsServer(t, kind)]);
    const few = await holdWs(t, servers, 100);
    const many = await holdWs(t, servers, WS_CONNECTIONS);
    const grown = many.generator.residentBytesMax - few.generator.residentBytesMax;
    const each = grown / (WS_CONNECTIONS - 100);
    assert.equal(many.generator.holders, 1);
    assert(
      each <= USER_BYTES_PER_CONNECTION_MAX,
      `${each.toFixed(0)} bytes of the holder for each connection`,
    );
    t.diagnostic(
      `${name}: ${each.toFixed(0)} bytes each, ${many.ramp.ratePerSec.toFixed(0)} opened a second (the servers' cores bind), ` +
        `pong p99 ${many.echoMs.p99} ms`,
    );
  });
}
