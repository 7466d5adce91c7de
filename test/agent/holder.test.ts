/** Tests a holder as a process: the conversation, its limits, and that it never outlives its agent. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { systemClock } from '../../src/time/timer.ts';
import { cleanUp, kernelCount, sourcePorts, specTo, Target } from '../engine/engine-run.ts';
import { HANG_MS, pause, settled, until } from '../support/waiting.ts';
import { HolderProcess } from './holder-process.ts';

const running: HolderProcess[] = [];

function reportsOf({ messages }: HolderProcess): number {
  return messages.filter(({ type }) => type === 'stats').length;
}

function fork(limits?: string): HolderProcess {
  const holder = new HolderProcess(limits);
  running.push(holder);
  return holder;
}

afterEach(async () => {
  await cleanUp();
  for (const { child } of running.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
});

const BUSY_CONNECTS = 900_000;

/** Connects that are refused one after the other for seconds: as busy as a holder can be. */
function busySpec(port: number): HolderSpec {
  return specTo(port, BUSY_CONNECTS, {
    addresses: Array.from({ length: 30 }, (_, index) => `127.0.1.${index + 1}`),
    ports: [{ from: 1_024, to: 32_767 }],
  });
}

async function refusingPort(): Promise<number> {
  const gone = await Target.listen();
  const { port } = gone;
  await gone.close();
  return port;
}

