/** Tests that details of losses go in few messages within the channel's limit, in order, and that what is left out is counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LossQueue } from '../../src/agent/loss-queue.ts';
import { LOSS_BATCH_MAX, type Loss } from '../../src/stats/loss.ts';

const lossAt = (atMs: number, count = 1): Loss => ({
  atMs,
  holder: 'h',
  source: '127.0.0.1:1',
  endpoint: '127.0.0.1:2',
  ageMs: 0,
  reason: 'rst',
  count,
});
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, index) => from + index);

function queueOf(): { readonly queue: LossQueue; readonly messages: number[][]; told(): number[] } {
  const messages: number[][] = [];
  const queue = new LossQueue((losses) => messages.push(losses.map(({ atMs }) => atMs)));
  return { queue, messages, told: () => messages.flat() };
}

test('what 50 holders tell within a second goes in one message, before the report, and all of it', () => {
  const { queue, messages, told } = queueOf();
  for (const holder of range(0, 50)) queue.add(range(holder * 5, holder * 5 + 5).map((at) => lossAt(at)));
  assert.equal(messages.length, 0);
  queue.nextReport();
  assert.equal(messages.length, 1);
  assert.deepEqual(told(), range(0, 250));
  assert.equal(queue.cut, 0);
});

test('full messages go at once, 20 between two reports, and the rest with the next ones, in order', () => {
  const { queue, messages, told } = queueOf();
  for (const holder of range(0, 50))
    queue.add(range(holder * 1_000, holder * 1_000 + 1_000).map((at) => lossAt(at)));
  assert.equal(messages.length, 20);
  queue.nextReport();
  assert.equal(messages.length, 40);
  queue.nextReport();
  assert.equal(messages.length, 50);
  assert.deepEqual(told(), range(0, 50_000));
  assert.equal(queue.cut, 0);
});

test('before the last word more may go, and what is left then is counted by connections', () => {
  const { queue, messages } = queueOf();
  queue.add(range(0, 70_000).map((at) => lossAt(at, 3)));
  queue.finish();
  assert.equal(messages.length, 60);
  assert.equal(queue.cut, 3 * 10_000);
});

test('more than 100,000 that wait are left out and counted', () => {
  const { queue } = queueOf();
  queue.add(range(0, 100_000 + 77).map((at) => lossAt(at)));
  assert.equal(queue.cut, 77);
});

test('whatever comes and whenever reports are due: in order, none twice, and none missing but those that are counted', () => {
  const step = fc.oneof(fc.constant('report' as const), fc.integer({ min: 1, max: 15_000 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { queue, messages, told } = queueOf();
      let next = 0;
      let sinceReport = 0;
      for (const each of steps) {
        if (each === 'report') {
          queue.nextReport();
          sinceReport = messages.length;
        } else {
          queue.add(range(next, next + each).map((at) => lossAt(at)));
          next += each;
        }
        assert(messages.length - sinceReport <= 40);
      }
      queue.finish();
      const all = told();
      assert.equal(all.length + queue.cut, next);
      assert(all.every((at, index) => index === 0 || at > all[index - 1]!));
      assert(messages.every((message) => message.length >= 1 && message.length <= LOSS_BATCH_MAX));
    }),
    { numRuns: 60 },
  );
});
