/** Tests how connections are begun: at the rate whatever stops the process, and again when tuples are free again; how lost ones come back, however many, after the wait that was asked for. */
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { IMMEDIATE, type ReopenPolicy } from '../../src/run/reopen-policy.ts';
import { startNetTarget } from '../support/net-target.ts';
import { pause, until } from '../support/waiting.ts';
import { cleanUp, EngineRun, kernelCount, ManualClock, OWN_SOURCE, specTo, Target } from './engine-run.ts';

afterEach(cleanUp);

/** Time for some turns of the loop: what is due is begun in each, so that a wait too short shows too few, never too many. */
async function someTurns(): Promise<void> {
  await pause(150);
}

/** Moves time by steps of 10 ms, at most one minute, until something is so. */
async function stepUntil(run: EngineRun, clock: ManualClock, isSo: () => boolean): Promise<void> {
  for (let step = 0; step < 6_000 && !isSo(); step++) {
    run.advance(clock, 10);
    await pause(1);
  }
  assert(isSo(), 'within a minute of the clock');
}

describe('an engine at 100/s', () => {
  test('opens at most the burst at once after a pause of four seconds, and says how late it was', async () => {
    const target = await Target.listen();
    const clock = new ManualClock();
    const run = new EngineRun(specTo(target.port, 1_000, { ratePerSec: 100 }), clock);
    run.engine.start();
    for (let opened = 1; opened <= 20; opened++) {
      await until(`connect ${opened}`, () => run.stats().established === opened);
      run.advance(clock, 10);
    }
    await until('connect 21', () => run.stats().established === 21);
    run.advance(clock, 4_000);
    await until('the one that is due, and the burst', () => run.stats().attempted === 23);
    await someTurns();
    assert.equal(run.stats().attempted, 23);
    await until('the target counts the same', () => target.accepted === 23);
    assert.equal(Math.round(run.engine.load().scheduleShiftMs), 3_980);
    assert.equal(run.engine.load().scheduleShiftMsMax, run.engine.load().scheduleShiftMs);
    run.advance(clock, 10);
    await until('then one each 10 ms', () => run.stats().attempted === 24);
    await someTurns();
    assert.equal(run.stats().attempted, 24);
    await run.stop();
  });

  test('says how late it was also where its lease has run out in the pause, and not where it was forbidden before', async () => {
    const target = await Target.listen();
    const clock = new ManualClock();
    const run = new EngineRun(specTo(target.port, 1_000, { ratePerSec: 100 }), clock);
    run.engine.start();
    await stepUntil(run, clock, () => run.stats().established >= 20);
    run.engine.openUntil(clock.monotonicMs() + 3_000);
    await someTurns();
    const shiftMs = run.engine.load().scheduleShiftMs;
    const { attempted } = run.stats();
    run.advance(clock, 4_000);
    await someTurns();
    assert.equal(run.stats().attempted, attempted, 'its lease is over');
    const pauseMs = run.engine.load().scheduleShiftMs - shiftMs;
    assert(pauseMs > 3_900 && pauseMs <= 4_000, `${pauseMs} ms`);
    run.advance(clock, 10_000);
    await someTurns();
    run.engine.openUntil(clock.monotonicMs() + 5_000);
    await until('it goes on', () => run.stats().attempted > attempted);
    const idleMs = run.engine.load().scheduleShiftMs - shiftMs - pauseMs;
    assert(idleMs < 100, `${idleMs} ms of what it was forbidden`);
    await run.stop();
  });

  test('opens lost connections again at that rate too', async () => {
    const target = await Target.listen();
    const clock = new ManualClock();
    const beganMs = clock.monotonicMs();
    const run = new EngineRun(specTo(target.port, 200, { ratePerSec: 100, onDrop: 'reopen' }), clock);
    run.engine.start();
    await stepUntil(run, clock, () => run.stats().established === 200);
    run.engine.markHold();
    await until('the target has accepted all', () => target.accepted === 200);
    run.advance(clock, 60_000);
    for (const socket of target.sockets) socket.resetAndDestroy();
    await until('all are lost', () => run.stats().dropped.rst === 200);
    await someTurns();
    assert.equal(run.stats().reopened, 1, 'nothing was saved up');
    run.advance(clock, 50);
    await someTurns();
    assert(run.stats().attempted <= 200 + 1 + 5 + 1, `${run.stats().attempted - 200} within 50 ms`);
    await stepUntil(run, clock, () => run.stats().reopened === 200);
    assert(clock.monotonicMs() - beganMs >= 60_000 + 1_990 + 1_990, 'two seconds for two hundred');
    await until('the target has them all again', () => target.sockets.size === 200);
    assert.equal(run.engine.load().scheduleShiftMs < 1_000, true, 'the idle hold was no lateness');
    await run.stop();
  });

  test('follows another rate from the moment that it is given', async () => {
    const target = await Target.listen();
    const clock = new ManualClock();
    const run = new EngineRun(specTo(target.port, 100, { ratePerSec: 1_000 }), clock);
    run.engine.start();
    await until('the first', () => run.stats().attempted === 1);
    run.engine.setPace(10, 1_000);
    run.advance(clock, 100);
    await until('the second', () => run.stats().attempted >= 2);
    await someTurns();
    assert(run.stats().attempted <= 3, `${run.stats().attempted} after 100 ms at 10/s`);
    await run.stop();
  });

  // The quota of an agent grows twice before its new holders are started: the second growth paces those of the first.
  test('follows a rate that was given before the start', async () => {
    const target = await Target.listen();
    const clock = new ManualClock();
    const run = new EngineRun(specTo(target.port, 20, { ratePerSec: 1_000 }), clock);
    // As on any host: the clock did not begin with this engine.
    run.advance(clock, 3_600_000);
    run.engine.setPace(100, 1_000);
    run.engine.start();
    await stepUntil(run, clock, () => run.stats().established === 20);
    await until('the target has them', () => target.accepted === 20);
    await run.stop();
  });
});

