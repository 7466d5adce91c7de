/** Owns the proof that the ledger of an engine counts every loss, and keeps details up to its limit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DropReason } from '../../src/base/outcome.ts';
import { TupleMap } from '../../src/base/tuple-space.ts';
import { LossLedger } from '../../src/engine/loss-ledger.ts';
import type { HolderSpec } from '../../src/run/run-spec.ts';
import { LOSS_KEYS_MAX } from '../../src/stats/loss.ts';
import { tupleAt } from '../support/written-tuple.ts';
import { specTo } from './engine-run.ts';

const HOW = { ageMs: 5_000, isProbing: false, isAcked: false };

function ledgerOf(
  over: Partial<HolderSpec> = {},
  connections = 20_000,
): { ledger: LossLedger; spec: HolderSpec } {
  const spec = specTo(8_000, connections, {
    addresses: ['127.0.0.2', '127.0.0.3', '127.0.0.4'],
    ports: [{ from: 1_024, to: 20_000 }],
    endpoints: [8_000, 8_001].map((port) => ({ address: '127.0.0.1', port, family: 4 as const })),
    wantsLossDetails: true,
    ...over,
  });
  return { ledger: new LossLedger(spec, new TupleMap(spec)), spec };
}

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

test('each loss is counted by its reason, source and endpoint, and reported with its own tuple', () => {
  const { ledger, spec } = ledgerOf();
  const expected: Record<string, number> = {};
  for (let tuple = 0; tuple < 600; tuple++) {
    const reason = Math.floor(tuple / 6) % 2 === 0 ? DropReason.rst : DropReason.fin;
    ledger.add(reason, tuple, tuple, HOW);
    const { address, endpoint } = tupleAt(spec, tuple);
    const key = `${reason} ${address} 127.0.0.1:${endpoint.port}`;
    expected[key] = (expected[key] ?? 0) + 1;
  }
  assert.deepEqual(ledger.counts(), expected);
  assert.equal(Object.keys(expected).length, 12);
  const losses = ledger.take(1_000);
  assert.equal(losses.length, 600);
  for (const [tuple, loss] of losses.entries()) {
    const { address, port, endpoint } = tupleAt(spec, tuple);
    assert.equal(loss.source, `${address}:${port}`);
    assert.equal(loss.endpoint, `127.0.0.1:${endpoint.port}`);
    assert.deepEqual([loss.atMs, loss.ageMs, loss.count], [tuple, 5_000, 1]);
  }
  assert.equal(ledger.waiting, 0);
});

test('every connection can be lost at once with its details; of more the oldest are cut, and the counts stay complete', () => {
  const connections = 20_000;
  const { ledger } = ledgerOf();
  for (let tuple = 0; tuple < connections + 500; tuple++) ledger.add(DropReason.rst, tuple, tuple, HOW);
  assert.equal(ledger.cut, 500);
  assert.equal(sumOf(ledger.counts()), connections + 500);
  assert.equal(ledger.take(1)[0]?.atMs, 500);
  assert.equal(ledger.take(connections).at(-1)?.atMs, connections + 499);
  ledger.add(DropReason.fin, 3, 7, HOW);
  assert.deepEqual(
    ledger.take(9).map(({ reason, atMs }) => [reason, atMs]),
    [['fin', 7]],
  );
});

test('no details are wanted: none are kept, and none are called cut', () => {
  const { ledger } = ledgerOf({ wantsLossDetails: false });
  for (let tuple = 0; tuple < 100; tuple++) ledger.add(DropReason.rst, tuple, 0, HOW);
  assert.deepEqual([ledger.take(10), ledger.cut, sumOf(ledger.counts())], [[], 0, 100]);
});

test('more kinds than it tells apart are counted together, so that memory stays bounded and no loss is missed', () => {
  const addresses = Array.from({ length: 200 }, (_, index) => `127.0.1.${index + 1}`);
  const endpoints = Array.from({ length: 200 }, (_, index) => ({
    address: '127.0.0.1',
    port: 8_000 + index,
    family: 4 as const,
  }));
  const { ledger } = ledgerOf({
    addresses,
    endpoints,
    ports: [{ from: 1_024, to: 1_030 }],
    wantsLossDetails: false,
  });
  for (let tuple = 0; tuple < 40_000; tuple++) ledger.add(DropReason.rst, tuple, 0, HOW);
  const counts = ledger.counts();
  assert.equal(sumOf(counts), 40_000);
  assert.ok(Object.keys(counts).length <= LOSS_KEYS_MAX * 2 + 12);
  assert.ok(Object.keys(counts).some((key) => key.endsWith(' *')));
});

test('the circumstances are counted: young, in answer to a probe, acknowledged, and how many at once', () => {
  const { ledger } = ledgerOf();
  ledger.add(DropReason.fin, 0, 100, { ...HOW, ageMs: 999 });
  ledger.add(DropReason.probeTimeout, 6, 100, { ...HOW, ageMs: 999 });
  ledger.add(DropReason.rst, 1, 200, { ...HOW, isProbing: true });
  ledger.add(DropReason.fin, 2, 300, { ...HOW, isProbing: true });
  ledger.add(DropReason.probeTimeout, 3, 400, { ...HOW, isAcked: true });
  ledger.add(DropReason.probeTimeout, 4, 1_099, HOW);
  ledger.add(DropReason.rst, 5, 1_101, HOW);
  assert.deepEqual([ledger.youngDrops, ledger.resetsOnProbe, ledger.probeTimeoutsAcked], [1, 1, 1]);
  assert.deepEqual(ledger.recent(), [0, 3, 1, 2, 4, 2]);
});

test('times count from the start of the run, also in an engine that has started later', () => {
  const { ledger } = ledgerOf();
  ledger.startsLater(10_000);
  ledger.add(DropReason.rst, 0, 100, HOW);
  assert.deepEqual([ledger.take(1)[0]?.atMs, ledger.recent()], [10_100, [40, 1]]);
});
