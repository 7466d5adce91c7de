/** Tests a load that changes, on a clock that the test moves: the line of a schedule, which connections go, and those that come and go. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { targetAt } from '../../src/run/schedule.ts';
import { pause, settled, until } from '../support/waiting.ts';
import { cleanUp, EngineRun, ManualClock, specTo, Target, useEngine } from './engine-run.ts';

afterEach(cleanUp);

const STAGES = [
  { durationMs: 1_000, connections: 60 },
  { durationMs: 1_000, connections: 60 },
  { durationMs: 1_000, connections: 24 },
  { durationMs: 500, connections: 24 },
];

interface Followed {
  readonly run: EngineRun;
  readonly clock: ManualClock;
  readonly target: Target;
  /** accepted sockets, in order */
  readonly accepted: Socket[];
}

async function following(connections: number, over: Partial<HolderSpec>): Promise<Followed> {
  const accepted: Socket[] = [];
  const target = await Target.listen((socket) => {
    accepted.push(socket.resume());
  });
  const clock = new ManualClock();
  const run = new EngineRun(specTo(target.port, connections, over), clock);
  run.engine.start();
  return { run, clock, target, accepted };
}

/** Waits until the engine has looked at its clock and nothing is on its way. */
async function quiet({ run }: Followed, open: number): Promise<void> {
  await until(`${open} are open`, () => {
    const stats = run.stats();
    return stats.open === open && stats.pending === 0;
  });
}

/** Which of the accepted ones the target still has. */
const left = ({ accepted }: Followed): number[] =>
  accepted.flatMap((socket, index) => (socket.destroyed ? [] : [index]));

