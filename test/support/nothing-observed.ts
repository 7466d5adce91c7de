/** Owns the counts of a target that observed no connection. */
import type { SeenCounts } from '../../src/stats/observed-sources.ts';

export const NOTHING_OBSERVED: SeenCounts = {
  sourceKept: 0,
  sourceChanged: 0,
  portKept: 0,
  portChanged: 0,
  portMin: null,
  portMax: null,
  bySource: {},
  byEndpoint: {},
};
