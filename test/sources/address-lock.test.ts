import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/host/system-clock.ts';
import { withAddressLock } from '../../src/sources/address-lock.ts';
import { realWaiting, type Waiting } from '../../src/time/timer.ts';
import { FakeTime } from '../support/fake-time.ts';

/** A run on this host may hold the lock of all runs at any time. */
const NAME = `\0c100k-bench-test-${process.pid}`;
const REAL = realWaiting(systemClock.monotonicMs);

/** Takes the lock and holds it; resolves once it is held. */
async function hold(): Promise<{ release: (error?: Error) => void; held: Promise<void> }> {
  let release: (error?: Error) => void = () => {};
  const gate = new Promise<void>((resolve, reject) => {
    release = (error) => (error === undefined ? resolve() : reject(error));
  });
  let held = Promise.resolve();
  const isLocked = await new Promise<boolean>((resolve) => {
    const work = async (isMine: boolean): Promise<void> => {
      resolve(isMine);
      await gate;
    };
    held = withAddressLock(work, REAL, NAME);
  });
  assert.equal(isLocked, true);
  return { held, release };
}

test('one at a time: who comes later waits until the first has ended, also after a throw', async () => {
  const first = await hold();
  const order: string[] = [];
  let tries = 0;
  const counting: Waiting = {
    nowMs: REAL.nowMs,
    pause: async (ms) => {
      tries += 1;
      await sleep(ms);
    },
  };
  const second = withAddressLock(
    async (isLocked) => order.push(`second begins, ${isLocked}`),
    counting,
    NAME,
  );
  while (tries < 2) await sleep(1);
  order.push('first ends');
  first.release(new Error('and fails'));
  await assert.rejects(first.held, /and fails/);
  await second;
  assert.deepEqual(order, ['first ends', 'second begins, true']);
});

test('who waits for ten seconds goes on without the lock: seconds of the clock, however long a try takes', async () => {
  const first = await hold();
  try {
    const waiting = new FakeTime(980);
    const beganMs = waiting.now;
    assert.equal(await withAddressLock(async (isLocked) => isLocked, waiting, NAME), false);
    assert(waiting.now - beganMs <= 11_000, `${waiting.now - beganMs} ms`);
    assert.equal(waiting.pauses.length, 10);
  } finally {
    first.release();
    await first.held;
  }
});
