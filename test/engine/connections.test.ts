/** Tests what an event, a timer and the end of a run mean for connections: the far side and the kernel count the same. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Poller } from '../../src/engine/poller.ts';
import { HANG_MS, pause, until } from '../support/waiting.ts';
import { cleanUp, EngineRun, kernelCount, OWN_SOURCE, specTo, Target } from './engine-run.ts';

afterEach(cleanUp);

test('counts refused connects when nothing listens', async () => {
  const gone = await Target.listen();
  const { port } = gone;
  await gone.close();
  const run = new EngineRun(specTo(port, 1_000));
  const stats = await run.open();
  assert.deepEqual(stats.failed, { refused: 1_000 });
  assert.equal(stats.established, 0);
  await run.stop();
});

describe('connections that are closed or given up by the engine itself', () => {
  let target: Target;
  beforeEach(async () => {
    target = await Target.listen();
  });

  test('closing by RST reaches the target as a reset and leaves no TIME_WAIT', async () => {
    const errorsBefore = target.errors.length;
    const run = new EngineRun(specTo(target.port, 100, { close: 'rst' }));
    await run.open();
    await until('the target accepts all', () => target.sockets.size === 100);
    await run.stop();
    await until('the target sees all of them go', () => target.sockets.size === 0);
    assert.deepEqual(target.errors.slice(errorsBefore), Array(100).fill('ECONNRESET'));
    assert.equal(kernelCount('time-wait', target.port, OWN_SOURCE), 0);
  });

  test('closing by FIN reaches the target as an end', async () => {
    const [endedBefore, errorsBefore] = [target.ended, target.errors.length];
    const run = new EngineRun(specTo(target.port, 100, { close: 'fin' }));
    await run.open();
    await until('the target accepts all', () => target.sockets.size === 100);
    await run.stop();
    await until('the target sees all of them go', () => target.sockets.size === 0);
    assert.equal(target.ended - endedBefore, 100);
    assert.equal(target.errors.length, errorsBefore);
  });

  test('giving up in the middle of a ramp keeps what is open and counts the rest', async () => {
    const run = new EngineRun(specTo(target.port, 1_000, { ratePerSec: 500 }));
    run.engine.start();
    await until('some are open', () => run.stats().open > 50);
    run.engine.stopOpening();
    await run.settled;
    const stats = run.stats();
    assert.equal(stats.pending, 0);
    assert.equal(stats.attempted + stats.unattempted, 1_000);
    assert(stats.open > 50 && stats.open < 900, `${stats.open} open`);
    assert.equal(kernelCount('established', target.port), stats.open);
    await run.stop();
    await until('the target sees all of them go', () => target.sockets.size === 0);
  });
});

describe('a connection that is lost while it is held', () => {
  async function held(count: number): Promise<{ target: Target; run: EngineRun }> {
    const target = await Target.listen();
    const run = new EngineRun(specTo(target.port, count));
    const stats = await run.open();
    assert.equal(stats.open, count);
    await until('the target accepts all', () => target.sockets.size === count);
    run.engine.markHold();
    return { target, run };
  }

  test('a FIN is a drop by fin, and the lowest number open is remembered', async () => {
    const { target, run } = await held(100);
    for (const socket of [...target.sockets].slice(0, 30)) socket.end();
    await until('the loss is noticed', () => run.stats().open === 70);
    const stats = run.stats();
    assert.deepEqual(stats.dropped, { fin: 30 });
    assert.equal(stats.openMin, 70);
    assert.deepEqual(stats.openBySource, { [OWN_SOURCE]: 70 });
    const closed = await run.stop();
    assert.equal(closed.openMin, 70, 'closing by ourselves is no loss');
    await target.close();
  });

  test('a RST is a drop by rst', async () => {
    const { target, run } = await held(60);
    for (const socket of [...target.sockets].slice(0, 25)) socket.resetAndDestroy();
    await until('the loss is noticed', () => run.stats().open === 35);
    assert.deepEqual(run.stats().dropped, { rst: 25 });
    await run.stop();
    await target.close();
  });

  test('a loss in an idle hold is noticed at once, not at the next tick', async (t) => {
    // In this test no tick comes: a wait ends by an event alone.
    const wait = Poller.prototype.waitAsync;
    t.mock.method(
      Poller.prototype,
      'waitAsync',
      function (this: Poller, _ms: number, done: (n: number) => void) {
        wait.call(this, 10 * HANG_MS, done);
      },
    );
    const { target, run } = await held(5);
    await pause(50);
    for (const socket of target.sockets) socket.resetAndDestroy();
    await until('the loss is noticed', () => run.stats().open === 0);
    await run.stop();
    await target.close();
  });

  test('bytes that come are read and counted, also more than one event may read, and none is lost', async () => {
    const { target, run } = await held(4);
    const chunk = Buffer.alloc(3_000_000, 1);
    for (const socket of target.sockets) socket.write(chunk);
    await until('all bytes are read', () => run.stats().bytesIn === 4 * 3_000_000);
    assert.equal(run.stats().open, 4);
    for (const socket of target.sockets) socket.end(chunk);
    await until('the end is noticed', () => run.stats().open === 0);
    assert.equal(run.stats().bytesIn, 8 * 3_000_000);
    assert.deepEqual(run.stats().dropped, { fin: 4 });
    await run.stop();
    await target.close();
  });

  test('a target that closes right after accept counts as established, then dropped', async () => {
    const target = await Target.listen((socket) => socket.end());
    const run = new EngineRun(specTo(target.port, 200));
    await run.open();
    await until('all are lost', () => run.stats().open === 0);
    const stats = run.stats();
    assert.equal(stats.established, 200);
    assert.deepEqual(stats.dropped, { fin: 200 });
    await run.stop();
    await target.close();
  });
});
