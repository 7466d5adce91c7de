/** Tests how lines are broken. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wrapText } from '../../src/report/layout.ts';

test('a line ends at a space, and a longer word stands alone', () => {
  assert.deepEqual(wrapText('one two three', 7), ['one two', 'three']);
  assert.deepEqual(wrapText('a connection-that-is-long b', 6), ['a', 'connection-that-is-long', 'b']);
  assert.deepEqual(wrapText('', 10), []);
});

test('a number stays with its unit', () => {
  assert.deepEqual(wrapText('back after 1.75 s', 15), ['back after', '1.75 s']);
  assert.deepEqual(wrapText('it took 12 ms, and 3 %', 11), ['it took', '12 ms, and', '3 %']);
  // What only looks like a unit is a word.
  assert.deepEqual(wrapText('of 3 seconds', 5), ['of 3', 'seconds']);
  assert.deepEqual(wrapText('it s', 3), ['it', 's']);
});
