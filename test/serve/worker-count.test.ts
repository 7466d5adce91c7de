import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { connectionsPerWorker, WORKERS_MAX, workersFor } from '../../src/serve/worker-count.ts';

test('130,000 connections at 20,000 descriptors a process need 8 workers', () => {
  assert.equal(workersFor(130_000, 20_000, 2), 8);
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
        assert(workers >= 1 && workers <= WORKERS_MAX);
        if (workers === WORKERS_MAX) return;
        const mean = connections / workers;
        assert(mean <= connectionsPerWorker(descriptors));
        assert(mean <= 1 || mean + 4 * Math.sqrt(mean) <= descriptors - 64 + 1e-6);
        assert(mean <= 1 || mean <= 0.9 * descriptors);
      },
    ),
  );
});
