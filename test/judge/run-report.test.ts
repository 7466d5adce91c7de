/** Tests the report that is made from given facts: what each of them does to the verdict, the notes and the numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitCode } from '../../src/base/errors.ts';
import { EMPTY_TIMELINE } from '../../src/judge/report-parts.ts';
import { HELD_ALL, parseRequirement } from '../../src/judge/requirement.ts';
import { makeReport, type RunFacts } from '../../src/judge/run-report.ts';
import { type AgentRecord, AgentTable, newAgent, withLoss } from '../../src/run/agent-record.ts';
import type { RunSpec, RunTerms } from '../../src/run/run-spec.ts';
import { initialRunState, type RunState } from '../../src/run/run-transition.ts';
import { emptyStats, newHolderHealth, type Stats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { schemaErrors } from '../support/report-schema.ts';

const STARTED_WALL_MS = Date.UTC(2026, 0, 2, 3, 4, 5);

const HELD: Stats = {
  ...emptyStats(),
  attempted: 1_000,
  established: 1_000,
  open: 1_000,
  openAtHold: 1_000,
  openMin: 1_000,
  connectUs: [100, 1_000],
};

/** One that has given its final report. */
function agentOf(stats: Partial<Stats> = {}, change: Partial<AgentRecord> = {}): AgentRecord {
  const { id = 'a' } = change;
  const holders = [newHolderHealth(`${id}/1`, 1, 2_000)];
  return {
    ...newAgent(id, 0),
    stage: 'done',
    quota: 1_000,
    stats: { ...HELD, ...stats },
    holders,
    ...change,
  };
}

const TERMS: RunTerms = {
  agentsExpected: 1,
  gatherMs: 1,
  prepareMs: 1,
  stallMs: 12_000,
  drainMs: 1,
  leaseMs: 1,
  onAgentLoss: 'continue',
};

function endState(change: Partial<RunState> = {}): RunState {
  const ended = { phase: 'ended', hasHeld: true, endReason: { type: 'held' } } as const;
  return { ...initialRunState(runSpec({ connections: 1_000 }), TERMS, 0), ...ended, ...change };
}

/** A run that held 1,000 of 1,000 for ten seconds, but for what the test changes; checked against the schema. */
function reportOf({
  agents = [agentOf()],
  spec = runSpec({ connections: 1_000 }),
  state = endState(),
  ...change
}: Partial<RunFacts> & {
  readonly agents?: readonly AgentRecord[];
  readonly spec?: RunSpec;
} = {}): ReturnType<typeof makeReport> {
  const table = agents.reduce((all, agent) => all.with(agent), AgentTable.empty());
  const report = makeReport({
    targetText: ['127.0.0.1:80'],
    about: null,
    balance: null,
    incidents: [],
    overTime: null,
    toolVersion: '0.0.0',
    state: { ...state, spec, agents: table },
    endedWallMs: STARTED_WALL_MS + 20_000,
    timeline: EMPTY_TIMELINE,
    startedWallMs: STARTED_WALL_MS,
    holdStartedMs: 5_000,
    holdEndedMs: 15_000,
    holdCpu: null,
    requirements: [HELD_ALL],
    target: null,
    targetProof: null,
    ledgerEntries: null,
    lossBurstMax: 0,
    isPartial: false,
    neverRan: null,
    notes: [],
    ...change,
  });
  assert.deepEqual(schemaErrors(JSON.parse(JSON.stringify(report))), []);
  return report;
}

const COUNT = { agent: 'a', when: 'hold-end', method: 'ss', openBefore: 1_000, open: 1_000 } as const;

test('what was asked was held: pass, with the hold and both times', () => {
  const { verdict, exitCode, hold, connections, startedAt, endedAt, isPartial } = reportOf();
  assert.deepEqual([verdict, exitCode, isPartial], ['pass', ExitCode.held, false]);
  assert.deepEqual([hold.seconds, hold.proof, connections.held], [10, 'kernel-only', 1_000]);
  assert.deepEqual([startedAt, endedAt], ['2026-01-02T03:04:05.000Z', '2026-01-02T03:04:25.000Z']);
});

test('a kernel that counts otherwise than we do makes the run incomplete, and is named', () => {
  const wrong = agentOf({}, { kernel: [{ ...COUNT, established: 990 }] });
  const { verdict, exitCode, notes, kernel } = reportOf({ agents: [wrong] });
  assert.deepEqual([verdict, exitCode, kernel.established], ['incomplete', ExitCode.incomplete, 990]);
  assert(
    notes.includes('a at hold-end: the kernel counts 990 established sockets, our count is 1,000'),
    notes[0],
  );
});

