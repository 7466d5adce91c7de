/** Tests the pool with real holder processes and a target that shares no line with them; misbehaviour with a fake. */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { HolderPool } from '../../src/agent/holder-pool.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { until } from '../support/bench-run.ts';
import { clientEnds } from '../support/kernel-view.ts';
import { startNetTarget } from '../support/net-target.ts';
import { cliPath } from '../support/run-cli.ts';
import { FAKE_HOLDER_ENTRY } from './fake-holder.ts';

const FIRST_PORT = 20_000;

/** One holder's part: `connections` of its own 1,000 tuples. */
function specOf(id: string, index: number, connections: number, port: number): HolderSpec {
  return {
    id,
    addresses: ['127.0.0.9'],
    ports: [{ from: FIRST_PORT, to: FIRST_PORT + 9_999 }],
    endpoints: [{ address: '127.0.0.1', port, family: 4 }],
    sliceFrom: index * 1_000,
    sliceTo: (index + 1) * 1_000,
    connections,
    ratePerSec: null,
    pendingMax: 100,
    connectTimeoutMs: 5_000,
    close: 'rst',
    protocol: 'tcp',
    probeEveryMs: null,
    probeTimeoutMs: 1_000,
  };
}

interface Made {
  readonly pool: HolderPool;
  readonly notes: string[];
  readonly changes: () => number;
}

function makePool(t: TestContext, specs: readonly HolderSpec[], entryPath = cliPath): Made {
  const notes: string[] = [];
  let changes = 0;
  const pool = new HolderPool({
    entryPath,
    specs,
    onChange: () => {
      changes++;
    },
    onNote: (note) => notes.push(note),
    onLosses: () => {},
  });
  t.after(() => pool.kill());
  return { pool, notes, changes: () => changes };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const pidsOf = (pool: HolderPool): number[] => pool.health().map((holder) => holder.pid);

test('holders open nothing before start, then their quotas, and close everything at stop', async (t) => {
  const target = await startNetTarget(t);
  const { pool, notes } = makePool(t, [
    specOf('a/1', 0, 301, target.port),
    specOf('a/2', 1, 300, target.port),
  ]);
  assert.equal(await pool.ready(), true);
  assert.equal(pool.settled, false);
  assert.equal((await target.counts()).accepted, 0, 'accepted before start');
  pool.start();
  await until('both have settled', 5_000, () => pool.settled);
  assert.equal(pool.stats().open, 601);
  // Established is not accepted yet.
  await until('the target has all', 1_000, async () => (await target.counts()).open === 601);
  pool.hold();
  await pool.freshReport(3_000);
  assert.equal(pool.stats().openMin, 601);

  await pool.stop(5_000);
  const stats = pool.stats();
  assert.deepEqual({ open: stats.open, closed: stats.closed }, { open: 0, closed: 601 });
  await until('no holder is left', 1_000, () => !pidsOf(pool).some(isAlive));
  await until('the target sees all gone', 1_000, async () => (await target.counts()).open === 0);
  assert.deepEqual(notes, []);
  assert.deepEqual(
    pool.health().map((holder) => holder.id),
    ['a/1', 'a/2'],
  );
});

test('a killed holder is told once, its connections are holder-lost, the others keep on', async (t) => {
  const target = await startNetTarget(t);
  const { pool, notes } = makePool(t, [
    specOf('a/1', 0, 200, target.port),
    specOf('a/2', 1, 300, target.port),
  ]);
  await pool.ready();
  pool.start();
  await until('both have settled', 5_000, () => pool.settled);
  pool.hold();
  const [victim = 0] = pidsOf(pool);
  process.kill(victim, 'SIGKILL');
  await until('the loss is in the books', 1_000, () => pool.stats().open === 300);
  assert.deepEqual(pool.stats().dropped, { 'holder-lost': 200 });
  assert.deepEqual(notes, [`holder a/1 (pid ${victim}) was lost: killed by SIGKILL`]);
  assert.deepEqual(
    pool.health().map((holder) => holder.alive),
    [false, true],
  );
  await until('the target sees them gone', 1_000, async () => (await target.counts()).open === 300);

  const beganMs = performance.now();
  await pool.freshReport(5_000);
  assert(performance.now() - beganMs < 1_000, 'a lost holder is not waited for');
  assert.equal(pool.stats().openMin, 300, 'a lost holder held nothing to the end');
  await pool.stop(5_000);
  assert.equal(pool.stats().closed, 300);
  assert.equal(notes.length, 1);
});

test('a holder lost in the ramp gives up what it had not opened', async (t) => {
  const target = await startNetTarget(t);
  const slow = { ...specOf('a/1', 0, 900, target.port), ratePerSec: 300 };
  const { pool } = makePool(t, [slow]);
  await pool.ready();
  pool.start();
  await until('some are open', 5_000, async () => (await target.counts()).open > 100);
  await pool.freshReport(3_000);
  const { attempted, open } = pool.stats();
  assert(open > 100 && open < 900, `${open}`);
  process.kill(pidsOf(pool)[0] ?? 0, 'SIGKILL');
  await until('the loss is in the books', 1_000, () => pool.settled);
  const stats = pool.stats();
  assert.equal(stats.open, 0);
  assert.equal(stats.attempted + stats.unattempted, 900, 'attempted and given up sum to the quota');
  assert((stats.dropped['holder-lost'] ?? 0) >= open, JSON.stringify(stats.dropped));
  assert(stats.attempted >= attempted - 100, 'connects in flight are given up');
});

test('freshReport brings the numbers of this moment', async (t) => {
  const target = await startNetTarget(t);
  const { pool } = makePool(t, [specOf('a/1', 0, 250, target.port)]);
  await pool.ready();
  pool.start();
  await until('the target has all', 5_000, async () => (await target.counts()).open === 250);
  await pool.freshReport(3_000);
  assert.equal(pool.stats().open, 250);
  await target.kill();
  await until('the kernel has closed them', 1_000, () => clientEnds(target.port).count === 0);
  await pool.freshReport(3_000);
  assert.equal(pool.stats().open, 0, 'not a second later, but at once');
});

test('stopOpening ends the ramp: what is not open counts as never attempted', async (t) => {
  const target = await startNetTarget(t);
  const { pool } = makePool(t, [{ ...specOf('a/1', 0, 900, target.port), ratePerSec: 300 }]);
  await pool.ready();
  pool.start();
  await until('some are open', 5_000, async () => (await target.counts()).open > 100);
  pool.stopOpening();
  await until('it has settled', 1_000, () => pool.settled);
  const { open, unattempted } = pool.stats();
  assert.equal(open + unattempted, 900);
  assert.equal(clientEnds(target.port).count, open);
});

test('kill ends every holder at once, and the kernel closes what they held', async (t) => {
  const target = await startNetTarget(t);
  const { pool, notes } = makePool(t, [
    specOf('a/1', 0, 200, target.port),
    specOf('a/2', 1, 200, target.port),
  ]);
  await pool.ready();
  pool.start();
  await until('all are open', 5_000, async () => (await target.counts()).open === 400);
  const pids = pidsOf(pool);
  pool.kill();
  await until('no holder is left', 1_000, () => !pids.some(isAlive));
  await until('the target sees all gone', 1_000, async () => (await target.counts()).open === 0);
  assert.deepEqual(notes, [], 'what we end ourselves is no loss');
});

test('a program that cannot start is not ready, and says so', async (t) => {
  const { pool, notes } = makePool(t, [specOf('a/1', 0, 10, 1)], `${cliPath}.missing`);
  const beganMs = performance.now();
  assert.equal(await pool.ready(), false);
  assert(performance.now() - beganMs < 5_000, 'found at once, not by a timeout');
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? '', /^holder a\/1 .*was lost: exited with 1$/);
  assert.equal(pool.settled, true, 'nothing is left to wait for');
});

