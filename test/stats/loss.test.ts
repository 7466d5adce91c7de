import assert from 'node:assert/strict';
import { it } from 'node:test';
import { lossCounts, withAllLost } from '../../src/stats/loss.ts';
import { emptyStats } from '../../src/stats/stats.ts';

it('what a dead holder held is dropped by a reason of its own, and nothing is counted twice', () => {
  const before = {
    ...emptyStats(),
    attempted: 95,
    established: 80,
    open: 70,
    openMin: 70,
    verified: 60,
    pending: 5,
    failed: { refused: 10 },
    dropped: { fin: 10 },
    openBySource: { '127.0.0.2': 70 },
  };
  const after = withAllLost(before, 'holder-lost', 100);
  assert.deepEqual(after.dropped, { fin: 10, 'holder-lost': 70 });
  assert.equal(after.open + after.openMin + after.verified + after.pending, 0);
  assert.deepEqual(after.openBySource, {});
  assert.equal(after.established + 10 + after.unattempted, 100, 'established + failed + unattempted = quota');
});

it('a holder that held nothing has no loss to report', () => {
  assert.deepEqual(withAllLost(emptyStats(), 'agent-lost', 7).dropped, {});
  assert.equal(withAllLost(emptyStats(), 'agent-lost', 7).unattempted, 7);
});

it('what a lost process held is on the ledger by source, and by endpoint where there is only one', () => {
  const before = {
    ...emptyStats(),
    open: 10,
    openBySource: { '127.0.0.2': 6, '127.0.0.3': 3 },
    openByEndpoint: { '127.0.0.1:80': 10 },
    droppedBy: { 'rst 127.0.0.2 127.0.0.1:80': 2 },
  };
  assert.deepEqual(lossCounts(withAllLost(before, 'holder-lost', 10).droppedBy), [
    { reason: 'holder-lost', source: '127.0.0.2', endpoint: '127.0.0.1:80', count: 6 },
    { reason: 'holder-lost', source: '127.0.0.3', endpoint: '127.0.0.1:80', count: 3 },
    { reason: 'rst', source: '127.0.0.2', endpoint: '127.0.0.1:80', count: 2 },
    { reason: 'holder-lost', source: '*', endpoint: '127.0.0.1:80', count: 1 },
  ]);
});
