/**
 * Owns the proof that no fault breaks a promise: many seeded runs, each with agents that are killed, stopped, cut off in
 * one direction or both, slowed down, and coordinators that are stopped and killed; every message and every connection
 * at the target is judged.
 *
 * As many of 50 seeds as begin within some minutes, and the first 20 in any case.
 * `HISTORY_SEED=17 node build/test/support/run-tests.js system agents-history` plays one seed again and prints its log;
 * `HISTORY_SEEDS=500` plays more, from that one on.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import pLimit from 'p-limit';
import { violationsOf } from '../support/history.ts';
import { type HistoryRun, playScenario, scenarioOf } from '../support/history-run.ts';

const ASKED = process.env.HISTORY_SEED || null;
const COUNT = process.env.HISTORY_SEEDS || (ASKED === null ? null : 1);
const SEEDS = Number(COUNT ?? 50);
/** Where no number is asked for: what has not begun by then is left out, but for the first ones. */
const BEGIN_WITHIN_MS = COUNT === null ? 100_000 : Number.POSITIVE_INFINITY;
const SEEDS_LEAST = 20;
const FIRST = Number(ASKED ?? 1);
/** Most of a run is waiting; more at once would make everybody late. */
const AT_ONCE = 8;

function problemsOf({ history, leftovers }: HistoryRun): string[] {
  const problems = violationsOf(history);
  if (leftovers.length > 0) problems.push(`agents ${leftovers.join(', ')} outlived their lease`);
  const open = history.connections.filter((each) => each.closedMs === null).length;
  if (open > 0) problems.push(`${open} connections were left open`);
  return problems;
}

test(`up to ${SEEDS} seeded runs with faults keep every promise`, { timeout: SEEDS * 30_000 }, async (t) => {
  const limit = pLimit(AT_ONCE);
  const outcomes = new Map<string, number>();
  const failures: string[] = [];
  let lost = 0;
  let begun = 0;
  const lastMs = performance.now() + BEGIN_WITHIN_MS;
  await Promise.all(
    Array.from({ length: SEEDS }, (_, index) =>
      limit(async () => {
        if (index >= SEEDS_LEAST && performance.now() > lastMs) return;
        begun += 1;
        const scenario = scenarioOf(FIRST + index);
        const what = `HISTORY_SEED=${scenario.seed} ${JSON.stringify(scenario)}`;
        try {
          const run = await playScenario(scenario);
          const code = String(run.history.exitCode);
          outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
          lost += run.report?.agents.filter((agent) => agent.lost).length ?? 0;
          const problems = problemsOf(run);
          if (problems.length > 0) failures.push(`${what}\n  ${problems.join('\n  ')}\n${run.log}`);
          if (SEEDS === 1) t.diagnostic(`${run.log}${run.report?.reason ?? ''}`);
        } catch (error) {
          failures.push(`${what}\n  ${String(error)}`);
        }
      }),
    ),
  );
  t.diagnostic(
    `${begun} runs; exit codes: ${JSON.stringify(Object.fromEntries(outcomes))}, agents lost: ${lost}`,
  );
  assert.deepEqual(failures, [], failures.join('\n\n'));
  if (begun < SEEDS_LEAST) return;
  // Faults that never cost anything, or always everything, would prove nothing.
  const some = begun / 10;
  assert((outcomes.get('0') ?? 0) >= some, 'some runs hold everything in spite of their faults');
  assert((outcomes.get('4') ?? 0) >= some, 'some runs lose agents');
  assert(lost >= 2 * some, 'agents are lost');
});
