/** Tests whose turn it is to open, and that the rate and the cap of all together are kept whatever the order of events. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OpenTurns } from '../../src/agent/open-turns.ts';
import { splitEvenly, splitPending, splitRate } from '../../src/run/quota.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';

/** What a holder has heard. */
interface Heard {
  readonly spec: HolderSpec;
  isStarted: boolean;
  inTurns: boolean;
  ratePerSec: number | null;
  pendingMax: number;
}

function turnsOf(holders: number, openersMax: number, ratePerSec: number | null, pendingMax: number) {
  const quotas = splitEvenly(holders * 100, holders);
  const rates = splitRate(ratePerSec, quotas);
  const pendings = splitPending(pendingMax, quotas);
  const specs = quotas.map(
    (connections, index) =>
      ({ connections, ratePerSec: rates[index] ?? null, pendingMax: pendings[index] ?? 0 }) as HolderSpec,
  );
  const heard: Heard[] = specs.map((spec) => ({
    ...{ spec, isStarted: false, inTurns: false, ratePerSec: spec.ratePerSec, pendingMax: spec.pendingMax },
  }));
  const turns = new OpenTurns<Heard>(openersMax, (holder, message) => {
    if (message.type === 'start') {
      assert(!holder.isStarted, 'each starts once');
      holder.isStarted = true;
      holder.inTurns = message.inTurns === true;
    } else {
      holder.ratePerSec = message.ratePerSec;
      holder.pendingMax = message.pendingMax;
    }
  });
  turns.bring(specs, pendingMax);
  for (const holder of heard) turns.join(holder, holder.spec);
  return { turns, heard };
}

const started = (heard: readonly Heard[]): number => heard.filter(({ isStarted }) => isStarted).length;

test('as many open as there are cores, with all of the rate and of the cap; the next starts as one has begun all', () => {
  const { turns, heard } = turnsOf(5, 2, 1_000, 100);
  turns.share();
  assert.equal(started(heard), 2);
  assert.deepEqual(
    heard.slice(0, 2).map(({ ratePerSec, pendingMax, inTurns }) => [ratePerSec, pendingMax, inTurns]),
    [
      [500, 50, true],
      [500, 50, true],
    ],
  );
  const [first, second, third] = heard as [Heard, Heard, Heard];
  turns.reported(first, false, 50);
  assert.equal(started(heard), 2);
  turns.reported(first, true, 20);
  assert.deepEqual([started(heard), third.isStarted], [3, true]);
  assert.deepEqual(
    [first.ratePerSec, third.ratePerSec, third.pendingMax],
    [0, 500, 30],
    '20 are in flight still',
  );
  turns.reported(first, true, 0);
  assert.equal((second.pendingMax ?? 0) + third.pendingMax, 100);
});

test('where each has a core all open with their own parts, which nothing takes away, and nothing is said', () => {
  const { turns, heard } = turnsOf(2, 2, 1_000, 100);
  turns.share();
  turns.reported(heard[0] as Heard, true, 3);
  assert.deepEqual(
    heard.map(({ isStarted, inTurns, ratePerSec, pendingMax }) => [
      isStarted,
      inTurns,
      ratePerSec,
      pendingMax,
    ]),
    [
      [true, false, 500, 50],
      [true, false, 500, 50],
    ],
  );
});

test('what a holder had that died moves on: its turn, its rate, its connects in flight', () => {
  const { turns, heard } = turnsOf(3, 1, 1_000, 10);
  turns.share();
  turns.left(heard[0] as Heard);
  assert.deepEqual([heard[1]?.isStarted, heard[1]?.ratePerSec, heard[1]?.pendingMax], [true, 1_000, 10]);
  assert.equal(heard[2]?.isStarted, false);
});

