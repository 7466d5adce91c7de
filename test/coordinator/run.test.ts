/**
 * Tests the shell of a run over a real channel on loopback, with agents that say what the test tells them to: the
 * conversation, the ends of a run, and what its report makes of them.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ExitCode } from '../../src/base/errors.ts';
import { generateToken } from '../../src/control/token.ts';
import { Run } from '../../src/coordinator/run.ts';
import type { RunOptions } from '../../src/coordinator/run-settings.ts';
import { type LedgerEntry, UNWATCHED } from '../../src/coordinator/run-watch.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { HELD_ALL } from '../../src/judge/requirement.ts';
import { rhythmOf } from '../../src/run/lease.ts';
import type { Phase } from '../../src/stats/stats.ts';
import { systemClock } from '../../src/time/timer.ts';
import { runSpec } from '../run/run-spec-fixture.ts';
import { type Line, later, recorded } from '../support/conversation.ts';
import { HANG_MS, settled, until } from '../support/waiting.ts';
import { RawAgent } from './raw-agent.ts';
import { type Script, ScriptedAgent } from './scripted-agent.ts';

/** Reports as often as with a tenth of the usual times; and nobody is lost because this process had to wait. */
const LEASE = { quietMs: 500, leaseMs: 2 * HANG_MS, marginMs: 500 };
const EVERY_MS = rhythmOf(LEASE).reportEveryMs;

interface Started {
  readonly run: Run;
  readonly report: Promise<RunReport>;
  readonly agents: readonly ScriptedAgent[];
  readonly phases: Phase[];
  readonly notes: string[];
}

/** A run with agents that have joined. */
async function start(
  t: TestContext,
  scripts: readonly Partial<Script>[],
  change: Partial<RunOptions> & { readonly holdMs?: number } = {},
): Promise<Started> {
  const { holdMs = 300, ...options } = change;
  const token = generateToken();
  const phases: Phase[] = [];
  const notes: string[] = [];
  let listening = (_port: number): void => {};
  const port = new Promise<number>((resolve) => {
    listening = resolve;
  });
  const run = new Run({
    spec: runSpec({ connections: 10 * scripts.length, holdMs }),
    targetText: ['127.0.0.1:80'],
    entryPath: '',
    toolVersion: '0.0.0',
    clock: systemClock,
    listen: { host: '127.0.0.1', port: 0 },
    token,
    hasLocalAgent: false,
    remoteAgents: scripts.length,
    waitAgentsMs: HANG_MS,
    onAgentLoss: 'continue',
    lease: LEASE,
    ssh: null,
    onProgress: ({ phase }) => {
      if (phases.at(-1) !== phase) phases.push(phase);
    },
    onNote: (line) => notes.push(line),
    onListening: (bound) => listening(bound.port),
    ...options,
  });
  const report = run.start();
  const reportEveryMs = rhythmOf(options.lease ?? LEASE).reportEveryMs;
  const agents: ScriptedAgent[] = [];
  for (const [index, script] of scripts.entries()) {
    const named = { name: `agent${index + 1}`, reportEveryMs, ...script };
    agents.push(await ScriptedAgent.join(await port, token, named));
  }
  t.after(() => {
    for (const agent of agents) agent.leave();
  });
  return { run, report, agents, phases, notes };
}

test('a run with two agents: both ready, then start, hold, stop, and all that was asked is held', async (t) => {
  const { report, agents, phases } = await start(t, [{ capacity: 15 }, { capacity: 30 }]);
  const { verdict, exitCode, connections, agents: told, kernel } = await report;
  assert.deepEqual([verdict, exitCode], ['pass', ExitCode.held]);
  for (const agent of agents) {
    await until('its channel is closed in order', () => agent.end === 'orderly');
    assert.deepEqual(agent.heard, ['spec', 'quota', 'start', 'hold', 'stop', 'counted', 'verdict']);
    assert.equal(agent.stopReason, 'held');
  }
  assert.deepEqual(
    agents.map(({ quota }) => quota),
    told.map(({ quota }) => quota),
  );
  assert.equal(agents[0]!.quota + agents[1]!.quota, 20);
  assert.deepEqual([connections.held, connections.closed, kernel.established], [20, 20, 20]);
  // Whether somebody looks before the agents are here is a matter of when the tick comes.
  const later = phases.filter((phase) => phase !== 'gathering');
  assert.deepEqual(later, ['preparing', 'ramping', 'holding', 'draining', 'ended']);
});

test('no agent starts before the last one is ready', async (t) => {
  const { report, agents } = await start(t, [{}], { remoteAgents: 2, waitAgentsMs: 400 });
  await assert.rejects(report, /2 agent\(s\) expected, only agent1 came/);
  assert.deepEqual(agents[0]!.heard, ['spec', 'stop', 'counted', 'verdict']);
});

