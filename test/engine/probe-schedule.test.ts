/** Tests when probes are due: spread evenly, at each slot's own phase, and never in a burst. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionTable } from '../../src/engine/connection-table.ts';
import { ProbeSchedule } from '../../src/engine/probe-schedule.ts';
import { TimerWheel } from '../../src/engine/timer-wheel.ts';

const SLOTS = 1_000;

function scheduleOf(everyMs: number): { probes: ProbeSchedule; table: ConnectionTable; wheel: TimerWheel } {
  const table = new ConnectionTable(SLOTS);
  const wheel = new TimerWheel(SLOTS);
  return { probes: new ProbeSchedule(everyMs, table, wheel), table, wheel };
}

/** How many of the slots are due in each tenth of a span. */
function tenths(dues: Iterable<number>, fromMs: number, spanMs: number): number[] {
  const counts = Array<number>(10).fill(0);
  for (const due of dues) counts[Math.min(9, Math.floor(((due - fromMs) / spanMs) * 10))]!++;
  return counts;
}

test('first probes come within a second, evenly spread, whatever the period', () => {
  const { probes, table, wheel } = scheduleOf(60_000);
  for (let slot = 0; slot < SLOTS; slot++) probes.first(slot, 500);
  assert.equal(wheel.count, SLOTS);
  for (const due of table.intendedAtMs) assert(due >= 500 && due <= 1_500, `${due}`);
  for (const count of tenths(table.intendedAtMs, 500, 1_000)) assert(Math.abs(count - 100) <= 5, `${count}`);
});

test('a period shorter than a second bounds the first probe too', () => {
  const { probes, table } = scheduleOf(200);
  for (let slot = 0; slot < SLOTS; slot++) probes.first(slot, 0);
  assert(Math.max(...table.intendedAtMs) <= 200);
});

test('after the first probe the slots together probe evenly over the period, and each keeps its phase', () => {
  const { probes, table } = scheduleOf(10_000);
  for (let slot = 0; slot < SLOTS; slot++) probes.first(slot, 0);
  for (let slot = 0; slot < SLOTS; slot++) probes.next(slot, 1_000);
  const second = Float64Array.from(table.intendedAtMs);
  const inPeriod = second.map((due) => due % 10_000);
  for (const count of tenths(inPeriod, 0, 10_000)) assert(Math.abs(count - 100) <= 5, `${count}`);
  for (let slot = 0; slot < SLOTS; slot++) probes.next(slot, second[slot]! + 1);
  // A due moment is rounded up to a whole millisecond.
  for (let slot = 0; slot < SLOTS; slot++) {
    const periodMs = table.intendedAtMs[slot]! - second[slot]!;
    assert(Math.abs(periodMs - 10_000) <= 1, `slot ${slot}: ${periodMs}`);
  }
});

test('an answer that took several periods skips probes, and does not bring them in a burst', () => {
  const { probes, table, wheel } = scheduleOf(1_000);
  table.intendedAtMs[0] = 1_000;
  probes.next(0, 7_300);
  assert(table.intendedAtMs[0] >= 6_300 && table.intendedAtMs[0] < 7_300, `${table.intendedAtMs[0]}`);
  assert.equal(table.intendedAtMs[0] % 1_000, 0, 'the phase of slot 0');
  assert(wheel.has(0));
});
