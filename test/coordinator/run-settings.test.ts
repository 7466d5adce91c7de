/** Tests how long a run waits for its agents, by what it was started with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { termsOf } from '../../src/coordinator/run-settings.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { runOptions } from './lied-to-run.ts';

// PROTOCOL.md: wait-ready, wait-done
test('a run waits 2 minutes and 2 s for each holder for `ready`, and one minute for `done` beside what asking each connection once more may take', () => {
  const plan = (spec: object) => termsOf({ ...runOptions(), spec: { ...runSpec(), ...spec } });
  assert.equal(plan({ holders: 5 }).prepareMs, 130_000);
  const silent = { connections: 100_000, probeEveryMs: null };
  assert.equal(plan(silent).drainMs, 60_000 + 20_000);
  assert.equal(plan({ ...silent, probeEveryMs: 10_000, probeTimeoutMs: 5_000 }).drainMs, 60_000 + 30_000);
  assert.equal(plan({ holders: null, connections: 3_000 }).prepareMs, 126_000);
});

test('as many agents are expected as join from elsewhere, and this host where it takes part', () => {
  const expected = (hasLocalAgent: boolean) =>
    termsOf({ ...runOptions({ remoteAgents: 3 }), hasLocalAgent }).agentsExpected;
  assert.deepEqual([expected(false), expected(true)], [3, 4]);
});

test('a ramp is stalled after two connect timeouts, ten intervals of a slow rate, or what first probes take; 10 s at least', () => {
  const stall = (spec: object) => termsOf({ ...runOptions(), spec: { ...runSpec(), ...spec } }).stallMs;
  assert.equal(stall({ connectTimeoutMs: 1_000 }), 10_000);
  assert.equal(stall({ connectTimeoutMs: 9_000 }), 18_000);
  assert.equal(stall({ connectTimeoutMs: 1_000, ratePerSec: 0.5 }), 20_000);
  assert.equal(stall({ connectTimeoutMs: 1_000, probeEveryMs: 10_000, probeTimeoutMs: 12_000 }), 25_000);
});

test('an agent is lost after its lease and the margin, of the tests or of every run', () => {
  const lease = { quietMs: 20, leaseMs: 60, marginMs: 7 };
  assert.equal(termsOf(runOptions({ lease })).leaseMs, 67);
  const { lease: _, ...ordinary } = runOptions();
  assert.equal(termsOf(ordinary).leaseMs, 20_000);
});
