/** Tests how connections are begun: at the rate whatever stops the process, and again when tuples are free again. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { pause, until } from '../support/waiting.ts';
import { cleanUp, EngineRun, kernelCount, ManualClock, specTo, Target } from './engine-run.ts';

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
