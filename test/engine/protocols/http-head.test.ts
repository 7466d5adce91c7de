/** Tests the head of a response: found in any pieces, bounded, and taken apart. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { authorityOf, HeadReader, hasToken } from '../../../src/engine/protocols/http-head.ts';

const HEAD = 'HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nX-A: 1\r\nx-a:\t2 \r\n\r\n';

/** Gives a reader the text in pieces that end at these places. */
function inPieces(
  reader: HeadReader,
  text: string,
  ends: readonly number[],
): ReturnType<HeadReader['take']>[] {
  const bytes = Buffer.from(text, 'latin1');
  let from = 0;
  return [...ends, bytes.length].map((to) => {
    const result = reader.take(3, bytes, from, to);
    from = to;
    return result;
  });
}

test('a head is the same in whatever pieces it comes, and what follows it is left where it stands', () => {
  const body = 'body';
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: HEAD.length - 1 }), { maxLength: 8 }), (places) => {
      const ends = places.sort((a, b) => a - b);
      const results = inPieces(new HeadReader(), HEAD + body, ends);
      assert.deepEqual(
        results.slice(0, -1).map(({ type }) => type),
        ends.map(() => 'more'),
      );
      const last = results.at(-1);
      assert(last?.type === 'head');
      assert.equal(last.next, HEAD.length);
      assert.deepEqual([last.head.status, last.head.isHttp11], [200, true]);
      assert.deepEqual(
        [...last.head.fields],
        [
          ['connection', 'Keep-Alive'],
          ['x-a', '1, 2'],
        ],
      );
    }),
  );
});

test('what cannot be a head is refused as early as it shows, one that is too long at its bound', () => {
  const refused = (text: string): string | undefined => {
    const result = new HeadReader().take(0, Buffer.from(text), 0, text.length);
    return result.type === 'bad' ? result.what : undefined;
  };
  assert.equal(refused('H'), undefined);
  assert.equal(refused('HTTP/1.'), undefined);
  assert.equal(refused('HTTP/2'), 'no HTTP/1.1 response');
  assert.equal(refused('S'), 'no HTTP/1.1 response');
  assert.equal(refused('HTTP/1.1 20 OK\r\n\r\n'), 'no HTTP/1.1 response');
  assert.equal(refused('HTTP/1.1 200 OK\r\nno colon\r\n\r\n'), 'a malformed header field');
  const start = 'HTTP/1.1 200 OK\r\nX: ';
  const endless = start + 'x'.repeat(16_384 - start.length);
  assert.equal(refused(endless.slice(0, -1)), undefined);
  assert.equal(refused(endless), 'a head above 16384 bytes');
});

test('the bound counts all pieces of a head together', () => {
  const reader = new HeadReader();
  const first = Buffer.from(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(16_000)}`);
  assert.equal(reader.take(0, first, 0, first.length).type, 'more');
  const result = reader.take(0, Buffer.alloc(65_536, 'x'), 0, 65_536);
  assert.deepEqual(result, { type: 'bad', what: 'a head above 16384 bytes' });
});

test('slots do not share their pieces, and one that is forgotten begins anew', () => {
  const reader = new HeadReader();
  const half = Buffer.from(HEAD.slice(0, 20));
  const rest = Buffer.from(HEAD.slice(20));
  assert.equal(reader.take(1, half, 0, half.length).type, 'more');
  assert.equal(reader.take(2, rest, 0, rest.length).type, 'bad', 'no head begins so');
  assert.equal(reader.take(1, rest, 0, rest.length).type, 'head');
  assert.equal(reader.take(1, half, 0, half.length).type, 'more');
  reader.forget(1);
  assert.equal(reader.take(1, rest, 0, rest.length).type, 'bad');
});

test('a word of a comma list is found in any case, and no part of one', () => {
  assert.deepEqual(
    [
      hasToken('a, Keep-Alive', 'keep-alive'),
      hasToken('keep-alives', 'keep-alive'),
      hasToken(undefined, 'x'),
    ],
    [true, false, false],
  );
});

test('the authority has brackets around IPv6, and no port that the scheme implies', () => {
  assert.deepEqual(
    [
      authorityOf('h', 80, 80),
      authorityOf('h', 81, 80),
      authorityOf('::1', 80, 80),
      authorityOf('[::1]', 8, 80),
    ],
    ['h', 'h:81', '[::1]', '[::1]:8'],
  );
});
