/** Tests the arithmetic of the search for an idle timeout, against paths that forget after any time. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  formatInterval,
  type IdleBounds,
  isRoundOver,
  NOTHING_KNOWN,
  nextGaps,
  withAnswers,
} from '../../src/path/idle-search.ts';

const BOUNDS: IdleBounds = { minMs: 1_000, maxMs: 600_000, precisionMs: 1_000, gapsMax: 16 };

/** A search against a path that forgets after `expiryMs`: what it finds, its rounds, and how long it takes. */
function search(expiryMs: number, bounds: IdleBounds = BOUNDS) {
  let known = NOTHING_KNOWN;
  let rounds = 0;
  let waitedMs = 0;
  for (let gaps = nextGaps(known, bounds); gaps.length > 0; gaps = nextGaps(known, bounds)) {
    const answers: { gapMs: number; alive: boolean }[] = [];
    for (const gapMs of gaps) {
      if (isRoundOver(gaps, answers)) break;
      answers.push({ gapMs, alive: gapMs < expiryMs });
      if (isRoundOver(gaps, answers)) waitedMs += gapMs;
    }
    known = withAnswers(known, answers);
    rounds += 1;
    assert.ok(rounds < 10, 'the search ends');
  }
  return { known, rounds, waitedMs };
}

describe('the search for an idle timeout', () => {
  it('finds any timeout within its bounds, as narrow as was asked', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1_001, max: 600_000 }), (expiryMs) => {
        const { known } = search(expiryMs);
        assert.ok(known.forgottenMs !== null);
        assert.ok(known.aliveMs < expiryMs && expiryMs <= known.forgottenMs, JSON.stringify(known));
        assert.ok(known.forgottenMs - known.aliveMs <= BOUNDS.precisionMs, JSON.stringify(known));
      }),
    );
  });

  it('finds 20 s within 2 s, in less than a minute of waiting', () => {
    const { known, waitedMs } = search(20_000);
    assert.ok(known.aliveMs >= 18_000 && (known.forgottenMs ?? 0) <= 22_000, JSON.stringify(known));
    assert.ok(waitedMs < 60_000, `${waitedMs} ms`);
  });

  it('waits at most for a little more than three times the timeout', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2_000, max: 300_000 }), (expiryMs) => {
        assert.ok(search(expiryMs).waitedMs <= 4.5 * expiryMs + 4_000);
      }),
    );
  });

  it('says that nothing was forgotten when the longest gap lived', () => {
    const { known, rounds } = search(Infinity, { ...BOUNDS, maxMs: 30_000 });
    assert.deepEqual(known, { aliveMs: 30_000, forgottenMs: null });
    assert.equal(rounds, 1);
    assert.match(formatInterval(known), /still knew connections that were idle for 30s/);
  });

  it('says within when even the shortest gap was too long', () => {
    assert.match(formatInterval(search(500).known), /within 1s/);
  });

  it('does not believe a gap that lived longer than one that was forgotten', () => {
    const known = withAnswers(NOTHING_KNOWN, [
      { gapMs: 1_000, alive: true },
      { gapMs: 2_000, alive: false },
      { gapMs: 4_000, alive: true },
    ]);
    assert.deepEqual(known, { aliveMs: 1_000, forgottenMs: 2_000 });
  });

  it('ends a round at the first forgotten gap, but not before the shorter ones have answered', () => {
    const gaps = [1, 2, 3];
    assert.equal(isRoundOver(gaps, [{ gapMs: 2, alive: false }]), false);
    assert.equal(
      isRoundOver(gaps, [
        { gapMs: 2, alive: false },
        { gapMs: 1, alive: true },
      ]),
      true,
    );
    assert.equal(isRoundOver(gaps, [{ gapMs: 1, alive: true }]), false);
  });
});