test('a hold of 300 ms ends after 300 ms, although the next tick comes much later', async (t) => {
  const lease = { quietMs: 5 * 10_000, leaseMs: 3 * HANG_MS, marginMs: 500 };
  const { report, agents } = await start(t, [{}], { lease });
  const { hold, connections, verdict } = await report;
  assert(
    hold.seconds >= 0.3 && hold.seconds < rhythmOf(lease).reportEveryMs / 1_000 / 2,
    `${hold.seconds} s`,
  );
  assert.deepEqual([verdict, connections.held], ['pass', 10]);
  assert.deepEqual(agents[0]!.heard.slice(-4, -2), ['hold', 'stop']);
});

test('a refusal ends the run before anything starts, and names the agent', async (t) => {
  const finding = {
    what: 'allow-target',
    severity: 'refuse' as const,
    needed: null,
    available: null,
    unit: 'endpoints',
    message: 'its owner does not allow this target',
    fix: null,
  };
  const { report, agents } = await start(t, [{}, { refusal: [finding] }]);
  const { verdict, exitCode, findings, requirements } = await report;
  assert.deepEqual([verdict, exitCode], ['refused', ExitCode.refused]);
  assert.deepEqual(
    findings.map(({ message }) => message),
    ['agent agent2: its owner does not allow this target'],
  );
  assert.deepEqual(requirements, []);
  assert(!agents[0]!.heard.includes('start'), 'the other one opened nothing');
});

test('an agent that vanishes in the hold is lost with what it held: incomplete, exit 4', async (t) => {
  const { report, notes, agents } = await start(t, [{}, { vanishAfter: 1 }], {
    holdMs: 6_000,
    lease: { quietMs: 500, leaseMs: 3_000, marginMs: 500 },
  });
  const { verdict, exitCode, connections, agents: told } = await report;
  assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.incomplete]);
  assert.deepEqual(
    told.map(({ lost }) => lost),
    [false, true],
  );
  assert.equal(connections.dropped['agent-lost'], 10);
  assert.equal(connections.held, 10, 'of the one that stayed');
  assert(
    notes.some((note) => note.startsWith('agent agent2: contact is cut')),
    notes.join('\n'),
  );
  assert(notes.includes('agent agent2 is lost'));
  assert.equal(agents[0]!.stopReason, 'held', 'the other one held to the end');
});

const EARLY = { ...UNWATCHED, requirements: [HELD_ALL], abortEarly: true };

test('with --abort-early a requirement that breaks in the hold ends the run at once: exit 1', async (t) => {
  const lossy: Partial<Script> = {
    stats: (usual, reportsInHold) =>
      reportsInHold < 4 ? usual : { ...usual, open: 9, openMin: 9, dropped: { rst: 1 } },
  };
  const { report, agents } = await start(t, [lossy], { holdMs: 10 * HANG_MS, watch: EARLY });
  const { verdict, exitCode, connections, requirements } = await settled('the end', report);
  assert.deepEqual([verdict, exitCode], ['fail', ExitCode.notHeld]);
  assert.equal(agents[0]!.stopReason, 'requirement-broken');
  assert.deepEqual([connections.held, requirements[0]?.passed], [9, false]);
});

test('with --abort-early a hold that no agent has counted yet breaks nothing', async (t) => {
  // The reports of the first ticks of the hold still speak of the ramp.
  const late: Partial<Script> = {
    stats: (usual, reportsInHold) =>
      reportsInHold > 2 ? usual : { ...usual, openAtHold: 0, openMin: 0, verifiedMin: 0 },
  };
  const { report, agents } = await start(t, [late], { holdMs: 20 * EVERY_MS, watch: EARLY });
  const { verdict, exitCode, connections } = await report;
  assert.equal(agents[0]!.stopReason, 'held');
  assert.deepEqual([verdict, exitCode, connections.held], ['pass', ExitCode.held, 10]);
});

test('an interrupt ends the hold, and the report says who ended it: exit 130', async (t) => {
  const { run, report, agents, phases } = await start(t, [{}], { holdMs: 10 * HANG_MS });
  await until('the hold', () => phases.at(-1) === 'holding');
  run.interrupt('SIGINT');
  const { verdict, exitCode } = await settled('the end', report);
  assert.deepEqual([verdict, exitCode], ['incomplete', ExitCode.interrupted]);
  assert.equal(agents[0]!.stopReason, 'interrupted');
});

test('the report so far comes while the run goes on, and says that it is partial', async (t) => {
  const partials: RunReport[] = [];
  const watch = {
    ...UNWATCHED,
    onPartial: (report: RunReport) => void partials.push(report),
    partialEveryMs: 200,
  };
  const beganMs = performance.now();
  const { report } = await start(t, [{}], { holdMs: 2_000, watch });
  assert.equal((await report).isPartial, false);
  const partialsMax = (performance.now() - beganMs) / watch.partialEveryMs;
  assert(partials.length >= 2 && partials.length <= partialsMax, `${partials.length} of ${partialsMax}`);
  const last = partials.at(-1)!;
  assert.deepEqual([last.isPartial, last.verdict, last.exitCode], [true, 'incomplete', ExitCode.incomplete]);
  assert.deepEqual([last.connections.open, last.connections.held], [10, 10]);
  assert.deepEqual({ ...last.kernel.counters }, {}, 'agents tell their counters with their last word');
});