test('a kernel that counts between two of our own counts, or cannot be asked, is no difference', () => {
  for (const count of [
    { ...COUNT, established: 995, open: 990 },
    { ...COUNT, established: 1_000 },
    { ...COUNT, established: null, method: 'none' as const },
  ]) {
    assert.equal(
      reportOf({ agents: [agentOf({}, { kernel: [count] })] }).verdict,
      'pass',
      JSON.stringify(count),
    );
  }
});

test('counters of several kernels add up, and each host is listed', () => {
  const evidence = {
    counters: { RetransSegs: 3 },
    samples: {},
    synLadderSec: [1],
    hasLocalEndpoint: false,
  };
  const both = ['a', 'b'].map((id) => agentOf({}, { id, evidence }));
  const { kernel } = reportOf({ agents: both, spec: runSpec({ connections: 2_000 }) });
  assert.deepEqual({ ...kernel.counters }, { RetransSegs: 6 });
  assert.deepEqual(
    kernel.hosts.map(({ agent }) => agent),
    ['a', 'b'],
  );
});

test('one connection below what was asked fails the default requirement', () => {
  const short = agentOf({
    open: 999,
    openMin: 999,
    dropped: { rst: 1 },
    droppedBy: { 'rst 10.0.0.1 10.0.0.2:80': 1 },
  });
  const { verdict, exitCode, requirements, losses } = reportOf({ agents: [short] });
  assert.deepEqual([verdict, exitCode], ['fail', ExitCode.notHeld]);
  assert.deepEqual(
    requirements.map(({ requirement, passed, actual }) => [requirement, passed, actual]),
    [['held>=100%', false, 999]],
  );
  assert.deepEqual(losses.counts, [{ reason: 'rst', source: '10.0.0.1', endpoint: '10.0.0.2:80', count: 1 }]);
});

test('requirements of its own replace the default: what they allow passes, what they do not fails', () => {
  const short = [agentOf({ open: 990, openMin: 990, dropped: { rst: 10 } })];
  const judged = (text: string): [string, boolean | undefined] => {
    const { verdict, requirements } = reportOf({ agents: short, requirements: [parseRequirement(text)] });
    return [verdict, requirements[0]?.passed];
  };
  assert.deepEqual(judged('held>=99%'), ['pass', true]);
  assert.deepEqual(judged('dropped<=9'), ['fail', false]);
  assert.deepEqual(judged('connect_p99<50us'), ['fail', false]);
});

test('a hold that was never reached holds nothing, whatever is open', () => {
  const { verdict, connections, hold } = reportOf({
    state: endState({
      hasHeld: false,
      endReason: { type: 'interrupted', signal: 'SIGINT' },
      interrupted: 'SIGINT',
    }),
    holdStartedMs: null,
    holdEndedMs: null,
  });
  assert.deepEqual([verdict, connections.held, hold.seconds], ['incomplete', 0, 0]);
});

test('a refused run has the findings, each once, and judges no requirement', () => {
  const finding = {
    what: 'tuples',
    severity: 'refuse',
    needed: 2,
    available: 1,
    unit: 'tuples',
    message: 'too few',
    fix: null,
  } as const;
  const agent = agentOf(emptyStats(), { findings: [finding] });
  const { verdict, exitCode, findings, requirements } = reportOf({
    state: endState({ hasHeld: false, endReason: { type: 'refused', agent: 'a', findings: [finding] } }),
    agents: [agent],
    holdStartedMs: null,
    holdEndedMs: null,
  });
  assert.deepEqual([verdict, exitCode], ['refused', ExitCode.refused]);
  assert.deepEqual([findings, requirements], [[finding], []]);
});

test('what a lost agent held is not held: incomplete, because the shortfall is ours', () => {
  const lost = withLoss(agentOf({}, { id: 'b' }));
  const { verdict, exitCode, agents, connections } = reportOf({
    spec: runSpec({ connections: 2_000 }),
    agents: [agentOf(), lost],
  });
  assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.incomplete]);
  assert.deepEqual([connections.held, connections.dropped['agent-lost']], [1_000, 1_000]);
  assert.equal(agents[1]?.lost, true);
});

test('a generator beyond its bounds is said, and its latencies are not to be trusted', () => {
  const hold = { wallMs: 10_000, cpuMs: 9_900, waitMs: 0 };
  const slow = agentOf({}, { holders: [{ ...newHolderHealth('a/1', 1, 2_000), hold }] });
  const { verdict, reason, latencyTrustworthy, generator } = reportOf({ agents: [slow] });
  assert.equal(verdict, 'pass', 'all were held');
  assert.equal(latencyTrustworthy, false);
  assert.deepEqual(generator.limits, ['holder a/1 used 99 % of a core while holding']);
  assert.match(reason, /generator limited/);
  assert.equal(reportOf().latencyTrustworthy, true);
});

