/** Owns the proof that each bound of the generator's health is a bound: one side is trusted, the other is named. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blindHolder, judgeGenerator, limitsPhrase } from '../../src/judge/generator-health.ts';
import { type HolderHealth, newHolderHealth } from '../../src/stats/stats.ts';

function limitsOf(change: Partial<HolderHealth>): readonly string[] {
  return judgeGenerator([newHolderHealth('a/1', 1, 10), { ...newHolderHealth('a/2', 2, 10), ...change }])
    .limits;
}

const LOAD = { wallMs: 1_000, cpuMs: 100, waitMs: 10 };

test('each bound has two sides', () => {
  const pairs: readonly [within: Partial<HolderHealth>, beyond: Partial<HolderHealth>, words: RegExp][] = [
    [
      { ramp: { ...LOAD, cpuMs: 900 } },
      { ramp: { ...LOAD, cpuMs: 901 } },
      /a\/2 used 90 % of a core while ramping/,
    ],
    [
      { hold: { ...LOAD, cpuMs: 900 } },
      { hold: { ...LOAD, cpuMs: 950 } },
      /used 95 % of a core while holding/,
    ],
    [
      { ramp: { ...LOAD, waitMs: 250 } },
      { ramp: { ...LOAD, waitMs: 300 } },
      /waited for a core 30 % of the time/,
    ],
    [{ loopLagMsMax: 1_999 }, { loopLagMsMax: 4_100 }, /a\/2 stood still for 4\.1 s$/],
    [{ loopLagMsP99: 100 }, { loopLagMsP99: 101 }, /turns were late by 101 ms/],
    [{ scheduleLagMsP99: 100 }, { scheduleLagMsP99: 150 }, /called 150 ms or more after their time/],
    [{ ramp: LOAD, gcMs: 50 }, { ramp: LOAD, gcMs: 60 }, /stood still 6 % of the time/],
  ];
  for (const [within, beyond, words] of pairs) {
    assert.deepEqual(limitsOf(within), []);
    const limits = limitsOf(beyond);
    assert.equal(limits.length, 1, limits.join());
    assert.match(limits[0]!, words);
  }
});

test('a phase that was too short to judge is not judged', () => {
  assert.deepEqual(limitsOf({ ramp: { wallMs: 499, cpuMs: 499, waitMs: 499 } }), []);
  assert.equal(limitsOf({ ramp: { wallMs: 500, cpuMs: 500, waitMs: 500 } }).length, 2);
});

test('latencies are trusted only when nothing is beyond its bound, and the phrase counts the rest', () => {
  assert.equal(judgeGenerator([]).isLatencyTrustworthy, true);
  const { limits, isLatencyTrustworthy } = judgeGenerator([
    { ...newHolderHealth('a/1', 1, 10), loopLagMsP99: 500, scheduleLagMsP99: 500 },
  ]);
  assert.equal(isLatencyTrustworthy, false);
  assert.match(limitsPhrase(limits), /500 ms or more \(and 1 more\)$/);
});

test('blind is who stood still in the hold for longer than a probe may take; the longest is named', () => {
  const holder = (id: string, holdLagMsMax: number): HolderHealth => ({
    ...newHolderHealth(id, 1, 10),
    holdLagMsMax,
  });
  const holders = [holder('a/1', 5_001), holder('a/2', 8_000), holder('a/3', 5_000), holder('b/1', 0)];
  assert.deepEqual(blindHolder(holders, 5_000), { id: 'a/2', forMs: 8_000 });
  assert.equal(blindHolder(holders, 8_000), null);
  assert.equal(blindHolder(holders, null), null, 'without probes the kernel is the proof');
});
