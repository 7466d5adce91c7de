/** Owns how a test makes one of the faults anew. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SCENARIOS } from './fault-scenarios.ts';
import type { FaultRun } from './faults.ts';
import { whyNoNetwork } from './network.ts';

/** Makes one of the faults; a skip is seen. */
export function fault(name: string, check: (ran: FaultRun) => void): void {
  const scenario = SCENARIOS[name];
  assert(scenario, name);
  const why = scenario.needsRoot ? whyNoNetwork() : null;
  test(`${scenario.fault}`, { skip: why ?? false }, async (t) => check(await scenario.run(t)));
}

/** What was diagnosed, the first thing first. */
export function names(ran: FaultRun): string[] {
  return ran.report.diagnoses.map(({ what }) => what);
}
