import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCount, isLike, isNumber, isTable } from '../../src/base/shape.ts';

test('a table is neither a list nor null', () => {
  for (const value of [{}, { a: 1 }]) assert(isTable(value));
  for (const value of [null, undefined, [], 'a', 1, () => {}]) assert(!isTable(value));
});

test('a number can be added, and a count is at least 0', () => {
  for (const value of [0, 1.5, 2 ** 60]) assert(isNumber(value) && isCount(value));
  assert(isNumber(-1) && !isCount(-1));
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, '1', null, 1n, [1]])
    assert(!isNumber(value) && !isCount(value));
});

const MODEL = { name: '', open: 0, is: true, end: null, pairs: [], by: {}, in: { deep: 0 } };
const VALUE = { name: 'a', open: 3, is: false, end: null, pairs: [5, 1], by: { rst: 2 }, in: { deep: 1 } };

test('what has all that the model has is like it, with more or without', () => {
  assert(isLike(MODEL, VALUE));
  assert(isLike(MODEL, { ...VALUE, end: 7, more: 'x', pairs: [], by: {} }));
});

test('each part is of the kind of its model', () => {
  const wrong: Record<keyof typeof MODEL, readonly unknown[]> = {
    name: [1, null, undefined],
    open: ['3', -1, Number.NaN, null, undefined],
    is: [0, null, undefined],
    end: ['x', -1, undefined],
    pairs: [[1], [1, -1], [1, 'x'], {}, null, undefined],
    by: [{ rst: -1 }, { rst: 'x' }, [], null, undefined],
    in: [{}, { deep: 'x' }, [], null, undefined],
  };
  for (const [key, values] of Object.entries(wrong))
    for (const value of values) assert(!isLike(MODEL, { ...VALUE, [key]: value }), `${key}: ${value}`);
  for (const value of [null, undefined, [], 'x', 1]) assert(!isLike(MODEL, value));
});
