import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/host/system-clock.ts';

test('the monotonic clock moves forward by about the time that passes, in milliseconds', async () => {
  const outerNs = process.hrtime.bigint();
  const before = systemClock.monotonicMs();
  await sleep(50);
  const passedMs = systemClock.monotonicMs() - before;
  const outerMs = Number(process.hrtime.bigint() - outerNs) / 1e6;
  assert.ok(passedMs >= 49 && passedMs <= outerMs + 1, `${passedMs} ms of ${outerMs} ms`);
});

test('the wall clock counts milliseconds since 1970', () => {
  assert.ok(systemClock.wallMs() > Date.parse('2024-01-01'));
});
