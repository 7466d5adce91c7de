/** Phases and what messages mean in them, on values alone: the holders are a pool without a process. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AgentStage,
  activeOf,
  closing,
  connectionsOf,
  counting,
  grown,
  holdersOf,
  holding,
  isActive,
  isSettled,
  isStarted,
  mayGrow,
  OFFERING,
  OVER,
  offered,
  orderIn,
  type RunMessage,
  type RunPhase,
  ready,
  refusalIn,
  refused,
  runIn,
  running,
  securing,
  starting,
  statsOf,
  withDone,
  withRefusal,
} from '../../src/agent/agent-phase.ts';
import { HolderPool } from '../../src/agent/holder-pool.ts';
import { KernelWatch } from '../../src/agent/kernel-watch.ts';
import { ExitCode } from '../../src/base/errors.ts';
import { planSources } from '../../src/sources/preparation.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { systemClock } from '../../src/time/timer.ts';
import { FACTS, SPEC } from '../plan/plan-fixture.ts';

const PREPARED = planSources(SPEC, 10, {
  facts: FACTS,
  settings: { neighboursMax: null, rpFilter: {}, promoteSecondaries: {} },
  leavesBy: new Map(),
  canChangeAddresses: false,
  portsEach: 1_000,
  present: ['127.0.0.2'],
  candidates: [],
  prefixes: [],
  forbidden: null,
  notes: [],
});
const POOL = new HolderPool({
  entryPath: '',
  specs: [],
  age: { clock: systemClock, silentMs: 1_000, lookEveryMs: 1_000 },
  onChange: () => {},
  onNote: () => {},
  onLosses: () => {},
});
const WATCH = new KernelWatch({
  endpoints: [],
  localEndpoints: [],
  sources: [],
  devices: [],
  synLadderSec: [],
});

const OFFERED = offered(OFFERING, PREPARED, 20);
const SECURING = securing(OFFERED, 10, Promise.resolve());
const STARTING = starting(SECURING, PREPARED, POOL);
const READY = ready(STARTING, null);
const RUNNING = running(READY, 99, WATCH);
const HOLDING = holding(RUNNING, Promise.resolve());
const COUNTING = counting(HOLDING);
const CLOSING = closing(COUNTING, { ...emptyStats(), open: 10 });
const PHASES: readonly RunPhase[] = [
  ...[OFFERING, OFFERED, SECURING, STARTING, READY, RUNNING, HOLDING],
  ...[refused(READY), COUNTING, CLOSING, OVER],
];
const names = (phases: readonly RunPhase[]): string[] => phases.map(({ name }) => name);

test('each phase is made from the one before it, and keeps what that one had', () => {
  assert.deepEqual(names(PHASES), [
    ...['offering', 'offered', 'securing', 'starting', 'ready', 'running', 'holding'],
    ...['refused', 'counting', 'closing', 'over'],
  ]);
  assert.deepEqual(OFFERED, { name: 'offered', prepared: PREPARED, connectionsMax: 20 });
  assert.equal(SECURING.offer, OFFERED);
  const staff = { offer: OFFERED, prepared: PREPARED, connections: 10, growths: 0, holders: POOL };
  assert.deepEqual(STARTING, { name: 'starting', ...staff });
  assert.deepEqual(READY, { name: 'ready', ...staff, othersBefore: null });
  assert.deepEqual(RUNNING, { ...READY, name: 'running', startedMs: 99, watch: WATCH });
  assert.deepEqual(HOLDING, { ...RUNNING, name: 'holding', counted: HOLDING.counted });
  assert.deepEqual(CLOSING, { name: 'closing', from: HOLDING, atEnd: CLOSING.atEnd });
});

test('a quota that grows changes nothing but itself, and leaves the phase as it was before', () => {
  for (const phase of [READY, RUNNING, HOLDING]) {
    assert.deepEqual(grown(phase, 15), { ...phase, connections: 15, growths: 1 });
    assert.deepEqual(grown(grown(phase, 15), 18), { ...phase, connections: 18, growths: 2 });
    assert.equal(phase.connections, 10);
  }
});

test('the end knows from which phase it began, also behind a refusal', () => {
  assert.deepEqual(counting(RUNNING), { name: 'counting', from: RUNNING });
  assert.deepEqual(refused(SECURING), { name: 'refused', from: SECURING });
  assert.deepEqual(counting(refused(SECURING)), { name: 'counting', from: SECURING });
  assert.deepEqual(activeOf(refused(SECURING)), SECURING);
  assert.equal(activeOf(OVER), null);
});

test('which phases take part, have started, and may grow', () => {
  const first = ['offering', 'offered', 'securing', 'starting', 'ready', 'running', 'holding'];
  assert.deepEqual(names(PHASES.filter(isActive)), first);
  assert.deepEqual(names(PHASES.filter(isStarted)), ['running', 'holding']);
  assert.deepEqual(names(PHASES.filter(mayGrow)), ['ready', 'running', 'holding']);
});

test('holders, quota and stats are those of the phase that ended, until nothing is left', () => {
  const without = PHASES.filter((phase) => holdersOf(phase) === null);
  assert.deepEqual(names(without), ['offering', 'offered', 'securing', 'over']);
  assert(without.every((phase) => connectionsOf(phase) === 0));
  const rest = PHASES.filter((phase) => !without.includes(phase));
  assert(rest.every((phase) => holdersOf(phase) === POOL && connectionsOf(phase) === 10));
  assert.deepEqual(statsOf(OFFERED), emptyStats());
  assert.deepEqual(statsOf(COUNTING), POOL.stats());
  assert.equal(statsOf(CLOSING).open, 10);
});

const quotaOf = (connections: number): RunMessage => ({
  ...{ type: 'quota', connections, ratePerSec: null, pendingMax: 5 },
});

/** What each message means, by the name of the phase; in every other phase it means nothing. */
const MEANINGS: readonly [RunMessage, Readonly<Record<string, string>>][] = [
  [quotaOf(10), { offered: 'prepare' }],
  [quotaOf(9), { offered: 'prepare' }],
  [quotaOf(11), { offered: 'prepare', ready: 'grow', running: 'grow', holding: 'grow' }],
  [{ type: 'start' }, { ready: 'start' }],
  [
    { type: 'stop-opening' },
    { starting: 'stop-opening', ready: 'stop-opening', running: 'stop-opening', holding: 'stop-opening' },
  ],
  [{ type: 'hold' }, { running: 'hold' }],
  [
    { type: 'stop', reason: 'done' },
    {
      ...{ offering: 'stop', offered: 'stop', securing: 'stop', starting: 'stop', ready: 'stop' },
      ...{ running: 'stop', holding: 'stop', refused: 'stop' },
    },
  ],
];

