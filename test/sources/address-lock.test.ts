import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { withAddressLock } from '../../src/sources/address-lock.ts';
import { FakeTime } from '../support/fake-time.ts';

test('one at a time: who comes later waits until the first has ended, also after a throw', async () => {
  const order: string[] = [];
  const first = withAddressLock(async (isLocked) => {
    assert.equal(isLocked, true);
    order.push('first begins');
    await sleep(80);
    order.push('first ends');
    throw new Error('and fails');
  });
  await sleep(20);
  const second = withAddressLock(async () => order.push('second begins'));
  await assert.rejects(first, /and fails/);
  await second;
  assert.deepEqual(order, ['first begins', 'first ends', 'second begins']);
});

test('who waits for ten seconds goes on without the lock: seconds of the clock, however long a try takes', async () => {
  let release = (): void => {};
  const held = withAddressLock(() => new Promise<void>((resolve) => (release = resolve)));
  await sleep(20);
  const waiting = new FakeTime(980);
  const beganMs = waiting.now;
  assert.equal(await withAddressLock(async (isLocked) => isLocked, waiting), false);
  assert(waiting.now - beganMs <= 11_000, `${waiting.now - beganMs} ms`);
  assert.equal(waiting.pauses.length, 10);
  release();
  await held;
});
