/** Tests what is noted of a run while it goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunLog } from '../../src/coordinator/run-facts.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

const SPEC = runSpec();

test('phases begin when they are entered, and the hold ends when it is left', () => {
  const log = new RunLog(SPEC);
  assert.equal(log.rampStartedMs, 0);
  log.phaseChanged('preparing', 'ramping', 1_000);
  log.phaseChanged('ramping', 'holding', 3_500);
  const facts = log.metricFacts(emptyStats(), 'holding', 4_500);
  assert.deepEqual([facts.rampSeconds, facts.holdSeconds], [2.5, 1]);
  log.phaseChanged('holding', 'draining', 9_000);
  const { holdStartedMs, holdEndedMs } = log.facts();
  assert.deepEqual([log.rampStartedMs, holdStartedMs, holdEndedMs], [1_000, 3_500, 9_000]);
});

test('a run that never held has no hold, and its ramp lasts until now', () => {
  const log = new RunLog(SPEC);
  log.phaseChanged('preparing', 'ramping', 1_000);
  const facts = log.metricFacts(emptyStats(), 'ramping', 3_000);
  assert.deepEqual([facts.rampSeconds, facts.holdSeconds], [2, 0]);
  log.phaseChanged('ramping', 'draining', 4_000);
  assert.deepEqual([log.facts().holdStartedMs, log.facts().holdEndedMs], [null, null]);
});

test('the CPU of the hold counts from its first report, and is asked at most twice a second', () => {
  const log = new RunLog(SPEC);
  assert.equal(log.facts().holdCpu, null);
  let asked = 0;
  const sample = (atMs: number, cpuMs: number) =>
    log.sampleHoldCpu(atMs, () => {
      asked++;
      return cpuMs;
    });
  sample(1_000, 700);
  sample(1_499, 9_999);
  sample(1_500, 720);
  sample(3_000, 800);
  assert.equal(asked, 3);
  assert.deepEqual(log.facts().holdCpu, { cpuMs: 100, elapsedMs: 2_000 });
});

test('the timeline counts from the ramp, and refused connections are one note with their reasons', () => {
  const log = new RunLog(SPEC);
  log.phaseChanged('preparing', 'ramping', 10_000);
  const counts = {
    open: 1,
    established: 1,
    pending: 0,
    failed: 0,
    dropped: 0,
    verified: 0,
    seenByTarget: null,
  };
  log.addPoint(12_345, { phase: 'ramping', ...counts }, true);
  assert.equal(log.facts().timeline.points[0]?.atSec, 2.345);
  log.note('a line');
  log.connectionRefused('tls');
  log.connectionRefused('tls');
  log.connectionRefused('http');
  const [line, refused] = log.facts().notes;
  assert.equal(line, 'a line');
  assert.match(refused ?? '', /^3 connections at the control port were refused \(tls 2, http 1\)$/);
});
