/** Owns the proof that the target's counts can be asked for over HTTP, and nothing else. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { BenchError } from '../../src/base/errors.ts';
import { httpWitness, TargetCountLog } from '../../src/coordinator/target-stats.ts';
import { ZERO_TOTALS } from '../../src/serve/serve-counts.ts';
import { serveStats } from '../../src/serve/stats-server.ts';

const COUNTS = {
  ...ZERO_TOTALS,
  openNow: 41,
  openMax: 42,
  acceptedTotal: 43,
  sourceAddresses: 2,
  bySource: { '127.0.0.1': 41 },
  workers: 1,
  workersLost: 0,
  servedMs: 5,
};

test('it answers GET with its counts, and refuses to take anything', async (t) => {
  const server = await serveStats('127.0.0.1', 0, async () => COUNTS);
  t.after(() => server.close());
  const url = `http://127.0.0.1:${server.port}/`;
  const answer = await fetch(url);
  assert.deepEqual(await answer.json(), COUNTS);
  assert.equal((await fetch(url, { method: 'POST', body: 'x' })).status, 405);
  assert.equal((await fetch(url, { method: 'DELETE' })).status, 405);
});

test('whoever connects and says nothing is let go, and is no reason not to end', async () => {
  const server = await serveStats('127.0.0.1', 0, async () => COUNTS);
  const silent = connect(server.port, '127.0.0.1');
  const ended = new Promise((resolve) => silent.on('close', resolve));
  silent.on('error', () => {});
  await new Promise((resolve) => silent.on('connect', resolve));
  await server.close();
  await ended;
});

test('a port that is taken is reported with what to type', async (t) => {
  const server = await serveStats('127.0.0.1', 0, async () => COUNTS);
  t.after(() => server.close());
  await assert.rejects(
    serveStats('127.0.0.1', server.port, async () => COUNTS),
    (error) => {
      assert(error instanceof BenchError);
      return error.exitCode === 3 && /--stats-listen/.test(error.hint);
    },
  );
});

test('the witness tells what the target says, and null when it is gone or talks nonsense', async (t) => {
  let body: unknown = COUNTS;
  const server = await serveStats('127.0.0.1', 0, async () => body as typeof COUNTS);
  t.after(() => server.close());
  const books = new TargetCountLog(httpWitness([new URL(`http://127.0.0.1:${server.port}/`)]));
  assert.deepEqual([books.openNow, books.report()], [null, null]);
  await books.ask();
  assert.equal(books.openNow, 41);
  body = { openNow: 'many' };
  await books.ask();
  assert.equal(books.openNow, null, 'an old number is not passed off as a new one');
  await server.close();
  await books.ask();
  const report = books.report();
  assert.deepEqual([report?.openNow, report?.openMax, report?.unanswered], [41, 42, 2]);
});
