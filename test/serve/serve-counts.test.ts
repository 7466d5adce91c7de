import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatServeCounts,
  mergeSources,
  type ServeCounts,
  ZERO_TOTALS,
} from '../../src/serve/serve-counts.ts';

const QUIET: ServeCounts = {
  ...ZERO_TOTALS,
  openNow: 130_000,
  openMax: 130_000,
  acceptedTotal: 130_000,
  sourceAddresses: 4,
  bySource: {},
  workers: 8,
  workersLost: 0,
  servedMs: 1,
};

test('the line says what is held now, at most and in all, and from how many addresses', () => {
  assert.equal(
    formatServeCounts(QUIET),
    'holds 130,000 now, 130,000 at most, from 4 source addresses; accepted 130,000 in all',
  );
});

test('the line names what went wrong, and one is not several', () => {
  assert.equal(
    formatServeCounts({
      ...QUIET,
      openNow: 1,
      sourceAddresses: 1,
      reset: 12,
      descriptorsFull: 1,
      workersLost: 2,
    }),
    'holds 1 now, 130,000 at most, from 1 source address; accepted 130,000 in all; 12 reset; 1 time out of descriptors; 2 workers lost',
  );
});

test('a source that several workers hold is one source, and only the busiest 1,000 are named', () => {
  const many = Array.from({ length: 1_500 }, (_, index) => [`10.0.${index >> 8}.${index & 255}`, 1] as const);
  const merged = mergeSources([many, [['10.0.0.7', 4]], [['127.0.0.2', 2]]]);
  assert.equal(merged.sourceAddresses, 1_501);
  assert.equal(Object.keys(merged.bySource).length, 1_000);
  assert.equal(merged.bySource['10.0.0.7'], 5);
  assert.deepEqual(Object.keys(merged.bySource).slice(0, 2), ['10.0.0.7', '127.0.0.2']);
});
