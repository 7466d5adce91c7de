/** Tests the echo proof: only what the far application sends back, byte for byte, verifies a connection. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import type { HolderSpec } from '../../../src/run/run-spec.ts';
import { latencySummary } from '../../../src/stats/histogram.ts';
import { until } from '../../support/waiting.ts';
import { cleanUp, deafListener, EngineRun, ManualClock, specTo, Target } from '../engine-run.ts';

afterEach(cleanUp);

function echoSpec(port: number, connections: number, over: Partial<HolderSpec> = {}): HolderSpec {
  return specTo(port, connections, { protocol: 'echo', probeEveryMs: 400, ...over });
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
  await until('all are verified', () => run.stats().verified === 100);
  run.engine.markHold();
  await until('probes go on', () => run.stats().probesAnswered >= 300);
  const stats = run.stats();
  assert.equal(stats.open, 100);
  assert.equal(stats.verifiedMin, 100);
  assert.deepEqual(stats.dropped, {});
  await until(
    'each probe is counted as it was sent',
    () => run.stats().bytesOut === run.stats().probesSent * 16,
  );
  const { bytesOut } = run.stats();
  assert(Math.abs(bytes - bytesOut) <= 16 * 100, `the target got ${bytes} of ${bytesOut}`);
  assert.equal(latencySummary(stats.probeUs).count, stats.probesAnswered);
  await run.stop();
  await target.close();
});

/** How many probes came in each step, and how many of them were a connection's first; the clock stands still between. */
async function probesInSteps(connections: number, everyMs: number, stepMs: number, steps: number) {
  const clock = new ManualClock();
  let seen = 0;
  let firstSeen = 0;
  const target = await Target.listen((socket) => {
    socket.once('data', () => firstSeen++);
    socket.on('data', (chunk) => {
      seen += chunk.length / 16;
      socket.write(chunk);
    });
  });
  const run = new EngineRun(echoSpec(target.port, connections, { probeEveryMs: everyMs }), clock);
  await run.open();
  const inStep: { all: number; first: number }[] = [];
  for (let step = 0; step < steps; step++) {
    const [allBefore, firstBefore] = [seen, firstSeen];
    run.advance(clock, stepMs);
    const { looks } = clock;
    await until('a turn has begun what is due', () => clock.looks > looks);
    await until('every probe is answered', () => {
      const { probesSent, probesAnswered } = run.stats();
      return probesSent === probesAnswered && seen === probesSent;
    });
    inStep.push({ all: seen - allBefore, first: firstSeen - firstBefore });
  }
  await run.stop();
  await target.close();
  return inStep;
}

test('probes are spread over the period: no slice of a tenth has much more than its share', async () => {
  const tenths = await probesInSteps(200, 1_000, 100, 30);
  // The first second has the first probes; those after it come each period at the connection's own phase.
  const later = tenths.slice(10).map(({ all }) => all);
  const total = later.reduce((sum, count) => sum + count, 0);
  assert(total >= 380 && total <= 420, `${total} probes of 200 connections in two periods`);
  // Even is 20 each.
  assert(Math.max(...later) <= 25 && Math.min(...later) >= 15, later.join(' '));
});

test('first probes come soon, and are spread too', async () => {
  const tenths = (await probesInSteps(100, 30_000, 100, 10)).map(({ first }) => first);
  assert.equal(
    tenths.reduce((sum, count) => sum + count, 0),
    100,
    'each gets its first probe within a second',
  );
  const early = tenths.slice(0, 5).reduce((sum, count) => sum + count, 0);
  assert(early > 40 && early < 60, `${early} of 100 in the first half second`);
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
  await until('answers are complete', () => run.stats().probesAnswered >= 40);
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
  await until('all are found out', () => run.stats().open === 0);
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
  await until('the mix-up is found out', () => run.stats().open < 2);
  assert.equal(run.stats().dropped['probe-mismatch']! >= 1, true);
  await run.stop();
  await target.close();
});

test('bytes without a request, or too many of them, are a mismatch', async () => {
  const greeting = await running(5, (socket) => socket.write('220 ready\r\n'));
  await until('a greeting is no echo', () => greeting.run.stats().open === 0);
  assert.deepEqual(greeting.run.stats().dropped, { 'probe-mismatch': 5 });
  await greeting.run.stop();
  await greeting.target.close();

  const doubled = await running(5, (socket) => {
    socket.on('data', (chunk) => socket.write(Buffer.concat([chunk, chunk])));
  });
  await until('twice is not once', () => doubled.run.stats().open === 0);
  assert.deepEqual(doubled.run.stats().dropped, { 'probe-mismatch': 5 });
  await doubled.run.stop();
  await doubled.target.close();
});

