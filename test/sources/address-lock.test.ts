import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { withAddressLock } from '../../src/sources/address-lock.ts';

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