test('tuples that another process takes while they are free rest, and are used when it has gone', async () => {
  const target = await Target.listen();
  // Twenty times as fast, so that the rest takes no time.
  const clock = { monotonicMs: () => performance.now() * 20, wallMs: () => Date.now() };
  const spec = specTo(target.port, 50, { onDrop: 'reopen' });
  const run = new EngineRun({ ...spec, sliceTo: 50 }, clock);
  await run.open();
  run.engine.markHold();
  run.engine.openUntil(0);
  await until('the target has accepted all', () => target.sockets.size === 50);
  for (const socket of target.sockets) socket.resetAndDestroy();
  await until('all are lost', () => run.stats().dropped.rst === 50);
  const other = new EngineRun({ ...spec, sliceTo: 50 });
  await other.open();
  run.engine.openUntil(Number.POSITIVE_INFINITY);
  await until('they are tried in vain, time and again', () => run.stats().reopenFailed >= 150);
  assert.equal(run.stats().reopened, 0);
  assert.match(run.warnings.join(), /no source port is free for lost connections \(50 of them were in use/);
  await other.stop();
  await until('every one comes back', () => run.stats().reopened === 50);
  assert.equal(kernelCount('established', target.port), 50);
  await run.stop();
});

/** More than 16,384; with io_uring, where a connection takes no descriptor here, more than the usual limit of them. */
const MANY = specTo(0, 1).engine === 'uring' ? 24_000 : 19_800;

test(`${MANY} connections that are lost together come back together, each once`, async (t) => {
  // Each of the far sides has room for a part.
  const targets = [await startNetTarget(t), await startNetTarget(t)];
  const endpoints = targets.map(({ port }) => ({ address: '127.0.0.1', port, family: 4 as const }));
  // Ports below the kernel's own range, as many as that takes.
  const ports = [{ from: 2_000, to: 2_000 + MANY / 2 + 99 }];
  const addresses = [OWN_SOURCE.replace(/^127\.77/, '127.78')];
  const over = { onDrop: 'reopen' as const, endpoints, ports, addresses, ratePerSec: 20_000 };
  const run = new EngineRun(specTo(0, MANY, over));
  await run.open();
  run.engine.markHold();
  const counted = async (): Promise<number[]> => {
    const counts = await Promise.all(targets.map((target) => target.counts()));
    return [
      counts.reduce((sum, { open }) => sum + open, 0),
      counts.reduce((sum, { accepted }) => sum + accepted, 0),
    ];
  };
  await until('the targets hold all', async () => (await counted())[0] === MANY);
  for (const target of targets) target.reset();
  await until('the targets hold all again', async () => {
    const [open, accepted] = await counted();
    return open === MANY && accepted === 2 * MANY;
  });
  await until('so does the engine', () => run.stats().open === MANY);
  assert.equal(run.stats().reopened, MANY);
  await run.stop();
});

/** An engine whose connections are held by a target, both on a clock that stands still. */
async function heldBy(target: Target, count: number, reopen?: ReopenPolicy) {
  const clock = new ManualClock();
  const over = { onDrop: 'reopen' as const, ...(reopen === undefined ? {} : { reopen }) };
  const run = new EngineRun(specTo(target.port, count, over), clock);
  await run.open();
  run.engine.markHold();
  await until('the target has accepted all', () => target.sockets.size === count);
  const lost = async (): Promise<void> => {
    const before = run.stats().dropped.rst ?? 0;
    for (const socket of target.sockets) socket.resetAndDestroy();
    await until('all are lost', () => run.stats().dropped.rst === before + count);
  };
  return { run, clock, lost };
}

test('without a policy lost connections come back with no wait, on a clock that stands still', async () => {
  const target = await Target.listen();
  const { run, lost } = await heldBy(target, 40);
  await lost();
  await until('all are back', () => run.stats().reopened === 40 && run.stats().open === 40);
  await run.stop();
});

test('fixed: none comes back before its time, and all do at it', async () => {
  const target = await Target.listen();
  const policy: ReopenPolicy = { kind: 'fixed', firstMs: 3_000, mostMs: 3_000, jitter: 0 };
  const { run, clock, lost } = await heldBy(target, 40, policy);
  await lost();
  run.advance(clock, 2_990);
  await someTurns();
  assert.deepEqual([run.stats().attempted, run.engine.load().descriptorsUsed], [40, 0]);
  run.advance(clock, 20);
  await until('all are back', () => run.stats().reopened === 40 && target.sockets.size === 40);
  assert.equal(run.stats().open, 40);
  await run.stop();
});

test('backoff: the wait doubles after each try that fails, and begins anew after one that held', async () => {
  const target = await Target.listen();
  const { port } = target;
  const policy: ReopenPolicy = { kind: 'backoff', firstMs: 1_000, mostMs: 4_000, jitter: 0 };
  const { run, clock, lost } = await heldBy(target, 10, policy);
  await lost();
  await target.close();
  const failedAfter: number[] = [];
  for (let step = 0; step < 32; step++) {
    run.advance(clock, 500);
    await someTurns();
    failedAfter.push(run.stats().reopenFailed / 10);
  }
  // Tried 1, then 2, 4, 4 and 4 s after the failure before: at 1, 3, 7, 11 and 15 s.
  const changes = failedAfter.flatMap((count, at) =>
    count === (failedAfter[at - 1] ?? 0) ? [] : [[(at + 1) / 2, count]],
  );
  assert.deepEqual(changes, [
    [1, 1],
    [3, 2],
    [7, 3],
    [11, 4],
    [15, 5],
  ]);
  let accepted = 0;
  const again = createServer((socket) => {
    accepted++;
    sockets.push(socket);
    socket.on('error', () => {});
  });
  const sockets: Socket[] = [];
  await new Promise<void>((done) => again.listen(port, '127.0.0.1', done));
  run.advance(clock, 4_000);
  await until('all are back', () => run.stats().open === 10 && accepted === 10);
  run.advance(clock, 10_000);
  for (const socket of sockets.splice(0)) socket.resetAndDestroy();
  await until('all are lost again', () => run.stats().dropped.rst === 20);
  run.advance(clock, 1_010);
  await until('a second later they are back', () => accepted === 20 && run.stats().open === 10);
  // Lost again within a second: that is one more try that failed.
  for (const socket of sockets.splice(0)) socket.resetAndDestroy();
  await until('all are lost a third time', () => run.stats().dropped.rst === 30);
  run.advance(clock, 1_010);
  await someTurns();
  assert.equal(run.stats().reopened, 20);
  run.advance(clock, 1_000);
  await until('two seconds later they are back', () => run.stats().reopened === 30);
  await run.stop();
  await new Promise((done) => again.close(done));
});

describe('jitter', () => {
  test('spreads what was lost together over the whole wait', async () => {
    const target = await Target.listen();
    const policy: ReopenPolicy = { kind: 'fixed', firstMs: 10_000, mostMs: 10_000, jitter: 1 };
    const { run, clock, lost } = await heldBy(target, 500, policy);
    await lost();
    const perSecond: number[] = [];
    let before = 0;
    for (let second = 0; second < 10; second++) {
      run.advance(clock, 1_000);
      await someTurns();
      await until('nothing is in flight', () => run.stats().pending === 0);
      const { attempted } = run.stats();
      perSecond.push(attempted - 500 - before);
      before = attempted - 500;
    }
    run.advance(clock, 10);
    await until('all are back', () => run.stats().reopened === 500);
    // 50 a second are meant; 500 without jitter. Chance has a fixed seed here, and its spread is 7.
    for (const count of perSecond) assert(count >= 20 && count <= 90, perSecond.join(' '));
    await run.stop();
  });

  test('of a half leaves the first half of the wait empty', async () => {
    const target = await Target.listen();
    const policy: ReopenPolicy = { kind: 'fixed', firstMs: 10_000, mostMs: 10_000, jitter: 0.5 };
    const { run, clock, lost } = await heldBy(target, 100, policy);
    await lost();
    run.advance(clock, 4_990);
    await someTurns();
    assert.equal(run.stats().attempted, 100);
    run.advance(clock, 2_500);
    await until('about half are back', () => run.stats().reopened >= 30);
    await someTurns();
    assert(run.stats().reopened <= 70, `${run.stats().reopened}`);
    await run.stop();
  });
});

test('what waits when the run ends is given up, and is neither failed nor unattempted', async () => {
  const target = await Target.listen();
  const { run, clock, lost } = await heldBy(target, 30, {
    ...IMMEDIATE,
    kind: 'fixed',
    firstMs: 60_000,
    mostMs: 60_000,
  });
  await lost();
  // A wait is no connection: an address that goes away takes none of it along.
  run.engine.loseSources([OWN_SOURCE]);
  run.advance(clock, 1_000);
  await someTurns();
  const stats = await run.stop();
  assert.deepEqual([stats.dropped, stats.failed, stats.unattempted, stats.closed], [{ rst: 30 }, {}, 0, 0]);
});
