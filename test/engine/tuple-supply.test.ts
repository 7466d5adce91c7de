/** Tests the order in which the tuples of a slice are tried. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TupleSupply } from '../../src/engine/tuple-supply.ts';

test('every tuple of the slice comes once, in order, then none', () => {
  const supply = new TupleSupply({ from: 2 ** 33, to: 2 ** 33 + 3 });
  assert.deepEqual(
    [supply.take(), supply.take(), supply.take(), supply.take()],
    [2 ** 33, 2 ** 33 + 1, 2 ** 33 + 2, -1],
  );
  assert.equal(supply.used, 3);
});

test('a skipped tuple gets one more try after all others, and no third', () => {
  const supply = new TupleSupply({ from: 0, to: 3 });
  supply.skipped(supply.take());
  assert.equal(supply.isRetry, false);
  assert.deepEqual([supply.take(), supply.take()], [1, 2]);
  assert.equal(supply.take(), 0);
  assert.equal(supply.isRetry, true);
  supply.skipped(0);
  assert.equal(supply.take(), -1);
});

test('a freed tuple comes again as often as it is freed', () => {
  const supply = new TupleSupply({ from: 5, to: 6 });
  for (let round = 0; round < 10; round++) {
    const tuple = supply.take();
    assert.equal(tuple, 5);
    supply.freed(tuple);
  }
  assert.equal(supply.used, 1);
});

test('an empty slice has nothing', () => {
  assert.equal(new TupleSupply({ from: 4, to: 4 }).take(), -1);
});

test('no tuple is ever in two hands, whatever comes back', () => {
  fc.assert(
    fc.property(fc.nat({ max: 30 }), fc.array(fc.nat({ max: 3 }), { maxLength: 200 }), (size, choices) => {
      const supply = new TupleSupply({ from: 100, to: 100 + size });
      const held: number[] = [];
      for (const choice of choices) {
        const tuple = supply.take();
        if (tuple < 0) {
          const back = held.shift();
          if (back !== undefined) supply.freed(back);
          continue;
        }
        assert(tuple >= 100 && tuple < 100 + size);
        assert(!held.includes(tuple), 'handed out while in use');
        if (choice === 0) supply.skipped(tuple);
        else if (choice === 1) supply.freed(tuple);
        else held.push(tuple);
      }
    }),
  );
});
