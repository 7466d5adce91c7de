import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { BenchError } from '../../src/base/errors.ts';
import { httpWitness, TargetCountLog } from '../../src/coordinator/target-stats.ts';
import {
  formatLiveLine,
  formatServeCounts,
  formatServeTotals,
  mergeSources,
  readWorkerMessage,
  type ServeCounts,
  serveStats,
  ZERO_TOTALS,
} from '../../src/serve/serve-counts.ts';

const QUIET: ServeCounts = {
  ...ZERO_TOTALS,
  openNow: 130_000,
  openMax: 130_000,
  acceptedTotal: 130_000,
  sourceAddresses: 4,
  bySource: {},
  workers: 8,
  workersLost: 0,
  servedMs: 1,
  engine: 'epoll',
};

test('the line says what is held now, at most and in all, and from how many addresses', () => {
  assert.equal(
    formatServeCounts(QUIET),
    'holds 130,000 now, 130,000 at most, from 4 source addresses; accepted 130,000 in all',
  );
});

test('the line names what went wrong, and one is not several', () => {
  assert.equal(
    formatServeCounts({
      ...QUIET,
      openNow: 1,
      sourceAddresses: 1,
      reset: 12,
      descriptorsFull: 1,
      workersLost: 2,
    }),
    'holds 1 now, 130,000 at most, from 1 source address; accepted 130,000 in all; 12 reset; 1 time out of descriptors; 2 workers lost',
  );
});

test('the totals say who closed what was accepted, and nothing is closed twice', () => {
  const counts = {
    ...QUIET,
    openNow: 20,
    acceptedTotal: 1_100,
    closedByPeer: 1_000,
    reset: 80,
    bytesIn: 4_000,
    bytesOut: 3_999,
  };
  assert.equal(
    formatServeTotals(counts),
    [
      'accepted   1,100',
      'peak held  130,000',
      'closed     1,000 by FIN of the client, 80 by RST or an error, 20 by serve at its end',
      'bytes      4,000 received, 3,999 sent',
    ].join('\n'),
  );
  assert.match(
    formatServeTotals({ ...counts, openNow: 5 }),
    /5 by serve at its end, 15 with a lost worker$/m,
  );
});

test('the live line has each worker where there are several, and is never wider than the terminal', () => {
  const one = { ...ZERO_TOTALS, openNow: 990, acceptedTotal: 1_000, bytesIn: 2_048 };
  assert.equal(
    formatLiveLine({ total: one, workers: [one] }, 80),
    'holds 990  accepted 1,000  closed 10  in 2 KiB  out 0 B',
  );
  const latest = { total: { ...one, openNow: 1_991 }, workers: [one, { ...one, openNow: 1_001 }] };
  assert.match(formatLiveLine(latest, 80), / {2}workers 990 \+ 1,001$/);
  for (const columns of [0, 1, 20, 60]) assert(formatLiveLine(latest, columns).length <= columns);
});

test('a source that several workers hold is one source, and only the busiest 1,000 are named', () => {
  const many = Array.from({ length: 1_500 }, (_, index) => [`10.0.${index >> 8}.${index & 255}`, 1] as const);
  const merged = mergeSources([many, [['10.0.0.7', 4]], [['127.0.0.2', 2]]]);
  assert.equal(merged.sourceAddresses, 1_501);
  assert.equal(Object.keys(merged.bySource).length, 1_000);
  assert.equal(merged.bySource['10.0.0.7'], 5);
  assert.deepEqual(Object.keys(merged.bySource).slice(0, 2), ['10.0.0.7', '127.0.0.2']);
});

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
  engine: 'epoll' as const,
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

test('a client that connects and says nothing is cut, and is no reason not to end', async () => {
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

test('what the target says is what is read, and null when it is gone or answers nonsense', async (t) => {
  let body: unknown = { ...COUNTS, openNow: 0, openMax: 0, acceptedTotal: 0 };
  const server = await serveStats('127.0.0.1', 0, async () => body as typeof COUNTS);
  t.after(() => server.close());
  const books = new TargetCountLog(httpWitness([new URL(`http://127.0.0.1:${server.port}/`)]));
  await books.askBefore();
  assert.deepEqual([books.openNow, books.report()], [null, null]);
  body = COUNTS;
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

const SOURCES_SAID = [['127.0.0.2', 3]];

test('what a worker says is taken as it is', () => {
  for (const said of [
    { type: 'listening', port: 8_000 },
    { type: 'failed', call: 'bind', errno: 98 },
    { type: 'totals', totals: ZERO_TOTALS },
    { type: 'stood-still', forMs: 2_500.5 },
    { type: 'counts', request: 1, totals: { ...ZERO_TOTALS, openNow: 3 }, sources: SOURCES_SAID },
    { type: 'stopped', totals: ZERO_TOTALS, sources: [] },
  ])
    assert.equal(readWorkerMessage(said), said);
});

test('what no worker says is none', () => {
  const counts = { type: 'counts', request: 1, totals: ZERO_TOTALS, sources: SOURCES_SAID };
  for (const said of [
    ...[null, undefined, 5, 'listening', [], {}, { type: 'toString' }, { type: 'stop' }, { type: 5 }],
    ...[{ type: 'listening' }, { type: 'failed', call: 1, errno: 98 }, { type: 'stood-still', forMs: -1 }],
    ...[
      { ...counts, totals: null },
      { ...counts, totals: { ...ZERO_TOTALS, openNow: '3' } },
    ],
    ...[
      { ...counts, totals: { ...ZERO_TOTALS, bytesIn: Number.NaN } },
      { ...counts, request: undefined },
    ],
    ...[null, {}, [null], [['127.0.0.2']], [['127.0.0.2', -1]], [[2, 1]]].map((sources) => ({
      ...counts,
      sources,
    })),
  ])
    assert.equal(readWorkerMessage(said), null, JSON.stringify(said));
});
