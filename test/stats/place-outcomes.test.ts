/** Tests that outcomes by place stay within their bound, keep every count, and add up in any order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  boundedPlaces,
  mergePlaces,
  mergePortBlocks,
  OTHER_PLACES,
  PLACES_MAX,
  type PlaceTable,
  placesKept,
  withDrops,
} from '../../src/stats/place-outcomes.ts';

const plain = structuredClone;
const rowOf = (asked: number) => ({ asked, established: 0, failed: { refused: asked }, dropped: {} });
const tableOf = (names: readonly string[]): PlaceTable =>
  boundedPlaces(names.map((name) => [name, rowOf(1)]));
const askedOf = (table: PlaceTable): number =>
  Object.values(table).reduce((sum, { asked }) => sum + asked, 0);

const names = fc.array(
  fc.nat(600).map((index) => `10.0.${index >> 8}.${index & 255}`),
  { maxLength: 700 },
);

test('tables keep the first places in sorted order, and every count, in whatever order they are added', () => {
  fc.assert(
    fc.property(names, names, names, (a, b, c) => {
      const whole = tableOf([...a, ...b, ...c]);
      assert.equal(askedOf(whole), a.length + b.length + c.length);
      const own = Object.keys(whole).filter((name) => name !== OTHER_PLACES);
      assert.deepEqual(own.toSorted(), [...new Set([...a, ...b, ...c])].toSorted().slice(0, PLACES_MAX));
      assert.deepEqual(
        plain(mergePlaces(tableOf(a), mergePlaces(tableOf(b), tableOf(c)))),
        plain(mergePlaces(mergePlaces(tableOf(c), tableOf(b)), tableOf(a))),
      );
      assert.deepEqual(plain(mergePlaces(mergePlaces(tableOf(a), tableOf(b)), tableOf(c))), plain(whole));
    }),
    { numRuns: 30 },
  );
});

test('up to the bound each place has its own row; one that is called like the others is no place', () => {
  const many = Array.from({ length: PLACES_MAX }, (_, index) => `p${index}`);
  assert.equal(placesKept(many).size, PLACES_MAX);
  assert.equal(placesKept([...many, 'one-more']).size, PLACES_MAX);
  assert.equal(placesKept([OTHER_PLACES]).size, 0);
});

test('everything that was open is lost at its place; what has no row, or no place, at the others', () => {
  const table = tableOf(['a', 'a', 'b']);
  const lost = withDrops(table, { a: 2, unknown: 3 }, 10, 'holder-lost');
  assert.deepEqual(plain(lost.a), { ...rowOf(2), dropped: { 'holder-lost': 2 } });
  assert.deepEqual(lost.b, table.b);
  assert.deepEqual(plain(lost[OTHER_PLACES]?.dropped), { 'holder-lost': 8 });
});

test('blocks of ports add up by position, whichever list is longer', () => {
  const some = { asked: [1, 2], established: [1], answeredNo: [], silent: [0, 2] };
  const more = { asked: [1], established: [0, 0, 5], answeredNo: [1], silent: [] };
  const sum = { asked: [2, 2], established: [1, 0, 5], answeredNo: [1], silent: [0, 2] };
  assert.deepEqual(mergePortBlocks(some, more), sum);
  assert.deepEqual(mergePortBlocks(more, some), sum);
});
