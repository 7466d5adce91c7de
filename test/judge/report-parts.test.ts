import assert from 'node:assert/strict';
import { it } from 'node:test';
import { EMPTY_TIMELINE, withPoint } from '../../src/judge/report-parts.ts';

const TIMELINE_POINTS_MAX = 600;

const point = (atSec: number) => ({
  atSec,
  phase: 'holding',
  open: atSec,
  established: 0,
  pending: 0,
  failed: 0,
  dropped: 0,
  verified: 0,
  seenByTarget: null,
});

it('a day of snapshots stays within the limit, in order, with its start and nearly its end', () => {
  let timeline = EMPTY_TIMELINE;
  for (let second = 0; second < 86_400; second++) timeline = withPoint(timeline, point(second), false);
  assert.ok(timeline.points.length <= TIMELINE_POINTS_MAX);
  assert.ok(timeline.points.length > TIMELINE_POINTS_MAX / 3);
  assert.equal(timeline.points[0]!.atSec, 0);
  const steps = timeline.points.slice(1).map((each, index) => each.atSec - timeline.points[index]!.atSec);
  assert.equal(new Set(steps).size, 1, 'the points are evenly spaced');
  assert.ok(86_399 - timeline.points.at(-1)!.atSec < steps[0]!);
});

it('a change of phase is kept even between two kept points', () => {
  let timeline = { ...EMPTY_TIMELINE, every: 100, seen: 1 };
  timeline = withPoint(timeline, point(5), false);
  assert.equal(timeline.points.length, 0);
  timeline = withPoint(timeline, point(6), true);
  assert.equal(timeline.points.length, 1);
});
