/** Tests the timer wheel against a list that is searched through. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TimerWheel } from '../../src/engine/timer-wheel.ts';

function expireAll(wheel: TimerWheel, tick: number): number[] {
  wheel.advanceTo(tick);
  const slots: number[] = [];
  for (let slot = wheel.nextExpired(); slot >= 0; slot = wheel.nextExpired()) slots.push(slot);
  return slots;
}

test('a timer fires at its tick, once, and not before', () => {
  const wheel = new TimerWheel(4);
  wheel.set(2, 100);
  assert.deepEqual(expireAll(wheel, 99), []);
  assert.deepEqual(expireAll(wheel, 100), [2]);
  assert.deepEqual(expireAll(wheel, 50_000), []);
});

test('a timer more than one round away waits for its own round', () => {
  const wheel = new TimerWheel(2);
  wheel.set(0, 8_192 * 3 + 5);
  wheel.set(1, 5);
  assert.deepEqual(expireAll(wheel, 8_192 + 5), [1]);
  assert.deepEqual(expireAll(wheel, 8_192 * 3 + 4), []);
  assert.deepEqual(expireAll(wheel, 8_192 * 3 + 5), [0]);
});

test('deadlines beyond 2^32 ms, and a clock that is beyond it, are kept: a hold may last a year', () => {
  const yearMs = 365 * 86_400_000;
  const wheel = new TimerWheel(4);
  wheel.set(0, yearMs);
  wheel.set(1, 2 ** 32 + 3);
  // Both bits of 32 that are cut off, and the sign of 32 bits, would make these due at once or never.
  assert.deepEqual(expireAll(wheel, 20_000), []);
  for (const start of [2 ** 31, 2 ** 32, yearMs]) {
    const late = new TimerWheel(3);
    late.advanceTo(start);
    assert.equal(late.nextExpired(), -1);
    late.set(0, start + 5);
    late.set(1, start + 8_192 + 5);
    late.set(2, start + 2 ** 32);
    assert.equal(late.ticksUntilDue(100), 5);
    assert.deepEqual(expireAll(late, start + 4), []);
    assert.deepEqual(expireAll(late, start + 5), [0]);
    assert.deepEqual(expireAll(late, start + 8_192 + 4), []);
    assert.deepEqual(expireAll(late, start + 8_192 + 5), [1]);
    assert.equal(late.count, 1);
  }
});

test('setting a timer again replaces it', () => {
  const wheel = new TimerWheel(1);
  wheel.set(0, 10);
  wheel.set(0, 20);
  assert.equal(wheel.count, 1);
  assert.deepEqual(expireAll(wheel, 19), []);
  assert.deepEqual(expireAll(wheel, 20), [0]);
});

test('a deadline that has passed is due at the next tick', () => {
  const wheel = new TimerWheel(2);
  wheel.set(1, 1_000);
  expireAll(wheel, 1_000);
  wheel.set(0, 3);
  assert.deepEqual(expireAll(wheel, 1_001), [0]);
});

test('timers set and cancelled between two expiries of one tick are honoured', () => {
  const wheel = new TimerWheel(10);
  for (let slot = 0; slot < 10; slot++) wheel.set(slot, 7);
  wheel.advanceTo(7);
  const first = wheel.nextExpired();
  const victim = (first + 5) % 10;
  wheel.cancel(victim);
  wheel.set(first, 8);
  const rest = [];
  for (let slot = wheel.nextExpired(); slot >= 0; slot = wheel.nextExpired()) rest.push(slot);
  assert.equal(rest.length, 8);
  assert(!rest.includes(victim) && !rest.includes(first));
  assert.deepEqual(expireAll(wheel, 8), [first]);
});

test('the sleep until the next timer is right to the tick and bounded', () => {
  const wheel = new TimerWheel(2);
  assert.equal(wheel.ticksUntilDue(1_000), 1_000);
  expireAll(wheel, 500);
  wheel.set(0, 500 + 8_192 + 3);
  assert.equal(wheel.ticksUntilDue(1_000), 1_000, 'another round is not due');
  wheel.set(1, 503);
  assert.equal(wheel.ticksUntilDue(1_000), 3);
});

const SLOTS = 12;
const action = fc.oneof(
  fc.record({
    kind: fc.constant('set' as const),
    slot: fc.nat({ max: SLOTS - 1 }),
    delta: fc.integer({ min: -50, max: 30_000 }),
  }),
  fc.record({
    kind: fc.constant('cancel' as const),
    slot: fc.nat({ max: SLOTS - 1 }),
    delta: fc.constant(0),
  }),
  fc.record({
    kind: fc.constant('advance' as const),
    slot: fc.constant(0),
    delta: fc.oneof(fc.nat({ max: 20 }), fc.nat({ max: 20_000 })),
  }),
);

test('whatever is set, cancelled and advanced, the wheel agrees with a list', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
      const wheel = new TimerWheel(SLOTS);
      const model = new Map<number, number>();
      let now = 0;
      for (const { kind, slot, delta } of actions) {
        if (kind === 'set') {
          wheel.set(slot, Math.max(0, now + delta));
          model.set(slot, Math.max(now + delta, now + 1));
        } else if (kind === 'cancel') {
          wheel.cancel(slot);
          model.delete(slot);
        } else {
          now += delta;
          const due = [...model].filter(([, deadline]) => deadline <= now);
          const fired = expireAll(wheel, now);
          assert.deepEqual([...fired].sort(byNumber), due.map(([own]) => own).sort(byNumber));
          const deadlines = fired.map((own) => model.get(own)!);
          assert.deepEqual(deadlines, [...deadlines].sort(byNumber), 'in the order of their ticks');
          for (const own of fired) model.delete(own);
        }
        assert.equal(wheel.count, model.size);
        const next = Math.min(...model.values(), now + 1_000);
        assert.equal(wheel.ticksUntilDue(1_000), next - now);
        for (let own = 0; own < SLOTS; own++) assert.equal(wheel.has(own), model.has(own));
      }
    }),
    { numRuns: 300 },
  );
});

function byNumber(a: number, b: number): number {
  return a - b;
}
