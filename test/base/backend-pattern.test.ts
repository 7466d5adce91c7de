/** Tests where the name of a back end stands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backendExpression } from '../../src/base/backend-pattern.ts';

const named = (pattern: string, text: string): string | undefined =>
  backendExpression(pattern)?.exec(text)?.[1];

test('a header is found whatever its case, without blanks, and only when its line is whole', () => {
  const head = 'HTTP/1.1 200 OK\r\nServer: x\r\nx-served-by:  web-2 \t\r\n\r\nX-Served-By: body\r\n';
  assert.equal(named('header:X-Served-By', head), 'web-2');
  assert.equal(named('header:X-Served-By', 'HTTP/1.1 200 OK\r\nX-Served-By: web'), undefined);
  assert.equal(named('header:X.Y', 'a\r\nXzY: 1\r\n'), undefined, 'a dot is a dot');
  assert.equal(named('header:X-Served', head), undefined);
});

test('a regular expression has one group, which is the name', () => {
  assert.equal(named('/^220 (\\S+) /', '220 mx1 ready'), 'mx1');
  assert.equal(named('/SERVER=(\\w+);/i', 'server=b;'), 'b');
  for (const bad of [
    '',
    'x',
    '/x/',
    '/(a)(b)/',
    '/(/',
    '/(a)/g',
    'header:',
    'header:a b',
    `/(${'a'.repeat(256)})/`,
  ])
    assert.equal(backendExpression(bad), null, bad);
});