describe('a holder', () => {
  test('opens, holds, reports and closes as ordered', async () => {
    const target = await Target.listen();
    const holder = fork();
    const stats = await holder.open(specTo(target.port, 300));
    assert.equal(stats.open, 300);
    assert.equal(kernelCount('established', target.port), 300);
    holder.send({ type: 'hold' });
    const { health } = await holder.report();
    assert.equal(health.pid, holder.child.pid);
    assert(health.descriptorsUsed >= 300 && health.descriptorsUsed < 400, `${health.descriptorsUsed}`);
    assert(health.descriptorsMax > 300);
    // A port that another process of this machine listens on is passed over.
    const skipped = Object.values(stats.localSkips).reduce((sum, count) => sum + count, 0);
    assert.equal(health.tuplesUsed, 300 + skipped);
    assert.equal(health.tuplesMax, 310);
    assert(health.residentBytes > 10_000_000);
    for (const socket of [...target.sockets].slice(0, 10)) socket.resetAndDestroy();
    await holder.until('the loss is reported', () => holder.stats!.open === 290);
    const final = await holder.stop();
    assert.equal(final.closed, 290);
    assert.equal(final.openMin, 290);
    assert.deepEqual(final.dropped, { rst: 10 });
    await until('the target sees all of them go', () => target.sockets.size === 0);
    await target.close();
  });

  test('does what its agent says while it warms up as soon as it is ready', async () => {
    const target = await Target.listen();
    const holder = fork();
    holder.send({ type: 'open', spec: specTo(target.port, 2_000) });
    holder.send({ type: 'start' });
    await holder.until('the holder settles', () => holder.settled);
    assert.deepEqual([holder.stats!.open, kernelCount('established', target.port)], [2_000, 2_000]);
    assert.deepEqual(
      holder.messages.slice(0, 2).map(({ type }) => type),
      ['ready', 'stats'],
    );
    await holder.stop();
    await target.close();
  });

  test('a stop while it warms up is answered, and is its end', async () => {
    const holder = fork();
    holder.send({ type: 'open', spec: specTo(await refusingPort(), 2_000) });
    const stats = await holder.stop();
    assert.deepEqual([stats.attempted, stats.unattempted], [0, 2_000]);
  });

  test('opens nothing before the order to start', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.prepare(specTo(target.port, 10));
    // Its loop has turned when it answers.
    const { stats: before } = await holder.report();
    assert.deepEqual([before.attempted, target.accepted], [0, 0]);
    const stats = await holder.stop();
    assert.equal(stats.unattempted, 10);
    await target.close();
  });

  test('reports a pause while its turn had not come, and not one before the run began', async () => {
    const target = await Target.listen();
    const [late, early] = [fork(), fork()];
    for (const holder of [late, early]) await holder.prepare(specTo(target.port, 10));
    const began = systemClock.monotonicMs();
    for (const { child } of [late, early]) child.kill('SIGSTOP');
    await pause(6_000);
    for (const { child } of [late, early]) child.kill('SIGCONT');
    // The order may lie in the pipe before the process goes on, as it does when its turn comes meanwhile.
    late.send({ type: 'start', runStartedMs: began });
    early.send({ type: 'start', runStartedMs: systemClock.monotonicMs() });
    const lags: number[] = [];
    for (const holder of [late, early]) {
      await holder.until('it settles', () => holder.settled);
      lags.push(holder.health!.loopLagMsMax);
      await holder.stop();
    }
    assert(lags[0]! >= 4_000 && lags[1]! < 4_000, lags.join(' '));
    await target.close();
  });

  test('reports unasked while it holds, as often as its spec says', async () => {
    const target = await Target.listen();
    const [often, seldom, usual] = [fork(), fork(), fork()];
    await often.open(specTo(target.port, 10, { reportEveryMs: 50 }));
    await seldom.open(specTo(target.port, 10, { reportEveryMs: 10 * HANG_MS }));
    await usual.open(specTo(target.port, 10));
    const counts = [often, seldom, usual].map((holder) => reportsOf(holder));
    await often.until('many reports', () => reportsOf(often) >= counts[0]! + 30);
    await usual.until('the usual ones come too', () => reportsOf(usual) > counts[2]!);
    assert.equal(reportsOf(seldom), counts[1]);
    for (const holder of [often, seldom, usual]) await holder.stop();
    await target.close();
  });

  test('stops opening when ordered, and keeps what is open', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.prepare(specTo(target.port, 2_000, { ratePerSec: 500 }));
    holder.send({ type: 'start' });
    await until('some are open', () => target.accepted > 100);
    holder.send({ type: 'stop-opening' });
    await holder.until('it settles', () => holder.settled);
    const { open, attempted, unattempted } = holder.stats!;
    assert.equal(attempted + unattempted, 2_000);
    await until('the target has accepted what is open', () => target.accepted === open);
    await holder.stop();
    await target.close();
  });

  test('says in one line that it has no descriptors left, and settles at once', async () => {
    const target = await Target.listen();
    const holder = fork('ulimit -n 60');
    const stats = await holder.open(specTo(target.port, 20_000, { ports: [{ from: 1_024, to: 32_767 }] }));
    assert(stats.open > 10 && stats.open < 60, `${stats.open} open`);
    assert.equal(stats.failed.descriptors, 20_000 - stats.open);
    await until('the target has accepted what is open', () => target.accepted === stats.open);
    const warnings = holder.messages.filter(({ type }) => type === 'warning');
    assert.equal(warnings.length, 1);
    assert.match(JSON.stringify(warnings), /descriptors.*ulimit -n/);
    assert.equal(holder.health!.descriptorsMax, 60);
    assert(holder.health!.tuplesUsed < 200, `at once: it has tried ${holder.health!.tuplesUsed} times`);
    await holder.stop();
    await target.close();
  });

  test('leaves Ctrl-C and SIGTERM to its agent', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 50));
    holder.child.kill('SIGINT');
    holder.child.kill('SIGTERM');
    await pause(300);
    assert.equal((await holder.report()).stats.open, 50);
    assert.equal(target.sockets.size, 50);
    await holder.stop();
    await target.close();
  });

  test('says what is wrong with a spec that it cannot take, and ends', async () => {
    const holder = fork();
    holder.send({ type: 'open', spec: { ...specTo(1, 10), sliceTo: 1e9 } });
    await holder.until('it says so', () => holder.has('failed'));
    assert.match(JSON.stringify(holder.messages), /slice lies inside/);
    await settled('it ends', holder.exited);
  });
});

