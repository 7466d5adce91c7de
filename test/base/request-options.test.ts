/** Tests what a request may say: every field that would break the connection or end the request line is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  areHeadersBounded,
  headerProblem,
  isSubprotocol,
  requestHead,
} from '../../src/base/request-options.ts';

test('fields of the connection and of the proof are refused in any case, with what to do instead', () => {
  for (const name of [
    ...[
      'Connection',
      'keep-alive',
      'UPGRADE',
      'Transfer-Encoding',
      'content-length',
      'Expect',
      'TE',
      'Trailer',
    ],
    ...['Sec-WebSocket-Key', 'sec-websocket-version', 'Sec-WebSocket-Extensions', 'Sec-WebSocket-Accept'],
  ]) {
    assert.match(headerProblem({ name, value: 'x' }) ?? '', /is not to be given: /, name);
  }
  assert.match(headerProblem({ name: 'Sec-WebSocket-Protocol', value: 'x' }) ?? '', /--ws-protocol/);
  assert.equal(headerProblem({ name: 'Authorization', value: 'Bearer a:b=c' }), null);
  assert.equal(headerProblem({ name: 'X-Empty', value: '' }), null);
});

test('whatever passes is one line of the head', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (name, value) => {
      if (headerProblem({ name, value }) !== null) return;
      const head = requestHead('GET / HTTP/1.1', 'h', [], [{ name, value }]);
      assert.equal(head.split('\r\n').length, 5, JSON.stringify(head));
      assert.ok(!/[^\t\r\n -~]/.test(head));
    }),
  );
  for (const value of ['a\r\nX: y', 'a\nb', 'a\0', 'é']) {
    assert.match(headerProblem({ name: 'X', value }) ?? '', /one line of visible ASCII/);
  }
  for (const name of ['', 'a b', 'a\r', 'a:', 'é'])
    assert.match(headerProblem({ name, value: '' }) ?? '', /its name/);
});

test('a field that is given takes the place of ours, and is sent as it is', () => {
  const own = [
    { name: 'User-Agent', value: 'c100k-bench' },
    { name: 'Accept', value: '*/*' },
  ];
  const given = [
    { name: 'user-agent', value: 'mine' },
    { name: 'X-A', value: '1' },
    { name: 'X-A', value: '2' },
  ];
  assert.equal(
    requestHead('GET /x HTTP/1.1', 'h:1', own, given),
    'GET /x HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\nuser-agent: mine\r\nX-A: 1\r\nX-A: 2\r\n\r\n',
  );
});

test('the bounds of all fields together, and of a subprotocol', () => {
  const many = (count: number, length: number) =>
    Array.from({ length: count }, () => ({ name: 'X', value: 'v'.repeat(length) }));
  assert.ok(areHeadersBounded(many(64, 127)));
  assert.ok(!areHeadersBounded(many(65, 1)));
  assert.ok(!areHeadersBounded(many(2, 4_096)));
  for (const good of ['mqtt', 'graphql-transport-ws', 'v1.a+b']) assert.ok(isSubprotocol(good), good);
  for (const bad of ['', 'a,b', 'a b', 'a\r\n', 'x'.repeat(2_049)]) assert.ok(!isSubprotocol(bad), bad);
});
