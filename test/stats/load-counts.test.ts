/** Tests the addition of what a load that changes has done, and what of it is sent again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DropReason } from '../../src/base/outcome.ts';
import { type LoadCounts, loadOfBoth, type StageCounts } from '../../src/stats/load-counts.ts';
import { emptyStats, mergeAllStats, statsDelta, withAllLost, withDelta } from '../../src/stats/stats.ts';

const stage = (number: number): StageCounts => ({
  openMin: number,
  waiting: 0,
  open: number,
  reachedMs: number * 10,
  established: number,
  failed: 1,
  dropped: 2,
  lowered: 3,
  churned: 4,
  connectUs: [5, number],
});
const load = (...stages: StageCounts[]): LoadCounts => ({ churned: 4, lowered: 3, openedLater: 1, stages });

test('parts add up stage by stage, whichever has begun more', () => {
  const [a, b] = [load(stage(1), stage(2)), load(stage(10))];
  for (const sum of [loadOfBoth(a, b).load, loadOfBoth(b, a).load]) {
    assert(sum !== undefined);
    assert.deepEqual([sum.churned, sum.lowered, sum.openedLater], [8, 6, 2]);
    assert.deepEqual(
      sum.stages.map(({ openMin, reachedMs, failed, connectUs }) => ({
        openMin,
        reachedMs,
        failed,
        connectUs,
      })),
      [
        { openMin: 11, reachedMs: 100, failed: 2, connectUs: [5, 11] },
        { openMin: 2, reachedMs: 20, failed: 1, connectUs: [5, 2] },
      ],
    );
  }
  assert.deepEqual(mergeAllStats([emptyStats(), { ...emptyStats(), load: a }]).load, a);
});

test('of a part that is lost nothing is open in the stage that goes on, and the stages before stay', () => {
  const stats = { ...emptyStats(), open: 2, load: load(stage(9), stage(2)) };
  const lost = withAllLost(stats, DropReason.holderLost, 9).load?.stages ?? [];
  assert.deepEqual(
    lost.map(({ openMin, open }) => [openMin, open]),
    [
      [9, 9],
      [0, 0],
    ],
  );
});

test('is sent again only where it has changed', () => {
  const stats = { ...emptyStats(), load: load(stage(1)) };
  const delta = statsDelta(stats, stats);
  assert.equal(delta.load, null);
  assert.deepEqual(withDelta(stats, delta).load, stats.load);
  assert.deepEqual(statsDelta({ ...stats, load: load(stage(1), stage(2)) }, stats).load?.stages.length, 2);
  assert.deepEqual(statsDelta({ ...stats, load: { ...stats.load, churned: 5 } }, stats).load?.churned, 5);
});