for (const [message, meanings] of MEANINGS) {
  const what = message.type === 'quota' ? `a quota of ${message.connections}` : message.type;
  test(`${what} in every phase: ${Object.keys(meanings).join(', ')}, and nothing in any other`, () => {
    for (const phase of PHASES) {
      const order = orderIn(phase, message);
      assert.equal(order.do, meanings[phase.name] ?? 'nothing', phase.name);
      if ('phase' in order) assert.equal(order.phase, phase);
    }
  });
}

test('a message that comes a second time means nothing in the phase that the first one led to', () => {
  const twice: [RunMessage, RunPhase][] = [
    [quotaOf(10), SECURING],
    [quotaOf(10), READY],
    [quotaOf(15), grown(READY, 15)],
    [{ type: 'start' }, RUNNING],
    [{ type: 'hold' }, HOLDING],
    [{ type: 'stop', reason: 'done' }, COUNTING],
  ];
  for (const [message, after] of twice) assert.deepEqual(orderIn(after, message), { do: 'nothing' });
});

const JOINING: AgentStage<string> = { name: 'joining' };
const SERVING: AgentStage<string> = { name: 'serving', run: 'the run' };

test('an agent has a run from the spec until it is over, also after it has refused and after it is done', () => {
  const refused = withRefusal(SERVING, ExitCode.incomplete, 5);
  const stages = [
    JOINING,
    withRefusal(JOINING, ExitCode.refused, 5),
    { name: 'over', wasTurnedAway: true } as const,
  ];
  assert.deepEqual(stages.map(runIn), [null, null, null]);
  const serving = [SERVING, refused, withDone(SERVING, 6), withDone(refused, 6)];
  assert.deepEqual(
    serving.map(runIn),
    serving.map(() => 'the run'),
  );
});

test('the first refusal counts: with its code it ends, also after it is done', () => {
  const refused = withRefusal(SERVING, ExitCode.incomplete, 5);
  assert.equal(withRefusal(refused, ExitCode.refused, 9), refused);
  const done = withDone(refused, 6);
  assert.deepEqual([refusalIn(done)?.code, refusalIn(done)?.atMs], [ExitCode.incomplete, 5]);
  for (const stage of [JOINING, SERVING, withDone(SERVING, 6)]) assert.equal(refusalIn(stage), null);
});

test('nothing follows from the end, and without a run there is nothing to be done with', () => {
  const over: AgentStage<string> = { name: 'over', wasTurnedAway: false };
  const unserved = withRefusal(JOINING, ExitCode.refused, 5);
  const done = withDone(SERVING, 6);
  for (const stage of [over, JOINING, unserved, done]) assert.equal(withDone(stage, 9), stage);
  for (const stage of [over, done]) assert.equal(withRefusal(stage, ExitCode.refused, 9), stage);
});

test('a quota is settled when all of it has holders, and none of them has anything left to open', () => {
  assert.equal(isSettled(OFFERED), true, 'nothing was asked for yet');
  const idle = { ...RUNNING, connections: 0 };
  assert.equal(isSettled(idle), true);
  // Between the quota and its further holders there is a look at the memory.
  assert.equal(isSettled(grown(idle, 4)), false);
});
