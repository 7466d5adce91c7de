/** Tests the echo proof: only what the far application sends back, byte for byte, verifies a connection. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import type { HolderSpec } from '../../../src/run/run-spec.ts';
import { latencySummary } from '../../../src/stats/histogram.ts';
import { cleanUp, deafListener, EngineRun, specTo, Target, until } from '../engine-run.ts';

afterEach(cleanUp);

function echoSpec(port: number, connections: number, over: Partial<HolderSpec> = {}): HolderSpec {
  return specTo(port, connections, { protocol: 'echo', probeEveryMs: 400, probeTimeoutMs: 600, ...over });
}

async function running(
  connections: number,
  answer: (socket: Socket) => void,
  over: Partial<HolderSpec> = {},
): Promise<{ target: Target; run: EngineRun }> {
  const target = await Target.listen(answer);
  const run = new EngineRun(echoSpec(target.port, connections, over));
  await run.open();
  return { target, run };
}

test('every connection is verified by its answers, and the far side saw the bytes', async () => {
  let bytes = 0;
  const { target, run } = await running(100, (socket) => {
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      socket.write(chunk);
    });
  });
  await until(() => run.stats().verified === 100, 2_000, 'all are verified');
  run.engine.markHold();
  await until(() => run.stats().probesAnswered >= 300, 5_000, 'probes go on');
  const stats = run.stats();
  assert.equal(stats.open, 100);
  assert.equal(stats.verifiedMin, 100);
  assert.deepEqual(stats.dropped, {});
  assert.equal(stats.bytesOut, stats.probesSent * 16);
  assert(Math.abs(bytes - stats.bytesOut) <= 16 * 100, `the target got ${bytes} of ${stats.bytesOut}`);
  assert.equal(latencySummary(stats.probeUs).count, stats.probesAnswered);
  await run.stop();
  await target.close();
});

test('probes are spread over the period: no slice of a tenth has much more than its share', async () => {
  const arrivals: number[] = [];
  const { target, run } = await running(
    200,
    (socket) => {
      socket.on('data', (chunk) => {
        arrivals.push(performance.now());
        socket.write(chunk);
      });
    },
    { probeEveryMs: 1_000, probeTimeoutMs: 2_000 },
  );
  await until(() => run.stats().verified === 200, 3_000, 'all are verified');
  const from = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const tenths = new Array<number>(10).fill(0);
  for (const at of arrivals.filter((at) => at >= from && at < from + 2_000)) {
    const index = Math.floor((at - from) / 100) % 10;
    tenths[index] = tenths[index]! + 1;
  }
  const total = tenths.reduce((sum, count) => sum + count, 0);
  assert(total > 360 && total < 440, `${total} probes of 200 connections in 2 s`);
  // Even is 40 each; scheduling noise moves some into the neighbour.
  assert(Math.max(...tenths) < 70, tenths.join(' '));
  assert(Math.min(...tenths) > 10, tenths.join(' '));
  await run.stop();
  await target.close();
});

test('first probes come soon, and are spread too', async () => {
  const arrivals: number[] = [];
  const began = performance.now();
  const { target, run } = await running(
    100,
    (socket) => {
      socket.on('data', () => arrivals.push(performance.now() - began));
    },
    { probeEveryMs: 30_000, probeTimeoutMs: 30_000 },
  );
  await until(() => arrivals.length === 100, 2_000, 'each gets its first probe');
  const early = arrivals.filter((at) => at < 500).length;
  assert(early > 25 && early < 75, `${early} of 100 in the first half second`);
  await run.stop();
  await target.close();
});

test('answers that come byte by byte are put together', async () => {
  const { target, run } = await running(20, (socket) => {
    socket.on('data', async (chunk) => {
      for (const byte of chunk) {
        socket.write(Uint8Array.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
  });
  await until(() => run.stats().probesAnswered >= 40, 3_000, 'answers are complete');
  assert.equal(run.stats().verified, 20);
  assert.deepEqual(run.stats().dropped, {});
  await run.stop();
  await target.close();
});

test('a wrong byte anywhere in the answer is a mismatch', async () => {
  let accepted = 0;
  const { target, run } = await running(16, (socket) => {
    const wrongAt = accepted++;
    socket.on('data', (chunk) => {
      chunk[wrongAt % 16]! ^= 0x20;
      socket.write(chunk);
    });
  });
  await until(() => run.stats().open === 0, 3_000, 'all are found out');
  assert.deepEqual(run.stats().dropped, { 'probe-mismatch': 16 });
  assert.equal(run.stats().verified, 0);
  await run.stop();
  await target.close();
});

test('the answer to another connection is a mismatch', async () => {
  const sockets: Socket[] = [];
  const { target, run } = await running(2, (socket) => {
    sockets.push(socket);
    socket.on('data', (chunk) => sockets.find((other) => other !== socket)!.write(chunk));
  });
  await until(() => run.stats().open < 2, 3_000, 'the mix-up is found out');
  assert.equal(run.stats().dropped['probe-mismatch']! >= 1, true);
  await run.stop();
  await target.close();
});

test('bytes that nobody asked for, or too many of them, are a mismatch', async () => {
  const greeting = await running(5, (socket) => socket.write('220 ready\r\n'));
  await until(() => greeting.run.stats().open === 0, 3_000, 'a greeting is no echo');
  assert.deepEqual(greeting.run.stats().dropped, { 'probe-mismatch': 5 });
  await greeting.run.stop();
  await greeting.target.close();

  const doubled = await running(5, (socket) => {
    socket.on('data', (chunk) => socket.write(Buffer.concat([chunk, chunk])));
  });
  await until(() => doubled.run.stats().open === 0, 3_000, 'twice is not once');
  assert.deepEqual(doubled.run.stats().dropped, { 'probe-mismatch': 5 });
  await doubled.run.stop();
  await doubled.target.close();
});

test('a target that reads and says nothing is found out after the probe timeout', async () => {
  const { target, run } = await running(10, (socket) => socket.resume());
  run.engine.markHold();
  await until(() => run.stats().open === 0, 3_000, 'silence is found out');
  const stats = run.stats();
  assert.deepEqual(stats.dropped, { 'probe-timeout': 10 });
  assert.equal(stats.verified, 0);
  assert.equal(stats.openMin, 0);
  assert.equal(stats.probesSent, 10);
  await run.stop();
  await target.close();
});

test('a connection that was verified and falls silent is no longer verified', async () => {
  let isSilent = false;
  const { target, run } = await running(10, (socket) => {
    socket.on('data', (chunk) => {
      if (!isSilent) socket.write(chunk);
    });
  });
  await until(() => run.stats().verified === 10, 3_000, 'all are verified');
  run.engine.markHold();
  isSilent = true;
  await until(() => run.stats().verified === 0, 3_000, 'silence is found out');
  assert.equal(run.stats().verifiedMin, 0);
  await run.stop();
  await target.close();
});

test('established by the kernel is not verified: a listener that never accepts', async () => {
  const deaf = deafListener(64);
  const run = new EngineRun(echoSpec(deaf.port, 20, { probeTimeoutMs: 400 }));
  const stats = await run.open();
  assert.equal(stats.open, 20);
  assert.equal(stats.verified, 0);
  await until(() => run.stats().open === 0, 3_000, 'nobody answers');
  assert.deepEqual(run.stats().dropped, { 'probe-timeout': 20 });
  await run.stop();
  deaf.close();
});

test('a slow answer is late from the moment that the probe was due', async () => {
  const { target, run } = await running(10, (socket) => {
    socket.on('data', (chunk) => setTimeout(() => socket.write(chunk), 100));
  });
  await until(() => run.stats().probesAnswered >= 20, 4_000, 'answers come');
  const { p50 } = latencySummary(run.stats().probeUs);
  assert(p50! >= 98_000 && p50! < 200_000, `${p50} us`);
  await run.stop();
  await target.close();
});
