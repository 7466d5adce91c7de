/**
 * The real command line against targets that this project did not write, each of which is asked itself how many
 * connections it holds, and so is the kernel.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from '../../src/judge/report.ts';
import { clientEnds } from '../support/kernel-view.ts';
import { startCli } from '../support/run-cli.ts';
import { type ForeignTarget, startHaproxy, startNginx, startRedis, whyNot } from '../support/targets.ts';

const RUN_TIMEOUT_MS = 150_000;
const POLL_MS = 250;
/** The hold leaves time for two looks at 130,000 sockets. */
const HOLD = '10s';

/** The first look that agrees with what is asked, or the last one before the run ended. */
async function whileItHolds(
  isOver: () => boolean,
  connections: number,
  look: () => Promise<number>,
): Promise<number> {
  let seen = -1;
  const deadlineMs = performance.now() + RUN_TIMEOUT_MS;
  while (!isOver() && performance.now() < deadlineMs) {
    seen = await look();
    if (seen === connections) return seen;
    await sleep(POLL_MS);
  }
  return seen;
}

async function holdAgainst(t: TestContext, target: ForeignTarget, connections: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'c100k-report-'));
  t.after(async () => {
    await target.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const reportPath = join(folder, 'report.json');
  const run = startCli(
    [
      ...['--target', `${target.address}:${target.port}`],
      ...['--conns', String(connections)],
      ...['--duration', HOLD],
      ...['--json', reportPath],
    ],
    { timeoutMs: RUN_TIMEOUT_MS },
  );
  let isOver = false;
  void run.result.then(() => {
    isOver = true;
  });
  // The far side is asked first: its answer is cheap, and it has accepted later than the kernel.
  const farSide = await whileItHolds(
    () => isOver,
    connections,
    () => target.countedByItself(),
  );
  const kernel = await whileItHolds(
    () => isOver,
    connections,
    async () => clientEnds(target.port).count,
  );
  const result = await run.result;
  assert.equal(result.code, 0, `exit code of the run; it said:\n${result.stdout}\n${result.stderr}`);
  assert.equal(farSide, connections, `what ${target.program} itself counted while they were held`);
  assert.equal(kernel, connections, 'what the kernel counted while they were held');
  const report = JSON.parse(readFileSync(reportPath, 'utf8')) as RunReport;
  assert.equal(report.verdict, 'pass');
  assert.equal(report.connections.held, connections);
  assert.equal(report.kernel.established, connections);
  t.diagnostic(
    `${target.program}: ${connections} held, ramp ${report.ramp.seconds.toFixed(1)} s, ` +
      `${report.ramp.synRetransmits} SYN retransmits`,
  );
}

test('130,000 connections to nginx with 8 workers are held, and nginx counts as many', {
  skip: whyNot('nginx'),
}, async (t) => {
  await holdAgainst(t, await startNginx({ workers: 8 }), 130_000);
});

test('15,000 connections to redis-server are held, and it counts as many clients', {
  skip: whyNot('redis-server'),
}, async (t) => {
  await holdAgainst(t, await startRedis({ maxclients: 15_500 }), 15_000);
});

test('9,000 connections through HAProxy in TCP mode are held, and its frontend counts as many', {
  skip: whyNot('haproxy') || whyNot('nginx'),
}, async (t) => {
  await holdAgainst(t, await startHaproxy({ maxconn: 9_500 }), 9_000);
});
