/**
 * Owns the main job: the whole program holds what was asked, and the kernel and the target say so too.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBench } from '../support/bench-run.ts';
import { type ClientEnds, clientEnds, socketsOnPort } from '../support/kernel-view.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { HANG_MS } from '../support/waiting.ts';

test('130,000 connections are opened, held and counted by the kernel, and nothing is left afterwards', async (t) => {
  const run = startBench(t, ['--target', 'self', '--conns', '130000', '--duration', '12s'], {
    timeoutMs: 120_000,
  });
  const port = await run.selfPort();
  await run.saw(/^.*holding/m);
  const held = clientEnds(port);
  assert.equal(held.count, 130_000, 'client ends that ss counts while they are held');
  assert.deepEqual(
    Object.keys(held.bySource).filter((address) => !/^127\.0\.0\.([2-9]|\d\d)$/.test(address)),
    [],
    'sources are 127.0.0.2 upward',
  );

  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^PASS held 130,000 of 130,000 for 1[2-9]/m);
  await run.gone(HANG_MS);
  assert.deepEqual(socketsOnPort(port), [], 'sockets left on the port of the target');

  const report = run.report();
  assert.deepEqual(schemaErrors(report), []);
  assert.equal(report.connections.held, 130_000);
  assert.equal(report.kernel.established, 130_000);
  assert.deepEqual(
    report.kernel.counts.map(({ when, established, open }) => ({ when, established, open })),
    [
      { when: 'ramp-end', established: 130_000, open: 130_000 },
      { when: 'hold-end', established: 130_000, open: 130_000 },
    ],
  );
  assert.deepEqual(report.bySource, held.bySource, 'open connections by source: ours and what ss saw');
  const targetSays = report.notes.find((note) => note.startsWith('the built-in target accepted'));
  assert.equal(targetSays, 'the built-in target accepted 130,000 connections and held 130,000 at once');
});

test('64,000 connections are held from one source address', async (t) => {
  const run = startBench(
    t,
    ['--target', 'self', '--conns', '64000', '--source-ip', '127.0.0.2', '--duration', '3s'],
    { timeoutMs: 90_000 },
  );
  const port = await run.selfPort();
  await run.saw(/^.*holding/m);
  assert.deepEqual(clientEnds(port), { count: 64_000, bySource: { '127.0.0.2': 64_000 } });
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  assert.equal(run.report().kernel.established, 64_000);
});

test('an odd total over three holders and four addresses is split without a remainder lost', async (t) => {
  const sources = ['--source-ip', '127.0.0.2-127.0.0.5'];
  const run = startBench(
    t,
    ['--target', 'self', '--conns', '1001', '--holders', '3', '--duration', '2s', ...sources],
    {},
  );
  const port = await run.selfPort();
  await run.saw(/^.*holding/m);
  assert.equal(run.pids('holder').length, 3, 'holder processes');
  const held: ClientEnds = clientEnds(port);
  assert.equal(held.count, 1_001);
  const perSource = Object.values(held.bySource);
  assert.equal(perSource.length, 4, 'sources that ss sees');
  assert(Math.max(...perSource) - Math.min(...perSource) <= 3, `uneven: ${perSource.join(', ')}`);
  const { code, stderr } = await run.result;
  assert.equal(code, 0, stderr);
  const holders = run.report().agents.flatMap((agent) => agent.holders);
  assert.deepEqual(
    holders.map((holder) => holder.tuplesUsed >= 333),
    [true, true, true],
    'each holder holds its share',
  );
});
