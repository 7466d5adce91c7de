/** Tests what the loss of an agent makes of its record: everything that it held is dropped, once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type AgentRecord,
  AgentTable,
  newAgent,
  withHandedOver,
  withLoss,
  withSnapshot,
} from '../../src/run/agent-record.ts';
import { emptyStats, newHolderHealth, type Stats } from '../../src/stats/stats.ts';

function agentWith(quota: number, stats: Partial<Stats>): AgentRecord {
  const shares = [{ from: 0, to: quota }];
  return { ...newAgent('a', 0), quota, shares, stage: 'running', stats: { ...emptyStats(), ...stats } };
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

test('what was opened again before the loss was attempted beyond the quota', () => {
  const counts = { attempted: 450, established: 450, reopened: 50, open: 400, dropped: { fin: 50 } };
  const lost = withLoss(agentWith(1_000, counts));
  assert.equal(lost.stats.unattempted, 600);
  assert.equal(withHandedOver(lost, 250).stats.unattempted, 350);
});

test('a histogram that a snapshot leaves out is the one that is known', () => {
  const known = agentWith(10, { connectUs: [100, 7], probeUs: [5, 1] });
  const stats = { ...emptyStats(), open: 3, connectUs: null, probeUs: [5, 2] };
  const next = withSnapshot(known, { stats, holders: [], kernel: [] }, 1_234);
  const { connectUs, probeUs, open } = next.stats;
  assert.deepEqual([Array.from(connectUs), Array.from(probeUs), open], [[100, 7], [5, 2], 3]);
  assert.equal(next.lastSeenMs, 1_234);
  assert.equal(known.stats.open, 0, 'the record of before is what it was');
});

type Step = { readonly from: number; readonly remove: boolean; readonly id: string; readonly quota: number };

const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({
    from: fc.nat(),
    remove: fc.boolean(),
    id: fc.integer({ min: 0, max: 200 }).map((number) => `agent-${number}`),
    quota: fc.nat(1_000),
  }),
  { maxLength: 300 },
);

function assertSame(table: AgentTable, expected: ReadonlyMap<string, AgentRecord>): void {
  assert.equal(table.size, expected.size);
  assert.deepEqual([...table], [...expected]);
  assert.deepEqual([...table.keys()], [...expected.keys()]);
  const visited: [string, AgentRecord][] = [];
  table.forEach((record, id) => void visited.push([id, record]));
  assert.deepEqual(visited, [...expected]);
  for (let number = 0; number <= 200; number++) {
    const id = `agent-${number}`;
    assert.equal(table.get(id), expected.get(id));
    assert.equal(table.has(id), expected.has(id));
  }
}

test('it is what a Map would be, and so is every table of before, also when two are made from one', () => {
  fc.assert(
    fc.property(steps, (all) => {
      const made: { table: AgentTable; expected: ReadonlyMap<string, AgentRecord> }[] = [
        { table: AgentTable.empty(), expected: new Map() },
      ];
      for (const { from, remove, id, quota } of all) {
        // Mostly the newest, sometimes an old one: then two tables have the same past.
        const at = from % 5 === 0 ? from % made.length : made.length - 1;
        const { table, expected } = made[at]!;
        const next = new Map(expected);
        if (remove && from % 3 === 0) {
          next.delete(id);
          made.push({ table: table.without(id), expected: next });
        } else {
          const record = { ...newAgent(id, 0), quota };
          next.set(id, record);
          made.push({ table: table.with(record), expected: next });
        }
      }
      for (const { table, expected } of [...made.slice(-20), ...made.slice(0, 20)])
        assertSame(table, expected);
    }),
    { numRuns: 60 },
  );
});

test('a change of all records keeps their order and the old table', () => {
  let table = AgentTable.empty();
  for (let number = 0; number < 150; number++) table = table.with(newAgent(`agent-${number}`, 0));
  const changed = table.map((agent) => (agent.id === 'agent-99' ? agent : { ...agent, quota: 7 }));
  assert.deepEqual([...changed.keys()], [...table.keys()]);
  assert.equal(changed.get('agent-99'), table.get('agent-99'));
  assert.equal(changed.get('agent-149')?.quota, 7);
  assert.equal(table.get('agent-149')?.quota, 0);
});
