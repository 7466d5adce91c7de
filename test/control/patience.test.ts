import assert from 'node:assert/strict';
import { it } from 'node:test';
import { lateAfter } from '../../src/control/patience.ts';

it('counts a pause of this process as one look, whatever its length', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let isLate = false;
  lateAfter(3_000, () => {
    isLate = true;
  });
  // What a stopped process sees when it goes on: its timer is due, and nothing that came meanwhile is read yet.
  t.mock.timers.tick(500);
  for (let looks = 1; looks < 5; looks++) t.mock.timers.tick(500);
  assert.equal(isLate, false);
  t.mock.timers.tick(500);
  assert.equal(isLate, true);
});

it('is over when it is told so', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let calls = 0;
  const stop = lateAfter(500, () => calls++);
  stop();
  t.mock.timers.tick(5_000);
  stop();
  assert.equal(calls, 0);
});
