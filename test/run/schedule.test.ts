/** Tests the line of a schedule, its shares, and the tuples that it keeps from use, over random schedules. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  connectionNumber,
  cutShares,
  holdFromMsOf,
  type LoadShare,
  lengthMsOf,
  peakOf,
  ShareOfLine,
  type Stage,
  spansOf,
  targetAt,
  targetOf,
} from '../../src/run/schedule.ts';

const stages: fc.Arbitrary<Stage[]> = fc.array(
  fc.record({ durationMs: fc.nat(100_000), connections: fc.nat(2_000_000) }),
  { minLength: 1, maxLength: 6 },
);

/** The run's connections in parts, as agents and then holders get them. */
function partsOf(peak: number, cuts: readonly number[]): readonly (readonly LoadShare[])[] {
  const ends = [...new Set([0, peak, ...cuts.map((cut) => cut % (peak + 1))])].sort((a, b) => a - b);
  const sizes = ends.slice(1).map((end, index) => end - (ends[index] ?? 0));
  return cutShares([{ from: 0, to: peak }], sizes);
}

describe('the line of a schedule', () => {
  it('reaches each number at the end of its stage, and is straight between', () => {
    const spans = spansOf([
      { durationMs: 10_000, connections: 50_000 },
      { durationMs: 5_000, connections: 50_000 },
      { durationMs: 10_000, connections: 20_000 },
      { durationMs: 0, connections: 7 },
    ]);
    const at = [-1, 0, 1, 5_000, 9_999, 10_000, 12_000, 15_000, 20_000, 24_999, 25_000, 1e9];
    assert.deepEqual(
      at.map((atMs) => targetOf(spans, atMs)),
      [0, 0, 5, 25_000, 49_995, 50_000, 50_000, 50_000, 35_000, 20_003, 7, 7],
    );
    assert.deepEqual(
      spans.map(({ isFlat }) => isFlat),
      [false, true, false, false],
    );
  });

  it('holds from its first flat stage, or from its second', () => {
    assert.equal(
      holdFromMsOf([
        { durationMs: 5, connections: 9 },
        { durationMs: 7, connections: 9 },
      ]),
      5,
    );
    assert.equal(
      holdFromMsOf([
        { durationMs: 5, connections: 9 },
        { durationMs: 7, connections: 3 },
        { durationMs: 2, connections: 3 },
      ]),
      12,
    );
    assert.equal(
      holdFromMsOf([
        { durationMs: 5, connections: 9 },
        { durationMs: 7, connections: 3 },
      ]),
      5,
    );
    assert.equal(holdFromMsOf([{ durationMs: 5, connections: 9 }]), 5);
  });
});

describe('the shares of a line', () => {
  it('sum exactly at each moment, whatever the schedule, the quotas and the split over holders', () => {
    fc.assert(
      fc.property(
        stages,
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 3 }),
        fc.array(fc.double({ min: 0, max: 1.1, noNaN: true }), { minLength: 1, maxLength: 8 }),
        (list, cuts, splits, moments) => {
          const agents = partsOf(peakOf(list), cuts);
          const holders = agents.flatMap((shares) => {
            const size = shares.reduce((sum, { from, to }) => sum + to - from, 0);
            const ends = [...new Set([0, size, ...splits.map((cut) => cut % (size + 1))])].sort(
              (a, b) => a - b,
            );
            return cutShares(
              shares,
              ends.slice(1).map((end, index) => end - (ends[index] ?? 0)),
            );
          });
          for (const part of moments) {
            const atMs = part * lengthMsOf(list);
            const total = targetOf(spansOf(list), atMs);
            const sum = (parts: readonly (readonly LoadShare[])[]): number =>
              parts.reduce((all, shares) => all + targetAt(list, shares, atMs), 0);
            assert.equal(sum(agents), total);
            assert.equal(sum(holders), total);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('number each connection of the run once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.array(fc.nat(), { maxLength: 5 }), (total, cuts) => {
        // Every second part comes on top of the one before it, as a quota does that grew.
        const parts = partsOf(total, cuts).reduce<(readonly LoadShare[])[]>((all, part, index) => {
          if (index % 2 === 1) all.push([...part, ...(all.shift() ?? [])]);
          else all.push(part);
          return all;
        }, []);
        const numbers = parts.flatMap((shares) => {
          const size = shares.reduce((sum, { from, to }) => sum + to - from, 0);
          return Array.from({ length: size }, (_, index) => connectionNumber(shares, index));
        });
        assert.deepEqual(
          numbers.toSorted((a, b) => a - b),
          Array.from({ length: total }, (_, index) => index),
        );
      }),
    );
  });

  it('never fall while the line rises, have all of their own at the peak, and stay near their part', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3_000 }), fc.array(fc.nat(), { maxLength: 5 }), (peak, cuts) => {
        for (const shares of partsOf(peak, cuts)) {
          const line = new ShareOfLine([{ durationMs: 1, connections: peak }], shares);
          const size = shares.reduce((sum, { from, to }) => sum + to - from, 0);
          let before = 0;
          for (let total = 0; total <= peak; total++) {
            const own = line.of(total);
            assert.ok(own === before || own === before + 1, `${before} -> ${own}`);
            assert.ok(
              Math.abs(own - (total * size) / peak) < 12 + peak / 50,
              `${own} of ${total}, ${size} of ${peak}`,
            );
            before = own;
          }
          assert.equal(before, size);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('are exact up to the largest run', () => {
    const peak = 100_000_000;
    const parts = partsOf(peak, [33_333_333, 66_666_667, 99_999_999]);
    for (const total of [0, 1, 99, 49_999_999, 77_777_777, 99_999_999, peak]) {
      const sum = parts.reduce((all, shares) => {
        const own = new ShareOfLine([{ durationMs: 1, connections: peak }], shares).of(total);
        assert.ok(Number.isSafeInteger(own) && own >= 0);
        return all + own;
      }, 0);
      assert.equal(sum, total);
    }
  });
});
