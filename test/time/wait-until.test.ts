/** Tests waiting by a clock that only the test moves: no real time passes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitUntil } from '../../src/time/wait-until.ts';
import { FakeTime } from '../support/fake-time.ts';

test('it ends as soon as it is so', async () => {
  const time = new FakeTime();
  let asked = 0;
  assert.equal(await waitUntil(() => ++asked === 3, 20_000, 100, time), true);
  assert.equal(asked, 3);
  assert.equal(time.now, 10_200);
});

test('questions that take long count: a deadline of 2 s with answers of 1 s is three questions, not twenty', async () => {
  const time = new FakeTime();
  let asked = 0;
  const isSo = await waitUntil(
    async () => {
      asked += 1;
      time.now += 1_000;
      return false;
    },
    12_000,
    100,
    time,
  );
  assert.equal(isSo, false);
  assert.equal(asked, 2);
  assert(time.now <= 12_100, `${time.now}`);
});

test('pauses that take long count too', async () => {
  const time = new FakeTime(900);
  let asked = 0;
  assert.equal(await waitUntil(() => ++asked === 100, 12_000, 100, time), false);
  assert.equal(asked, 3);
});

test('the last pause ends at the deadline, and who is asked knows what is left', async () => {
  const time = new FakeTime();
  const left: number[] = [];
  await waitUntil((ms) => left.push(ms) === 0, 10_250, 100, time);
  assert.deepEqual(left, [250, 150, 50, 1]);
  assert.deepEqual(time.pauses, [100, 100, 50]);
});

test('with a deadline that has passed it is still asked for once', async () => {
  const time = new FakeTime();
  assert.equal(await waitUntil(() => true, 9_000, 100, time), true);
  assert.equal(await waitUntil(() => false, 9_000, 100, time), false);
  assert.deepEqual(time.pauses, []);
});
