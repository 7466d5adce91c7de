/** Tests the UTF-8 check against Node's own decoder, cut anywhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Utf8, utf8After } from '../../../src/engine/protocols/ws-frames.ts';

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

test('any bytes, cut anywhere, are judged as the decoder of Node judges them', () => {
  const nearly = fc
    .array(
      fc.constantFrom(
        0x41,
        0x7f,
        0x80,
        0x8f,
        0x90,
        0x9f,
        0xa0,
        0xbf,
        0xc1,
        0xc2,
        0xe0,
        0xed,
        0xef,
        0xf0,
        0xf4,
        0xf5,
      ),
    )
    .map((bytes) => Uint8Array.from(bytes));
  const text = fc.string({ unit: 'binary' }).map((each) => new TextEncoder().encode(each));
  fc.assert(
    fc.property(fc.oneof(nearly, text, fc.uint8Array()), fc.nat(20), (bytes, cut) => {
      const at = Math.min(cut, bytes.length);
      const state = utf8After(utf8After(Utf8.whole, bytes, 0, at), bytes, at, bytes.length);
      assert.equal(state === Utf8.whole, isUtf8(bytes));
    }),
    { numRuns: 5_000 },
  );
});
