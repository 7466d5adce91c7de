import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressRange } from '../../src/base/address.ts';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { slackOf } from '../../src/plan/capacity.ts';
import { aliasesNeeded } from '../../src/sources/alias-choice.ts';

const FOUR: Endpoint = { address: '10.9.0.1', port: 8_000, family: 4 };
const SIX: Endpoint = { address: 'fd09::1', port: 8_000, family: 6 };

test('130,000 connections to one endpoint need four addresses with ports outside the ephemeral range', () => {
  const candidates = addressRange('10.9.0.101', 10);
  const request = { candidates, endpoints: [FOUR], portsEach: 36_280, wanted: 130_000 };
  assert.equal(aliasesNeeded({ ...request, present: [] }), 4);
  assert.equal(aliasesNeeded({ ...request, present: ['10.9.0.2'] }), 3);
  assert.equal(aliasesNeeded({ ...request, present: [], wanted: 10_000_000 }), 10, 'all that there are');
});

test('an address is worth nothing toward endpoints of the other family', () => {
  const request = { present: ['fd09::2'], candidates: ['10.9.0.101'], portsEach: 1_000, wanted: 100 };
  assert.equal(aliasesNeeded({ ...request, endpoints: [FOUR] }), 1);
  assert.equal(aliasesNeeded({ ...request, endpoints: [SIX] }), 0);
});

test('what is chosen suffices, and one less would not', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200_000 }),
      fc.integer({ min: 1, max: 64_512 }),
      fc.integer({ min: 0, max: 5 }),
      fc.integer({ min: 1, max: 3 }),
      (wanted, portsEach, here, endpointCount) => {
        const endpoints = Array.from({ length: endpointCount }, (_, index) => ({
          ...FOUR,
          port: 8_000 + index,
        }));
        const candidates = addressRange('10.9.1.1', 300);
        const count = aliasesNeeded({
          present: addressRange('10.9.0.1', here),
          candidates,
          endpoints,
          portsEach,
          wanted,
        });
        const tuples = (addresses: number): number => addresses * portsEach * endpointCount;
        const suffices = tuples(here + count) >= slackOf(wanted);
        assert(suffices || count === candidates.length);
        if (count > 0) assert(tuples(here + count - 1) < slackOf(wanted));
      },
    ),
  );
});
