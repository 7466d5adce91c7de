/**
 * Owns seeded injections into real runs: each process killed, stopped, stopped and continued, or stopped and its parent killed, in
 * each phase, with 2,000 to 20,000 connections. None may leave a run without an end, a report or a true verdict, or anything
 * behind. As many as fit into some minutes; `INJECTIONS=n` does so many, `INJECTIONS_SEED=n` repeats a round,
 * `INJECTIONS_SEEDS=a,b` single ones.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import pLimit from 'p-limit';
import { describeInjection, injectionOf } from '../support/injection-plan.ts';
import { inject } from '../support/injections.ts';

const ASKED = process.env.INJECTIONS;
const COUNT = Number(ASKED ?? 120);
/** Without a number that is asked for, none begins later, once enough have hit a process. */
const BEGIN_WITHIN_MS = ASKED === undefined ? 240_000 : Number.POSITIVE_INFINITY;
/** Most of them wait for most of their time. */
const AT_ONCE = Number(process.env.INJECTIONS_AT_ONCE ?? 8);

/** Seeds that once found a fault. */
const REGRESSIONS: readonly number[] = [929_680_003];

/** On a busy host some come too late for their phase and hit no process: others follow, in so many further rounds at most. */
const ROUNDS_MAX = 3;
/** Those that must hit a process: of a number that is asked for three quarters; else what a busy host does, too. */
const HIT_LEAST = ASKED === undefined ? 30 : COUNT < 20 ? 0 : Math.ceil((3 * COUNT) / 4);

/** Seeds of a round, `from` those that it had before. */
function seedsOf(round: number, from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => round * 1_000 + from + index);
}

test(`up to ${COUNT} injections, no fault`, async () => {
  const { INJECTIONS_SEEDS, INJECTIONS_SEED } = process.env;
  const round = Number(INJECTIONS_SEED ?? randomInt(1_000_000));
  console.log(`round ${round}: repeat it with INJECTIONS_SEED=${round}`);
  const faults: string[] = [];
  let hits = 0;
  let begun = 0;
  const lastMs = performance.now() + BEGIN_WITHIN_MS;
  const hasTime = (): boolean => hits < HIT_LEAST || performance.now() < lastMs;
  const runAll = async (seeds: readonly number[]): Promise<void> => {
    await pLimit(AT_ONCE).map(seeds, async (seed) => {
      if (!hasTime()) return;
      begun += 1;
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
      if (!hasTime()) break;
      const missed = COUNT - hits;
      console.log(`${missed} came too late for their phase: as many follow`);
      await runAll(seedsOf(round, fresh, missed));
      fresh += missed;
    }
    console.log(`${begun} injections, ${hits} hit a process`);
    assert(
      faults.length > 0 || hits >= HIT_LEAST,
      `only ${hits} of ${begun} injections hit a process, ${HIT_LEAST} are asked`,
    );
  }
  assert.deepEqual(faults, []);
});
