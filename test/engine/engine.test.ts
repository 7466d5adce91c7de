/** Tests opening, holding and closing: what the far side and the kernel count must be what the engine counts. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { latencySummary } from '../../src/stats/histogram.ts';
import { pause, settled, until } from '../support/waiting.ts';
import {
  cleanUp,
  deafListener,
  EngineRun,
  kernelCount,
  ManualClock,
  OWN_SOURCE,
  sourcePorts,
  specTo,
  Target,
} from './engine-run.ts';

afterEach(cleanUp);

describe('an engine towards a healthy target', () => {
  let target: Target;
  beforeEach(async () => {
    target = await Target.listen();
  });

  test('opens its quota, and the far side and the kernel count the same', async () => {
    const before = target.accepted;
    const run = new EngineRun(specTo(target.port, 500));
    const stats = await run.open();
    assert.equal(stats.open, 500);
    await until('the target accepts all', () => target.accepted - before === 500);
    assert.equal(kernelCount('established', target.port), 500);
    assert.equal(new Set([...target.sockets].map((socket) => socket.remotePort)).size, 500);
    assert.deepEqual(stats.openBySource, { [OWN_SOURCE]: 500 });
    assert.deepEqual(stats.openByEndpoint, { [`127.0.0.1:${target.port}`]: 500 });
    assert.equal(latencySummary(stats.connectUs).count, 500);
    assert.equal(latencySummary(stats.connectFromIntendedUs).count, 500);
    assert(stats.rampMs > 0);
    const closed = await run.stop();
    assert.equal(closed.closed, 500);
    await until('the target sees all of them go', () => target.sockets.size === 0);
  });

  test('uses exactly the source ports and addresses of its slice', async () => {
    const ports = sourcePorts(50);
    const addresses = ['127.0.0.80', '127.0.0.81'];
    // Tuples 10 to 60 of 100: ports 5 to 29, both addresses each.
    const run = new EngineRun(
      specTo(target.port, 50, { addresses, ports: [ports], sliceFrom: 10, sliceTo: 60 }),
    );
    await run.open();
    await until('the target accepts all', () => target.sockets.size === 50);
    const seen = [...target.sockets].map((socket) => `${socket.remoteAddress}:${socket.remotePort}`).sort();
    const expected = [];
    for (let port = ports.from + 5; port < ports.from + 30; port++) {
      expected.push(...addresses.map((address) => `${address}:${port}`));
    }
    assert.deepEqual(seen, expected.sort());
    await run.stop();
    await until('the target sees all of them go', () => target.sockets.size === 0);
  });

  test('a rate is kept: at no moment more than asked, and not less', async () => {
    const clock = new ManualClock();
    const run = new EngineRun(specTo(target.port, 200, { ratePerSec: 400 }), clock);
    const acceptedBefore = target.accepted;
    run.engine.start();
    for (let atMs = 0; atMs < 500; atMs += 5) {
      await until(`what is due at ${atMs} ms`, () => run.stats().attempted >= (atMs * 400) / 1_000 + 1);
      // Further turns while the clock stands still open no more.
      if (atMs % 50 === 0) await pause(20);
      assert.equal(run.stats().attempted, (atMs * 400) / 1_000 + 1, `at ${atMs} ms`);
      run.advance(clock, 5);
    }
    await settled('all are open', run.settled);
    assert.equal(run.stats().open, 200);
    await until('the target accepts all', () => target.accepted - acceptedBefore === 200);
    assert(run.stats().rampMs >= 495, `${run.stats().rampMs} ms`);
    await run.stop();
  });

  test('an engine that never started closes at once', async () => {
    const run = new EngineRun(specTo(target.port, 10));
    const stats = await run.stop();
    assert.equal(stats.unattempted, 10);
    assert.equal(stats.attempted, 0);
  });

  test('a second engine on the same tuples skips them locally and fills its quota from the slack', async () => {
    const ports = sourcePorts(60);
    const first = new EngineRun(specTo(target.port, 20, { ports: [ports] }));
    await first.open();
    const second = new EngineRun(specTo(target.port, 30, { ports: [ports] }));
    const stats = await second.open();
    assert.equal(stats.open, 30);
    assert.deepEqual(stats.failed, {});
    assert.deepEqual(stats.localSkips, { 'tuple-in-use': 20 });
    assert.equal(kernelCount('established', target.port), 50);
    await first.stop();
    await second.stop();
  });

  test('a slice that is used up fails the rest as source-exhausted, after one more try of each skip', async () => {
    const ports = sourcePorts(40);
    const first = new EngineRun(specTo(target.port, 20, { ports: [ports] }));
    await first.open();
    const second = new EngineRun(specTo(target.port, 40, { ports: [ports] }));
    const stats = await second.open();
    assert.equal(stats.open, 20);
    assert.deepEqual(stats.failed, { 'source-exhausted': 20 });
    assert.deepEqual(stats.localSkips, { 'tuple-in-use': 20 }, 'a tuple is counted once');
    assert.match(second.warnings.join(), /used up/);
    await first.stop();
    await second.stop();
  });

  test('a source port that a process listens on everywhere is skipped, and the quota is filled', async () => {
    const ports = sourcePorts(30);
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(ports.from + 3, '0.0.0.0', () => resolve()));
    const run = new EngineRun(specTo(target.port, 20, { ports: [ports] }));
    const stats = await run.open();
    assert.equal(stats.open, 20);
    assert.deepEqual(stats.localSkips, { 'port-in-use': 1 });
    assert.deepEqual(stats.failed, {});
    await run.stop();
    await new Promise((resolve) => listener.close(resolve));
  });

  test('one source port serves several endpoints', async () => {
    const other = await Target.listen();
    const ports = sourcePorts(10);
    const endpoints = [target.port, other.port].map((port) => ({
      address: '127.0.0.1',
      port,
      family: 4 as const,
    }));
    const run = new EngineRun(specTo(0, 20, { ports: [ports], endpoints }));
    const stats = await run.open();
    assert.equal(stats.open, 20);
    await until('the other endpoint accepts half', () => other.accepted === 10);
    assert.deepEqual(stats.openByEndpoint, {
      [`127.0.0.1:${target.port}`]: 10,
      [`127.0.0.1:${other.port}`]: 10,
    });
    await run.stop();
    await other.close();
  });
});

describe('an engine whose connects fail', () => {
  test('no more connects are in flight than allowed', async () => {
    const deaf = deafListener(0);
    const run = new EngineRun(specTo(deaf.port, 100, { pendingMax: 7 }));
    run.engine.start();
    await until('the cap is reached', () => run.stats().pending === 7);
    await pause(300);
    assert.equal(kernelCount('syn-sent', deaf.port), 7);
    const stats = await run.stop();
    assert.equal(stats.attempted + stats.unattempted, 100);
    assert.equal(stats.pending, 0);
    assert.equal(kernelCount('syn-sent', deaf.port), 0);
    deaf.close();
  });

  test('a source address that is not ours is source-lost, with one warning', async () => {
    const target = await Target.listen();
    // 192.0.2.0/24 is for documentation (RFC 5737): bind refuses it, so nothing leaves this host.
    const run = new EngineRun(specTo(target.port, 50, { addresses: ['192.0.2.7'] }));
    const stats = await run.open();
    assert.deepEqual(stats.failed, { 'source-lost': 50 });
    assert.equal(run.warnings.length, 1);
    assert.match(run.warnings[0]!, /192\.0\.2\.7/);
    await run.stop();
    await target.close();
  });

  test('a connection is never made to itself', async () => {
    const gone = await Target.listen(undefined, OWN_SOURCE);
    const { port } = gone;
    await gone.close();
    const endpoints = [{ address: OWN_SOURCE, port, family: 4 as const }];
    const run = new EngineRun(specTo(port, 3, { endpoints, ports: [{ from: port - 1, to: port + 3 }] }));
    const stats = await run.open();
    assert.equal(stats.established, 0);
    assert.deepEqual(stats.localSkips, { 'self-connect': 1 });
    assert.deepEqual(stats.failed, { refused: 3 });
    await run.stop();
  });

  test('two connections of ours that cross each other do not meet', async () => {
    const ports = sourcePorts(2);
    const endpoints = [ports.from, ports.to].map((port) => ({
      address: OWN_SOURCE,
      port,
      family: 4 as const,
    }));
    const run = new EngineRun(specTo(0, 4, { endpoints, ports: [ports] }));
    const stats = await run.open();
    assert.equal(stats.established, 0);
    assert.deepEqual(stats.localSkips, { 'self-connect': 4 });
    await run.stop();
  });
});

test('an IPv6 target is opened from ::1', async (t) => {
  let target: Target;
  try {
    target = await Target.listen(undefined, '::1');
  } catch {
    t.skip('this machine has no ::1');
    return;
  }
  const endpoints = [{ address: '::1', port: target.port, family: 6 as const }];
  const run = new EngineRun(specTo(target.port, 50, { addresses: ['::1'], endpoints }));
  const stats = await run.open();
  assert.equal(stats.open, 50);
  assert.deepEqual(stats.openByEndpoint, { [`[::1]:${target.port}`]: 50 });
  await until('the target accepts all', () => target.accepted === 50);
  await run.stop();
  await target.close();
});

test('the loop lag says how long the engine was kept from its work', async () => {
  const target = await Target.listen();
  const run = new EngineRun(specTo(target.port, 50, { ratePerSec: 100 }));
  run.engine.start();
  await until('some are open', () => run.stats().open > 5);
  const lagBefore = run.engine.load().loopLagMsMax;
  const began = performance.now();
  while (performance.now() - began < 250);
  await settled('all are open', run.settled);
  const allMs = performance.now() - began;
  // Whatever else keeps this process from its work is no shorter than the test sees it.
  const { loopLagMsMax } = run.engine.load();
  assert(
    loopLagMsMax >= 240 && loopLagMsMax <= Math.max(lagBefore, allMs + 10),
    `${loopLagMsMax} of ${allMs} ms`,
  );
  await run.stop();
  await target.close();
});
