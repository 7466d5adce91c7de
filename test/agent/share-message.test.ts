/** Tests that what a share says fits into the messages of the control channel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trimmed } from '../../src/agent/share-message.ts';
import { emptyStats, statsNews } from '../../src/stats/stats.ts';

test('a table of more than 1,024 sources stays out of the report of each second, a shorter one stays in', () => {
  const sources = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`10.0.${index >> 8}.${index & 255}`, 1]));
  const openBySource = sources(1_025);
  const openByEndpoint = sources(1_024);
  const cut = trimmed(statsNews({ ...emptyStats(), open: 7, openBySource, openByEndpoint }, null));
  assert.deepEqual(cut.openBySource, {});
  assert.deepEqual(cut.openByEndpoint, openByEndpoint);
  assert.equal(cut.open, 7);
});
