/**
 * Owns the run over time, in bounded memory: when it is full, every second point goes and the step doubles.
 * Must never read a clock.
 */
import type { TimelinePoint } from './report.ts';

/** Points kept at most; a day's run then has one every few minutes. */
export const TIMELINE_POINTS_MAX = 600;

/** Thinned points and the number of snapshots from one kept point to the next. */
export interface Timeline {
  readonly points: readonly TimelinePoint[];
  readonly every: number;
  readonly seen: number;
}

export const EMPTY_TIMELINE: Timeline = { points: [], every: 1, seen: 0 };

/**
 * Adds a snapshot.
 * @param point not older than the points before it
 * @param isLandmark a change of phase: always kept when it is added
 */
export function withPoint(timeline: Timeline, point: TimelinePoint, isLandmark: boolean): Timeline {
  const seen = timeline.seen + 1;
  if (!isLandmark && timeline.seen % timeline.every !== 0) return { ...timeline, seen };
  const points = [...timeline.points, point];
  if (points.length <= TIMELINE_POINTS_MAX) return { ...timeline, points, seen };
  return { points: points.filter((_, index) => index % 2 === 0), every: timeline.every * 2, seen };
}