test('when all have begun and nothing is in flight each has its own part again: what is lost is opened again', () => {
  const { turns, heard } = turnsOf(4, 1, 1_000, 100);
  turns.share();
  for (const holder of heard) turns.reported(holder, true, 1);
  assert.deepEqual(
    heard.map(({ ratePerSec }) => ratePerSec),
    [0, 0, 0, 0],
  );
  for (const holder of heard) turns.reported(holder, true, 0);
  assert.deepEqual(
    heard.map(({ ratePerSec, pendingMax }) => [ratePerSec, pendingMax]),
    heard.map(() => [250, 25]),
  );
  turns.reported(heard[0] as Heard, true, 9);
  assert.deepEqual(
    [heard[0]?.ratePerSec, heard[1]?.ratePerSec],
    [250, 250],
    'what is opened again is no ramp',
  );
});

test('one that has no process yet hears what it has missed; given up, those that stand by start to find it', () => {
  const { turns, heard } = turnsOf(3, 1, null, 100);
  turns.share();
  assert.deepEqual(turns.said(heard[0] as Heard), [
    { type: 'pace', ratePerSec: null, pendingMax: 100 },
    { type: 'start', inTurns: true },
  ]);
  assert.deepEqual([turns.said(heard[1] as Heard), turns.hasTurn(heard[1] as Heard)], [[], false]);
  turns.stopOpening();
  assert.equal(started(heard), 3);
});

// PROTOCOL.md: rate-holders
test('in any order of events rate and cap of all together are kept, no more open than there are cores, and all get their turn', () => {
  const events = fc.array(
    fc.record({ holder: fc.nat(11), kind: fc.constantFrom('grow', 'begun', 'ease', 'die') }),
  );
  const property = fc.property(
    fc.integer({ min: 1, max: 12 }),
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 12, max: 200 }),
    events,
    (holders, openersMax, pendingMax, steps) => {
      const { turns, heard } = turnsOf(holders, openersMax, 900, pendingMax);
      const flying = heard.map(() => 0);
      const state = heard.map(() => 'new');
      const check = (): void => {
        const alive = heard.filter((_, index) => state[index] !== 'dead');
        const rate = alive.reduce((sum, each) => sum + (each.isStarted ? (each.ratePerSec ?? 0) : 0), 0);
        assert(rate <= 900 * (1 + 1e-5), `a rate of ${rate}`);
        // What may fly: of those that open their cap, of those that have begun what flies.
        const mayFly = heard.reduce((sum, each, index) => {
          if (!each.isStarted || state[index] === 'dead') return sum;
          return (
            sum +
            (each.ratePerSec === 0 ? (flying[index] ?? 0) : Math.max(each.pendingMax, flying[index] ?? 0))
          );
        }, 0);
        assert(mayFly <= Math.max(pendingMax, holders), `${mayFly} of ${pendingMax} may be in flight`);
        const opening = heard.filter((each, index) => each.isStarted && state[index] === 'new').length;
        assert(opening <= Math.max(openersMax, holders <= openersMax ? holders : 0), `${opening} open`);
      };
      turns.share();
      check();
      const report = (index: number): void => {
        turns.reported(heard[index] as Heard, state[index] === 'begun', flying[index] ?? 0);
      };
      for (const { holder, kind } of steps) {
        const index = holder % holders;
        if (heard[index]?.isStarted !== true || state[index] === 'dead') continue;
        if (kind === 'grow' && state[index] === 'new') flying[index] = heard[index]?.pendingMax ?? 0;
        if (kind === 'begun') state[index] = 'begun';
        if (kind === 'ease') flying[index] = Math.floor((flying[index] ?? 0) / 2);
        if (kind === 'die') {
          state[index] = 'dead';
          flying[index] = 0;
          turns.left(heard[index] as Heard);
        } else report(index);
        check();
      }
      for (let round = 0; round < 2 * holders; round++) {
        for (const index of heard.keys()) {
          if (heard[index]?.isStarted !== true || state[index] === 'dead') continue;
          state[index] = 'begun';
          flying[index] = 0;
          report(index);
        }
      }
      assert(heard.every(({ isStarted }, index) => isStarted || state[index] === 'dead'));
    },
  );
  fc.assert(property, { numRuns: 300 });
});
