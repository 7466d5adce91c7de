import assert from 'node:assert/strict';
import { it } from 'node:test';
import { withAllLost } from '../../src/core/loss.ts';
import { emptyStats } from '../../src/core/stats.ts';

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
