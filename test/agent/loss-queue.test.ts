/** Tests that details of losses keep to the channel's limit, and that none is told twice or out of order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LossQueue } from '../../src/agent/loss-queue.ts';
import type { Loss } from '../../src/stats/loss.ts';

const lossAt = (atMs: number): Loss => ({
  atMs,
  holder: 'h',
  source: '127.0.0.1:1',
  endpoint: '127.0.0.1:2',
  ageMs: 0,
  reason: 'rst',
  count: 1,
});

test('what comes is told at once, up to the limit; the rest with the next reports, in order', () => {
  const told: number[] = [];
  const queue = new LossQueue(([loss]) => told.push(loss!.atMs));
  for (let index = 0; index < 50; index++) queue.add([lossAt(index)]);
  assert.equal(told.length, 20);
  queue.nextReport();
  assert.equal(told.length, 40);
  queue.nextReport();
  queue.nextReport();
  assert.deepEqual(told, [...Array(50).keys()]);
});

test('before the last word more may go, counted from the last report, and the rest is left', () => {
  const told: number[] = [];
  const queue = new LossQueue(([loss]) => told.push(loss!.atMs));
  for (let index = 0; index < 100; index++) queue.add([lossAt(index)]);
  queue.lastWord();
  assert.deepEqual(told, [...Array(60).keys()]);
});
