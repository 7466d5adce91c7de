/**
 * Owns the proof by the whole program that a load follows its stages and that connections come and go while their number stays: the target, which
 * shares no line with the program, counts for itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BenchRun, startBench, until } from '../support/bench-run.ts';
import { type NetTarget, startNetTarget } from '../support/net-target.ts';
import { schemaErrors } from '../support/report-schema.ts';
import { runCli } from '../support/run-cli.ts';
import { HANG_MS } from '../support/waiting.ts';

const total = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((sum, count) => sum + count, 0);

/** Whatever came and went, each connection is in one count. */
function assertExact({ connections, load }: ReturnType<BenchRun['report']>): void {
  const { attempted, established, open, failed, dropped, closed, localSkips } = connections;
  assert.equal(attempted, established + total(failed));
  assert.equal(established, total(dropped) + closed);
  assert.equal(closed, open + (load?.churned ?? 0) + (load?.lowered ?? 0));
  assert.deepEqual(localSkips, {}, 'no tuple was refused as resting');
}

/** What the target has open, looked at again and again until the run has ended. */
async function watched(target: NetTarget, run: BenchRun): Promise<number[]> {
  const seen: number[] = [];
  while (run.child.exitCode === null) {
    seen.push((await target.counts()).open);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return seen;
}

for (const engine of ['uring', 'epoll']) {
  test(`stages up, flat, down, flat and up again, by ${engine}: the target has what each flat one asks for`, async (t) => {
    const target = await startNetTarget(t);
    const stages = ['3s:6k', '3s:6k', '2s:2k', '3s:2k', '2s:6k', '3s:6k'].flatMap((stage) => [
      '--stage',
      stage,
    ]);
    const requirements = ['stage[2].held>=100%', 'stage[4].held>=2000', 'stage[6].held>=100%'].flatMap(
      (text) => ['--require', text],
    );
    const run = startBench(t, [
      ...['--target', `127.0.0.1:${target.port}`, '--engine', engine, '--holders', '3'],
      ...[...stages, ...requirements],
    ]);
    const seen = await watched(target, run);
    const { code, stderr, stdout } = await run.result;
    assert.equal(code, 0, stdout + stderr);
    const report = run.report();
    assert.deepEqual(schemaErrors(report), []);
    assertExact(report);
    assert.equal(report.connections.held, 6_000);
    assert.equal(Math.max(...seen), 6_000, 'never more than the peak');
    assert(seen.filter((open) => open === 6_000).length >= 2 && seen.includes(2_000), seen.join(' '));
    assert.deepEqual(
      report.load?.stages.map(({ held }) => held),
      [null, 6_000, null, 2_000, null, 6_000],
    );
    assert.equal(report.load?.lowered, 4_000);
    assert.equal((await target.counts()).accepted, 10_000);
    assert.match(stdout, /held is judged on the flat stages: 2, 4, 6/);
  });

  for (const close of ['rst', 'fin']) {
    test(`2,000 connections of which 200 a second come and go, by ${engine} and ${close}`, async (t) => {
      const target = await startNetTarget(t);
      const run = startBench(t, [
        ...[
          '--target',
          `127.0.0.1:${target.port}`,
          '--conns',
          '2000',
          '--churn',
          '200/s',
          '--duration',
          '6s',
        ],
        ...['--engine', engine, '--holders', '2', '--close', close],
      ]);
      const { code, stderr, stdout } = await run.result;
      assert.equal(code, 0, stdout + stderr);
      const report = run.report();
      assert.deepEqual(schemaErrors(report), []);
      assertExact(report);
      const { held, open, established } = report.connections;
      assert.deepEqual([held, open], [2_000, 2_000]);
      const churned = report.load?.churned ?? 0;
      assert(churned > 200 && churned <= 1_300, `${churned} in six seconds`);
      assert.equal(established, 2_000 + churned);
      assert.equal((await target.counts()).accepted, established);
      assert.match(stdout, /200\/s closed and opened/);
    });
  }
}

test('a target that goes away in the middle: what cannot be opened in its turn is a failure, and is missing', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(t, [
    ...[
      '--target',
      `127.0.0.1:${target.port}`,
      '--conns',
      '500',
      '--lifetime',
      'exp:5s',
      '--duration',
      '20s',
    ],
    ...['--holders', '1', '--require', 'held>=400', '--abort-early'],
  ]);
  await until('some have come and gone', HANG_MS, async () => (await target.counts()).accepted > 550);
  await target.kill();
  const { code } = await run.result;
  const report = run.report();
  assert.notEqual(code, 0);
  assertExact(report);
  assert(report.connections.held < 400, `${report.connections.held} held`);
});

test('a plan of what rests too long is refused with what can be typed, and that is accepted', async () => {
  const asked = [
    'plan',
    '--target',
    '127.0.0.1:9',
    '--source-ip',
    '127.0.0.2',
    '--conns',
    '20k',
    '--close',
    'fin',
  ];
  const refused = await runCli([...asked, '--churn', '5k/s']);
  assert.equal(refused.code, 3, refused.stdout);
  assert.match(refused.stdout, /335,000 at rest for 67s/);
  const [, rate = ''] = /--churn (\d+\/s)/.exec(refused.stdout.replaceAll(/\s+/g, ' ')) ?? [];
  const accepted = await runCli([...asked, '--churn', rate]);
  assert.equal(accepted.code, 0, accepted.stdout);
});
