/** Tests how connections are spread over back ends, over time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BalanceLog, balanceRatio } from '../../src/stats/balance.ts';

test('the ratio is the highest over the mean: 1 when even, as many as there are when one has all', () => {
  assert.equal(balanceRatio({ a: 5, b: 5 }), 1);
  assert.equal(balanceRatio({ a: 9, b: 0, c: 0 }), 3);
  assert.equal(balanceRatio({ a: 300, b: 100, c: 80 }), 1.875);
  assert.equal(balanceRatio({ a: 0 }), null);
  assert.equal(balanceRatio(undefined), null);
});

test('start and end are those of the hold, and the series keeps its bound however long it gets', () => {
  const log = new BalanceLog();
  assert.equal(log.value(), null);
  log.add({ a: 1 }, 500, false);
  for (let sec = 1; sec <= 5_000; sec++) log.add({ a: sec, b: 5_000 - sec }, sec * 1_000, true);
  const balance = log.value();
  assert(balance !== null);
  assert.deepEqual(balance.start, { atSec: 1, open: { a: 1, b: 4_999 } });
  assert.deepEqual(balance.end, { atSec: 5_000, open: { a: 5_000, b: 0 } });
  assert.deepEqual([balance.ratioAtStart, balance.ratioAtEnd], [1.9996, 2]);
  const { series } = balance;
  assert(series.length > 50 && series.length <= 121, `${series.length}`);
  assert.deepEqual(
    series.map(({ atSec }) => atSec),
    series.map(({ atSec }) => atSec).toSorted((a, b) => a - b),
  );
  assert((series.at(-1)?.atSec ?? 0) > 4_800, 'to the end');
});
