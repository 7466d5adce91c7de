/** Tests that the table of agents is a map that nothing changes: each table stays what it was, whatever is made from it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AgentRecord, newAgent } from '../../src/run/agent-record.ts';
import { AgentTable } from '../../src/run/agent-table.ts';

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
