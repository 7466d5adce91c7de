/**
 * Tests what an agent says of its own course: one line for each change, none for what comes twice, none for the agent that a run
 * forks. That the lines come in a real run is in test/system/agents-join.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentLog } from '../../src/agent/agent-log.ts';
import type { CoordinatorMessage, CoordinatorMessageOf } from '../../src/control/message.ts';
import { honestSpec } from '../support/lying-coordinator.ts';

function logOf(isOwner = false): { log: AgentLog; lines: string[] } {
  const lines: string[] = [];
  const onNote = (line: string): void => void lines.push(line);
  const log = new AgentLog({
    ...{ name: 'vm', host: 'fd00::1', port: 7100, joinTimeoutMs: 60_000 },
    ...{ allowance: { isOwner }, onNote },
  });
  log.runBegins();
  return { log, lines };
}

const SPEC: CoordinatorMessageOf<'spec'> = honestSpec(8_000);
const QUOTA: CoordinatorMessage = { type: 'quota', connections: 1_000, ratePerSec: null, pendingMax: 1 };

/** A whole run, with each message said as often as `times`. */
function wholeRun(log: AgentLog, times: number): void {
  const messages: CoordinatorMessage[] = [
    SPEC,
    QUOTA,
    { type: 'start' },
    { type: 'hold' },
    { type: 'stop', reason: 'held' },
    { type: 'counted' },
    { type: 'verdict', text: 'PASS held 10 of 10 for 60 s' },
  ];
  for (const message of messages) for (let time = 0; time < times; time++) log.heard(message);
}

const COURSE = [
  'agent vm: joined the run at [fd00::1]:7100: 10 connections in all to 127.0.0.1:8000 (tcp), held for 60s',
  'agent vm: quota: 1,000 connections',
  'agent vm: opening 1,000 connections',
  'agent vm: every agent has opened; holding for 60s',
  'agent vm: the hold is over: counting and closing',
  'agent vm: done: PASS held 10 of 10 for 60 s',
];

test('each change of a run is one line, however often it is said', () => {
  for (const times of [1, 3]) {
    const { log, lines } = logOf();
    wholeRun(log, times);
    log.doneAlone();
    assert.deepEqual(lines, COURSE);
  }
});

test('the next run says everything again', () => {
  const { log, lines } = logOf();
  for (let run = 0; run < 2; run++) {
    log.runBegins();
    wholeRun(log, 1);
  }
  assert.deepEqual(lines, [...COURSE, ...COURSE]);
});

test('the agent that a run forks says nothing', () => {
  const { log, lines } = logOf(true);
  log.connecting();
  log.waiting(new Error('cannot join the coordinator at x:1: refused'));
  wholeRun(log, 1);
  log.cut('gone');
  log.doneAlone();
  assert.deepEqual(lines, []);
});

test('whom it waits for and why is said once for each reason, and again after a run', () => {
  const { log, lines } = logOf();
  const refused = new Error(
    'cannot join the coordinator at [fd00::1]:7100: connect ECONNREFUSED fd00::1:7100',
  );
  const silent = new Error('cannot join the coordinator at [fd00::1]:7100: no answer in 60 s');
  log.connecting();
  for (const error of [refused, refused, silent, silent]) log.waiting(error);
  // With --stay the next attempts are made by a new agent: no line until something changes.
  log.runBegins();
  log.connecting();
  log.waiting(silent);
  assert.deepEqual(lines, [
    'agent vm: joining the coordinator at [fd00::1]:7100, for up to 60s',
    'agent vm: waiting for the coordinator at [fd00::1]:7100: connect ECONNREFUSED fd00::1:7100',
    'agent vm: waiting for the coordinator at [fd00::1]:7100: no answer in 60 s',
  ]);
  wholeRun(log, 1);
  lines.length = 0;
  log.runBegins();
  log.connecting();
  log.waiting(silent);
  assert.equal(lines.length, 2);
});

test('it goes by the name that the run gives it, until the run is over', () => {
  const { log, lines } = logOf();
  log.heard({ ...SPEC, agent: 'vm-2' });
  log.heard(QUOTA);
  assert.match(
    lines[0] ?? '',
    /^agent vm-2: joined the run at \S+, as vm-2 because another agent has this name: /,
  );
  assert.equal(lines[1], 'agent vm-2: quota: 1,000 connections');
  assert.equal(log.name, 'vm-2');
  log.runBegins();
  assert.equal(log.name, 'vm');
});

test('a quota that grows is said, one that does not is not', () => {
  const { log, lines } = logOf();
  log.heard(QUOTA);
  log.heard({ ...QUOTA, connections: 2_000 });
  log.heard({ ...QUOTA, connections: 2_000 });
  log.heard(QUOTA);
  assert.deepEqual(lines, [
    'agent vm: quota: 1,000 connections',
    'agent vm: the quota grew to 2,000 connections: another agent was lost',
  ]);
});

test('a link that comes and goes does not fill the log', () => {
  const { log, lines } = logOf();
  log.heard(SPEC);
  for (let time = 0; time < 50; time++) {
    log.cut('read ECONNRESET');
    log.cut(null);
    log.heard({ type: 'resumed' });
  }
  assert.equal(lines.length, 1 + 20);
  assert.match(
    lines[1] ?? '',
    /contact with the coordinator is cut \(read ECONNRESET\); trying again for 15s/,
  );
  assert.match(lines[2] ?? '', /back at the coordinator/);
  assert.match(lines.at(-1) ?? '', /further cuts are not shown/);
});

test('one whose coordinator says no verdict says that it is done all the same', () => {
  const { log, lines } = logOf();
  log.doneAlone();
  assert.deepEqual(lines, [
    'agent vm: done: everything is closed; the verdict of the run was not said in time',
  ]);
});

test('a reason that only a later coordinator knows is shown as it is', () => {
  const { log, lines } = logOf();
  log.heard({ type: 'stop', reason: 'moon-phase' });
  assert.deepEqual(lines, ['agent vm: moon-phase: counting and closing']);
});
