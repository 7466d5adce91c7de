/** Owns the proof that each shape is seen where it is, and not in what resembles it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  agesOfGroup,
  alikeLength,
  endedYoung,
  endShape,
  equalLength,
  equalShareOf,
  isEviction,
  orderOf,
  outlierOf,
} from '../../src/judge/evidence-shape.ts';
import { histogramCount, LatencyRecorder } from '../../src/stats/histogram.ts';
import { drawRun, type Facts, factsOf, randomFrom } from '../cases/drawn-run.ts';

type Evidence = NonNullable<Facts['evidence']>;

const FACTS = factsOf(drawRun(randomFrom(7)), true);

function showing(evidence: Evidence, open = 0): Facts {
  return { ...FACTS, connections: { ...FACTS.connections, open }, evidence };
}

function connects(established: number[], silent: number[]): Facts {
  return showing({ connectsAt: { folds: 0, counts: { established, answeredNo: [], silent } } });
}

function lengths(list: readonly number[]): { histogram: readonly number[]; leastMs: number; mostMs: number } {
  const recorder = new LatencyRecorder();
  for (const ms of list) recorder.record(ms);
  return { histogram: recorder.sparse(), leastMs: Math.min(0, ...list), mostMs: Math.max(0, ...list) };
}

const spread = (from: number, to: number, count = 100): number[] =>
  Array.from({ length: count }, (_, at) => from + ((to - from) * at) / (count - 1));

test('successes stop for good before failures begin, go on beside them, or nothing can be seen', () => {
  assert.equal(orderOf(connects([50, 50], [0, 0, 30, 30]), 'silent'), 'stops');
  assert.equal(orderOf(connects([40, 60], [0, 60]), 'silent'), null, 'most of both are in one bucket');
  assert.equal(orderOf(connects([50, 40, 0, 0, 0], [0, 2, 50, 50, 50]), 'silent'), 'stops');
  assert.equal(orderOf(connects([50, 50, 50], [10, 10, 10]), 'silent'), 'goes-on');
  assert.equal(orderOf(connects([0, 0, 50], [30, 30, 0]), 'silent'), 'goes-on');
  assert.equal(orderOf(connects([500], [100]), 'silent'), null, 'within one bucket there is no order');
  assert.equal(orderOf(connects([500], []), 'silent'), null);
  assert.equal(orderOf(showing({}), 'silent'), null);
});

test('lengths are equal within a twentieth, alike within a quarter, and never when short or few', () => {
  assert.equal(equalLength(lengths(spread(4_900, 5_100)))?.count, 100);
  assert.equal(equalLength(lengths(spread(4_500, 5_500))), null);
  assert.notEqual(alikeLength(lengths(spread(4_500, 5_500))), null);
  assert.equal(alikeLength(lengths(spread(3_000, 6_000))), null);
  assert.equal(equalLength(lengths(spread(100, 101))), null);
  assert.equal(equalLength(lengths(spread(5_000, 5_000, 5))), null);
  assert.equal(equalLength(undefined), null);
});

function ends(ages: number[], firstMs: number, lastMs: number): Facts {
  const fin = Array.from({ length: Math.floor(lastMs / 16) + 1 }, (_, at) => (at * 16 >= firstMs ? 10 : 0));
  return showing({
    lossesAt: { folds: 4, counts: { fin, rst: [], silent: [] } },
    lossAgeMs: { fin: lengths(ages), rst: lengths([]) },
    lossSilenceMs: { fin: lengths(ages), rst: lengths([]) },
  });
}

test('each ends at its own age, or all in one moment; where both fit, neither is said', () => {
  assert.equal(endShape(ends(spread(4_990, 5_010), 5_000, 10_000), 'fin'), 'age');
  assert.equal(endShape(ends(spread(1_000, 6_000), 6_000, 6_020), 'fin'), 'moment');
  assert.equal(endShape(ends(spread(4_990, 5_010), 5_000, 5_030), 'fin'), null);
  assert.equal(endShape(ends(spread(1_000, 6_000), 3_000, 9_000), 'fin'), null);
  assert.equal(endShape(showing({}), 'fin'), null);
});

const place = (asked: number, refused: number) => ({
  asked,
  established: asked - refused,
  failed: { refused },
  dropped: {},
});

test('one place of several, and not a share of each', () => {
  assert.deepEqual(
    outlierOf({ a: place(100, 100), b: place(100, 0), c: place(100, 1) })?.bad.map(([name]) => name),
    ['a'],
  );
  assert.equal(outlierOf({ a: place(100, 50), b: place(100, 0) }), null);
  assert.equal(outlierOf({ a: place(100, 100), b: place(100, 98) }), null);
  assert.equal(outlierOf({ a: place(100, 100) }), null);
  assert.equal(outlierOf(undefined), null);
});

test('the same number for each source, proven only where they asked for different ones', () => {
  const of = (...asked: number[]): ReturnType<typeof equalShareOf> =>
    equalShareOf(
      showing({
        bySourceOutcome: Object.fromEntries(asked.map((each, at) => [`s${at}`, place(each, each - 50)])),
      }),
    );
  assert.deepEqual(of(200, 200), { each: 50, sources: 2, isProven: false });
  assert.deepEqual(of(200, 400), { each: 50, sources: 2, isProven: true });
  assert.equal(of(200, 50), null, 'the one that got all that it asked for shows no limit');
  assert.equal(of(200), null);
});

function evicting(lost: number[], ageMs: number, open = 30): Facts {
  return showing(
    {
      connectsAt: {
        folds: 7,
        counts: { established: Array.from({ length: 12 }, () => 10), answeredNo: [], silent: [] },
      },
      lossesAt: { folds: 7, counts: { fin: lost, rst: [], silent: [] } },
      lossAgeMs: { fin: lengths(spread(ageMs, ageMs + 5)), rst: lengths([]) },
    },
    open,
  );
}

test('one for one as new ones come, the oldest, and no longer: nothing else is an eviction', () => {
  const oneForOne = [0, 0, 0, ...Array.from({ length: 9 }, () => 10)];
  assert.equal(isEviction(evicting(oneForOne, 380)), true);
  assert.equal(isEviction(evicting(oneForOne, 5)), false, 'a limit closes the newest');
  const goesOn = [...oneForOne, ...Array.from({ length: 12 }, () => 10)];
  assert.equal(isEviction(evicting(goesOn, 380)), false, 'a timeout goes on after the ramp');
  assert.equal(isEviction(evicting(oneForOne, 380, 0)), false);
  assert.equal(isEviction(evicting([0, 0, 0, 0, 0, 90], 380)), false, 'an end takes them all at once');
});

test('young is what was never held: by age, or, where it never answered, at whatever age', () => {
  const facts = (evidence: Evidence, probeEveryMs: number | null): Facts => ({
    ...showing(evidence),
    asked: { ...FACTS.asked, probeEveryMs },
    connections: { ...FACTS.connections, dropped: { rst: 100 } },
    losses: { ...FACTS.losses, young: 0, resetsOnProbe: 0 },
  });
  const of = (from: number, to: number): Evidence => ({
    lossAgeMs: { fin: lengths([]), rst: lengths(spread(from, to)) },
  });
  assert.equal(endedYoung(facts(of(600, 1_600), null)).rst, 100, 'a busy target comes to some a while later');
  const few = endedYoung(facts(of(900, 4_900), null)).rst;
  assert.ok(few < 10, String(few));
  const lostUnanswered = { fin: 0, rst: 100 };
  assert.deepEqual(endedYoung(facts({ ...of(900, 9_000), lostUnanswered }, 1_000)), { fin: 0, rst: 100 });
  assert.ok(
    endedYoung(facts({ ...of(900, 9_000), lostUnanswered }, null)).rst < 10,
    'where nothing is asked',
  );
  const answered = { ...of(200, 900), lostUnanswered: { fin: 0, rst: 0 } };
  assert.deepEqual(
    endedYoung(facts(answered, 1_000)),
    { fin: 0, rst: 0 },
    'reset after an answer is no young one',
  );
});

test('what a limit closes young, and what ends later for another reason, are two groups with ages of their own', () => {
  const two = (young: readonly number[], held: readonly number[]): Facts => {
    const ages = [...young, ...held];
    const fin = Array.from({ length: 400 }, (_, at) =>
      at === 0 ? young.length : at === 380 ? held.length : 0,
    );
    return {
      ...showing({
        lossAgeMs: { fin: lengths(ages), rst: lengths([]) },
        lossesAt: { folds: 4, counts: { fin, rst: [], silent: [] } },
      }),
      asked: { ...FACTS.asked, probeEveryMs: null },
      connections: { ...FACTS.connections, open: 0, dropped: { fin: ages.length } },
      losses: { ...FACTS.losses, young: 0, resetsOnProbe: 0 },
    };
  };
  const counts = (facts: Facts): number[] =>
    (['young', 'held'] as const).map((group) => histogramCount(agesOfGroup(facts, 'fin', group).histogram));
  const young = spread(1, 900, 130);
  assert.deepEqual(counts(two(young, spread(4_860, 5_400, 50))), [130, 50], 'a gap is between them');
  assert.equal(endedYoung(two(young, spread(4_860, 5_400, 50))).fin, 130);
  assert.deepEqual(
    counts(two(young, spread(950, 2_500, 50))),
    [180, 0],
    'a busy target comes to the last ones late',
  );
  assert.deepEqual(counts(two(young, [])), [130, 0]);
  assert.deepEqual(counts(two([], spread(4_860, 5_400, 50))), [0, 50]);
  assert.equal(equalLength(agesOfGroup(two(young, spread(5_900, 6_000, 50)), 'fin', 'held'))?.count, 50);
  // All in one moment while their ages differ: seen once the others are left out.
  const moment = two(young, spread(4_500, 9_500, 50));
  assert.equal(endShape(moment, 'fin'), null);
  assert.equal(endShape(moment, 'fin', 'held'), 'moment');
});
