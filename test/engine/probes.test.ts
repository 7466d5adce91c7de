/** Tests when probes are due, and who counts as proven, on a wheel and a table of their own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionTable } from '../../src/engine/connection-table.ts';
import { Probes } from '../../src/engine/probes.ts';
import { Tally } from '../../src/engine/tally.ts';
import { TimerWheel } from '../../src/engine/timer-wheel.ts';

const PROBED_SLOTS = 1_000;

function scheduleOf(everyMs: number): { probes: Probes; table: ConnectionTable; wheel: TimerWheel } {
  const table = new ConnectionTable(PROBED_SLOTS);
  const wheel = new TimerWheel(PROBED_SLOTS);
  const tally = new Tally({ addresses: [], endpoints: [] });
  return {
    probes: new Probes(everyMs, { table, wheel, tally, timeoutMs: 5_000, areAnswered: true }),
    table,
    wheel,
  };
}

/** How many of the slots are due in each tenth of a span. */
function tenths(dues: Iterable<number>, fromMs: number, spanMs: number): number[] {
  const counts = Array<number>(10).fill(0);
  for (const due of dues) counts[Math.min(9, Math.floor(((due - fromMs) / spanMs) * 10))]!++;
  return counts;
}

test('first probes come within a second, evenly spread, whatever the period', () => {
  const { probes, table, wheel } = scheduleOf(60_000);
  for (let slot = 0; slot < PROBED_SLOTS; slot++) probes.first(slot, 500);
  assert.equal(wheel.count, PROBED_SLOTS);
  for (const due of table.intendedAtMs) assert(due >= 500 && due <= 1_500, `${due}`);
  for (const count of tenths(table.intendedAtMs, 500, 1_000)) assert(Math.abs(count - 100) <= 5, `${count}`);
});

test('a period shorter than a second bounds the first probe too', () => {
  const { probes, table } = scheduleOf(200);
  for (let slot = 0; slot < PROBED_SLOTS; slot++) probes.first(slot, 0);
  assert(Math.max(...table.intendedAtMs) <= 200);
});

test('after the first probe the slots together probe evenly over the period, and each keeps its phase', () => {
  const { probes, table } = scheduleOf(10_000);
  for (let slot = 0; slot < PROBED_SLOTS; slot++) probes.first(slot, 0);
  for (let slot = 0; slot < PROBED_SLOTS; slot++) probes.answered(slot, 1_000);
  const second = Float64Array.from(table.intendedAtMs);
  const inPeriod = second.map((due) => due % 10_000);
  for (const count of tenths(inPeriod, 0, 10_000)) assert(Math.abs(count - 100) <= 5, `${count}`);
  for (let slot = 0; slot < PROBED_SLOTS; slot++) probes.answered(slot, second[slot]! + 1);
  // A due moment is rounded up to a whole millisecond.
  for (let slot = 0; slot < PROBED_SLOTS; slot++) {
    const periodMs = table.intendedAtMs[slot]! - second[slot]!;
    assert(Math.abs(periodMs - 10_000) <= 1, `slot ${slot}: ${periodMs}`);
  }
});

test('an answer that took several periods skips probes, and does not bring them in a burst', () => {
  const { probes, table, wheel } = scheduleOf(1_000);
  table.intendedAtMs[0] = 1_000;
  probes.answered(0, 7_300);
  assert(table.intendedAtMs[0] >= 6_300 && table.intendedAtMs[0] < 7_300, `${table.intendedAtMs[0]}`);
  assert.equal(table.intendedAtMs[0] % 1_000, 0, 'the phase of slot 0');
  assert(wheel.has(0));
});

test('a connection counts as proven once, and as proven in the hold until it leaves', () => {
  const table = new ConnectionTable(4);
  const wheel = new TimerWheel(4);
  const tally = new Tally({ addresses: [], endpoints: [] });
  const probes = new Probes(1_000, { table, wheel, tally, timeoutMs: 5_000, areAnswered: true });
  const sequence = probes.begin(2, 10);
  assert.equal(probes.begin(2, 20), sequence + 1);
  assert.equal(probes.isWaiting(2), true);
  probes.answered(2, 30);
  assert.deepEqual([probes.isWaiting(2), probes.isVerified(2), probes.isVerified(1)], [false, true, false]);
  assert.deepEqual(
    [tally.verified, tally.verifiedInHold, tally.probesSent, tally.probesAnswered],
    [1, 0, 2, 1],
  );
  tally.markHold();
  probes.verified(2);
  probes.verified(2);
  assert.deepEqual([tally.verified, tally.verifiedInHold], [1, 1]);
  probes.left(2);
  assert.equal(tally.verifiedInHold, 0);
});

test('a probe is overdue its whole timeout after it was sent', () => {
  const { probes, wheel } = scheduleOf(1_000);
  probes.begin(3, 100.5);
  wheel.advanceTo(5_100);
  assert.equal(wheel.nextExpired(), -1);
  wheel.advanceTo(5_101);
  assert.equal(wheel.nextExpired(), 3);
});
