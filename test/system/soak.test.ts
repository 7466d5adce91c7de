/**
 * Owns the proof that a long run stays as small as it began: what happens each second happens ten times a second, so
 * that three minutes are worth thirty, with losses all the time.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { childrenOf, echoScript, startScript, until } from '../support/faults.ts';
import { cliPath } from '../support/run-cli.ts';
import { residentBytes, SOAK_ENTRY, type SoakNews, type SoakOrder } from '../support/soak-entry.ts';

const HOLD_MS = 203_000;
const FASTER = 10;
const SAMPLE_EVERY_MS = 250;
/** Programs that run warm up: buffers, compiled code, a timeline of 600 points. Ten minutes of what happens here. */
const WARM_UP_MS = 60_000;

/** Collects garbage, and leaves V8 no choice how large its young generation is: it would grow to 32 MB in its time. */
const SOAK_ENVIRONMENT = {
  ...process.env,
  NODE_OPTIONS: `--max-semi-space-size=1 --import ${new URL('../support/soak-garbage.js', import.meta.url).href}`,
};

/** The middle one of the samples of a minute. */
function median(samples: readonly number[]): number {
  return [...samples].sort((a, b) => a - b)[Math.floor(samples.length / 2)] ?? 0;
}

test('coordinator, agent and holder do not grow in a run of half an hour, and the clock on the wall does not matter', async (t) => {
  // Each 20 ms it closes the connection that it has had longest: 50 losses a second, each opened again.
  const { port } = await startScript(
    t,
    `const all = []; setInterval(() => all.shift()?.destroy(), 20);\n${echoScript('all.push(socket); socket.pipe(socket);')}`,
  );
  const order: SoakOrder = {
    targetPort: port,
    entryPath: cliPath,
    connections: 1_000,
    holdMs: HOLD_MS,
    faster: FASTER,
  };
  const child = fork(SOAK_ENTRY, [JSON.stringify(order)], { execArgv: [], env: SOAK_ENVIRONMENT });
  t.after(() => {
    child.kill('SIGKILL');
  });
  const news: SoakNews[] = [];
  child.on('message', (message) => news.push(message as SoakNews));
  await until(() => news.some(({ type }) => type === 'partial'), 30_000, 'the first report so far');
  const samples = { coordinator: [] as number[], agent: [] as number[], holder: [] as number[] };
  const began = performance.now();
  const timer = setInterval(() => {
    if (performance.now() - began < WARM_UP_MS || performance.now() - began > HOLD_MS - 2_000) return;
    const [agent = 0] = childrenOf(child.pid ?? 0);
    const [holder = 0] = childrenOf(agent);
    const sizes = [child.pid ?? 0, agent, holder].map(residentBytes);
    // The run's end does not wait for our clock, which began late: a process that is gone is no sample.
    if (sizes.some((size) => size < 20e6)) return;
    samples.coordinator.push(sizes[0]!);
    samples.agent.push(sizes[1]!);
    samples.holder.push(sizes[2]!);
  }, SAMPLE_EVERY_MS);
  await once(child, 'exit');
  clearInterval(timer);
  for (const [name, sizes] of Object.entries(samples)) {
    assert.ok(sizes.length > 150 && sizes.every((size) => size > 20e6), `${name}: ${sizes.length} samples`);
    const minute = 60_000 / SAMPLE_EVERY_MS;
    const [first, last] = [median(sizes.slice(0, minute)), median(sizes.slice(-minute))];
    t.diagnostic(`${name}: ${(first / 1e6).toFixed(1)} MB, then ${(last / 1e6).toFixed(1)} MB`);
    assert.ok(last <= first * 1.05, `${name} grew from ${first} to ${last} bytes`);
  }
  const partials = news.filter((one) => one.type === 'partial');
  assert.ok(partials.length > 8, `${partials.length} reports so far`);
  assert.ok(partials.every(({ points, isPartial }) => isPartial && points <= 600));
  const last = news.at(-1);
  assert(last?.type === 'report');
  const { report } = last;
  assert.ok(
    report.losses.counts.reduce((sum, { count }) => sum + count, 0) > 2_000,
    'losses came all the time',
  );
  assert.ok(report.connections.reopened > 2_000);
  // The hour that the wall clock jumps by is nowhere in what was measured.
  assert.ok(Math.abs(report.hold.seconds - HOLD_MS / 1_000) < 60, `${report.hold.seconds} s`);
  assert.ok(report.timeline.every(({ atSec }) => atSec >= 0 && atSec < HOLD_MS / 1_000 + 30));
  assert.equal(report.isPartial, false);
});
