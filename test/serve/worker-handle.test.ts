/** A worker that says nonsense, seen by its parent and by the kernel. serve.test.ts has the others. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ZERO_TOTALS } from '../../src/serve/serve-counts.ts';
import { WorkerHandle } from '../../src/serve/worker-handle.ts';
import { systemClock } from '../../src/time/timer.ts';
import { isAlive } from '../support/kernel-view.ts';
import { HANG_MS, until } from '../support/waiting.ts';

/** A worker that listens, and when it is asked to count says `nonsense`, and then what a worker says. */
function strangeWorker(nonsense: string): string {
  return `process.on('message', ({ type }) => {
    if (type === 'listen') process.send({ type: 'listening', port: 1 });
    if (type === 'count') process.send(${nonsense});
    if (type === 'count') process.send({ type: 'totals', totals: ${JSON.stringify(ZERO_TOTALS)} });
  });`;
}

for (const nonsense of ["'yes'", '{ type: "counts", request: 1, totals: { openNow: "x" }, sources: [] }']) {
  test(`a worker that says ${nonsense} is lost and killed, and its counts stay what they were`, {
    timeout: HANG_MS,
  }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'c100k-worker-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const entry = join(folder, 'worker.cjs');
    writeFileSync(entry, strangeWorker(nonsense));
    const ends: boolean[] = [];
    const worker = new WorkerHandle(
      entry,
      0,
      systemClock,
      {
        totals: () => assert.fail('nothing was counted'),
        stoodStill: () => {},
        silent: () => {},
        ended: (_worker, wasAsked) => ends.push(wasAsked),
      },
      null,
    );
    const { pid } = worker;
    t.after(() => worker.stop());
    const listen = { host: '127.0.0.1', port: 0, mode: 'hold', backlog: 1, engine: 'epoll' } as const;
    const listening = await worker.listen({ type: 'listen', alone: false, ...listen });
    assert.deepEqual(listening, { type: 'listening', port: 1 });
    await worker.count();
    assert.equal(worker.how, 'said what no worker says, and was killed');
    assert.deepEqual(ends, [false], 'it was not asked to end, and its end is known once');
    assert.equal(worker.totals.openNow, 0);
    await until('the kernel has ended it', () => !isAlive(pid));
  });
}
