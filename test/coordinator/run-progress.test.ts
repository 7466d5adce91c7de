/** Tests what is shown of a run in motion: rates are of the time between two looks, and the total is the sum. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentProgress } from '../../src/coordinator/run-progress.ts';
import { RunProgress, timelinePoint } from '../../src/coordinator/run-progress.ts';
import { type AgentRecord, AgentTable, newAgent, withLoss } from '../../src/run/agent-record.ts';
import type { RunTerms } from '../../src/run/run-spec.ts';
import { initialRunState, type RunState } from '../../src/run/run-transition.ts';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import { emptyStats, newHolderHealth, type Stats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

/** Beside the run's state. */
const NOTHING = { note: null, target: null };

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
  return new RunProgress(0).at(runOf(...agents), 1_000, NOTHING).total;
}

test('the rate is of the time since the last look, not of the whole run', () => {
  const progress = new RunProgress(0);
  const rateAt = (atMs: number, established: number) =>
    progress.at(runOf(agentWith(10_000, { established })), atMs, NOTHING).agents[0]?.ratePerSec;
  assert.equal(rateAt(1_000, 1_000), 1_000);
  assert.equal(rateAt(2_000, 4_000), 3_000);
  assert.equal(rateAt(3_000, 4_000), 0, 'nothing new in this second');
});

test('two looks within half a second give the same rate: a burst between them says nothing', () => {
  const progress = new RunProgress(0);
  progress.at(runOf(agentWith(10_000, { established: 1_000 })), 1_000, NOTHING);
  const again = progress.at(runOf(agentWith(10_000, { established: 1_500 })), 1_001, NOTHING);
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
  assert.equal(new RunProgress(0).at(gathering, 100, NOTHING).holdLeftMs, null);
  const holding: RunState = { ...gathering, phase: 'holding', phaseSinceMs: 1_000 };
  const progress = new RunProgress(400).at(holding, 1_100, { ...NOTHING, note: 'a note' });
  assert.deepEqual([progress.elapsedMs, progress.holdLeftMs, progress.asked], [700, 200, 1_000]);
  assert.equal(progress.note, 'a note');
  const point = timelinePoint(progress, holding.agents.values(), 9);
  assert.deepEqual([point.phase, point.open, point.verified, point.seenByTarget], ['holding', 9, 7, 9]);
});

test('what was lost is shown by reason, with what the application and the target say', () => {
  const a = agentWith(6, { open: 3, verified: 2, failed: { refused: 1 }, dropped: { rst: 1 } });
  const b = agentWith(4, { open: 2, verified: 1, failed: { refused: 1, timeout: 1 } }, 'b');
  const run = runOf(a, b);
  const probing: RunState = { ...run, spec: { ...run.spec, probeEveryMs: 1_000 } };
  const shown = new RunProgress(0).at(probing, 1_000, { note: null, target: { open: 5 } });
  assert.deepEqual([{ ...shown.failedBy }, { ...shown.droppedBy }], [{ refused: 2, timeout: 1 }, { rst: 1 }]);
  assert.deepEqual([shown.verified, shown.target], [3, { open: 5 }]);
  const silent = new RunProgress(0).at({ ...run, spec: { ...run.spec, probeEveryMs: null } }, 1_000, NOTHING);
  assert.equal(silent.verified, null, 'no probe asks the application');
});

test('of probes the percentile of all agents together, of CPU what the last looks say', () => {
  const probed = (cpuUserMs: number): RunState => {
    const recorder = new LatencyRecorder();
    for (let us = 1; us <= 100; us++) recorder.record(us * 1_000);
    const health = { ...newHolderHealth('a/0', 1, 10), cpuUserMs };
    const agent = agentWith(10, { probeUs: recorder.sparse() });
    return runOf({ ...agent, holders: [health] }, agentWith(10, { probeUs: recorder.sparse() }, 'b'));
  };
  const progress = new RunProgress(0);
  const first = progress.at(probed(100), 1_000, NOTHING);
  assert.equal(first.cpuCores, null, 'one look says nothing');
  assert.ok(Math.abs((first.probeP99Ms ?? 0) - 99) < 0.2, String(first.probeP99Ms));
  assert.equal(progress.at(probed(1_600), 2_000, NOTHING).cpuCores, 1.5);
  for (let second = 3; second < 9; second++) progress.at(probed(1_600), second * 1_000, NOTHING);
  assert.equal(progress.at(probed(1_600), 9_000, NOTHING).cpuCores, 0, 'what is long ago does not count');
});

test('what is left of a ramp follows from its mean rate, and of gathering from its limit', () => {
  const run = runOf(agentWith(1_000, { established: 240, failed: { refused: 10 } }));
  const at = (phase: RunState['phase'], atMs: number): number | null =>
    new RunProgress(0).at({ ...run, phase, phaseSinceMs: 1_000 }, atMs, NOTHING).leftMs;
  assert.equal(at('ramping', 3_000), 6_000);
  assert.equal(at('ramping', 1_500), null, 'too young');
  assert.equal(at('holding', 3_000), null);
  const waiting: RunState = { ...run, terms: { ...TERMS, gatherMs: 60_000 } };
  assert.equal(new RunProgress(0).at(waiting, 15_000, NOTHING).leftMs, 45_000);
});

test('who is awaited is said: who has joined and not offered, who has a quota and is not ready', () => {
  const stages = ['joined', 'offered', 'quoted', 'ready', 'running', 'lost'] as const;
  const agents = stages.map((stage) => ({ ...agentWith(1, {}, stage), stage }));
  const shown = new RunProgress(0).at(runOf(...agents), 1_000, NOTHING);
  assert.deepEqual(
    shown.agents.filter(({ isAwaited }) => isAwaited).map(({ name }) => name),
    ['joined', 'quoted'],
  );
});
