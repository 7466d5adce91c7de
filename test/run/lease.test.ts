import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LEASE_TIMES, LinkWatch, leaseEndsOf, rhythmOf } from '../../src/run/lease.ts';

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

describe('a link', () => {
  const RHYTHM = rhythmOf(LEASE_TIMES);

  it('is silent when it has brought no answer for 3.5 s, and not after one', () => {
    const watch = new LinkWatch(RHYTHM, 0);
    for (let nowMs = 250; nowMs <= 3_500; nowMs += 250) assert.equal(watch.look(nowMs), false);
    assert.equal(watch.isSilent, false);
    watch.look(3_750);
    assert.equal(watch.isSilent, true);
    watch.answered();
    assert.equal(watch.isSilent, false);
  });

  it('is not silent for as long as this process had no core: it has not listened', () => {
    const watch = new LinkWatch(RHYTHM, 0);
    assert.equal(watch.look(60_000), true, 'late: what has come is read first');
    assert.equal(watch.isSilent, false);
    assert.equal(watch.look(60_001), false, 'the look after that judges');
    for (let looks = 1; looks <= 5; looks++) assert.equal(watch.look(60_000 + looks * 2_000), true);
    assert.equal(watch.isSilent, false, 'six looks are 3 s at most');
    watch.look(73_000);
    assert.equal(watch.isSilent, true);
  });

  it('that brings no answer gives the next ones twice the time, until one answers', () => {
    const watch = new LinkWatch(RHYTHM, 0);
    const times = () => Array.from({ length: 4 }, () => watch.relinking());
    assert.deepEqual(times(), [2_000, 4_000, 4_000, 4_000]);
    watch.answered();
    assert.deepEqual(times(), [2_000, 4_000, 4_000, 4_000]);
  });

  it('to a coordinator of this host is never silent', () => {
    const watch = new LinkWatch({ ...RHYTHM, relinkAfterMs: Infinity }, 0);
    for (let nowMs = 250; nowMs <= 60_000; nowMs += 250) watch.look(nowMs);
    assert.equal(watch.isSilent, false);
  });
});
