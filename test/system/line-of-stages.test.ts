/**
 * Owns the proof that a load over several hosts follows the line of its stages at every moment: three agents in namespaces, and what the server's own
 * kernel counts is compared with the line while it goes up, stays and goes down.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { spansOf, targetOf } from '../../src/run/schedule.ts';
import { startAgent, startAt, startCoordinator } from '../support/agents.ts';
import { until } from '../support/bench-run.ts';
import { createNetwork, type Host } from '../support/network.ts';
import { networkTest } from '../support/network-test.ts';

const HOSTS = ['ada', 'bob', 'cyd'] as const;
const SERVER = '10.78.0.100';
const DESK = '10.78.0.200';
const PEAK = 6_000;
const STAGES = [
  { durationMs: 20_000, connections: PEAK },
  { durationMs: 8_000, connections: PEAK },
  { durationMs: 16_000, connections: 2_000 },
  { durationMs: 6_000, connections: 2_000 },
];
/** Of the number at that moment, and on a steep line what comes and goes while a count is taken. */
const SHARE_MAX = 0.01;

interface Sample {
  /** between these two readings of the clock the kernel was asked */
  readonly fromMs: number;
  readonly toMs: number;
  readonly bySource: Readonly<Record<string, number>>;
  readonly open: number;
}

async function sample(server: Host): Promise<Sample> {
  const fromMs = performance.now();
  const text = await server.must('ss', '-Htn', 'state', 'established', `src ${SERVER}:8000`);
  const toMs = performance.now();
  const bySource: Record<string, number> = {};
  for (const line of text.split('\n').filter(Boolean)) {
    const peer = line.trim().split(/\s+/)[3] ?? '';
    const address = peer.slice(0, peer.lastIndexOf(':'));
    bySource[address] = (bySource[address] ?? 0) + 1;
  }
  return { fromMs, toMs, bySource, open: Object.values(bySource).reduce((sum, count) => sum + count, 0) };
}

async function startRun(t: TestContext) {
  const hosts = Object.fromEntries(
    HOSTS.map((name, at) => [name, { on: { lan: [`10.78.0.${at + 1}/24`] } }]),
  );
  const network = await createNetwork(t, {
    ...hosts,
    server: { on: { lan: [`${SERVER}/24`] }, sysctls: { 'net.core.somaxconn': 8_192 } },
    desk: { on: { lan: [`${DESK}/24`] } },
  });
  const server = network.host('server');
  startAt(t, { host: server }, ['serve', '--host', '0.0.0.0', '--port', '8000']);
  await until('the server listens', 60_000, async () => (await server.must('ss', '-Hltn')).includes(':8000'));
  const stages = STAGES.flatMap(({ durationMs, connections }) => [
    '--stage',
    `${durationMs}ms:${connections}`,
  ]);
  const run = startCoordinator(
    t,
    [
      '--target',
      `${SERVER}:8000`,
      '--listen',
      '0.0.0.0:7100',
      '--expect-agents',
      `${HOSTS.length}`,
      ...stages,
    ],
    { place: { host: network.host('desk') } },
  );
  await run.saw(/join with: .*\n/);
  for (const name of HOSTS)
    startAgent(t, `${DESK}:7100`, name, run.tokenText, [], { place: { host: network.host(name) } });
  return { run, server };
}

/**
 * The least and the most that the line has between two moments.
 * @param atMs since the first connect was due
 */
function lineBetween(fromMs: number, toMs: number): readonly [least: number, most: number] {
  const spans = spansOf(STAGES);
  const moments = [fromMs, toMs, ...spans.map(({ toMs: corner }) => corner)].filter(
    (at) => at >= fromMs && at <= toMs,
  );
  const numbers = moments.map((at) => targetOf(spans, at));
  return [Math.min(...numbers), Math.max(...numbers)];
}

networkTest('three agents follow the line of the stages together, as the server counts it', async (t) => {
  const { run, server } = await startRun(t);
  const samples: Sample[] = [];
  await run
    .saw(/ (?:ramping|holding) /)
    .catch(async (error) => assert.fail(`${error}${(await run.result).stdout}`));
  while (run.child.exitCode === null) {
    samples.push(await sample(server));
    await sleep(500);
  }
  const { code, stdout, stderr } = await run.result;
  assert.equal(code, 0, stdout + stderr);
  const report = run.report();
  assert.deepEqual(
    report.load?.stages.map(({ held }) => held),
    [null, PEAK, null, 2_000],
  );

  // Three hosts have begun at moments of their own: the line is where it fits best, and may be that early or late in all.
  const { scheduleShiftMs, loopLagMsMax } = report.generator;
  const aboutMs = 1_000 + loopLagMsMax + scheduleShiftMs;
  const rising = samples.filter(({ open }) => open > 0 && open < PEAK);
  const [first] = rising;
  assert(first !== undefined && rising.length >= 5, `${rising.length} samples on the way`);
  const startMs = first.fromMs - (first.open / PEAK) * STAGES[0]!.durationMs;
  const endMs = startMs + STAGES.reduce((sum, { durationMs }) => sum + durationMs, 0);
  let compared = 0;
  for (const { fromMs, toMs, open } of samples) {
    if (toMs > endMs - aboutMs || fromMs < startMs) continue;
    const [least, most] = lineBetween(fromMs - startMs - aboutMs, toMs - startMs + aboutMs);
    const slack = Math.max(1, SHARE_MAX * most);
    assert(open >= least - slack && open <= most + slack, `${open} beside ${least} to ${most}`);
    compared++;
  }
  assert(compared >= 8, `${compared} samples`);
  const flat = samples.filter(({ open }) => open === PEAK);
  assert(flat.length >= 2, 'the peak was seen');
  for (const { bySource } of flat)
    assert.deepEqual(Object.values(bySource), [PEAK / 3, PEAK / 3, PEAK / 3], 'each host has its third');
  t.diagnostic(
    `${compared} counts of ${samples.length} beside the line, give or take ${Math.round(aboutMs)} ms`,
  );
});
