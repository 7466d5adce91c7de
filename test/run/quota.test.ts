/** Owns the proof that parts sum to the whole and never exceed what a part can take. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { newAgent } from '../../src/run/agent-record.ts';
import { firstQuotas, handedOver, splitEvenly, splitPending, splitRate } from '../../src/run/quota.ts';

const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number, 0);
const counts = fc.array(fc.oneof(fc.nat(5), fc.nat(300_000)), { maxLength: 60 });
/**
 * One share for each capacity. What all together can take are first quotas; more than that is a lost quota, of which no
 * more is handed over than agents can take.
 */
function splitQuota(total: number, capacities: readonly number[]): number[] {
  const agents = capacities.map((capacity, index) => ({ ...newAgent(`a${index}`, 0), capacity }));
  if (!(total > sumOf(capacities))) return [...firstQuotas(total, agents).values()];
  const running = agents.map((agent) => ({ ...agent, stage: 'running' as const }));
  const all = [{ from: 0, to: total }];
  const lost = { ...newAgent('lost', 0), stage: 'lost' as const, quota: total, shares: all };
  const handed = handedOver([...running, lost], 0, 0) ?? [];
  const changed = new Map(handed.map((agent) => [agent.id, agent.quota]));
  for (const { quota, shares } of handed)
    assert.equal(sumOf(shares.map(({ from, to }) => to - from)), quota, 'the connections go with the quota');
  const shares = agents.map(({ id }) => changed.get(id) ?? 0);
  assert.equal(changed.get('lost'), total - sumOf(shares), 'the rest stays with the lost one');
  return shares;
}

const totals = fc.oneof(fc.nat(20), fc.nat(10_000_000));

test('quotas sum to the total, or to what all parts together can take, and never exceed a capacity', () => {
  fc.assert(
    fc.property(totals, counts, (total, capacities) => {
      const shares = splitQuota(total, capacities);
      assert.equal(shares.length, capacities.length);
      assert.equal(sumOf(shares), Math.min(total, sumOf(capacities)));
      for (const [index, share] of shares.entries()) {
        assert(Number.isInteger(share) && share >= 0 && share <= capacities[index]!);
      }
    }),
    { numRuns: 500 },
  );
});

test('quotas are as even as capacities allow, and the remainder goes to the first parts with room', () => {
  fc.assert(
    fc.property(totals, counts, (total, capacities) => {
      const shares = splitQuota(total, capacities);
      const most = Math.max(0, ...shares);
      const roomy = shares.filter((share, index) => share < capacities[index]!);
      assert(
        roomy.every((share) => most - share <= 1),
        'no part with room has two less than another',
      );
      // Among parts that could take more than the even level, the larger shares stand in front.
      const level = Math.min(most, ...roomy);
      const able = shares.filter((_, index) => capacities[index]! > level);
      assert.deepEqual(
        able,
        [...able].sort((a, b) => b - a),
      );
    }),
    { numRuns: 500 },
  );
});

test('splits that people can check by hand', () => {
  assert.deepEqual(splitQuota(130_000, [20_000, 20_000, 20_000]), [20_000, 20_000, 20_000]);
  assert.deepEqual(splitQuota(100, [1_000, 1_000, 1_000]), [34, 33, 33]);
  assert.deepEqual(splitQuota(10, [1, 100, 100]), [1, 5, 4]);
  assert.deepEqual(splitQuota(11, [0, 3, 100, 2]), [0, 3, 6, 2]);
  assert.deepEqual(splitQuota(0, [5, 5]), [0, 0]);
  assert.deepEqual(splitQuota(5, []), []);
  assert.deepEqual(splitEvenly(130_000, 7), [18_572, 18_572, 18_572, 18_571, 18_571, 18_571, 18_571]);
  assert.deepEqual(splitEvenly(2, 3), [1, 1, 0]);
  assert.deepEqual(splitPending(1_000, [300, 100, 0]), [749, 251, 0]);
  assert.deepEqual(splitPending(1, [5, 5]), [1, 1]);
  assert.deepEqual(splitRate(5_000, [3, 1]), [3_750, 1_250]);
  assert.deepEqual(splitRate(null, [3, 1]), [null, null]);
  assert.deepEqual(splitRate(5_000, [0, 0]), [0, 0]);
});

test('an even split is a split with room for all', () => {
  fc.assert(
    fc.property(totals, fc.integer({ min: 1, max: 300 }), (total, parts) => {
      assert.deepEqual(splitEvenly(total, parts), splitQuota(total, new Array<number>(parts).fill(total)));
    }),
  );
});

test('rates sum to the whole and stand in proportion to the quotas', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.001, max: 1e6, noNaN: true }), counts, (rate, quotas) => {
      const total = sumOf(quotas);
      const rates = splitRate(rate, quotas).map((share) => share ?? Number.NaN);
      assert(Math.abs(sumOf(rates) - (total === 0 ? 0 : rate)) <= rate * 1e-12 * (quotas.length + 1));
      for (const [index, share] of rates.entries()) {
        assert(Math.abs(share * total - rate * quotas[index]!) <= rate * total * 1e-12);
      }
    }),
  );
});

test('every part with a quota may have a connect in flight, and together they keep the limit', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), counts, (pendingMax, quotas) => {
      const shares = splitPending(pendingMax, quotas);
      const active = quotas.filter((quota) => quota > 0).length;
      assert.equal(sumOf(shares), active === 0 ? 0 : Math.max(pendingMax, active));
      for (const [index, share] of shares.entries()) {
        assert(Number.isInteger(share) && (quotas[index] === 0 ? share === 0 : share >= 1));
      }
    }),
    { numRuns: 500 },
  );
});

test('a total or a capacity that is no count is a bug', () => {
  for (const bad of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => splitQuota(bad, [1]), { name: 'AssertionError' });
    const agents = [{ ...newAgent('a', 0), capacity: bad }];
    assert.throws(() => firstQuotas(1, agents), { name: 'AssertionError' });
    assert.throws(() => splitEvenly(bad, 1), { name: 'AssertionError' });
    assert.throws(() => splitPending(bad, [1]), { name: 'AssertionError' });
  }
  assert.throws(() => splitEvenly(1, 0), { name: 'AssertionError' });
});
