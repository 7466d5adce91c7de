/** Tests that what a target said is shown byte for byte in printable characters, within its bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  escapeBytes,
  mergeTexts,
  SAID_BYTES_MAX,
  SAID_CHARACTERS_MAX,
  SAID_TEXTS_MAX,
  type SaidTexts,
} from '../../src/stats/target-texts.ts';

/** The bytes that an escaped text says, read as a person would. */
function read(text: string): number[] {
  const named: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, '\\': 92 };
  return [...text.matchAll(/\\x([0-9a-f]{2})|\\([nrt\\])|([^\\])/g)].map(([, hex, name, plain = '']) => {
    if (hex !== undefined) return Number.parseInt(hex, 16);
    return name === undefined ? plain.charCodeAt(0) : (named[name] ?? -1);
  });
}

test('each byte can be read back, and nothing but printable ASCII is written', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const text = escapeBytes(bytes);
      assert.match(text, /^[\x20-\x7e]*$/);
      assert(text.length <= SAID_CHARACTERS_MAX);
      assert.deepEqual(read(text), [...bytes.subarray(0, SAID_BYTES_MAX)]);
    }),
  );
});

test('an order to a terminal is a text', () => {
  assert.equal(
    escapeBytes(Buffer.from('-ERR \u001b[31mmax\r\n\ttwo\\')),
    String.raw`-ERR \x1b[31mmax\r\n\ttwo\\`,
  );
});

const total = ({ texts, other }: SaidTexts): number =>
  texts.reduce((sum, { first, last }) => sum + first + last, other);

test('texts add up by what they say; of too many the most frequent stay, and the others are counted', () => {
  const part = (from: number, to: number): SaidTexts => ({
    texts: Array.from({ length: to - from }, (_, at) => ({
      text: `t${from + at}`,
      first: from + at,
      last: 1,
    })),
    other: 3,
  });
  const sum = mergeTexts(part(1, 15), part(10, 24));
  assert.equal(total(sum), total(part(1, 15)) + total(part(10, 24)));
  assert.equal(sum.texts.length, SAID_TEXTS_MAX);
  assert.deepEqual(sum.texts[0], { text: 't14', first: 28, last: 2 });
  assert.deepEqual(mergeTexts(part(10, 24), part(1, 15)), sum);
});
