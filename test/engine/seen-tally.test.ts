import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeenTally } from '../../src/engine/seen-tally.ts';
import { SEEN_OTHER, SEEN_PAIRS_MAX } from '../../src/stats/observed-sources.ts';

test('more pairs than are told apart are counted together', () => {
  const tally = new SeenTally({
    addresses: ['10.0.0.1'],
    endpoints: [{ address: '10.0.9.9', port: 80, family: 4 }],
  });
  for (let index = 0; index < SEEN_PAIRS_MAX + 10; index++) {
    tally.arrived(0, 1_000, 0, `192.0.${index >> 8}.${index & 255}`, 1_000);
  }
  const { bySource, byEndpoint, sourceChanged } = tally.counts();
  assert.equal(Object.keys(bySource).length, SEEN_PAIRS_MAX + 1);
  assert.equal(bySource[SEEN_OTHER], 10);
  assert.equal(byEndpoint[SEEN_OTHER], 10);
  assert.equal(sourceChanged, SEEN_PAIRS_MAX + 10);
});