test('a holder that fails says why, and is lost', async (t) => {
  const { pool, notes } = makePool(t, [specOf('fails', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  assert.equal(await pool.ready(), false);
  assert.equal(notes[0], 'holder fails: no epoll');
  assert.match(notes[1] ?? '', /was lost: exited with 1/);
  assert.equal(pool.stats().unattempted, 10);
});

test('a holder that does not stop in time is killed', async (t) => {
  const { pool } = makePool(t, [specOf('deaf', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  assert.equal(await pool.ready(), true);
  const pids = pidsOf(pool);
  const beganMs = performance.now();
  await pool.stop(300);
  const tookMs = performance.now() - beganMs;
  assert(tookMs >= 250 && tookMs < 2_000, `${Math.round(tookMs)} ms`);
  await until('it is gone', 1_000, () => !pids.some(isAlive));
});

test('a holder that says done and does not end is killed too, and its last books count', async (t) => {
  const { pool } = makePool(t, [specOf('lingers', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  await pool.ready();
  const pids = pidsOf(pool);
  await pool.stop(5_000);
  assert.equal(pool.stats().closed, 7);
  await pool.gone(300);
  await until('it is gone', 1_000, () => !pids.some(isAlive));
});

test('holders that are added later start alone, from tuples behind the others', async (t) => {
  const target = await startNetTarget(t);
  const { pool } = makePool(t, [specOf('a/1', 0, 200, target.port)]);
  await pool.ready();
  pool.start();
  await until('the first is open', 5_000, async () => (await target.counts()).open === 200);
  assert.equal(pool.tuplesEnd, 1_000);
  pool.add([specOf('a/2', 1, 100, target.port)]);
  assert.equal(pool.size, 2);
  assert.equal(await pool.ready(), true);
  assert.equal((await target.counts()).accepted, 200, 'it waits for start');
  pool.start();
  await until('both are open', 5_000, async () => (await target.counts()).open === 300);
  await until('both have settled', 1_000, () => pool.settled);
  assert.equal(pool.stats().attempted, 300, 'the first was not started again');
});