test('a target that reads and says nothing is found out after the probe timeout', async () => {
  const { target, run } = await running(10, (socket) => socket.resume(), { probeTimeoutMs: 300 });
  run.engine.markHold();
  await until('silence is found out', () => run.stats().open === 0);
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
  const target = await Target.listen((socket) => {
    socket.on('data', (chunk) => {
      if (!isSilent) socket.write(chunk);
    });
  });
  const clock = new ManualClock();
  const run = new EngineRun(echoSpec(target.port, 10, { probeTimeoutMs: 600 }), clock);
  await run.open();
  run.advance(clock, 400);
  await until('all are verified', () => run.stats().verified === 10);
  run.engine.markHold();
  isSilent = true;
  run.advance(clock, 400);
  await until('all are asked again', () => run.stats().probesSent === 20);
  assert.equal(run.stats().verified, 10, 'silence has a time');
  run.advance(clock, 601);
  await until('silence is found out', () => run.stats().verified === 0);
  assert.equal(run.stats().verifiedMin, 0);
  await run.stop();
  await target.close();
});

test('established by the kernel is not verified: a listener that never accepts', async () => {
  const deaf = deafListener(64);
  const clock = new ManualClock();
  const run = new EngineRun(echoSpec(deaf.port, 20, { probeTimeoutMs: 600 }), clock);
  const stats = await run.open();
  assert.equal(stats.open, 20);
  run.advance(clock, 400);
  await until('all are asked', () => run.stats().probesSent === 20);
  assert.deepEqual([run.stats().open, run.stats().verified], [20, 0]);
  run.advance(clock, 601);
  await until('no probe was answered in time', () => run.stats().open === 0);
  assert.deepEqual(run.stats().dropped, { 'probe-timeout': 20 });
  await run.stop();
  deaf.close();
});

test('an engine has settled when each connection has answered once, and not before', async () => {
  const asked: (() => void)[] = [];
  const target = await Target.listen((socket) => {
    socket.on('data', (chunk) => asked.push(() => socket.write(chunk)));
  });
  const run = new EngineRun(echoSpec(target.port, 50, { probeEveryMs: 60_000, probeTimeoutMs: 60_000 }));
  run.engine.start();
  await until('each is asked', () => asked.length === 50);
  assert.equal(run.stats().open, 50);
  assert.equal(run.stats().pending, 0);
  for (const answer of asked.slice(1)) answer();
  await until('all but one have answered', () => run.stats().verified === 49);
  assert.equal(run.engine.settled, false);
  asked[0]!();
  await run.settled;
  run.engine.markHold();
  const stats = run.stats();
  assert.deepEqual([stats.openMin, stats.verifiedMin, stats.verifiedInHold], [50, 50, 0]);
  await run.stop();
});

test('answers since the hold began are counted apart, and leave with their connections', async () => {
  const { target, run } = await running(20, (socket) => {
    socket.on('data', (chunk) => socket.write(chunk));
  });
  assert.equal(run.stats().verifiedInHold, 0);
  run.engine.markHold();
  await until('each has answered again', () => run.stats().verifiedInHold === 20);
  const [first] = target.sockets;
  first!.resetAndDestroy();
  await until('one is lost', () => run.stats().open === 19);
  assert.equal(run.stats().verifiedInHold, 19);
  const closed = await run.stop();
  assert.equal(closed.verifiedInHold, 0);
});

test('a slow answer is late from the moment that the probe was due', async () => {
  const clock = new ManualClock();
  const asked: (() => void)[] = [];
  const target = await Target.listen((socket) => {
    socket.on('data', (chunk) => asked.push(() => socket.write(chunk)));
  });
  const run = new EngineRun(echoSpec(target.port, 10, { probeEveryMs: 10_000 }), clock);
  await run.open();
  run.advance(clock, 1_000);
  await until('each is asked', () => asked.length === 10);
  run.advance(clock, 100);
  for (const answer of asked) answer();
  await until('answers come', () => run.stats().probesAnswered === 10);
  // First probes are due within the second that was stepped over.
  const { p50, max } = latencySummary(run.stats().probeUs);
  assert(max! >= 1_000_000 && max! <= 1_101_000, `${max} us`);
  assert(p50! >= 500_000 && p50! <= 700_000, `${p50} us`);
  await run.stop();
  await target.close();
});

test('a process that is stopped in the middle of a turn gives the probes that it sends afterwards their whole time', async () => {
  const { port } = await Target.listen((socket) => {
    socket.on('data', (chunk) => socket.write(chunk));
  });
  const clock = new ManualClock();
  let sentBefore = Number.POSITIVE_INFINITY;
  // From the next probe on it is ten seconds later, as after a SIGSTOP between that probe and the one behind it.
  const laterMs = (): number => (run.engine.stats().probesSent > sentBefore ? 10_000 : 0);
  const run: EngineRun = new EngineRun(echoSpec(port, 50, { probeEveryMs: 60_000, probeTimeoutMs: 2_000 }), {
    monotonicMs: () => clock.monotonicMs() + (sentBefore < Number.POSITIVE_INFINITY ? laterMs() : 0),
    wallMs: () => clock.wallMs(),
  });
  await run.open();
  sentBefore = run.stats().probesSent;
  run.advance(clock, 2_000);
  const lost = (): number => run.stats().dropped['probe-timeout'] ?? 0;
  await until('each has answered or is lost', () => run.stats().verified + lost() === 50);
  assert(lost() <= 1, `${lost()} are lost, and one probe was out meanwhile`);
  await run.stop();
});
