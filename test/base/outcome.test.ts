/** Tests that tables of counts add up, whatever their keys are called. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addBounded, addCounts } from '../../src/base/outcome.ts';

const key = fc.oneof(
  fc.constantFrom('toString', 'valueOf', 'constructor', '__proto__', 'hasOwnProperty', 'other'),
  fc.string({ maxLength: 3 }),
);
const table = fc
  .array(fc.tuple(key, fc.nat()))
  .map((entries): Record<string, number> => Object.assign(Object.create(null), Object.fromEntries(entries)));
const sumOf = (counts: Readonly<Record<string, number | undefined>>): number =>
  Object.values(counts).reduce<number>((sum, each) => sum + (each ?? 0), 0);

test('no count is lost or made up, whatever the keys are called', () => {
  fc.assert(
    fc.property(table, table, (a, b) => {
      const sum = addCounts(a, b);
      assert.equal(sumOf(sum), sumOf(a) + sumOf(b));
      for (const name of Object.keys(sum)) assert.equal(sum[name], (a[name] ?? 0) + (b[name] ?? 0));
      assert.equal(Object.getPrototypeOf(sum), null);
    }),
  );
});

test('a bound on the keys keeps the sum', () => {
  fc.assert(
    fc.property(table, table, fc.nat(8), (a, b, keysMax) => {
      const sum = addBounded(a, b, keysMax, 'rest');
      assert.equal(sumOf(sum), sumOf(a) + sumOf(b));
      assert(Object.keys(sum).length <= Math.max(keysMax, Object.keys(a).length) + 1);
    }),
  );
});
