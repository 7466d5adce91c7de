/** Tests the chart in characters: what each column shows, and when it is full or empty. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chartRow, openOverTime } from '../../src/report/chart.ts';

test('the chart shows the lowest number open in each part of the time', () => {
  const points = [
    { atSec: 0, open: 0 },
    { atSec: 1, open: 100 },
    { atSec: 5, open: 100 },
    { atSec: 6, open: 40 },
    { atSec: 6.1, open: 100 },
    { atSec: 10, open: 100 },
  ];
  assert.deepEqual(openOverTime(points, 10), [0, 100, 100, 100, 100, 100, 40, 40, 40, 100]);
  assert.deepEqual(openOverTime([], 3), [0, 0, 0]);
});

test('a column of the chart is full only when nothing is missing, and empty only when nothing is open', () => {
  const chart = (value: number): string[] => [0, 1].map((row) => chartRow([value], 1_000, row, 2));
  assert.deepEqual(chart(1_000), ['█', '█']);
  assert.deepEqual(chart(999), ['▇', '█']);
  assert.deepEqual(chart(500), [' ', '█']);
  assert.deepEqual(chart(1), [' ', '▁']);
  assert.deepEqual(chart(0), [' ', ' ']);
});
