import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { workersFor, workersRefusal } from '../../src/serve/worker-count.ts';

test('130,000 connections at 20,000 descriptors a process need 8 workers', () => {
  assert.equal(workersFor(130_000, 20_000, 2), 8);
});

test('with io_uring workers follow cores: descriptors ask for more only where they are very few', () => {
  assert.equal(workersFor(130_000, 20_000, 2, 'uring'), 2);
  assert.equal(workersFor(1_000_000, 20_000, 2, 'uring'), 2);
  assert.equal(workersFor(10, 20_000, 64, 'uring'), 1);
  assert.equal(workersFor(130_000, 100, 2, 'uring'), 41);
  assert.equal(workersRefusal(1_000_000, null, { ...ROOM, engine: 'uring' }), null);
  assert.match(workersRefusal(10_000_000, null, ROOM)?.message ?? '', /needs \d+ workers/);
});

test('a small target has one worker, a large one at least one per core', () => {
  assert.equal(workersFor(10, 20_000, 64), 1);
  assert.equal(workersFor(130_000, 1_048_576, 64), 64);
});

test('whatever is asked, the workers have room for it with a margin for the uneven hash', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2_000_000 }),
      fc.integer({ min: 100, max: 1_048_576 }),
      fc.integer({ min: 1, max: 128 }),
      (connections, descriptors, cores) => {
        const workers = workersFor(connections, descriptors, cores);
        assert(workers >= 1);
        const mean = connections / workers;
        assert(mean <= 1 || mean + 4 * Math.sqrt(mean) <= descriptors - 64 + 1e-6);
        assert(mean <= 1 || mean <= 0.9 * descriptors);
      },
    ),
  );
});

const ROOM: Parameters<typeof workersRefusal>[2] = {
  descriptorsPerProcess: 20_000,
  cores: 2,
  memoryFreeBytes: 8e9,
  nrOpen: 1_048_576,
  isOfRun: false,
};

test('few descriptors do not make hundreds of workers: refused with the arithmetic and what to type', () => {
  assert.equal(workersRefusal(130_000, null, ROOM), null);
  const few = workersRefusal(130_000, null, { ...ROOM, descriptorsPerProcess: 256 });
  assert.ok(few !== null);
  assert.equal(few.severity, 'refuse');
  assert.match(few.message, /needs 903 workers for 130,000 connections \(144 each: 256 descriptors less 64/);
  assert.match(few.message, /at most 64 are started on 2 cores/);
  const limit = Number(/ulimit -n (\d+)/.exec(few.fix ?? '')?.[1]);
  assert.equal(
    workersRefusal(130_000, null, { ...ROOM, descriptorsPerProcess: limit }),
    null,
    'the hint works',
  );
  assert.ok(workersFor(130_000, limit, 2) <= 8);
  assert.match(few.fix ?? '', /hold at most 9,216: --workers 64$/);
});

test('for a run the hint asks for fewer connections, and never for a limit above fs.nr_open', () => {
  const huge = workersRefusal(100_000_000, null, { ...ROOM, isOfRun: true });
  assert.equal(huge?.fix, 'ask for less: --conns 1148288');
  assert.equal(workersRefusal(1_148_288, null, { ...ROOM, isOfRun: true }), null, 'the hint works');
});

test('workers that memory cannot bear are refused, also when they are asked for', () => {
  const tight = { ...ROOM, memoryFreeBytes: 190_000_000 };
  assert.equal(workersRefusal(1_000, 3, tight), null);
  const refused = workersRefusal(1_000, 200, tight);
  assert.match(refused?.message ?? '', /needs 200 workers x 47\.7 MiB, has 181\.2 MiB/);
  assert.equal(refused?.fix, '--workers 3');
  assert.equal(
    workersRefusal(1_000, 200, { ...tight, memoryFreeBytes: null }),
    null,
    'what is not known refuses nothing',
  );
});
