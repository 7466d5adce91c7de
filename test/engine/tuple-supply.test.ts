/** Tests the order in which the tuples of a slice are tried, and that none is ever forgotten. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TupleSupply } from '../../src/engine/tuple-supply.ts';

/** How long a tuple rests that was in use twice, and each time after that. */
const REST_SHORT_MS = 1_000;
const REST_LONG_MS = 15_000;

test('every tuple of the slice comes once, in order, then none', () => {
  const supply = new TupleSupply({ from: 2 ** 33, to: 2 ** 33 + 3 });
  assert.deepEqual(
    [supply.take(0), supply.take(0), supply.take(0), supply.take(0)],
    [2 ** 33, 2 ** 33 + 1, 2 ** 33 + 2, -1],
  );
  assert.equal(supply.used, 3);
});

test('a skipped tuple gets one more try after all others, then rests, shortly once and longer from then on', () => {
  const supply = new TupleSupply({ from: 0, to: 3 });
  supply.skipped(supply.take(0), supply.skips, 0);
  assert.equal(supply.skips, 0);
  assert.deepEqual([supply.take(0), supply.take(0)], [1, 2]);
  assert.equal(supply.take(0), 0);
  assert.equal(supply.skips, 1);
  supply.skipped(0, supply.skips, 10);
  assert.equal(supply.resting, 1);
  assert.equal(supply.take(10 + REST_SHORT_MS - 1), -1);
  for (let atMs = 10 + REST_SHORT_MS, round = 0; round < 10; round++, atMs += REST_LONG_MS) {
    assert.equal(supply.take(atMs), 0);
    assert.equal(supply.skips, 2);
    supply.skipped(0, supply.skips, atMs);
    assert.equal(supply.take(atMs + REST_LONG_MS - 1), -1);
  }
});

test('a freed tuple comes again as often as it is freed', () => {
  const supply = new TupleSupply({ from: 5, to: 6 });
  for (let round = 0; round < 10; round++) {
    const tuple = supply.take(round);
    assert.equal(tuple, 5);
    supply.freed(tuple, round);
  }
  assert.equal(supply.used, 1);
});

test('a tuple that our FIN has closed rests until TIME_WAIT is over, and is none that was in use', () => {
  const supply = new TupleSupply({ from: 5, to: 6 });
  supply.closedByUs(supply.take(0), 100);
  assert.deepEqual([supply.take(100), supply.take(65_099)], [-1, -1]);
  assert.deepEqual([supply.take(65_100), supply.skips], [5, 0]);
});

test('a slice of 100,000 that is lost as a whole comes back as a whole, the longest free first', () => {
  const size = 100_000;
  const supply = new TupleSupply({ from: 0, to: size });
  for (let round = 0; round < 3; round++) {
    for (let tuple = 0; tuple < size; tuple++) assert.equal(supply.take(round), tuple);
    assert.equal(supply.take(round), -1);
    for (let tuple = 0; tuple < size; tuple++) supply.freed(tuple, round);
  }
});

test('as many may rest as the slice has: all of them come back', () => {
  const size = 100_000;
  const supply = new TupleSupply({ from: 0, to: size });
  for (let tries = 0; tries < 2 * size; tries++) supply.skipped(supply.take(0), supply.skips, 0);
  assert.equal(supply.resting, size);
  assert.equal(supply.take(0), -1);
  const again = new Set<number>();
  for (let tries = 0; tries < size; tries++) again.add(supply.take(REST_SHORT_MS));
  assert.equal(again.size, size);
  assert(!again.has(-1));
});

test('an empty slice has nothing', () => {
  assert.equal(new TupleSupply({ from: 4, to: 4 }).take(0), -1);
});

test('no tuple is ever in two hands or in none: what a plain list of all tuples allows is what comes', () => {
  const moves = fc.array(fc.tuple(fc.nat({ max: 4 }), fc.nat({ max: REST_LONG_MS })), { maxLength: 300 });
  fc.assert(
    fc.property(fc.nat({ max: 30 }), moves, (size, choices) => {
      const supply = new TupleSupply({ from: 100, to: 100 + size });
      /** by tuple: null in hands; else from when it may come, and how often in a row it was in use */
      const model = Array.from({ length: size }, () => ({ fromMs: 0, skips: 0, isHeld: false }));
      const held: number[] = [];
      let nowMs = 0;
      for (const [choice, waitMs] of choices) {
        nowMs += waitMs;
        const tuple = supply.take(nowMs);
        const due = model.filter((one) => !one.isHeld && one.fromMs <= nowMs);
        if (tuple < 0) {
          assert.equal(due.length, 0, 'nothing comes although something is due');
          const back = held.shift();
          if (back !== undefined) {
            supply.freed(back, nowMs);
            model[back - 100] = { fromMs: nowMs, skips: 0, isHeld: false };
          }
          continue;
        }
        const one = model[tuple - 100]!;
        assert(due.includes(one), 'in hands already, or before its time');
        assert.equal(one.skips, Math.min(...due.map(({ skips }) => skips)), 'others come first');
        if (choice === 0) {
          supply.skipped(tuple, supply.skips, nowMs);
          const restMs = [0, REST_SHORT_MS, REST_LONG_MS][one.skips]!;
          model[tuple - 100] = { fromMs: nowMs + restMs, skips: Math.min(2, one.skips + 1), isHeld: false };
        } else if (choice === 1) {
          supply.freed(tuple, nowMs);
          model[tuple - 100] = { fromMs: nowMs, skips: 0, isHeld: false };
        } else {
          one.isHeld = true;
          held.push(tuple);
        }
      }
    }),
  );
});

test('what was freed first comes first, as a list would give it, also beyond 2^32 and over many blocks', () => {
  const size = 30_000;
  const from = 2 ** 40;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.nat({ max: 9_000 })), { minLength: 1, maxLength: 12 }),
      (moves) => {
        const supply = new TupleSupply({ from, to: from + size });
        /** those in use and those that are free, each in the order in which they became so */
        const inUse = Array.from({ length: size }, () => supply.take(0));
        const free: number[] = [];
        let [used, freed] = [0, 0];
        for (const [isFreed, count] of moves) {
          for (let nth = 0; nth < count; nth++) {
            if (isFreed && used < inUse.length) {
              const tuple = inUse[used++]!;
              supply.freed(tuple, nth);
              free.push(tuple);
            } else if (!isFreed) {
              const expected = freed < free.length ? free[freed++]! : -1;
              assert.equal(supply.take(nth), expected);
              if (expected >= 0) inUse.push(expected);
            }
          }
        }
        while (freed < free.length) assert.equal(supply.take(0), free[freed++]);
        assert.equal(supply.take(0), -1, 'an empty queue gives none');
      },
    ),
    { numRuns: 50 },
  );
});

test('each of many that rest comes back when its own time is over, not before, over many blocks', () => {
  const size = 10_000;
  const supply = new TupleSupply({ from: 0, to: size });
  for (let tuple = 0; tuple < size; tuple++) supply.skipped(supply.take(0), supply.skips, 0);
  for (let tuple = 0; tuple < size; tuple++) supply.skipped(supply.take(tuple), supply.skips, tuple);
  for (let tuple = 0; tuple < size; tuple++) {
    assert.equal(supply.resting, size - tuple);
    assert.equal(supply.take(tuple + REST_SHORT_MS - 0.5), -1);
    assert.equal(supply.take(tuple + REST_SHORT_MS), tuple);
  }
});
