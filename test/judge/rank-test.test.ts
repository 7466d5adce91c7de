/** Tests the tests: against published tables, and by their own error rate on noise. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { beyondNoise, ERROR_RATE } from '../../src/judge/rank-test.ts';

/** A repeatable source of noise (mulberry32), normal by Box and Muller. */
function noiseOf(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Whether one metric, looked at with others that show nothing, is beyond noise. */
function isFound(
  base: readonly number[],
  other: readonly number[],
  others = 0,
  floor: (mean: number) => number = () => 0,
): boolean {
  const same = Array.from({ length: others }, () => ({ base: [1, 2, 3], other: [1, 2, 3], floor }));
  return beyondNoise([{ base, other, floor }, ...same])[0] ?? false;
}

describe('the rank test', () => {
  it('decides by the exact p of the tables, whichever side comes first', () => {
    const [low, high] = [
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ];
    assert.deepEqual([isFound(low, high), isFound(high, low)], [true, true], '2 of 70');
    assert.equal(isFound([1, 2, 3, 5], [4, 6, 7, 8]), false, '4 of 70');
    // U = 2 of 5 and 5: 8 of the 252 orders are as far out.
    const [five, other] = [
      [1, 2, 3, 4, 7],
      [5, 6, 8, 9, 10],
    ];
    assert.equal(isFound(five, other), true, '8 of 252');
    assert.equal(isFound(five, other, 1), false, 'twice that is above 5 %');
    assert.equal(isFound([1, 1, 1, 1], [1, 1, 1, 1]), false);
  });

  it('needs each run of one side beyond each of the other where there are three', () => {
    assert.equal(isFound([1, 2, 50], [49, 1_000, 1_001]), false);
  });
});

describe('the t test of Welch', () => {
  it('decides where ranks cannot: p is 0.0213 in R for t.test(c(1,2,3), c(4,5,6))', () => {
    assert.equal(isFound([1, 2, 3], [4, 5, 6]), true);
    assert.equal(isFound([1, 2, 3], [4, 5, 6], 1), true, 'twice 0.0213');
    assert.equal(isFound([1, 2, 3], [4, 5, 6], 2), false, 'three times');
  });

  it('takes two constants for different only beyond what the metric can tell', () => {
    assert.equal(isFound([5, 5, 5], [5, 5, 5]), false);
    assert.equal(isFound([5, 5, 5], [6, 6, 6]), true);
    assert.equal(
      isFound([0, 0, 0], [1, 1, 1], 0, (mean) => Math.max(mean, 0.25)),
      false,
      'one rare event more',
    );
  });
});

describe('what is beyond noise', () => {
  const floor = (mean: number): number => (mean / 1_000) ** 2;

  for (const runs of [3, 4, 5, 10]) {
    it(`is found in equal runs no more often than said, ${runs} a side and nine metrics`, () => {
      const noise = noiseOf(runs);
      const group = (): number[] => Array.from({ length: runs }, () => 100 + 5 * noise());
      const comparisons = 1_000;
      let wrong = 0;
      for (let index = 0; index < comparisons; index++) {
        const metrics = Array.from({ length: 9 }, () => ({ base: group(), other: group(), floor }));
        if (beyondNoise(metrics).includes(true)) wrong++;
      }
      // Three deviations of a count with this rate.
      const most = comparisons * ERROR_RATE + 3 * Math.sqrt(comparisons * ERROR_RATE * (1 - ERROR_RATE));
      assert.ok(wrong <= most, `${wrong} of ${comparisons}`);
    });

    it(`is ten percent more where runs differ by one, ${runs} a side`, () => {
      const noise = noiseOf(77 + runs);
      const group = (mean: number): number[] => Array.from({ length: runs }, () => mean + noise());
      let found = 0;
      for (let index = 0; index < 100; index++) {
        const same = Array.from({ length: 8 }, () => ({ base: group(100), other: group(100), floor }));
        if (beyondNoise([{ base: group(100), other: group(110), floor }, ...same])[0]) found++;
      }
      assert.ok(found >= 80, `${found} of 100`);
    });
  }
});
