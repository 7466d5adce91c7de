import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LEASE_TIMES, leaseEndsOf, rhythmOf } from '../../src/run/lease.ts';

describe('the lease', () => {
  it('of every run is what the manual promises: quiet at 5 s, closed at 15 s, handed over at 20 s', () => {
    assert.deepEqual(LEASE_TIMES, { quietMs: 5_000, leaseMs: 15_000, marginMs: 5_000 });
    assert.deepEqual(rhythmOf(LEASE_TIMES), {
      reportEveryMs: 1_000,
      checkEveryMs: 250,
      relinkAfterMs: 3_500,
      relinkTimeoutMs: 2_000,
      retryEveryMs: 500,
      closeEarlyMs: 1_000,
      holderSilentMs: 10_000,
    });
  });

  it('ends so early that closing is over when it is, counted from the last contact', () => {
    assert.deepEqual(leaseEndsOf(100_000, LEASE_TIMES), { openUntilMs: 105_000, liveUntilMs: 114_000 });
  });

  it('leaves room for several reports, and for a new link, before an agent falls quiet', () => {
    const { reportEveryMs, relinkAfterMs } = rhythmOf(LEASE_TIMES);
    assert.ok(relinkAfterMs > 2 * reportEveryMs);
    assert.ok(relinkAfterMs < LEASE_TIMES.quietMs);
  });
});
