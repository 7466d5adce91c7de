/**
 * Owns 120 seeded injections into real runs: each process killed, stopped, stopped and continued, or stopped and its parent
 * killed, in each phase, with 2,000 to 20,000 connections. None may leave a run without an end, a report or a true verdict, or
 * anything behind. `INJECTIONS_SEED=n` repeats a round, `INJECTIONS_SEEDS=a,b` single ones, `INJECTIONS=n` does fewer.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import pLimit from 'p-limit';
import { describeInjection, injectionOf } from '../support/injection-plan.ts';
import { inject } from '../support/injections.ts';

const COUNT = Number(process.env.INJECTIONS ?? 120);
/** Most of them wait for most of their time. */
const AT_ONCE = Number(process.env.INJECTIONS_AT_ONCE ?? 8);

/** Seeds that once found a fault. */
const REGRESSIONS: readonly number[] = [929_680_003];

/** The injections of this round. */
function seedsOf(round: number): readonly number[] {
  const { INJECTIONS_SEEDS } = process.env;
  if (INJECTIONS_SEEDS !== undefined) return INJECTIONS_SEEDS.split(',').map(Number);
  const fresh = Array.from(
    { length: Math.max(0, COUNT - REGRESSIONS.length) },
    (_, index) => round * 1_000 + index,
  );
  return [...REGRESSIONS, ...fresh];
}

test(`${COUNT} injections, no fault`, async () => {
  const round = Number(process.env.INJECTIONS_SEED ?? randomInt(1_000_000));
  console.log(`round ${round}: repeat it with INJECTIONS_SEED=${round}`);
  const faults: string[] = [];
  let missed = 0;
  await pLimit(AT_ONCE).map(seedsOf(round), async (seed) => {
    const one = injectionOf(seed);
    const outcome = await inject(one);
    if (outcome.missed) missed += 1;
    console.log(`${describeInjection(one)} ${outcome.line}`);
    for (const fault of outcome.faults) {
      console.log(`  FAULT ${fault}`);
      faults.push(`${describeInjection(one)}: ${fault}`);
    }
  });
  console.log(`${missed} came too late for their phase`);
  assert.deepEqual(faults, []);
  assert(missed < COUNT / 4 || COUNT < 20, `${missed} of ${COUNT} injections hit nobody`);
});
