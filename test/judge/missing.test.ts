/** Owns the proof that no connection is explained twice and none is left out, whatever the claims. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Missing, type MissingKind } from '../../src/judge/missing.ts';
import { DRAWN_CAUSES } from '../cases/drawn-causes.ts';
import { drawRun, factsOf, randomFrom } from '../cases/drawn-run.ts';

const KINDS: readonly MissingKind[] = [
  'failed timeout',
  'failed refused',
  'young',
  'reset-on-probe',
  'dropped fin',
  'dropped rst',
  'dropped probe-timeout',
  'unanswered',
];
const claims = fc.array(fc.dictionary(fc.constantFrom(...KINDS), fc.nat(200)), { maxLength: 12 });

test('what claims take and what is left is what was missing, in any order of claims', () => {
  fc.assert(
    fc.property(fc.nat(100_000), claims, (seed, list) => {
      const draw = drawRun(randomFrom(seed));
      DRAWN_CAUSES[seed % DRAWN_CAUSES.length]?.apply(draw);
      const missing = new Missing(factsOf(draw, true));
      const before = missing.rest;
      let taken = 0;
      for (const kinds of list) {
        const diagnosis = missing.take({ party: 'path', what: 'x', kinds, message: String, next: '' });
        if (diagnosis !== null) assert.equal(diagnosis.message, String(diagnosis.count));
        taken += diagnosis?.count ?? 0;
      }
      assert.equal(taken + missing.rest, before);
    }),
  );
});

test('a claim on a number takes the first kinds first, and no more than there is', () => {
  const draw = drawRun(randomFrom(1));
  for (const [at, one] of draw.connections.entries()) one.result = at % 2 === 0 ? 'timeout' : 'refused';
  const missing = new Missing(factsOf(draw, true));
  const silent = missing.of('failed timeout');
  assert.deepEqual(missing.some(silent + 1, 'failed timeout', 'failed refused'), {
    'failed timeout': silent,
    'failed refused': 1,
  });
  assert.match(
    missing.words,
    /connects got no answer.*connects were refused|connects were refused.*no answer/,
  );
});

test('a run in which nothing is missing has nothing to explain', () => {
  const missing = new Missing(factsOf(drawRun(randomFrom(2)), true));
  assert.equal(missing.rest, 0);
  assert.equal(
    missing.take({
      party: 'target',
      what: 'x',
      kinds: missing.all('young', 'failed timeout'),
      message: '',
      next: '',
    }),
    null,
  );
});
