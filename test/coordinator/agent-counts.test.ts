/** Tests what is known of one agent: a loss moves everything it held, once, and rates are of the time between. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentBooks, totalProgress } from '../../src/coordinator/agent-counts.ts';
import { emptyStats, type Stats } from '../../src/stats/stats.ts';

function booksWith(quota: number, stats: Partial<Stats>, name = 'a'): AgentBooks {
  const books = new AgentBooks(name);
  books.quota = quota;
  books.stats = { ...emptyStats(), ...stats };
  return books;
}

test('a lost agent drops what it held and gives up what it had not attempted', () => {
  const books = booksWith(1_000, { attempted: 800, established: 700, open: 690, openMin: 690, pending: 100 });
  books.lose();
  const { open, openMin, pending, dropped, unattempted } = books.stats;
  assert.deepEqual({ open, openMin, pending }, { open: 0, openMin: 0, pending: 0 });
  assert.deepEqual(dropped, { 'agent-lost': 690 });
  assert.equal(unattempted, 300, 'connects in flight were never decided');
  assert.equal(books.report().lost, true);
  assert.equal(books.report().held, 0);
});

test('a loss that is told twice counts once', () => {
  const books = booksWith(100, { attempted: 100, established: 100, open: 100 });
  books.lose();
  books.lose();
  assert.deepEqual(books.stats.dropped, { 'agent-lost': 100 });
});

test('what was dropped before the loss keeps its reason', () => {
  const books = booksWith(100, { attempted: 100, established: 100, open: 60, dropped: { rst: 40 } });
  books.lose();
  assert.deepEqual(books.stats.dropped, { rst: 40, 'agent-lost': 60 });
});

test('the rate is of the time since the last look, not of the whole run', () => {
  const books = booksWith(10_000, { established: 1_000 });
  assert.equal(books.progress(1_000).ratePerSec, 1_000);
  books.stats = { ...books.stats, established: 4_000 };
  assert.equal(books.progress(2_000).ratePerSec, 3_000);
  assert.equal(books.progress(3_000).ratePerSec, 0, 'nothing new in this second');
});

test('two looks within half a second give the same rate: a burst between them says nothing', () => {
  const books = booksWith(10_000, { established: 1_000 });
  books.progress(1_000);
  books.stats = { ...books.stats, established: 1_500 };
  assert.equal(books.progress(1_001).ratePerSec, 1_000);
});

test('the total is the sum of the agents, and lost only when all are', () => {
  const a = booksWith(
    600,
    { open: 500, established: 550, failed: { refused: 3 }, dropped: { fin: 50 } },
    'a',
  );
  const b = booksWith(400, { open: 400, established: 400, pending: 7 }, 'b');
  const sum = () => totalProgress([a, b].map((books) => books.progress(1_000)));
  const { name, quota, open, established, pending, failed, dropped, ratePerSec, lost } = sum();
  assert.deepEqual(
    { name, quota, open, established, pending, failed, dropped, lost },
    {
      name: 'total',
      quota: 1_000,
      open: 900,
      established: 950,
      pending: 7,
      failed: 3,
      dropped: 50,
      lost: false,
    },
  );
  assert.equal(ratePerSec, 950);
  a.lose();
  assert.equal(sum().lost, false);
  b.lose();
  assert.equal(sum().lost, true);
  assert.equal(totalProgress([]).lost, false, 'nobody came is not everybody lost');
});