test('what an agent says last is in the report: its notes, its counters', async (t) => {
  const evidence = {
    counters: { RetransSegs: 7 },
    samples: {},
    synLadderSec: [1, 3],
    hasLocalEndpoint: false,
  };
  const { report } = await start(t, [
    { done: (usual) => ({ ...usual, notes: ['a note'], evidence }) },
    { done: (usual) => ({ ...usual, evidence }) },
  ]);
  const { notes, kernel } = await report;
  assert(notes.includes('a note'), notes.join('\n'));
  assert.deepEqual({ ...kernel.counters }, { RetransSegs: 14 });
});

test('an agent with very many notes is not cut off for them', async (t) => {
  const lines = Array.from({ length: 200 }, (_, index) => `line ${index}`);
  const { report } = await start(t, [{ done: (usual) => ({ ...usual, notes: lines }) }]);
  const { verdict, notes } = await report;
  assert.equal(verdict, 'pass');
  assert(notes.includes('and 137 more lines of this agent'), notes.at(-1));
});

/** Plays the agent of a recorded conversation: says what it said, each time when it had heard what it had heard. */
async function replay(
  t: TestContext,
  lines: readonly Line[],
  said: (message: Line['message']) => readonly object[],
): Promise<{ readonly report: RunReport; readonly entries: readonly LedgerEntry[] }> {
  const entries: LedgerEntry[] = [];
  const token = generateToken();
  let report: Promise<RunReport> | undefined;
  const port = await new Promise<number>((resolve) => {
    const run = new Run({
      spec: runSpec({ connections: 60, protocol: 'echo', probeEveryMs: 1_000, holdMs: 300 }),
      targetText: ['127.0.0.1:80'],
      entryPath: '',
      toolVersion: '0.0.0',
      clock: systemClock,
      listen: { host: '127.0.0.1', port: 0 },
      token,
      hasLocalAgent: false,
      remoteAgents: 1,
      waitAgentsMs: 20_000,
      onAgentLoss: 'continue',
      ssh: null,
      watch: { ...UNWATCHED, onLosses: (more) => void entries.push(...more) },
      onProgress: () => {},
      onNote: () => {},
      onListening: (bound) => resolve(bound.port),
    });
    report = run.start();
  });
  const agent = await RawAgent.join(port, token, said(lines[0]!.message)[0]);
  t.after(() => agent.leave());
  for (const { from, message } of lines.slice(1)) {
    if (from === 'agent') for (const each of said(message)) agent.say(each);
    else if (message.type !== 'renew') await agent.hears(message.type);
  }
  return { report: await report!, entries };
}

test('an agent of the recorded version 1.0 gets the report that it got then', async (t) => {
  const { report, entries } = await replay(t, recorded('1.0'), (message) => [message]);
  const { verdict, connections, agents, kernel, connectMs, losses } = report;
  assert.deepEqual([verdict, connections.held, connections.established], ['fail', 54, 60]);
  assert.deepEqual({ ...connections.dropped }, { rst: 6 });
  assert.deepEqual([agents[0]?.name, agents[0]?.lost, agents[0]?.holders.length], ['recorded', false, 2]);
  assert.deepEqual([kernel.established, connectMs.count, entries.length, losses.detailsCut], [54, 60, 6, 0]);
  assert.equal(losses.burstMax, null, 'that version could not tell');
});

test('a later minor version of it, with more fields, reasons and messages, gets the same', async (t) => {
  const { report, entries } = await replay(t, recorded('1.0'), (message) => [
    later(message),
    { type: 'temperature', celsius: 40 },
  ]);
  const { verdict, connections, agents, kernel, notes } = report;
  assert.deepEqual([verdict, connections.held, connections.established], ['fail', 54, 60]);
  assert.deepEqual([agents[0]?.name, agents[0]?.lost], ['recorded', false]);
  assert.equal(kernel.established, 54);
  assert.deepEqual(
    entries.map(({ reason }) => reason),
    Array.from({ length: 6 }, () => 'other'),
  );
  assert(!notes.some((note) => note.includes('broke the protocol')), notes.join('\n'));
});

test('the most losses within one second are those of one second, over all agents', async (t) => {
  const lossy = (quarter: number, count: number): Partial<Script> => ({
    stats: (usual) => ({ ...usual, recentLosses: [quarter, count] }),
  });
  const apart = await (await start(t, [lossy(0, 3), lossy(4, 4)])).report;
  assert.equal(apart.losses.burstMax, 4);
  const together = await (await start(t, [lossy(0, 3), lossy(3, 4)])).report;
  assert.equal(together.losses.burstMax, 7);
});
