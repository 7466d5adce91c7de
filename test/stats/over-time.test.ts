/** Tests losses and latencies by time: nothing is lost while buckets get wider, and the size has a bound. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LatencyRecorder } from '../../src/stats/histogram.ts';
import type { Loss } from '../../src/stats/loss.ts';
import { type LossRow, OverTimeLog, stepStartMs } from '../../src/stats/over-time.ts';

function lossAt(atMs: number, change: Partial<Loss> = {}): Loss {
  const loss: Loss = {
    atMs,
    holder: 'h',
    source: '10.0.0.1:5',
    endpoint: '10.9.9.9:80',
    ageMs: 1,
    reason: 'fin',
    count: 1,
  };
  return { ...loss, ...change };
}

function totalOf(rows: readonly LossRow[]): number {
  return rows.reduce(
    (sum, { at }) => sum + at.reduce((all, value, index) => (index % 2 ? all + value : all), 0),
    0,
  );
}

describe('losses over time', () => {
  it('are counted by time, place and reason; a source is its address alone', () => {
    const log = new OverTimeLog();
    log.losses([
      lossAt(10),
      lossAt(240),
      lossAt(250, { count: 3 }),
      lossAt(10, { reason: 'rst', source: '[fd00::1]:77', endpoint: '[fd00::2]:80' }),
    ]);
    const { losses } = log.value();
    assert.equal(losses.bucketMs, 250);
    assert.deepEqual(losses.sources, [
      { place: '10.0.0.1', reason: 'fin', at: [0, 2, 1, 3] },
      { place: 'fd00::1', reason: 'rst', at: [0, 1] },
    ]);
    assert.deepEqual(
      losses.endpoints.map(({ place }) => place),
      ['10.9.9.9:80', '[fd00::2]:80'],
    );
  });

  it('keep their sum and a bounded size, however many there are and however long it takes', () => {
    const someLoss = fc.record({
      atMs: fc.oneof(fc.nat(600_000), fc.double({ min: 0, max: 1e12, noNaN: true })),
      source: fc.nat(300).map((host) => `10.0.${host}.1:1024`),
      reason: fc.constantFrom('fin' as const, 'rst' as const, 'timeout' as const),
      count: fc.integer({ min: 1, max: 1_000 }),
    });
    fc.assert(
      fc.property(fc.array(someLoss, { maxLength: 300 }), (some) => {
        const log = new OverTimeLog();
        log.losses(some.map((one) => lossAt(one.atMs, one)));
        const { losses } = log.value();
        const wanted = some.reduce((sum, { count }) => sum + count, 0);
        assert.equal(totalOf(losses.sources), wanted);
        assert.equal(totalOf(losses.endpoints), wanted);
        for (const { at } of losses.sources) assert.ok((at.at(-2) ?? 0) < 120);
        assert.ok(new Set(losses.sources.map(({ place }) => place)).size <= 65);
      }),
      { numRuns: 25 },
    );
  });

  it('have at most so many cells: a hundred sources that lose all the time', () => {
    const log = new OverTimeLog();
    for (let at = 0; at < 120; at++)
      for (let host = 0; host < 100; host++) log.losses([lossAt(at * 250, { source: `10.0.0.${host}:1` })]);
    const { losses } = log.value();
    const cells = losses.sources.reduce((sum, { at }) => sum + at.length / 2, 0);
    assert.ok(cells <= 4_096, String(cells));
    assert.equal(totalOf(losses.sources), 12_000);
    assert.ok(losses.sources.some(({ place }) => place === '*'));
  });
});

describe('latencies over time', () => {
  it('are what came since the last report, in half octaves', () => {
    const connects = new LatencyRecorder();
    const log = new OverTimeLog();
    const none = { connectUs: [], probeUs: [] };
    for (let index = 0; index < 10; index++) connects.record(1_000);
    const first = { connectUs: connects.sparse(), probeUs: [] };
    log.latencies(none, first, 100);
    connects.record(1_000);
    connects.record(64_000);
    log.latencies(first, { connectUs: connects.sparse(), probeUs: [] }, 600);
    const { connect, probe } = log.value();
    const [early = [], between = [], late = []] = connect.columns;
    assert.deepEqual([early.length, between, late.length], [2, [], 4]);
    assert.equal(early[1], 10);
    assert.deepEqual([late[1], late[3]], [1, 1], 'one as fast as before, one slow');
    const startMs = stepStartMs(late[2] ?? 0);
    assert.ok(startMs <= 64.1 && startMs * Math.SQRT2 > 63.9, String(startMs));
    assert.deepEqual(probe.columns, []);
  });

  it('are what an agent says that came, where it says that alone', () => {
    const [byWhole, byGrowth] = [new OverTimeLog(), new OverTimeLog()];
    const before = { connectUs: [900, 4], probeUs: [2_000, 1, 3_000, 7] };
    const now = { connectUs: [900, 4], probeUs: [1_000, 2, 2_000, 1, 3_000, 9] };
    byWhole.latencies(before, { ...now, connectUs: before.connectUs }, 100);
    byGrowth.latencies(before, { ...now, connectUs: before.connectUs }, 100, {
      probeUs: [1_000, 2, 3_000, 2],
    });
    assert.deepEqual(byGrowth.value(), byWhole.value());
    assert.deepEqual(
      byGrowth.value().probe.columns.map((column) => column.length),
      [4],
    );
  });

  it('never count less than nothing, whatever a report says', () => {
    const log = new OverTimeLog();
    log.latencies({ connectUs: [100, 50], probeUs: [] }, { connectUs: [100, 20], probeUs: [] }, 0);
    assert.deepEqual(log.value().connect.columns, []);
  });
});
