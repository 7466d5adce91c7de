/** Tests a holder as a process: the conversation, its limits, and that it never outlives its agent. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/host/system-clock.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { cleanUp, kernelCount, sourcePorts, specTo, Target, until, within } from '../engine/engine-run.ts';
import { HolderProcess } from './holder-process.ts';

const running: HolderProcess[] = [];

function fork(limits?: string): HolderProcess {
  const holder = new HolderProcess(limits);
  running.push(holder);
  return holder;
}

afterEach(async () => {
  await cleanUp();
  for (const { child } of running.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
});

/** Connects that are refused one after the other for seconds: as busy as a holder can be. */
function busySpec(port: number): HolderSpec {
  return specTo(port, 900_000, {
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
  test('opens, holds, reports and closes as it is told', async () => {
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
    // A port that somebody else of this machine listens on is passed over.
    const skipped = Object.values(stats.localSkips).reduce((sum, count) => sum + count, 0);
    assert.equal(health.tuplesUsed, 300 + skipped);
    assert.equal(health.tuplesMax, 310);
    assert(health.residentBytes > 10_000_000);
    for (const socket of [...target.sockets].slice(0, 10)) socket.resetAndDestroy();
    await holder.until(() => holder.stats!.open === 290, 3_000, 'the loss is reported');
    const final = await holder.stop();
    assert.equal(final.closed, 290);
    assert.equal(final.openMin, 290);
    assert.deepEqual(final.dropped, { rst: 10 });
    await until(() => target.sockets.size === 0, 2_000, 'the target sees all of them go');
    await target.close();
  });

  test('opens nothing before it is told to start', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.prepare(specTo(target.port, 10));
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(target.accepted, 0);
    const stats = await holder.stop();
    assert.equal(stats.unattempted, 10);
    await target.close();
  });

  test('reports each second while it holds', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 10));
    const before = holder.messages.length;
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const reports = holder.messages.slice(before).filter(({ type }) => type === 'stats').length;
    assert(reports === 2 || reports === 3, `${reports} reports in 2.5 s`);
    await holder.stop();
    await target.close();
  });

  test('stops opening when it is told, and keeps what is open', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.prepare(specTo(target.port, 2_000, { ratePerSec: 500 }));
    holder.send({ type: 'start' });
    await until(() => target.accepted > 100, 5_000, 'some are open');
    holder.send({ type: 'stop-opening' });
    await holder.until(() => holder.settled, 2_000, 'it settles');
    const { open, attempted, unattempted } = holder.stats!;
    assert.equal(attempted + unattempted, 2_000);
    await until(() => target.accepted === open, 2_000, 'the target has accepted what is open');
    await holder.stop();
    await target.close();
  });

  test('says in one line that it has no descriptors left, and settles at once', async () => {
    const target = await Target.listen();
    const holder = fork('ulimit -n 60');
    const began = performance.now();
    const stats = await holder.open(specTo(target.port, 20_000, { ports: [{ from: 1_024, to: 32_767 }] }));
    assert(performance.now() - began < 5_000);
    assert(stats.open > 10 && stats.open < 60, `${stats.open} open`);
    assert.equal(stats.failed.descriptors, 20_000 - stats.open);
    await until(() => target.accepted === stats.open, 2_000, 'the target has accepted what is open');
    const warnings = holder.messages.filter(({ type }) => type === 'warning');
    assert.equal(warnings.length, 1);
    assert.match(JSON.stringify(warnings), /descriptors.*ulimit -n/);
    assert.equal(holder.health!.descriptorsMax, 60);
    await holder.stop();
    await target.close();
  });

  test('leaves Ctrl-C and SIGTERM to its agent', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 50));
    holder.child.kill('SIGINT');
    holder.child.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal((await holder.report()).stats.open, 50);
    assert.equal(target.sockets.size, 50);
    await holder.stop();
    await target.close();
  });

  test('says what is wrong with a spec that it cannot take, and ends', async () => {
    const holder = fork();
    holder.send({ type: 'open', spec: { ...specTo(1, 10), sliceTo: 1e9 } });
    await holder.until(() => holder.has('failed'), 5_000, 'it says so');
    assert.match(JSON.stringify(holder.messages), /slice lies inside/);
    await within(holder.exited, 2_000, 'it ends');
  });
});

describe('a holder whose agent is gone', () => {
  test('ends within 500 ms while it holds, and the target sees its connections go', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 200));
    await until(() => target.sockets.size === 200, 2_000, 'the target accepts all');
    holder.child.disconnect();
    await within(holder.exited, 500, 'it ends');
    await until(() => target.sockets.size === 0, 2_000, 'the target sees all of them go');
    await target.close();
  });

  test('ends within 500 ms in the middle of a busy ramp', async () => {
    const port = await refusingPort();
    const holder = fork();
    await holder.prepare(busySpec(port));
    holder.send({ type: 'start' });
    await holder.until(() => (holder.stats?.attempted ?? 0) > 1_000, 5_000, 'it is busy');
    holder.child.disconnect();
    await within(holder.exited, 500, 'it ends');
  });

  test('ends within 500 ms before it was started', async () => {
    const holder = fork();
    await holder.prepare(specTo(1, 10, { ports: [sourcePorts(20)] }));
    holder.child.disconnect();
    await within(holder.exited, 500, 'it ends');
  });

  test('still answers its agent in the middle of a busy ramp', async () => {
    const port = await refusingPort();
    const holder = fork();
    await holder.prepare(busySpec(port));
    holder.send({ type: 'start' });
    await holder.until(() => (holder.stats?.attempted ?? 0) > 1_000, 5_000, 'it is busy');
    const began = performance.now();
    await holder.report();
    assert(performance.now() - began < 200, `${performance.now() - began} ms`);
    const stats = await holder.stop();
    assert(stats.unattempted > 0, 'it was stopped before its end');
  });

  test('opens nothing after the moment that its lease names, and goes on with a new lease', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.prepare({ ...specTo(target.port, 200), ratePerSec: 100 });
    const lease = (openForMs: number): void => {
      const nowMs = systemClock.monotonicMs();
      holder.send({ type: 'lease', openUntilMs: nowMs + openForMs, liveUntilMs: nowMs + 60_000 });
    };
    lease(600);
    holder.send({ type: 'start' });
    await sleep(800);
    const { accepted } = target;
    assert(accepted > 0 && accepted < 200, `${accepted} in 600 ms at 100 a second`);
    await sleep(500);
    assert.equal(target.accepted, accepted, 'nothing more without a lease');
    lease(60_000);
    await until(() => target.accepted === 200, 5_000, 'the rest is opened');
    await holder.stop();
    await target.close();
  });

  test('ends, and the kernel closes what it holds, when its lease is over, although its agent is there', async () => {
    const target = await Target.listen();
    const holder = fork();
    await holder.open(specTo(target.port, 50));
    const nowMs = systemClock.monotonicMs();
    holder.send({ type: 'lease', openUntilMs: nowMs + 300, liveUntilMs: nowMs + 600 });
    await sleep(400);
    assert.equal(target.sockets.size, 50, 'it lives until then');
    const { code } = await holder.exited;
    assert.equal(code, 0);
    await until(() => target.sockets.size === 0, 2_000, 'the target sees all of them go');
    await target.close();
  });
});
