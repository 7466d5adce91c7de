/** Tests what is written down of a run: its phases, the CPU while holding, and who knocked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chronicle } from '../../src/coordinator/run-log.ts';
import type { RunSpec } from '../../src/run/run-spec.ts';
import { emptyStats } from '../../src/stats/stats.ts';

const SPEC = { connections: 10, probeEveryMs: null, onDrop: 'count' } as unknown as RunSpec;

test('phases begin when they are entered, and the hold ends when it is left', () => {
  const chronicle = new Chronicle(SPEC);
  assert.equal(chronicle.rampStartedMs, 0);
  chronicle.phaseChanged('preparing', 'ramping', 1_000);
  chronicle.phaseChanged('ramping', 'holding', 3_500);
  const facts = chronicle.metricFacts(emptyStats(), 'holding', 4_500);
  assert.deepEqual([facts.rampSeconds, facts.holdSeconds], [2.5, 1]);
  chronicle.phaseChanged('holding', 'draining', 9_000);
  const { holdStartedMs, holdEndedMs } = chronicle.facts();
  assert.deepEqual([chronicle.rampStartedMs, holdStartedMs, holdEndedMs], [1_000, 3_500, 9_000]);
});

test('a run that never held has no hold, and its ramp lasts until now', () => {
  const chronicle = new Chronicle(SPEC);
  chronicle.phaseChanged('preparing', 'ramping', 1_000);
  const facts = chronicle.metricFacts(emptyStats(), 'ramping', 3_000);
  assert.deepEqual([facts.rampSeconds, facts.holdSeconds], [2, 0]);
  chronicle.phaseChanged('ramping', 'draining', 4_000);
  assert.deepEqual([chronicle.facts().holdStartedMs, chronicle.facts().holdEndedMs], [null, null]);
});

test('the CPU of the hold counts from its first report, and is asked at most twice a second', () => {
  const chronicle = new Chronicle(SPEC);
  assert.equal(chronicle.facts().holdCpu, null);
  let asked = 0;
  const sample = (atMs: number, cpuMs: number) =>
    chronicle.sampleHoldCpu(atMs, () => {
      asked++;
      return cpuMs;
    });
  sample(1_000, 700);
  sample(1_499, 9_999);
  sample(1_500, 720);
  sample(3_000, 800);
  assert.equal(asked, 3);
  assert.deepEqual(chronicle.facts().holdCpu, { cpuMs: 100, elapsedMs: 2_000 });
});

test('the timeline counts from the ramp, and strangers are one note with their reasons', () => {
  const chronicle = new Chronicle(SPEC);
  chronicle.phaseChanged('preparing', 'ramping', 10_000);
  const counts = {
    open: 1,
    established: 1,
    pending: 0,
    failed: 0,
    dropped: 0,
    verified: 0,
    seenByTarget: null,
  };
  chronicle.addPoint(12_345, { phase: 'ramping', ...counts }, true);
  assert.equal(chronicle.facts().timeline.points[0]?.atSec, 2.345);
  chronicle.note('a line');
  chronicle.stranger('tls');
  chronicle.stranger('tls');
  chronicle.stranger('http');
  const [line, strangers] = chronicle.facts().notes;
  assert.equal(line, 'a line');
  assert.match(strangers ?? '', /^3 strangers .*\(tls 2, http 1\)$/);
});
