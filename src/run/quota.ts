/**
 * Owns the one rule by which a total is split over parts: connections, rate and pending, over agents and over holders.
 * Must never know what a part is.
 */
import assert from 'node:assert/strict';

function sumOf(numbers: readonly number[]): number {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}

function assertCounts(name: string, counts: readonly number[]): void {
  for (const count of counts) {
    assert(Number.isSafeInteger(count) && count >= 0, `${name}: ${count} is no count`);
  }
}

/**
 * The highest even level: the largest whole number so that all parts taking `min(level, capacity)` stay within the
 * total, together with what is left over then (less than the number of parts that could take one more).
 */
function levelOf(total: number, capacities: readonly number[]): { level: number; left: number } {
  const ascending = [...capacities].sort((a, b) => a - b);
  let left = total;
  let level = 0;
  for (const [index, capacity] of ascending.entries()) {
    const parts = ascending.length - index;
    const step = Math.min(capacity - level, Math.floor(left / parts));
    level += step;
    left -= step * parts;
    if (level < capacity) break;
  }
  return { level, left };
}

/**
 * Splits a total over parts: as even as possible, never above a part's capacity, the remainder one each to the first
 * parts that have room. What exceeds the sum of the capacities is not handed out.
 * @param total a count, at least 0
 * @param capacities counts, at least 0; their sum must be a safe integer
 * @returns one share per capacity, in the same order; they sum to `min(total, sum of capacities)`
 */
export function splitQuota(total: number, capacities: readonly number[]): number[] {
  assertCounts('total', [total]);
  assertCounts('capacities', capacities);
  const handedOut = Math.min(total, sumOf(capacities));
  const { level, left } = levelOf(handedOut, capacities);
  let remainder = left;
  const shares = capacities.map((capacity) => {
    if (capacity <= level) return capacity;
    if (remainder === 0) return level;
    remainder -= 1;
    return level + 1;
  });
  assert(remainder === 0, 'the remainder was not handed out');
  return shares;
}

/**
 * Splits a total over equal parts; the first ones take the remainder.
 * @param total a count, at least 0
 * @param parts at least 1
 * @returns `parts` shares that sum to `total` and differ by at most 1
 */
export function splitEvenly(total: number, parts: number): number[] {
  assertCounts('total', [total]);
  assert(Number.isSafeInteger(parts) && parts >= 1, `${parts} parts`);
  const share = Math.floor(total / parts);
  const remainder = total - share * parts;
  return Array.from({ length: parts }, (_, index) => (index < remainder ? share + 1 : share));
}

/**
 * Splits a rate in proportion to quotas, so that all parts end their ramps together.
 * @param ratePerSec above 0; null is no limit, and then no part has one
 * @param quotas counts, at least 0
 * @returns per second, with fraction; they sum to the rate (within rounding) unless every quota is 0
 */
export function splitRate(ratePerSec: number | null, quotas: readonly number[]): (number | null)[] {
  assertCounts('quotas', quotas);
  if (ratePerSec === null) return quotas.map(() => null);
  assert(ratePerSec > 0, `a rate of ${ratePerSec}`);
  const total = sumOf(quotas);
  return quotas.map((quota) => (total === 0 ? 0 : ratePerSec * (quota / total)));
}

/**
 * Splits a limit of connects in flight: one for each part that has a quota, the rest in proportion to the quotas.
 * @param pendingMax at least 1
 * @param quotas counts, at least 0
 * @returns 0 for a quota of 0, else at least 1; they sum to `max(pendingMax, number of quotas above 0)`
 */
export function splitPending(pendingMax: number, quotas: readonly number[]): number[] {
  assertCounts('pendingMax', [pendingMax]);
  assert(pendingMax >= 1, 'a pending limit of 0 opens nothing');
  assertCounts('quotas', quotas);
  const total = sumOf(quotas);
  const spare = Math.max(0, pendingMax - quotas.filter((quota) => quota > 0).length);
  let quotaSoFar = 0;
  let spareSoFar = 0;
  return quotas.map((quota) => {
    if (quota === 0) return 0;
    quotaSoFar += quota;
    // Rounding the running total, not each share, makes the shares sum to the whole.
    const spareTo = quotaSoFar === total ? spare : Math.min(spare, Math.floor(spare * (quotaSoFar / total)));
    const share = 1 + spareTo - spareSoFar;
    spareSoFar = spareTo;
    return share;
  });
}
