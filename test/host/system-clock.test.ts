import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/host/system-clock.ts';

test('the monotonic clock moves forward by about the time that passes, in milliseconds', async () => {
  const before = systemClock.monotonicMs();
  await sleep(50);
  const passedMs = systemClock.monotonicMs() - before;
  assert.ok(passedMs >= 49 && passedMs < 5_000, `${passedMs} ms`);
});

test('the wall clock counts milliseconds since 1970', () => {
  assert.ok(systemClock.wallMs() > Date.parse('2024-01-01'));
});
