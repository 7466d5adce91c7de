/** Tests what the loss of an agent makes of its record: everything that it held is dropped, once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AgentRecord,
  newAgent,
  withHandedOver,
  withLoss,
  withSnapshot,
} from '../../src/run/agent-record.ts';
import { emptyStats, newHolderHealth, type Stats } from '../../src/stats/stats.ts';

function agentWith(quota: number, stats: Partial<Stats>): AgentRecord {
  return { ...newAgent('a', 0), quota, stage: 'running', stats: { ...emptyStats(), ...stats } };
}

// PROTOCOL.md: silence
test('a lost agent drops what it held and gives up what it had not attempted', () => {
  const counts = { attempted: 800, established: 700, open: 690, openMin: 690, pending: 100 };
  const lost = withLoss({ ...agentWith(1_000, counts), holders: [newHolderHealth('a/1', 1, 10)] });
  const { open, openMin, pending, dropped, unattempted } = lost.stats;
  assert.deepEqual({ open, openMin, pending }, { open: 0, openMin: 0, pending: 0 });
  assert.deepEqual(dropped, { 'agent-lost': 690 });
  assert.equal(unattempted, 300, 'connects in flight were never decided');
  assert.deepEqual([lost.stage, lost.holders[0]?.alive], ['lost', false]);
});

test('what was dropped before the loss keeps its reason', () => {
  const lost = withLoss(agentWith(100, { attempted: 100, established: 100, open: 60, dropped: { rst: 40 } }));
  assert.deepEqual(lost.stats.dropped, { rst: 40, 'agent-lost': 60 });
});

test('what others take of a lost quota is not unattempted any more', () => {
  const lost = withLoss(agentWith(1_000, { attempted: 400, established: 400, open: 400 }));
  assert.equal(lost.stats.unattempted, 600);
  const some = withHandedOver(lost, 250);
  assert.deepEqual([some.quota, some.stats.unattempted, some.isReplaced], [750, 350, true]);
  const all = withHandedOver(lost, 1_000);
  assert.deepEqual([all.quota, all.stats.unattempted], [0, 0]);
});

test('a histogram that a snapshot leaves out is the one that is known', () => {
  const known = agentWith(10, { connectUs: [100, 7], probeUs: [5, 1] });
  const stats = { ...emptyStats(), open: 3, connectUs: null, probeUs: [5, 2] };
  const next = withSnapshot(known, { stats, holders: [], kernel: [] }, 1_234);
  assert.deepEqual([next.stats.connectUs, next.stats.probeUs, next.stats.open], [[100, 7], [5, 2], 3]);
  assert.equal(next.lastSeenMs, 1_234);
  assert.equal(known.stats.open, 0, 'the record of before is what it was');
});
