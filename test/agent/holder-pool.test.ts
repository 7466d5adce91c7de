/** Tests the pool with real holder processes and a target that shares no line with them; misbehaviour with a fake. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { availableParallelism, getPriority, setPriority } from 'node:os';
import { type TestContext, test } from 'node:test';
import { HolderPool } from '../../src/agent/holder-pool.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { systemClock } from '../../src/time/timer.ts';
import { clientEnds, isAlive } from '../support/kernel-view.ts';
import { startNetTarget } from '../support/net-target.ts';
import { cliPath } from '../support/run-cli.ts';
import { HANG_MS, pause, settled, until } from '../support/waiting.ts';
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
    connectTimeoutMs: HANG_MS,
    close: 'rst',
    protocol: 'tcp',
    probeEveryMs: null,
    probeTimeoutMs: HANG_MS,
  };
}

interface Made {
  readonly pool: HolderPool;
  readonly notes: string[];
  readonly changes: () => number;
}

function makePool(
  t: TestContext,
  specs: readonly HolderSpec[],
  entryPath = cliPath,
  age: Partial<ConstructorParameters<typeof HolderPool>[0]['age']> = {},
  openersMax = specs.length,
  readyTimeoutMs = HANG_MS,
): Made {
  const notes: string[] = [];
  let changes = 0;
  const pool = new HolderPool({
    entryPath,
    specs,
    openersMax,
    age: { clock: systemClock, silentMs: HANG_MS, lookEveryMs: 100, ...age },
    readyTimeoutMs,
    onChange: () => {
      changes++;
    },
    onNote: (note) => notes.push(note),
    onLosses: () => {},
  });
  t.after(() => pool.kill());
  return { pool, notes, changes: () => changes };
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
  await until('both have settled', () => pool.settled);
  assert.equal(pool.stats().open, 601);
  // Established is not accepted yet.
  await until('the target has all', async () => (await target.counts()).open === 601);
  pool.hold();
  await pool.freshReport();
  assert.equal(pool.stats().openMin, 601);

  await pool.stop(HANG_MS);
  const stats = pool.stats();
  assert.deepEqual({ open: stats.open, closed: stats.closed }, { open: 0, closed: 601 });
  await until('no holder is left', () => !pidsOf(pool).some(isAlive));
  await until('the target sees all gone', async () => (await target.counts()).open === 0);
  assert.deepEqual(notes, []);
  assert.deepEqual(
    pool.health().map((holder) => holder.id),
    ['a/1', 'a/2'],
  );
});

test('a killed holder is reported once, its connections are holder-lost, the others keep on', async (t) => {
  const target = await startNetTarget(t);
  const { pool, notes } = makePool(t, [
    specOf('a/1', 0, 200, target.port),
    specOf('a/2', 1, 300, target.port),
  ]);
  await pool.ready();
  pool.start();
  await until('both have settled', () => pool.settled);
  pool.hold();
  const [victim = 0] = pidsOf(pool);
  process.kill(victim, 'SIGKILL');
  await until('the loss is counted', () => pool.stats().open === 300);
  assert.deepEqual({ ...pool.stats().dropped }, { 'holder-lost': 200 });
  assert.deepEqual(notes, [`holder a/1 (pid ${victim}) was lost: killed by SIGKILL`]);
  assert.deepEqual(
    pool.health().map((holder) => holder.alive),
    [false, true],
  );
  await until('the target sees them gone', async () => (await target.counts()).open === 300);

  await settled('a report: a lost holder is not waited for', pool.freshReport());
  assert.equal(pool.stats().openMin, 300, 'a lost holder held nothing to the end');
  await pool.stop(HANG_MS);
  assert.equal(pool.stats().closed, 300);
  assert.equal(notes.length, 1);
});

// PROTOCOL.md: rate-holders
test('a rate for all is shared by the holders, from the moment that they are given it', async (t) => {
  const target = await startNetTarget(t);
  const slow = { ratePerSec: 0.001 };
  const { pool } = makePool(t, [
    { ...specOf('a/1', 0, 200, target.port), ...slow },
    { ...specOf('a/2', 1, 100, target.port), ...slow },
  ]);
  await pool.ready();
  pool.start();
  await until('each opens its first', async () => (await target.counts()).accepted === 2);
  pool.pace(0.002);
  await pool.freshReport();
  assert.equal(pool.stats().attempted, 2);
  pool.pace(30_000);
  await until('both have settled', () => pool.settled);
  assert.equal(pool.stats().open, 300);
});

test('with one core one holder opens after the other, at the whole rate, and the ramp is that of all', async (t) => {
  const accepted: number[] = [];
  const server = createServer((socket) => {
    accepted.push(socket.remotePort ?? 0);
    socket.on('error', () => {});
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const specs = [0, 1, 2, 3].map((index) => ({ ...specOf(`a/${index}`, index, 100, port), ratePerSec: 100 }));
  const { pool } = makePool(t, specs, cliPath, {}, 1);
  await pool.ready();
  pool.start();
  await until('all have settled', () => pool.settled);
  await until('the target has all', () => accepted.length === 400);
  // The tuples of a holder are ports of their own: the first thousand, the second, and so on.
  const holderOf = accepted.map((each) => Math.floor((each - FIRST_PORT) / 1_000));
  assert.deepEqual(
    holderOf,
    [...holderOf].sort((left, right) => left - right),
  );
  assert.deepEqual(new Set(holderOf), new Set([0, 1, 2, 3]));
  // 400 at 400 a second, of which a hundredth may come at once; one alone would have had 100 a second.
  const { rampMs } = pool.stats();
  assert(rampMs >= 4 * 240, `${rampMs} ms: not above the rate of all`);
  await pool.stop(HANG_MS);
});

test('the turn of a holder that is killed in the middle of it goes to the next', async (t) => {
  const target = await startNetTarget(t);
  const specs = [0, 1, 2].map((index) => ({
    ...specOf(`a/${index}`, index, 300, target.port),
    ratePerSec: 100,
  }));
  const { pool } = makePool(t, specs, cliPath, {}, 1);
  await pool.ready();
  pool.start();
  await until('the first opens', async () => (await target.counts()).open > 50);
  assert((await target.counts()).open < 300, 'and has not opened all');
  process.kill(pidsOf(pool)[0] ?? assert.fail('it has a pid'), 'SIGKILL');
  await until('the others have opened all of theirs', () => pool.settled);
  const stats = pool.stats();
  assert.equal(stats.open, 600);
  assert.equal(stats.attempted + stats.unattempted, 900);
  await pool.stop(HANG_MS);
});

test('what stands by gives up too', async (t) => {
  const target = await startNetTarget(t);
  const specs = [0, 1, 2].map((index) => ({
    ...specOf(`a/${index}`, index, 300, target.port),
    ratePerSec: 50,
  }));
  const { pool } = makePool(t, specs, cliPath, {}, 1);
  await pool.ready();
  pool.start();
  await until('the first opens', async () => (await target.counts()).open > 20);
  pool.stopOpening();
  await until('all have settled', () => pool.settled);
  const { open, unattempted } = pool.stats();
  assert.equal(open + unattempted, 900);
  assert(unattempted >= 600, 'two have opened none');
  assert.equal(clientEnds(target.port).count, open);
});

test('a holder lost in the ramp gives up what it had not opened', async (t) => {
  const target = await startNetTarget(t);
  const slow = { ...specOf('a/1', 0, 900, target.port), ratePerSec: 100 };
  const { pool } = makePool(t, [slow]);
  await pool.ready();
  pool.start();
  // The holder's own count: the target may have accepted one that the holder has not heard of yet.
  await until('some are open', async () => {
    await pool.freshReport();
    return pool.stats().open > 100;
  });
  const { attempted, open } = pool.stats();
  assert(open < 900, `${open}`);
  process.kill(pidsOf(pool)[0] ?? assert.fail('it has a pid'), 'SIGKILL');
  await until('the loss is counted', () => pool.settled);
  const stats = pool.stats();
  assert.equal(stats.open, 0);
  assert.equal(stats.attempted + stats.unattempted, 900, 'attempted and given up sum to the quota');
  assert((stats.dropped['holder-lost'] ?? 0) >= open, JSON.stringify(stats.dropped));
  assert(stats.attempted >= attempted - 100, 'connects in flight are given up');
});

test('freshReport brings the numbers of this moment', async (t) => {
  const target = await startNetTarget(t);
  // It says nothing unasked, so what comes is an answer.
  const { pool } = makePool(t, [{ ...specOf('a/1', 0, 250, target.port), reportEveryMs: 10 * HANG_MS }]);
  await pool.ready();
  pool.start();
  await until('the target has all', async () => (await target.counts()).open === 250);
  await until('it says so when it is asked', async () => {
    await pool.freshReport();
    return pool.stats().open === 250;
  });
  await target.kill();
  await until('the kernel has closed them', () => clientEnds(target.port).count === 0);
  // It may be asked before it has looked at all of its sockets.
  await until('it says so when it is asked', async () => {
    await pool.freshReport();
    return pool.stats().open === 0;
  });
});

test('stopOpening ends the ramp: what is not open counts as never attempted', async (t) => {
  const target = await startNetTarget(t);
  const { pool } = makePool(t, [{ ...specOf('a/1', 0, 900, target.port), ratePerSec: 300 }]);
  await pool.ready();
  pool.start();
  await until('some are open', async () => (await target.counts()).open > 100);
  pool.stopOpening();
  await until('it has settled', () => pool.settled);
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
  await until('all are open', async () => (await target.counts()).open === 400);
  const pids = pidsOf(pool);
  pool.kill();
  await until('no holder is left', () => !pids.some(isAlive));
  await until('the target sees all gone', async () => (await target.counts()).open === 0);
  assert.deepEqual(notes, [], 'what we end ourselves is no loss');
});

test('a program that cannot start is not ready, and says so', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { pool, notes } = makePool(t, [specOf('a/1', 0, 10, 1)], `${cliPath}.missing`);
  assert.equal(await settled('found by its end, not by a timeout', pool.ready()), false);
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? '', /^holder a\/1 .*was lost: exited with 1$/);
  assert.equal(pool.settled, true, 'nothing is left to wait for');
});

test('a holder that fails says why, and is lost', async (t) => {
  const { pool, notes } = makePool(t, [specOf('fails', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  assert.equal(await pool.ready(), false);
  assert.equal(notes.length, 1, notes.join('\n'));
  assert.match(
    notes[0] ?? '',
    /^holder fails \(pid \d+\) was lost: no epoll$/,
    'its own words, not its exit code',
  );
  assert.equal(pool.stats().unattempted, 10);
});

test('a fresh report is the answer, not what was on its way when it was asked for', async (t) => {
  const { pool } = makePool(t, [specOf('late', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  assert.equal(await pool.ready(), true);
  for (const wantsTuples of [false, true]) {
    await pool.freshReport(wantsTuples);
    assert.equal(pool.stats().open, 2);
  }
});

test('a holder that says what no holder says is lost and killed; the agent and the others go on', async (t) => {
  const specs = ['nonsense', 'half', 'late'].map((id, index) => specOf(id, index, 10, 1));
  const { pool, notes } = makePool(t, specs, FAKE_HOLDER_ENTRY);
  assert(await pool.ready());
  const pids = pidsOf(pool);
  pool.start();
  await until('both are lost', () => notes.length === 2);
  for (const note of notes)
    assert.match(
      note,
      /^holder (nonsense|half) \(pid \d+\) was lost: it said what no holder says, and was killed$/,
    );
  await until('their processes are gone', () => !pids.slice(0, 2).some(isAlive));
  await pool.freshReport();
  assert.equal(pool.stats().open, 2, 'the third one answers');
});

test('a holder that does not stop in time is killed', async (t) => {
  const { pool } = makePool(t, [specOf('deaf', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  assert.equal(await pool.ready(), true);
  const pids = pidsOf(pool);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let isOver = false;
  const stopped = pool.stop(300).then(() => {
    isOver = true;
  });
  t.mock.timers.tick(299);
  await pause(50);
  assert.deepEqual([isOver, pids.every(isAlive)], [false, true]);
  t.mock.timers.tick(1);
  await settled('stop() ends', stopped);
  await until('it is gone', () => !pids.some(isAlive));
});

test('a holder that says done and does not end is killed too, and its last report counts', async (t) => {
  const { pool } = makePool(t, [specOf('lingers', 0, 10, 1)], FAKE_HOLDER_ENTRY);
  await pool.ready();
  const pids = pidsOf(pool);
  await pool.stop(HANG_MS);
  assert.equal(pool.stats().closed, 7);
  await pool.gone(300);
  await until('it is gone', () => !pids.some(isAlive));
});

test('holders that are added later start alone, from tuples behind the others', async (t) => {
  const target = await startNetTarget(t);
  const { pool } = makePool(t, [specOf('a/1', 0, 200, target.port)]);
  await pool.ready();
  pool.start();
  await until('the first is open', async () => (await target.counts()).open === 200);
  assert.equal(pool.tuplesEnd, 1_000);
  pool.add([specOf('a/2', 1, 100, target.port)]);
  assert.equal(pool.size, 2);
  assert.equal(await pool.ready(), true);
  assert.equal((await target.counts()).accepted, 200, 'it waits for start');
  pool.start();
  await until('both are open', async () => (await target.counts()).open === 300);
  await until('both have settled', () => pool.settled);
  assert.equal(pool.stats().attempted, 300, 'the first was not started again');
});

test('a stopped holder is lost once its last report is too old: its quota is settled, its process and its sockets are gone', async (t) => {
  const target = await startNetTarget(t);
  const specs = [specOf('a/1', 0, 200, target.port), specOf('a/2', 1, 200, target.port)];
  const { pool, notes } = makePool(
    t,
    specs.map((spec) => ({ ...spec, reportEveryMs: 200 })),
    cliPath,
    // On a busy machine the other one is silent for seconds too, and must not be lost for it.
    { silentMs: 10_000 },
  );
  assert.equal(await pool.ready(), true);
  pool.start();
  await until('all are open', () => pool.stats().open === 400);
  const [stopped] = pidsOf(pool);
  process.kill(stopped!, 'SIGSTOP');
  await until('it is lost', () => pool.stats().open === 200);
  assert.deepEqual({ ...pool.stats().dropped }, { 'holder-lost': 200 });
  assert.equal(pool.settled, true);
  assert.match(notes.join('\n'), /^holder a\/1 \(pid \d+\) was lost: it said nothing for .*stopped process/);
  await until('its process is gone', () => !isAlive(stopped!));
  await until('its sockets are gone', () => clientEnds(target.port).count === 200);
  assert.equal(pool.health().filter((holder) => holder.alive).length, 1);
});

test('a fresh report of a stopped holder does not come: it is not proven, however lately it spoke', async (t) => {
  const target = await startNetTarget(t);
  const { pool } = makePool(t, [specOf('a/1', 0, 100, target.port)], cliPath, { silentMs: 10_000 });
  assert.equal(await pool.ready(), true);
  pool.start();
  await until('all are open', () => pool.stats().open === 100);
  process.kill(pidsOf(pool)[0]!, 'SIGSTOP');
  await pool.freshReport();
  assert.equal(pool.stats().open, 0);
});

test('an agent that stood still itself does not take its holders for silent', async (t) => {
  const target = await startNetTarget(t);
  let aheadMs = 0;
  const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + aheadMs };
  const { pool, notes } = makePool(t, [specOf('a/1', 0, 100, target.port)], cliPath, {
    clock,
    silentMs: 30_000,
  });
  assert.equal(await pool.ready(), true);
  pool.start();
  await until('all are open', () => pool.stats().open === 100);
  // A minute passes between two looks, as after SIGSTOP and SIGCONT.
  aheadMs = 60_000;
  await pool.freshReport();
  await pool.freshReport();
  assert.equal(pool.stats().open, 100);
  assert.deepEqual(notes, []);
});

test('a holder that is not ready in time is named', async (t) => {
  const { pool, notes } = makePool(t, [specOf('mute', 0, 10, 1)], FAKE_HOLDER_ENTRY, {}, 1, 300);
  assert.equal(await pool.ready(), false);
  assert.deepEqual(notes, [`not ready within 0.3 s: holder mute (pid ${pidsOf(pool)[0]})`]);
});

test('a holder that waits for a core while it loads has more time', async (t) => {
  const before = getPriority();
  const loops = Array.from({ length: availableParallelism() }, () =>
    // It ends when this process has, too.
    spawn('sh', ['-c', `while [ -d /proc/${process.pid} ]; do :; done`], { stdio: 'ignore' }),
  );
  t.after(() => {
    setPriority(before);
    for (const loop of loops) loop.kill('SIGKILL');
  });
  // A holder has the priority of its parent: each loop has nine times its share, and so one that loads in 0.4 s takes 4 s.
  setPriority(10);
  const { pool, notes } = makePool(t, [specOf('starved', 0, 10, 9)], cliPath, {}, 1, 2_500);
  assert.equal(await pool.ready(), true, notes.join());
});

test('holders load a few at a time, so that many become ready; those whose turn has not come are never forked', async (t) => {
  const most = Math.max(2, availableParallelism());
  const many = makePool(
    t,
    Array.from({ length: most * 6 }, (_, index) => specOf(`a/${index}`, index, 1, 9)),
    FAKE_HOLDER_ENTRY,
  );
  assert.equal(await many.pool.ready(), true);
  assert.equal(new Set(pidsOf(many.pool)).size, most * 6, 'a process for each');
  many.pool.kill();

  const { pool } = makePool(
    t,
    Array.from({ length: most * 6 }, (_, index) => specOf('mute', index, 1, 9)),
    FAKE_HOLDER_ENTRY,
  );
  const forked = (): number[] => pidsOf(pool).filter((pid) => pid > 0);
  await until('the first ones are there', () => forked().length === most);
  const ready = pool.ready();
  pool.kill();
  assert.equal(await ready, false);
  await pool.gone(30_000);
  assert.equal(forked().length, most, 'and no further one');
});
