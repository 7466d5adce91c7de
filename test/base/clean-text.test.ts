/** Tests that a cleaned text does nothing but be read, and that nothing else is changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  cleanDeep,
  cleanJson,
  cleanLines,
  cleanText,
  cutText,
  isCleanText,
} from '../../src/base/clean-text.ts';
import { hasOrder, hostileText, INVISIBLE } from '../support/hostile-text.ts';

test('a cleaned text is one visible line, no longer than before, and cleaning it again changes nothing', () => {
  fc.assert(
    fc.property(hostileText, (text) => {
      const clean = cleanText(text);
      assert.doesNotMatch(clean, INVISIBLE);
      assert.doesNotMatch(clean, /\n/);
      assert(clean.length <= text.length);
      assert.equal(cleanText(clean), clean);
      assert.equal(isCleanText(clean), true);
      assert.equal(isCleanText(text), clean === text);
    }),
    { numRuns: 2_000 },
  );
});

test('what is visible stays as it is, in every script', () => {
  for (const text of ['held 5 of 5', 'Prüfstand', '压测', 'معدل', '✓ 👍 é', 'a::b ## [c]', "it's <b>"])
    assert.equal(cleanText(text), text);
  assert.equal(cleanText('a\tb\r\nc\u001b[31md\u202ee'), 'a b  c?[31md?e');
});

test('cleaned lines keep their ends, and none is an order to a CI server', () => {
  fc.assert(
    fc.property(fc.array(hostileText, { maxLength: 4 }), (lines) => {
      const clean = cleanLines(lines.join('\n'));
      assert.doesNotMatch(clean, INVISIBLE);
      assert.equal(hasOrder(clean), false, clean);
      assert.equal(clean.split('\n').length, lines.join('\n').split('\n').length);
    }),
    { numRuns: 2_000 },
  );
  assert.equal(cleanLines('  ::error file=x::y'), '  : :error file=x::y');
  assert.equal(cleanLines('see ##[group]'), 'see # #[group]');
  for (const text of ['::1 5,000', '::ffff:10.0.0.1 and ::1', 'a ::error:: b', '## heading'])
    assert.equal(cleanLines(text), text);
});

test('a cut never leaves half a character', () => {
  assert.deepEqual(
    [0, 1, 2, 3].map((max) => cutText('a😀b', max)),
    ['', 'a', 'a', 'a😀'],
  );
});

test('JSON says the same after it was cleaned, and can be shown', () => {
  fc.assert(
    fc.property(fc.dictionary(hostileText, hostileText), (value) => {
      const json = cleanJson(JSON.stringify(value, null, 2));
      assert.doesNotMatch(json, INVISIBLE);
      assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 1_000 },
  );
});

test('a value is cleaned all the way down, keys included; counts of keys that become the same are added', () => {
  const value = { 'a\u0000': 2, 'a\u0001': 3, list: ['\u001b', { deep: '\r' }], none: null };
  const clean = cleanDeep(value) as unknown;
  assert.deepEqual(structuredClone(clean), { 'a?': 5, list: ['?', { deep: ' ' }], none: null });
  assert.equal(Object.getPrototypeOf(clean), null);
});
