/** Owns the proof that lost connections come back, however many, at the rate, and are told apart from the ramp's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BenchRun, startBench, until } from '../support/bench-run.ts';
import { type NetTarget, type NetTargetCounts, startNetTarget } from '../support/net-target.ts';

/** More than the usual limit of 20,000 descriptors: each of two targets has room for a part. */
const MANY = 24_000;

type Counted = Pick<NetTarget, 'counts' | 'reset'>;

/** Two targets as one. */
function together(targets: readonly NetTarget[]): Counted {
  return {
    counts: async () => {
      const all = await Promise.all(targets.map((target) => target.counts()));
      const sum = (pick: (counts: NetTargetCounts) => number): number =>
        all.reduce((total, counts) => total + pick(counts), 0);
      return { accepted: sum(({ accepted }) => accepted), open: sum(({ open }) => open) };
    },
    reset: (count) => {
      if (count === undefined) for (const target of targets) target.reset();
      else targets[0]?.reset(count);
    },
  };
}

/**
 * Waits until the holder counts its hold, which it hears some moments after the run has said it: from then on what is lost comes back.
 * @returns how many of its `count` connections were lost for that, and do not come back
 */
async function reopens(target: Counted, run: BenchRun, count: number): Promise<number> {
  await until('the target holds all', 120_000, async () => (await target.counts()).open === count);
  await until('the hold has begun', 60_000, () => / holding /.test(run.stderr()));
  for (let lost = 0; lost < 5; lost++) {
    target.reset(1);
    const isBack = until('one is back', 6_000, async () => (await target.counts()).accepted > count);
    if (
      await isBack.then(
        () => true,
        () => false,
      )
    )
      return lost;
  }
  throw new Error('what is lost in the hold does not come back');
}

test(`${MANY} connections are lost twice, and all come back on the ports that they had`, async (t) => {
  const targets = [await startNetTarget(t), await startNetTarget(t)];
  const target = together(targets);
  const run = startBench(t, [
    ...targets.flatMap(({ port }) => ['--target', `127.0.0.1:${port}`]),
    ...['--conns', `${MANY}`],
    ...['--source-ip', '127.0.0.61', '--source-ports', `10000-${10_000 + MANY / 2 + 99}`],
    // At a rate that is slower than the losses, so that nearly all ports are free at once, and of which the queue of a target that
    // waits two seconds for a core has room for all.
    ...['--on-drop', 'reopen', '--duration', '10m', '--rate', '2k/s'],
  ]);
  const before = await reopens(target, run, MANY);
  // One holder counts its hold; another may hear of it a moment later, and what it loses until then does not come back.
  await sleep(3_000);
  const held = MANY - before;
  for (const storm of [1, 2]) {
    target.reset();
    const wanted = { accepted: MANY + 1 + held * storm, open: held };
    let seen: NetTargetCounts = { accepted: 0, open: 0 };
    const back = until(`all are back after storm ${storm}`, 180_000, async () => {
      seen = await target.counts();
      return seen.accepted === wanted.accepted && seen.open === wanted.open;
    });
    await back.catch((error: Error) => {
      const what = `the target has ${JSON.stringify(seen)}, not ${JSON.stringify(wanted)}`;
      throw new Error(`${error.message}: ${what}\n${run.stderr()}`);
    });
  }
  run.child.kill('SIGINT');
  const { code } = await run.result;
  assert.equal(code, 130);
  const report = run.report();
  assert.equal(report.connections.reopened, 1 + 2 * held);
  assert.equal(report.connections.open, held);
  assert.deepEqual(report.connections.dropped, { rst: before + 1 + 2 * held });
  assert.deepEqual(report.connections.failed, {});
});

test('the rate of a ramp is that of its own connections: what is opened again does not make it faster', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(t, [
    ...['--target', `127.0.0.1:${target.port}`, '--conns', '100', '--rate', '100/s', '--holders', '1'],
    ...['--source-ip', '127.0.0.62', '--on-drop', 'reopen', '--duration', '60s'],
    ...['--require', 'held>=0', '--require', 'rate>=150/s'],
  ]);
  await reopens(target, run, 100);
  target.reset();
  await until('half of them are back', 50_000, async () => (await target.counts()).accepted >= 150);
  run.child.kill('SIGINT');
  const { code } = await run.result;
  const report = run.report();
  assert.notEqual(code, 0, 'rate>=150/s does not pass at --rate 100/s');
  assert(report.connections.reopened >= 50, `${report.connections.reopened} were opened again`);
  assert.equal(report.connections.established, 100 + report.connections.reopened);
  assert(report.ramp.ratePerSec < 105, `${report.ramp.ratePerSec}/s at --rate 100/s`);
  const required = report.requirements.find(({ metric }) => metric === 'rate');
  assert.equal(required?.passed, false);
  assert.equal(required?.actual, report.ramp.ratePerSec);
});

test('a holder that was stopped for four seconds does not catch up, and the report says that it was late', async (t) => {
  const target = await startNetTarget(t);
  const run = startBench(t, [
    ...['--target', `127.0.0.1:${target.port}`, '--conns', '700', '--rate', '100/s', '--holders', '1'],
    ...['--source-ip', '127.0.0.63', '--duration', '1s'],
  ]);
  await until('the ramp is on its way', 60_000, async () => (await target.counts()).accepted >= 100);
  const [pid] = run.pids('holder');
  assert(pid !== undefined);
  process.kill(pid, 'SIGSTOP');
  await sleep(4_000);
  const before = (await target.counts()).accepted;
  const continuedMs = performance.now();
  process.kill(pid, 'SIGCONT');
  for (let look = 0; look < 20; look++) {
    const { accepted } = await target.counts();
    // Read after the count: a machine that is slow to answer only makes the bound wider.
    const elapsedSec = (performance.now() - continuedMs) / 1_000;
    assert(
      accepted - before <= elapsedSec * 100 + 3,
      `${accepted - before} within ${Math.round(elapsedSec * 1_000)} ms at 100/s`,
    );
    await sleep(25);
  }
  const { code } = await run.result;
  assert.equal(code, 0);
  const report = run.report();
  assert.equal(report.connections.held, 700);
  assert(report.generator.scheduleShiftMs >= 3_500, `${report.generator.scheduleShiftMs} ms`);
  assert.match(
    report.generator.limits.join(),
    /was late for its rate: its connects came \S+ m?s later than asked/,
  );
  assert.equal(report.latencyTrustworthy, false);
  assert((report.connectFromIntendedMs.max ?? 0) >= 3_500, 'the connect that was due shows the pause');
});
