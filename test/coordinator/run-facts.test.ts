/** Tests what is shown of a run in motion: rates are of the time between two looks, and the total is the sum. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunLog, RunProgress, timelinePoint } from '../../src/coordinator/run-facts.ts';
import { type AgentRecord, AgentTable, newAgent, withLoss } from '../../src/run/agent-record.ts';
import type { RunTerms } from '../../src/run/run-spec.ts';
import { initialRunState, type RunState } from '../../src/run/run-state.ts';
import { type AgentProgress, emptyStats, type Stats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

const TERMS: RunTerms = {
  agentsExpected: 1,
  gatherMs: 1,
  prepareMs: 1,
  stallMs: 1,
  drainMs: 1,
  leaseMs: 1,
  onAgentLoss: 'continue',
};

function agentWith(quota: number, stats: Partial<Stats>, id = 'a'): AgentRecord {
  return { ...newAgent(id, 0), quota, stage: 'running', stats: { ...emptyStats(), ...stats } };
}

function runOf(...agents: readonly AgentRecord[]): RunState {
  const table = agents.reduce((all, agent) => all.with(agent), AgentTable.empty());
  return { ...initialRunState(runSpec({ connections: 1_000 }), TERMS, 0), agents: table };
}

/** The total of all in a first look, one second after the clock began. */
function totalOf(...agents: readonly AgentRecord[]): AgentProgress {
  return new RunProgress(0).at(runOf(...agents), 1_000, null).total;
}

test('the rate is of the time since the last look, not of the whole run', () => {
  const progress = new RunProgress(0);
  const rateAt = (atMs: number, established: number) =>
    progress.at(runOf(agentWith(10_000, { established })), atMs, null).agents[0]?.ratePerSec;
  assert.equal(rateAt(1_000, 1_000), 1_000);
  assert.equal(rateAt(2_000, 4_000), 3_000);
  assert.equal(rateAt(3_000, 4_000), 0, 'nothing new in this second');
});

test('two looks within half a second give the same rate: a burst between them says nothing', () => {
  const progress = new RunProgress(0);
  progress.at(runOf(agentWith(10_000, { established: 1_000 })), 1_000, null);
  const again = progress.at(runOf(agentWith(10_000, { established: 1_500 })), 1_001, null);
  assert.equal(again.total.ratePerSec, 1_000);
});

test('the total is the sum of the agents, and lost only when all are', () => {
  const counts = { open: 500, established: 550, failed: { refused: 3 }, dropped: { fin: 50 } };
  const a = agentWith(600, counts, 'a');
  const b = agentWith(400, { open: 400, established: 400, pending: 7 }, 'b');
  const { name, quota, open, established, pending, failed, dropped, ratePerSec, lost } = totalOf(a, b);
  assert.deepEqual(
    { name, quota, open, established, pending, failed, dropped, lost },
    {
      name: 'total',
      quota: 1_000,
      open: 900,
      established: 950,
      pending: 7,
      failed: 3,
      dropped: 50,
      lost: false,
    },
  );
  assert.equal(ratePerSec, 950);
  assert.equal(totalOf(withLoss(a), b).lost, false);
  assert.equal(totalOf(withLoss(a), withLoss(b)).lost, true);
  assert.equal(totalOf().lost, false, 'that no agent came is not that all are lost');
});

test('what is left of the hold is shown while holding, and a point of the timeline counts who has answered', () => {
  const agents = [agentWith(6, { open: 5, verified: 4 }), agentWith(4, { open: 4, verified: 3 }, 'b')];
  const gathering = runOf(...agents);
  assert.equal(new RunProgress(0).at(gathering, 100, null).holdLeftMs, null);
  const holding: RunState = { ...gathering, phase: 'holding', phaseSinceMs: 1_000 };
  const progress = new RunProgress(400).at(holding, 1_100, 'a note');
  assert.deepEqual([progress.elapsedMs, progress.holdLeftMs, progress.asked], [700, 200, 1_000]);
  assert.equal(progress.note, 'a note');
  const point = timelinePoint(progress, holding.agents.values(), 9);
  assert.deepEqual([point.phase, point.open, point.verified, point.seenByTarget], ['holding', 9, 7, 9]);
});

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
