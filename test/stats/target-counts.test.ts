/** Owns the proof that what a target says is checked before it is believed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTargetCounts } from '../../src/stats/target-counts.ts';

const COUNTS = {
  openNow: 5,
  openMax: 6,
  acceptedTotal: 7,
  sourceAddresses: 1,
  descriptorsFull: 0,
  workersLost: 0,
};

test('a whole answer is read, with whatever else it holds left out', () => {
  assert.deepEqual(parseTargetCounts(JSON.stringify({ ...COUNTS, bySource: { '127.0.0.1': 5 } })), COUNTS);
});

test('anything else is no answer', () => {
  const { openNow: _, ...without } = COUNTS;
  for (const bad of ['', '<html>', 'null', '[]', '5', JSON.stringify(without)])
    assert.equal(parseTargetCounts(bad), null);
  for (const value of [-1, 1.5, '5', null, Number.MAX_VALUE]) {
    assert.equal(parseTargetCounts(JSON.stringify({ ...COUNTS, openNow: value })), null, String(value));
  }
});

test('numbers that cannot be are no counts: more open than ever, or than were accepted', () => {
  assert.equal(parseTargetCounts(JSON.stringify({ ...COUNTS, openNow: 7 })), null);
  assert.equal(parseTargetCounts(JSON.stringify({ ...COUNTS, openMax: 8 })), null);
  assert.equal(parseTargetCounts('{"openNow":1e999}'), null);
});
