/** Tests how long a lost connection waits before each try. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IMMEDIATE, type ReopenPolicy, reopenWaitMs, TRIES_MAX } from '../../src/run/reopen-policy.ts';

const BACKOFF: ReopenPolicy = { kind: 'backoff', firstMs: 1_000, mostMs: 60_000, jitter: 0 };

function waits(policy: ReopenPolicy, tries: number): number[] {
  return Array.from({ length: tries }, (_, failed) => reopenWaitMs(policy, failed, 0.75));
}

test('immediate waits for nothing first, then for a second', () => {
  assert.deepEqual(waits(IMMEDIATE, 4), [0, 1_000, 1_000, 1_000]);
});

test('fixed waits equally long before each try', () => {
  assert.deepEqual(waits({ kind: 'fixed', firstMs: 250, mostMs: 250, jitter: 0 }, 3), [250, 250, 250]);
});

test('backoff doubles up to the longest wait, and stays there', () => {
  assert.deepEqual(waits(BACKOFF, 8), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  assert.equal(reopenWaitMs(BACKOFF, TRIES_MAX, 0), 60_000);
  const slow = { ...BACKOFF, firstMs: 1, mostMs: 86_400_000 };
  assert.equal(
    reopenWaitMs(slow, TRIES_MAX, 0),
    86_400_000,
    'also from the shortest to the longest that are taken',
  );
});

test('jitter leaves its part of each wait to chance, and the rest is waited for', () => {
  const half = { ...BACKOFF, jitter: 0.5 };
  assert.equal(reopenWaitMs(half, 1, 0), 2_000);
  assert.equal(reopenWaitMs(half, 1, 0.5), 1_500);
  assert.equal(Math.round(reopenWaitMs(half, 1, 1 - 1e-9)), 1_000);
  assert.equal(Math.round(reopenWaitMs({ ...BACKOFF, jitter: 1 }, 0, 1 - 1e-9)), 0);
});
