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

/** On a busy host some come too late for their phase and hit no process: others follow, in so many further rounds at most. */
const ROUNDS_MAX = 3;
const HIT_LEAST = COUNT < 20 ? 0 : Math.ceil((3 * COUNT) / 4);

/** Seeds of a round, `from` those that it had before. */
function seedsOf(round: number, from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => round * 1_000 + from + index);
}

test(`${COUNT} injections, no fault`, async () => {
  const { INJECTIONS_SEEDS, INJECTIONS_SEED } = process.env;
  const round = Number(INJECTIONS_SEED ?? randomInt(1_000_000));
  console.log(`round ${round}: repeat it with INJECTIONS_SEED=${round}`);
  const faults: string[] = [];
  let hits = 0;
  const runAll = async (seeds: readonly number[]): Promise<void> => {
    await pLimit(AT_ONCE).map(seeds, async (seed) => {
      const one = injectionOf(seed);
      const outcome = await inject(one);
      if (!outcome.missed) hits += 1;
      console.log(`${describeInjection(one)} ${outcome.line}`);
      for (const fault of outcome.faults) {
        console.log(`  FAULT ${fault}`);
        faults.push(`${describeInjection(one)}: ${fault}`);
      }
    });
  };
  if (INJECTIONS_SEEDS !== undefined) await runAll(INJECTIONS_SEEDS.split(',').map(Number));
  else {
    let fresh = Math.max(0, COUNT - REGRESSIONS.length);
    await runAll([...REGRESSIONS, ...seedsOf(round, 0, fresh)]);
    for (let rounds = 1; rounds < ROUNDS_MAX && hits < HIT_LEAST && faults.length === 0; rounds++) {
      const missed = COUNT - hits;
      console.log(`${missed} came too late for their phase: as many follow`);
      await runAll(seedsOf(round, fresh, missed));
      fresh += missed;
    }
    assert(
      faults.length > 0 || hits >= HIT_LEAST,
      `only ${hits} injections hit a process, ${HIT_LEAST} are asked`,
    );
  }
  assert.deepEqual(faults, []);
});
