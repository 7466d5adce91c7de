/** Tests each part of a message at both ends of its range and just beyond; what a whole message takes is tested in message.test.ts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import {
  address,
  bytes,
  cleanedText,
  connections,
  counts,
  countsByText,
  epoch,
  eventCount,
  figure,
  figures,
  KEY,
  milliseconds,
  NAME_CHARACTERS_MAX,
  NumberBound,
  name,
  port,
  REASON,
  sparse,
  wordOf,
} from '../../src/control/schema-part.ts';

const NUMBERS: readonly (readonly [string, v.GenericSchema, least: number, most: number])[] = [
  ['a count of events', eventCount, 0, NumberBound.count],
  ['connections', connections, 0, NumberBound.connections],
  ['bytes', bytes, 0, NumberBound.bytes],
  ['an epoch', epoch, 0, NumberBound.epoch],
  ['milliseconds', milliseconds, 0, NumberBound.ms],
  ['a figure of a host', figure, -NumberBound.figure, NumberBound.figure],
  ['a port', port, 1, 65_535],
];

describe('a number of a message', () => {
  for (const [what, schema, least, most] of NUMBERS) {
    it(`is taken at both ends of its range and not beyond: ${what}`, () => {
      for (const good of [least, most]) assert(v.is(schema, good), String(good));
      // The next number there is: 2 ** 53 + 1 is none.
      for (const bad of [least - 2, most + 2, Number.NaN, Number.POSITIVE_INFINITY, '1', null])
        assert(!v.is(schema, bad), String(bad));
    });
  }

  it('has a fraction only where it is a time or a figure of a host', () => {
    const taking = NUMBERS.filter(([, schema]) => v.is(schema, 1.5)).map(([what]) => what);
    assert.deepEqual(taking, ['milliseconds', 'a figure of a host']);
  });
});

describe('a text of a message', () => {
  it('is refused when it identifies and is not visible, and cleaned when a person reads it', () => {
    for (const bad of ['', 'a\nb', 'a\u001b[2J', 'x'.repeat(NAME_CHARACTERS_MAX + 1), 5])
      assert(!v.is(name, bad), JSON.stringify(bad));
    assert(v.is(name, 'x'.repeat(NAME_CHARACTERS_MAX)));
    const shown = v.parse(cleanedText(20), 'a\u001b[2J\u202eb');
    for (const bad of ['\u001b', '\u202e']) assert(!shown.includes(bad), JSON.stringify(shown));
    assert(!v.is(cleanedText(20), 'x'.repeat(21)));
  });

  it('is an address only when it is one', () => {
    for (const good of ['127.0.0.1', '::1']) assert(v.is(address, good), good);
    for (const bad of ['localhost', '127.0.0.1:1', '']) assert(!v.is(address, bad), bad);
  });

  it('is a word of a closed list, or the one that stands for words of a later version', () => {
    const schema = wordOf(['low', 'high'], 'high');
    assert.deepEqual(
      ['low', 'high', 'medium'].map((given) => v.parse(schema, given)),
      ['low', 'high', 'high'],
    );
    for (const bad of ['', 'Low', 'a b', '-a', 'x'.repeat(65)]) assert(!v.is(schema, bad), bad);
  });
});

describe('a table of a message', () => {
  const shape = { keysMax: 3, keyCharactersMax: 8, pattern: REASON };

  it('has counts, few enough keys, and keys of its form', () => {
    assert(v.is(counts(shape), { a: 0, b: 1, c: NumberBound.count }));
    const bad = [
      { a: 1, b: 1, c: 1, d: 1 },
      { 'a-key-that-is-long': 1 },
      { 'A B': 1 },
      { a: -1 },
      { a: 1.5 },
      { a: '1' },
      [1],
      null,
    ];
    for (const each of bad) assert(!v.is(counts(shape), each), JSON.stringify(each));
  });

  it('has no prototype, whatever its keys are called', () => {
    const wide = { ...shape, keyCharactersMax: 16, pattern: KEY };
    const table = v.parse(counts(wide), JSON.parse('{"__proto__":5}'));
    assert.equal(Object.getPrototypeOf(table), null);
    assert.deepEqual(Object.entries(table), [['__proto__', 5]]);
  });

  it('adds up texts that are the same once they are cleaned', () => {
    const any = { keysMax: 3, keyCharactersMax: 16, pattern: /./s };
    const table = v.parse(countsByText(any), { 'a\u0007': 2, 'a\u0008': 3, b: 1 });
    assert.equal(
      Object.values(table).reduce((sum, each) => sum + each, 0),
      6,
    );
    assert.equal(Object.keys(table).length, 2, Object.keys(table).join());
  });

  it('of figures has visible keys, and values that may be below 0', () => {
    assert(v.is(figures(2, 8), { SynRetr: -3.5 }));
    for (const bad of [{ 'a b': 1 }, { a: 1, b: 1, c: 1 }, { tooLongName: 1 }, { a: Number.NaN }])
      assert(!v.is(figures(2, 8), bad), JSON.stringify(bad));
  });
});

describe('counts by index', () => {
  it('are taken when indexes ascend below the end and each has a count', () => {
    const pairs = fc
      .uniqueArray(fc.nat(99), { maxLength: 20 })
      .map((indexes) => indexes.sort((a, b) => a - b).flatMap((index) => [index, index + 1]));
    fc.assert(fc.property(pairs, (list) => assert(v.is(sparse(100, 20), list))));
  });

  it('are refused for any one thing that is wrong', () => {
    const bad = [
      [1],
      [1, 0],
      [2, 1, 1, 1],
      [1, 1, 1, 1],
      [100, 1],
      [-1, 1],
      [0.5, 1],
      [1, 1, 2, 1, 3, 1],
      {},
    ];
    for (const each of bad) assert(!v.is(sparse(100, 2), each), JSON.stringify(each));
  });
});
