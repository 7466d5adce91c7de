/** Tests the connection table against a plain map of what was taken. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConnectionTable, SlotState } from '../../src/engine/connection-table.ts';
import { TimerWheel } from '../../src/engine/timer-wheel.ts';

test('one slot costs at most 60 bytes with its timer', () => {
  const bytes = new ConnectionTable(10).bytesPerSlot + new TimerWheel(10).bytesPerSlot;
  assert(bytes <= 60, `${bytes} bytes`);
});

test('a full table gives -1, and room again after a slot is freed', () => {
  const table = new ConnectionTable(2);
  assert.notEqual(table.take(0), table.take(1));
  assert.equal(table.take(2), -1);
  table.free(1);
  assert.equal(table.take(2), 1);
  assert.equal(table.used, 2);
});

test('a slot is freed once', () => {
  const table = new ConnectionTable(1);
  table.free(table.take(0));
  assert.throws(() => table.free(0));
});

test('tuple indexes above 2^32 survive', () => {
  const table = new ConnectionTable(1);
  const slot = table.take(2 ** 40 + 1);
  assert.equal(table.tuple[slot], 2 ** 40 + 1);
});

test('whatever is taken and freed, live slots keep their values', () => {
  const actions = fc.array(fc.record({ take: fc.boolean(), pick: fc.nat() }), { maxLength: 300 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), actions, (capacity, list) => {
      const table = new ConnectionTable(capacity);
      /** tuple by slot */
      const live = new Map<number, number>();
      let tuple = 100;
      for (const { take, pick } of list) {
        if (take) {
          const slot = table.take(++tuple);
          if (live.size === capacity) {
            assert.equal(slot, -1);
            continue;
          }
          assert(!live.has(slot), 'a live slot is not handed out twice');
          live.set(slot, tuple);
        } else if (live.size > 0) {
          const slot = [...live.keys()][pick % live.size]!;
          table.free(slot);
          live.delete(slot);
        }
        assert.equal(table.used, live.size);
        for (const [slot, own] of live) {
          assert.equal(table.tuple[slot], own);
          assert.equal(table.state[slot], SlotState.connecting);
        }
      }
    }),
  );
});