for (const engine of ['epoll', 'uring'] as const) {
  describe(`a load that changes, by ${engine}`, () => {
    test('follows the line of its stages, up and down, and the newest go', async () => {
      useEngine(engine);
      const shares = [{ from: 10, to: 40 }];
      const followed = await following(30, { stages: STAGES, shares });
      const { run, clock } = followed;
      for (let atMs = 0; atMs <= 3_500; atMs += 50) {
        if (atMs === 1_000) run.engine.markHold();
        await quiet(followed, targetAt(STAGES, shares, atMs));
        run.advance(clock, 50);
      }
      const stats = run.stats();
      const stages = stats.load?.stages ?? [];
      const low = targetAt(STAGES, shares, 3_000);
      assert.deepEqual(
        stages
          .map(({ openMin, open, lowered, waiting }) => ({ openMin, open, lowered, waiting }))
          .slice(1, 4),
        [
          { openMin: 30, open: 30, lowered: 0, waiting: 0 },
          { openMin: 0, open: low, lowered: 30 - low, waiting: 0 },
          { openMin: low, open: low, lowered: 0, waiting: 0 },
        ],
      );
      assert.equal(
        stages.reduce((sum, { established }) => sum + established, 0),
        30,
      );
      await run.stop();
    });

    test('one that stands still on the way down has held no more of a flat stage than it asks for', async () => {
      useEngine(engine);
      const stages = [...STAGES, { durationMs: 1_000, connections: 24 }];
      const shares = [{ from: 10, to: 40 }];
      const followed = await following(30, { stages, shares });
      const { run, clock } = followed;
      for (let atMs = 0; atMs <= 2_000; atMs += 50) {
        if (atMs === 1_000) run.engine.markHold();
        await quiet(followed, targetAt(stages, shares, atMs));
        if (atMs < 2_000) run.advance(clock, 50);
      }
      // The way down and the flat stage after it are over when it goes on, and all were open until then.
      run.advance(clock, 1_600);
      const low = targetAt(stages, shares, 3_000);
      await quiet(followed, low);
      assert(low < 30);
      assert.deepEqual(
        run.stats().load?.stages.map(({ openMin }) => openMin),
        [0, 30, 0, low, low],
      );
      await run.stop();
    });

    test('one that comes in the middle of a flat stage has held nothing of it, and all of the next', async () => {
      useEngine(engine);
      const stages = [
        { durationMs: 10, connections: 20 },
        { durationMs: 60_000, connections: 20 },
        { durationMs: 10, connections: 10 },
        { durationMs: 9_000, connections: 10 },
      ];
      const target = await Target.listen((socket) => socket.resume());
      const clock = new ManualClock();
      const run = new EngineRun(specTo(target.port, 20, { stages }), clock);
      run.engine.start(clock.monotonicMs(), 30_000);
      await until('it has reached the line', () => run.stats().open === 20 && run.stats().pending === 0);
      for (let step = 0; step < 20; step++) {
        run.advance(clock, 100);
        await pause(2);
      }
      assert.equal(run.stats().load?.stages[1]?.openMin, 0);
      run.advance(clock, 30_000);
      await until('it follows', () => run.stats().open === 10);
      run.advance(clock, 100);
      await until('the next is held', () => run.stats().load?.stages[3]?.openMin === 10);
      assert.equal(run.stats().load?.stages[1]?.openMin, 0);
      await run.stop();
    });

    test('a stage that begins with a jump waits until as many are open as it asks for', async () => {
      useEngine(engine);
      const stages = [
        { durationMs: 0, connections: 20 },
        { durationMs: 9_000, connections: 20 },
      ];
      const followed = await following(20, { stages, ratePerSec: 1 });
      const flat = () => followed.run.stats().load?.stages[1];
      await quiet(followed, 1);
      assert.deepEqual([flat()?.waiting, flat()?.openMin], [1, 1]);
      await followed.run.stop();
    });

    test('what comes through after the end of the last stage was not open in it', async () => {
      useEngine(engine);
      const stages = [
        { durationMs: 0, connections: 20 },
        { durationMs: 2_000, connections: 20 },
      ];
      const followed = await following(20, { stages, ratePerSec: 1 });
      const { run, clock } = followed;
      await quiet(followed, 1);
      run.advance(clock, 2_001);
      await quiet(followed, 3);
      for (let open = 4; open <= 20; open++) {
        run.advance(clock, 1_000);
        await quiet(followed, open);
      }
      const last = run.stats().load?.stages[1];
      assert.deepEqual([last?.waiting, last?.open], [1, 20]);
      assert.ok((last?.openMin ?? 20) <= 3, `${last?.openMin} count as held`);
      await run.stop();
    });

    test('what was lost in a flat stage counts against it, however late the hold begins', async () => {
      useEngine(engine);
      const stages = [
        { durationMs: 0, connections: 4 },
        { durationMs: 9_000, connections: 4 },
      ];
      const followed = await following(4, { stages, onDrop: 'reopen' });
      const { run, accepted } = followed;
      await quiet(followed, 4);
      await until('the target has accepted them', () => accepted.length === 4);
      for (const socket of accepted.slice(0, 2)) socket.resetAndDestroy();
      await until('they are open again', () => run.stats().reopened === 2);
      run.engine.markHold();
      assert.ok((run.stats().load?.stages[1]?.openMin ?? 4) < 4);
      await run.stop();
    });

    test('frozen on the way up, it has not reached the flat stage that comes while it closes', async () => {
      useEngine(engine);
      const followed = await following(60, { stages: STAGES });
      const { run, clock } = followed;
      for (let atMs = 0; atMs <= 500; atMs += 100) {
        await quiet(followed, targetAt(STAGES, [{ from: 0, to: 60 }], atMs));
        if (atMs < 500) run.advance(clock, 100);
      }
      await settled('it is frozen', new Promise<void>((done) => run.engine.freeze(done)));
      const { open } = run.stats();
      assert.equal(open, 30);
      for (let step = 0; step < 8; step++) {
        run.advance(clock, 100);
        await pause(20);
      }
      const [, flat] = run.stats().load?.stages ?? [];
      assert.deepEqual([flat?.openMin, flat?.waiting, flat?.open], [open, 1, open]);
      await run.stop();
    });

    test('closes the newest on the way down', async () => {
      useEngine(engine);
      const followed = await following(60, { stages: STAGES });
      const { run, clock } = followed;
      for (let atMs = 0; atMs <= 3_000; atMs += 100) {
        await quiet(followed, targetAt(STAGES, [{ from: 0, to: 60 }], atMs));
        await until('the target has accepted them', () => left(followed).length === run.stats().open);
        run.advance(clock, 100);
      }
      assert.deepEqual(
        left(followed),
        Array.from({ length: 24 }, (_, index) => index),
      );
      await run.stop();
    });

    test('closes the oldest where that is asked for', async () => {
      useEngine(engine);
      const followed = await following(60, { stages: STAGES, closeOrder: 'oldest' });
      const { run, clock } = followed;
      for (let atMs = 0; atMs <= 3_000; atMs += 100) {
        await quiet(followed, targetAt(STAGES, [{ from: 0, to: 60 }], atMs));
        await until('the target has accepted them', () => left(followed).length === run.stats().open);
        run.advance(clock, 100);
      }
      await until('the target has heard of each close', () => left(followed).length === 24);
      assert.deepEqual(
        left(followed),
        Array.from({ length: 24 }, (_, index) => 36 + index),
      );
      await run.stop();
    });

    test('counts what is lost on a flat stage against it, and what could not be opened', async () => {
      useEngine(engine);
      const followed = await following(60, { stages: STAGES });
      const { run, clock } = followed;
      for (let atMs = 0; atMs <= 1_200; atMs += 100) {
        await quiet(followed, targetAt(STAGES, [{ from: 0, to: 60 }], atMs));
        run.advance(clock, 100);
      }
      for (const socket of followed.accepted.slice(0, 7)) socket.resetAndDestroy();
      await until('they are lost', () => run.stats().dropped.rst === 7);
      run.advance(clock, 1_000);
      // The empty places go first on the way down.
      const expected = targetAt(STAGES, [{ from: 0, to: 60 }], 2_300);
      await quiet(followed, Math.min(53, expected));
      const [, flat] = run.stats().load?.stages ?? [];
      assert.deepEqual([flat?.openMin, flat?.dropped], [53, 7]);
      assert.equal(run.stats().established, 60);
      await run.stop();
    });

    test('closes and opens at its rate, the oldest first, while the number stays', async () => {
      useEngine(engine);
      const followed = await following(50, { churn: { kind: 'rate', perSec: 10 } });
      const { run, clock } = followed;
      await quiet(followed, 50);
      run.advance(clock, 5_000);
      await pause(50);
      assert.equal(run.stats().load?.churned, 0, 'none before the hold');
      run.engine.markHold();
      for (let taken = 1; taken <= 30; taken++) {
        run.advance(clock, 100);
        await until(`turn ${taken}`, () => run.stats().load?.churned === taken);
        await quiet(followed, 50);
      }
      const stats = run.stats();
      assert.deepEqual([stats.established, stats.closed, stats.openMin], [80, 30, 50]);
      assert.deepEqual([stats.failed, stats.dropped, stats.localSkips], [{}, {}, {}]);
      await until(
        'the target has accepted the youngest and heard of each close',
        () => followed.accepted.length === 80 && left(followed).length === 50,
      );
      // Within the first 50, which were opened together, no order is told.
      assert.deepEqual(
        left(followed).filter((index) => index >= 50),
        Array.from({ length: 30 }, (_, index) => 50 + index),
      );
      await run.stop();
    });

    test('a turn that fails leaves its place empty until the next, and counts', async () => {
      useEngine(engine);
      const followed = await following(20, { churn: { kind: 'rate', perSec: 10 } });
      const { run, clock, target } = followed;
      await quiet(followed, 20);
      run.engine.markHold();
      await until('the target has accepted all', () => target.accepted === 20);
      const { port } = target;
      await new Promise<void>((resolve) => {
        // What it has accepted keeps it from ending.
        target.server.close();
        setImmediate(resolve);
      });
      for (let turn = 1; turn <= 3; turn++) {
        run.advance(clock, 100);
        await until(`failure ${turn}`, () => run.stats().failed.refused === turn);
      }
      // The place of the first is tried again in the next turn: one is missing, never more.
      assert.deepEqual([run.stats().open, run.stats().openMin, run.stats().load?.churned], [19, 19, 1]);
      const again = await Target.listen((socket) => socket.resume());
      assert(again.port !== port);
      await run.stop();
    });

    test('gives each connection a time of its own', async () => {
      useEngine(engine);
      const followed = await following(40, { churn: { kind: 'fixed', ms: 1_000 } });
      const { run, clock } = followed;
      await quiet(followed, 40);
      run.engine.markHold();
      for (let atMs = 0; atMs < 3_000; atMs += 20) {
        run.advance(clock, 20);
        await pause(2);
      }
      await quiet(followed, 40);
      const { load, openMin } = run.stats();
      // Each goes once a second; the turns of the loop lag a little behind a clock that jumps.
      assert((load?.churned ?? 0) >= 100 && (load?.churned ?? 0) <= 120, `${load?.churned} in three seconds`);
      assert.equal(openMin, 40);
      await run.stop();
    });

    test('what was due by its rate when a freeze comes is done, and nothing after it', async () => {
      useEngine(engine);
      // So few at a time that one turn of the loop does not do them all.
      const followed = await following(30, { churn: { kind: 'rate', perSec: 100 }, pendingMax: 1 });
      const { run, clock } = followed;
      await quiet(followed, 30);
      run.engine.markHold();
      run.advance(clock, 900);
      const frozen = new Promise<void>((done) => run.engine.freeze(done));
      clock.advance(5_000);
      await settled('the freeze is over', frozen);
      const { load, open, openMin, established } = run.stats();
      assert.deepEqual([load?.churned, established, open, openMin], [90, 120, 30, 30]);
      await run.stop();
    });

    test('a freeze does not wait for turns that nothing is there for', async () => {
      useEngine(engine);
      const followed = await following(10, { churn: { kind: 'rate', perSec: 10 } });
      const { run, clock, target, accepted } = followed;
      await quiet(followed, 10);
      await until('the target has accepted all', () => target.accepted === 10);
      run.engine.markHold();
      for (const socket of accepted) socket.resetAndDestroy();
      await until('all are lost', () => run.stats().dropped.rst === 10);
      target.server.close();
      clock.advance(800);
      await settled('the freeze is over', new Promise<void>((done) => run.engine.freeze(done)));
      assert.equal(run.stats().load?.churned, 0);
      await run.stop();
    });

    test('a freeze lets what is on its way end, and nothing more is closed', async () => {
      useEngine(engine);
      const followed = await following(30, { churn: { kind: 'rate', perSec: 100 } });
      const { run, clock } = followed;
      await quiet(followed, 30);
      run.engine.markHold();
      run.advance(clock, 50);
      await until('some have gone', () => (run.stats().load?.churned ?? 0) > 0);
      await new Promise<void>((done) => run.engine.freeze(done));
      const { load, open } = run.stats();
      assert.equal(open, 30);
      run.advance(clock, 1_000);
      await pause(50);
      assert.equal(run.stats().load?.churned, load?.churned);
      await run.stop();
    });
  });
}
