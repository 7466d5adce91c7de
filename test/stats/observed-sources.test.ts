import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  mergeSeen,
  SEEN_OTHER,
  SEEN_PAIRS_MAX,
  type SeenCounts,
  seenKey,
  seenPair,
  translatedAddresses,
  translatedPairs,
} from '../../src/stats/observed-sources.ts';
import { NOTHING_OBSERVED } from '../support/nothing-observed.ts';

const count = fc.integer({ min: 0, max: 1_000_000 });
const port = fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: null });
/** Tables have no prototype, which deepEqual would call a difference. */
const plain = structuredClone;
const pairs = fc.dictionary(fc.constantFrom('a>b', 'a>c', 'b>b', SEEN_OTHER), count, {
  noNullPrototype: true,
});
const seenCounts: fc.Arbitrary<SeenCounts> = fc.record(
  {
    sourceKept: count,
    sourceChanged: count,
    portKept: count,
    portChanged: count,
    portMin: port,
    portMax: port,
    bySource: pairs,
    byEndpoint: pairs,
  },
  { noNullPrototype: true },
);

function sum(record: Readonly<Record<string, number>>): number {
  return Object.values(record).reduce((total, one) => total + one, 0);
}

describe('what a target saw', () => {
  it('adds up in any order and grouping, and nothing is neutral', () => {
    fc.assert(
      fc.property(seenCounts, seenCounts, seenCounts, (a, b, c) => {
        assert.deepEqual(plain(mergeSeen(a, b)), plain(mergeSeen(b, a)));
        assert.deepEqual(plain(mergeSeen(mergeSeen(a, b), c)), plain(mergeSeen(a, mergeSeen(b, c))));
        assert.deepEqual(plain(mergeSeen(a, NOTHING_OBSERVED)), plain(a));
      }),
    );
  });

  // PROTOCOL.md: memory-tables
  it('stays within its bound, and what finds no room is still counted', () => {
    const many = (name: string): SeenCounts => ({
      ...NOTHING_OBSERVED,
      bySource: Object.fromEntries(
        Array.from({ length: SEEN_PAIRS_MAX }, (_, index) => [seenKey(`${name}${index}`, 'x'), 2]),
      ),
    });
    const merged = mergeSeen(many('a'), many('b'));
    assert.ok(Object.keys(merged.bySource).length <= SEEN_PAIRS_MAX + 1);
    assert.equal(merged.bySource[SEEN_OTHER], 2 * SEEN_PAIRS_MAX);
    assert.equal(sum(merged.bySource), 4 * SEEN_PAIRS_MAX);
  });

  it('names both sides of a pair, also with IPv6', () => {
    assert.deepEqual(seenPair(seenKey('::1', '2001:db8::1')), { ours: '::1', seen: '2001:db8::1' });
    assert.equal(seenPair(SEEN_OTHER), null);
  });

  it('counts a translated address once, and each endpoint that it was seen at', () => {
    const seen: SeenCounts = {
      ...NOTHING_OBSERVED,
      bySource: { '1.1.1.1>9.9.9.9': 3, '1.1.1.2>9.9.9.9': 3, '1.1.1.3>1.1.1.3': 1 },
      byEndpoint: { '5.5.5.5:1>9.9.9.9': 3, '5.5.5.5:2>9.9.9.9': 3, '5.5.5.5:2>1.1.1.3': 1 },
    };
    assert.deepEqual(translatedAddresses(seen), ['9.9.9.9']);
    assert.deepEqual(translatedPairs(seen), ['5.5.5.5:1>9.9.9.9', '5.5.5.5:2>9.9.9.9']);
  });
});
