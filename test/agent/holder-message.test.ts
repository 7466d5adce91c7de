import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readHolderMessage } from '../../src/agent/holder-message.ts';
import { emptyStats, newHolderHealth } from '../../src/stats/stats.ts';

const STATS = {
  type: 'stats',
  stats: { ...emptyStats(), open: 3, connectUs: [100, 3], openBySource: { '127.0.0.2': 3 } },
  health: newHolderHealth('a/0', 7, 10),
  settled: true,
  answers: null,
  openTuples: null,
  begun: true,
  ramp: { fromMs: 1, toMs: 2 },
};

test('what a holder says is taken as it is', () => {
  const { stats, health, ramp } = STATS;
  const loss = { atMs: -1, holder: 'a/0', source: '*', endpoint: '*', ageMs: null, reason: 'rst', count: 1 };
  for (const said of [
    STATS,
    { type: 'ready' },
    { type: 'checked', which: 'freeze' },
    { type: 'losses', losses: [loss] },
    { type: 'done', stats, health, ramp },
    { type: 'warning', message: 'slow' },
    { type: 'failed', message: 'no epoll' },
  ])
    assert.equal(readHolderMessage(said), said);
});

test('what no holder says is none, and nothing is thrown', () => {
  const withStats = (change: object): object => ({ ...STATS, stats: { ...STATS.stats, ...change } });
  for (const said of [
    ...[null, undefined, 5, 'ready', [], {}, { type: 'stats' }, { type: 'toString' }, { type: 'spec' }],
    ...[withStats({ open: '3' }), withStats({ open: -1 }), withStats({ open: Number.NaN })],
    ...[withStats({ connectUs: [1] }), withStats({ connectUs: null }), withStats({ failed: { rst: 'x' } })],
    ...[withStats({ evidence: {} }), withStats({ tls: { sessions: 1 } })],
    ...[
      { ...STATS, health: { id: 'a/0' } },
      { ...STATS, ramp: {} },
      { ...STATS, answers: 'x' },
    ],
    ...[
      { type: 'losses', losses: [null] },
      { type: 'losses', losses: {} },
      { type: 'warning', message: 1 },
    ],
  ])
    assert.equal(readHolderMessage(said), null, JSON.stringify(said));
});
