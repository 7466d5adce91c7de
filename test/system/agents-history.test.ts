/**
 * Owns the proof that no fault breaks a promise: many seeded runs, each with agents that are killed, stopped, cut off in
 * one direction or both, slowed down, and coordinators that are stopped and killed; every message and every connection
 * at the target is judged.
 *
 * `HISTORY_SEED=17 node build/test/support/run-tests.js system agents-history` plays one seed again and prints its log;
 * `HISTORY_SEEDS=200 node --test build/test/system/agents-history.test.js` plays more, from that one on, in as much time as they need.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import pLimit from 'p-limit';
import { violationsOf } from '../support/history.ts';
import { type HistoryRun, playScenario, scenarioOf } from '../support/history-run.ts';

const ASKED = process.env.HISTORY_SEED || null;
const SEEDS = Number(process.env.HISTORY_SEEDS || (ASKED === null ? 50 : 1));
const FIRST = Number(ASKED ?? 1);
/** Most of a run is waiting; more at once would make everybody late. */
const AT_ONCE = 8;
/** Several times what one takes, as many run at once. */
const HANG_MS_EACH = 12_000;

function problemsOf({ history, leftovers }: HistoryRun): string[] {
  const problems = violationsOf(history);
  if (leftovers.length > 0) problems.push(`agents ${leftovers.join(', ')} outlived their lease`);
  const open = history.connections.filter((each) => each.closedMs === null).length;
  if (open > 0) problems.push(`${open} connections were left open`);
  return problems;
}

test(`${SEEDS} seeded runs with faults keep every promise`, {
  timeout: Math.max(600_000, SEEDS * HANG_MS_EACH),
}, async (t) => {
  const limit = pLimit(AT_ONCE);
  const outcomes = new Map<string, number>();
  const failures: string[] = [];
  let lost = 0;
  await Promise.all(
    Array.from({ length: SEEDS }, (_, index) =>
      limit(async () => {
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
  t.diagnostic(`exit codes: ${JSON.stringify(Object.fromEntries(outcomes))}, agents lost: ${lost}`);
  assert.deepEqual(failures, [], failures.join('\n\n'));
  if (SEEDS < 50) return;
  // Faults that never cost anything, or always everything, would prove nothing.
  assert((outcomes.get('0') ?? 0) >= 5, 'some runs hold everything in spite of their faults');
  assert((outcomes.get('4') ?? 0) >= 5, 'some runs lose agents');
  assert(lost >= 10, 'agents are lost');
});
