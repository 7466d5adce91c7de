/** Owns the tests of the networks that clients of PROXY headers are made up from. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { clientAddresses, clientsProblem } from '../../src/base/proxy-header.ts';

it('a network has the clients that it can have', () => {
  for (const [network, first, count] of [
    ['203.0.113.0/24', '203.0.113.1', 254],
    ['203.0.113.77/24', '203.0.113.1', 254],
    ['203.0.113.4/30', '203.0.113.5', 2],
    ['203.0.113.4/31', '203.0.113.4', 2],
    ['203.0.113.4', '203.0.113.4', 1],
    ['0.0.0.0/0', '0.0.0.1', 2 ** 32 - 2],
    ['2001:db8::/126', '2001:db8::1', 3],
    ['2001:db8::5/128', '2001:db8::5', 1],
    ['2001:db8::/32', '2001:db8::1', 2 ** 32],
  ] as const) {
    assert.deepEqual(clientAddresses(network), { first, count }, network);
  }
});

it('what is no network is refused with one that is', () => {
  for (const text of ['', 'x', '10.0.0.0/33', '10.0.0.0-10.0.0.9', '1::/129', '10.0.0.0/24/3']) {
    const problem = clientsProblem(text, '--proxy-source');
    assert.match(problem?.message ?? '', /^--proxy-source: ".*" is not an address or a network$/);
    assert.match(problem?.hint ?? '', /--proxy-source 203\.0\.113\.0\/24/);
  }
  assert.equal(clientsProblem('10.0.0.0/8', '--proxy-source'), null);
});