describe('a holder whose agent is gone', () => {
  test('ends while it holds, and the target sees its connections go', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 200));
    await until('the target accepts all', () => target.sockets.size === 200);
    holder.child.disconnect();
    await settled('it ends', holder.exited);
    await until('the target sees all of them go', () => target.sockets.size === 0);
    await target.close();
  });

  test('ends in the middle of work that has no end', async () => {
    let isRude = false;
    const target = await Target.listen((socket) => {
      if (isRude) socket.resetAndDestroy();
    });
    const holder = fork();
    await holder.open(specTo(target.port, 100, { onDrop: 'reopen', ports: [sourcePorts(1_000)] }));
    await until('the target accepts all', () => target.sockets.size === 100);
    holder.send({ type: 'hold' });
    await holder.report();
    // From now on each connection is lost as soon as it is there, and opened again.
    isRude = true;
    for (const socket of target.sockets) socket.resetAndDestroy();
    await until('it is busy', () => target.accepted > 500);
    holder.child.disconnect();
    await settled('it ends', holder.exited);
    await target.close();
  });

  test('ends before it was started', async () => {
    const holder = fork();
    await holder.prepare(specTo(1, 10, { ports: [sourcePorts(20)] }));
    holder.child.disconnect();
    await settled('it ends', holder.exited);
  });

  test('still answers its agent in the middle of a busy ramp', async () => {
    const port = await refusingPort();
    const holder = fork();
    await holder.prepare(busySpec(port));
    holder.send({ type: 'start' });
    await holder.until('it is busy', () => (holder.stats?.attempted ?? 0) > 1_000);
    const { stats: now } = await holder.report();
    assert(now.attempted < BUSY_CONNECTS, 'the answer came before the end of the ramp');
    const stats = await holder.stop();
    assert(stats.unattempted > 0, 'it was stopped before its end');
  });

  test('opens nothing after the moment that its lease names, and goes on with a new lease', async () => {
    const target = await Target.listen();
    const holder = fork();
    // At this rate the ramp takes longer than any wait of this test.
    await holder.prepare({ ...specTo(target.port, 4_000), ratePerSec: 20 });
    const lease = (openForMs: number): void => {
      const nowMs = systemClock.monotonicMs();
      const liveUntilMs = nowMs + 10 * HANG_MS;
      holder.send({ type: 'lease', openUntilMs: nowMs + openForMs, liveUntilMs });
    };
    lease(10 * HANG_MS);
    holder.send({ type: 'start' });
    await until('it opens', () => target.accepted >= 5);
    lease(0);
    const { stats: atEnd } = await holder.report();
    await until('the target has what was opened', () => target.accepted === atEnd.attempted);
    await pause(500);
    const { stats: later } = await holder.report();
    assert.deepEqual([later.attempted, target.accepted], [atEnd.attempted, atEnd.attempted]);
    lease(10 * HANG_MS);
    await until('it goes on', () => target.accepted > atEnd.attempted);
    await holder.stop();
    await target.close();
  });

  test('that had no core when its lease ended reads first whether there is a further one', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 20));
    const lease = (liveForMs: number): void => {
      const liveUntilMs = systemClock.monotonicMs() + liveForMs;
      holder.send({ type: 'lease', openUntilMs: liveUntilMs, liveUntilMs });
    };
    // Long enough to be read before the stop on any machine.
    lease(4_000);
    await holder.report();
    holder.child.kill('SIGSTOP');
    await pause(4_100);
    lease(10 * HANG_MS);
    holder.child.kill('SIGCONT');
    assert.equal((await holder.report()).stats.open, 20);
    assert.equal(kernelCount('established', target.port), 20);
  });

  test('ends, and the kernel closes what it holds, when its lease is over, although its agent is there', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 50));
    const liveUntilMs = systemClock.monotonicMs() + 600;
    holder.send({ type: 'lease', openUntilMs: liveUntilMs, liveUntilMs });
    const { code } = await settled('it ends', holder.exited);
    assert(systemClock.monotonicMs() >= liveUntilMs, 'it lives until then');
    assert.equal(code, 0);
    await until('the target sees all of them go', () => target.sockets.size === 0);
    await target.close();
  });
});
