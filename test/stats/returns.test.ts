/** Tests the counts of how lost connections come back: by quarters of the run's time, added up over processes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeReturns, ReturnRecorder } from '../../src/stats/returns.ts';

test('each kind is counted in the quarter of the run in which it happened', () => {
  const recorder = new ReturnRecorder();
  recorder.startsLater(1_000);
  recorder.called(0);
  recorder.called(249);
  recorder.failed(true, 300);
  recorder.failed(false, 550);
  recorder.called(600);
  recorder.isBack(760);
  assert.deepEqual(recorder.list(), {
    calls: [4, 2, 6, 1],
    back: [7, 1],
    refused: [5, 1],
    failed: [6, 1],
  });
});

test('parts add up by quarter, and one that has none changes nothing', () => {
  const a = { calls: [4, 2], back: [5, 1], refused: [], failed: [] };
  const b = { calls: [4, 3, 6, 1], back: [], refused: [9, 1], failed: [] };
  assert.deepEqual(mergeReturns(a, b), { calls: [4, 5, 6, 1], back: [5, 1], refused: [9, 1], failed: [] });
  assert.equal(mergeReturns(a, undefined), a);
  assert.equal(mergeReturns(undefined, undefined), undefined);
});
