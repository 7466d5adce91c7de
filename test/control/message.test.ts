import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeAgentMessage } from '../../src/control/codec.ts';
import { emptyStats } from '../../src/stats/stats.ts';

function decoded(change: object): ReturnType<typeof decodeAgentMessage> {
  const message = {
    type: 'stats',
    epoch: 1,
    sentAtMs: 0,
    quota: 5,
    stats: { ...emptyStats(), ...change },
    holders: [],
    settled: false,
    kernel: [],
  };
  return decodeAgentMessage(JSON.stringify(message));
}

describe('the long parts of a stats message', () => {
  it('are taken as they are, and may be left out where nothing changed', () => {
    const good = {
      connectUs: [1, 2, 3, 4],
      connectFromIntendedUs: null,
      probeUs: [],
      failed: { refused: 3 },
      openBySource: { '10.0.0.1': 5 },
    };
    const message = decoded(good);
    assert(message.type === 'stats');
    assert.deepEqual(structuredClone(message.stats), { ...emptyStats(), ...good });
  });

  for (const [what, change] of [
    ['a negative count', { connectUs: [1, -1] }],
    ['a fraction', { connectUs: [1, 0.5] }],
    ['a number that is no safe integer', { connectUs: [1, 2 ** 53] }],
    ['a text for a number', { connectUs: [1, '2'] }],
    ['a list inside', { probeUs: [[1]] }],
    ['an object for a list', { probeUs: { length: 1 } }],
    ['more entries than there are', { probeUs: Array(100_001).fill(1) }],
    ['a list for counts', { failed: [1, 2] }],
    ['null for counts', { failed: null }],
    ['a negative count by reason', { dropped: { rst: -1 } }],
    ['a key that is too long', { failed: { ['x'.repeat(65)]: 1 } }],
    ['a key that is the prototype', JSON.parse('{"failed":{"__proto__":1}}') as object],
    ['too many reasons', { failed: Object.fromEntries(Array.from({ length: 257 }, (_, i) => [`r${i}`, 1])) }],
    [
      'too many sources',
      { openBySource: Object.fromEntries(Array.from({ length: 65_537 }, (_, i) => [i, 1])) },
    ],
  ] as const) {
    it(`are refused with ${what}`, () => {
      assert.equal(decoded(change).type, 'malformed');
    });
  }
});
