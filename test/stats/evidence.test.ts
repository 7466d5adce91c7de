/** Tests that the evidence of parts adds up to that of the whole, and that what a part does not tell stays unknown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeEvidence } from '../../src/stats/evidence.ts';
import {
  emptyStats,
  mergeAllStats,
  type Stats,
  statsDelta,
  withAllLost,
  withDelta,
} from '../../src/stats/stats.ts';
import { evidenceOf } from '../support/sample-evidence.ts';

const plain = structuredClone;

test('evidence adds up in any order', () => {
  const [a, b, c] = [evidenceOf(1), evidenceOf(2), evidenceOf(5)];
  const sum = plain(mergeEvidence(mergeEvidence(a, b), c));
  assert.deepEqual(sum, plain(mergeEvidence(a, mergeEvidence(c, b))));
  assert.equal(sum.notSent, 8);
  assert.deepEqual(sum.finalCheck.holdEnd, { asked: 80, answered: 40, reset: 24, silent: 16 });
  assert.deepEqual([sum.lossAgeMs.fin.leastMs, sum.lossAgeMs.fin.mostMs], [1_000, 5_000]);
  assert.deepEqual(sum.gapsBetweenFailures, [0, 8]);
  assert.deepEqual(sum.said.texts, [{ text: '-ERR max', first: 8, last: 0 }]);
});

function statsOf(attempted: number, times: number | null): Stats {
  return { ...emptyStats(), attempted, ...(times === null ? {} : { evidence: evidenceOf(times) }) };
}

test('an agent that tells nothing makes the sum unknown, unless it has attempted nothing', () => {
  assert.equal(mergeAllStats([statsOf(10, 1), statsOf(10, null)]).evidence, undefined);
  assert.deepEqual(plain(mergeAllStats([statsOf(10, 1), statsOf(0, null)]).evidence), plain(evidenceOf(1)));
  assert.equal(mergeAllStats([]).evidence, undefined);
});

test('evidence that has not changed is sent as null, and is known again on the other side', () => {
  const first = statsDelta(statsOf(10, 1), null);
  assert.deepEqual(first.evidence, evidenceOf(1));
  const known = withDelta(emptyStats(), first);
  const second = statsDelta(statsOf(10, 1), statsOf(10, 1));
  assert.equal(second.evidence, null);
  assert.deepEqual(withDelta(known, second).evidence, evidenceOf(1));
  assert.deepEqual(statsDelta(statsOf(10, 2), statsOf(10, 1)).evidence, evidenceOf(2));
  assert(!('evidence' in statsDelta(statsOf(10, null), null)));
  assert(!('evidence' in withDelta(known, statsDelta(statsOf(10, null), null))), 'it no longer tells');
});

test('what a lost process held is dropped at its places too', () => {
  const before: Stats = {
    ...statsOf(10, 1),
    open: 6,
    openBySource: { '10.0.0.1': 6 },
    openByEndpoint: { '10.0.9.9:80': 5 },
  };
  const { evidence } = withAllLost(before, 'holder-lost', 10);
  assert.equal(evidence?.bySourceOutcome['10.0.0.1']?.dropped['holder-lost'], 6);
  assert.equal(evidence?.byEndpoint['10.0.9.9:80']?.dropped['holder-lost'], 5);
  assert.equal(evidence?.byEndpoint['*']?.dropped['holder-lost'], 1);
});