test('CPU while holding needs a second of it', () => {
  const percent = (elapsedMs: number): number | null =>
    reportOf({ holdCpu: { cpuMs: elapsedMs / 4, elapsedMs } }).generator.cpuPercentOfOneCoreWhileHolding;
  assert.equal(percent(999), null);
  assert.equal(percent(2_000), 25);
});

test('notes: those of the run and of the agents, each once, and what the numbers themselves say', () => {
  const agent = agentOf(
    {
      unattempted: 5,
      reopenFailed: 2,
      localSkips: { 'port-in-use': 3 } as Stats['localSkips'],
    },
    { notes: ['said twice', 'said by the agent'] },
  );
  const { notes } = reportOf({
    agents: [agent],
    notes: ['said twice'],
    state: endState({ stalled: true }),
    ledgerEntries: 0,
  });
  assert.equal(notes.filter((note) => note === 'said twice').length, 1);
  assert(notes.includes('said by the agent'));
  assert(
    notes.some((note) => /for 12 s, so the ramp was ended; 5 connections were not attempted/.test(note)),
  );
  assert(notes.some((note) => note.startsWith('2 tries to open a lost connection again failed')));
  assert(notes.includes('3 local ports were taken and skipped'));
});

// PROTOCOL.md: events-cut
test('losses without a line in the events file are counted as cut', () => {
  const lossy = agentOf({ open: 990, openMin: 990, dropped: { rst: 10 } });
  const { losses, notes } = reportOf({ agents: [lossy], ledgerEntries: 4 });
  assert.equal(losses.detailsCut, 6);
  assert(notes.some((note) => note.startsWith('the events file is truncated: 6 losses')));
  assert.equal(
    reportOf({ agents: [lossy], ledgerEntries: null }).losses.detailsCut,
    0,
    'there is no such file',
  );
});

test('a report of a run that goes on passes nothing and fails nothing', () => {
  const { verdict, exitCode, isPartial, reason } = reportOf({
    isPartial: true,
    state: endState({ phase: 'holding', endReason: null }),
    holdEndedMs: null,
  });
  assert.deepEqual([verdict, exitCode, isPartial], ['incomplete', ExitCode.incomplete, true]);
  assert.match(reason, /still goes on \(holding\)/);
});

test('sockets of others towards the endpoints are no difference: the kernel has at least ours', () => {
  const more = agentOf({}, { kernel: [{ ...COUNT, established: 5_000 }] });
  assert.equal(reportOf({ agents: [more] }).verdict, 'pass');
});

const FAR = {
  ...{ waitingMax: 0, waitingLast: 0, takenLast: 1_000, halfOpenMax: 0, halfOpenLast: 0 },
  ...{ isQueueFull: false, isOwnerGone: false, descriptorsUsed: null, descriptorsMax: null },
};

function agentBeside(far: typeof FAR): AgentRecord {
  const kernel = { counters: {}, samples: {}, synLadderSec: [], hasLocalEndpoint: true };
  return agentOf({}, { evidence: { ...kernel, farSide: { '127.0.0.1:80': far } } });
}

test('what the application of a target on this host has not taken is not held, where nothing else was asked', () => {
  const silent = runSpec({ connections: 1_000, probeEveryMs: null });
  for (const [far, held] of [
    [FAR, 1_000],
    [{ ...FAR, waitingMax: 400, waitingLast: 0 }, 1_000],
    [{ ...FAR, waitingMax: 400, waitingLast: 300, takenLast: 700 }, 700],
    [{ ...FAR, halfOpenMax: 1_000 }, 1_000],
    [{ ...FAR, halfOpenMax: 1_000, halfOpenLast: 1_000, takenLast: 0 }, 0],
  ] as const) {
    const report = reportOf({ agents: [agentBeside(far)], state: { ...endState(), spec: silent } });
    assert.deepEqual([report.connections.held, report.verdict], [held, held === 1_000 ? 'pass' : 'fail']);
    assert.equal(report.requirements[0]?.actual, held);
    assert.equal(
      report.notes.some((note) => note.includes('not taken')),
      held < 1_000,
    );
  }
});

test('probes without an answer beside many SYNs that were sent again are lost packets: a run is judged by all that its report has', () => {
  const lossy = agentOf({
    established: 1_000,
    open: 700,
    openMin: 700,
    verified: 700,
    dropped: { 'probe-timeout': 300 },
    retransmittedConnects: 650,
    synRetransmits: 1_100,
    probesSent: 3_000,
    probesAnswered: 2_700,
  });
  const report = reportOf({ agents: [lossy] });
  assert.equal(report.verdict, 'fail');
  assert.deepEqual(
    report.diagnoses.map(({ what, count }) => [what, count]),
    [['path-loss', 300]],
  );
});
