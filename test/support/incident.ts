/** Owns an incident for tests: 1,000 of 1,000 lost, and back within 8 s. */
import type { Incident } from '../../src/stats/incident-log.ts';

export function incidentOf(change: Partial<Incident> = {}): Incident {
  return {
    atSec: 12.25,
    openBefore: 1_000,
    missingMax: 1_000,
    missing: 0,
    hasEnded: true,
    lastedSec: 8,
    lost: 1_003,
    backSec: { p50: 1.25, p90: 2.5, p99: 4, p999: 5.5, all: 8 },
    connectsPerSecMax: 640,
    backPerSecMax: 610,
    refused: 21,
    failed: 2,
    curve: { bucketMs: 2_000, missing: [400, 10, 1, 0], connects: [700, 300, 15, 11] },
    ...change,
  };
}

/** One that has not ended. */
export function lastingIncident(change: Partial<Incident> = {}): Incident {
  const backSec = { p50: 1.25, p90: null, p99: null, p999: null, all: null };
  const curve = { bucketMs: 1_000, missing: [400, 200, 200, 200, 200], connects: [900, 200, 0, 0, 0] };
  return incidentOf({ hasEnded: false, missing: 200, lastedSec: 5, backSec, curve, ...change });
}
