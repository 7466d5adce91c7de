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
  assert.notEqual(table.take(10, 0), table.take(11, 1));
  assert.equal(table.take(12, 2), -1);
  table.free(1);
  assert.equal(table.take(12, 2), 1);
  assert.equal(table.used, 2);
});

test('an event for a slot that was taken again meanwhile names no slot', () => {
  const table = new ConnectionTable(1);
  const slot = table.take(7, 0);
  const stale = table.tokenOf(slot);
  assert.equal(table.slotOf(stale), slot);
  table.free(slot);
  assert.equal(table.slotOf(stale), -1, 'the slot is free');
  table.take(8, 1);
  assert.equal(table.slotOf(stale), -1, 'the slot belongs to another connection');
  assert.equal(table.slotOf(table.tokenOf(slot)), slot);
});

test('the poller’s own wake-up token is never a slot', () => {
  const table = new ConnectionTable(3);
  table.take(7, 0);
  assert.equal(table.slotOf(-1), -1);
});

test('a slot is freed once', () => {
  const table = new ConnectionTable(1);
  table.free(table.take(7, 0));
  assert.throws(() => table.free(0));
});

test('tuple indexes above 2^32 survive', () => {
  const table = new ConnectionTable(1);
  const slot = table.take(7, 2 ** 40 + 1);
  assert.equal(table.tuple[slot], 2 ** 40 + 1);
});

test('whatever is taken and freed, live slots keep their values and tokens differ', () => {
  const actions = fc.array(fc.record({ take: fc.boolean(), pick: fc.nat() }), { maxLength: 300 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), actions, (capacity, list) => {
      const table = new ConnectionTable(capacity);
      const live = new Map<number, { fd: number; token: number }>();
      const dead = new Set<number>();
      let fd = 100;
      for (const { take, pick } of list) {
        if (take) {
          const slot = table.take(++fd, fd * 3);
          if (live.size === capacity) {
            assert.equal(slot, -1);
            continue;
          }
          assert(!live.has(slot), 'a live slot is not handed out twice');
          const token = table.tokenOf(slot);
          assert(token >= 0 && token < 2 ** 31);
          live.set(slot, { fd, token });
          dead.delete(token);
        } else if (live.size > 0) {
          const [slot, { token }] = [...live][pick % live.size]!;
          table.free(slot);
          live.delete(slot);
          dead.add(token);
        }
        assert.equal(table.used, live.size);
        for (const [slot, { fd: own, token }] of live) {
          assert.equal(table.fd[slot], own);
          assert.equal(table.tuple[slot], own * 3);
          assert.equal(table.state[slot], SlotState.connecting);
          assert.equal(table.slotOf(token), slot);
        }
        // 7 bits of generation: a token comes back after 128 lives of its slot, far beyond one batch of events.
        if (list.length < 128) for (const token of dead) assert.equal(table.slotOf(token), -1);
      }
    }),
  );
});
