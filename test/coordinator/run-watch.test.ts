/** Tests what is watched beside the reducer: the ledger of losses, reports on the way, requirements, a target that is silent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunLog } from '../../src/coordinator/run-facts.ts';
import {
  type LedgerEntry,
  RunWatch,
  type RunWatchOptions,
  UNWATCHED,
} from '../../src/coordinator/run-watch.ts';
import type { RunReport } from '../../src/judge/report.ts';
import { parseRequirement } from '../../src/judge/requirement.ts';
import type { Loss } from '../../src/stats/loss.ts';
import { emptyStats } from '../../src/stats/stats.ts';
import { runSpec } from '../run/run-spec-fixture.ts';

const WALL_MS = Date.UTC(2026, 0, 1);
const LOSS: Loss = {
  ...{ atMs: 1_500, holder: 'a/1', source: '127.0.0.1:1', endpoint: '127.0.0.1:2', ageMs: 7 },
  ...{ reason: 'rst', count: 3 },
};

/** A watch whose ramp began at 1,000 ms of the monotonic clock, with its ledger. */
function watched(change: Partial<RunWatchOptions> = {}) {
  const entries: LedgerEntry[] = [];
  const options = { ...UNWATCHED, onLosses: (more: readonly LedgerEntry[]) => void entries.push(...more) };
  const watch = new RunWatch({ ...options, ...change });
  watch.rampBegins(1_000, WALL_MS);
  return { watch, entries };
}

test('a line of the ledger has the agent and a time that no clock step changes, and its connections are counted', () => {
  const { watch, entries } = watched();
  watch.takeLosses('a', [LOSS]);
  assert.deepEqual(entries, [{ ...LOSS, agent: 'a', at: '2026-01-01T00:00:01.500Z' }]);
  assert.equal(watch.ledgerEntries, 3);
});

test('an agent that is lost takes what it held into the ledger, and nothing where it held nothing', () => {
  const { watch, entries } = watched();
  watch.agentLost('a', 2_000, 0);
  assert.deepEqual(entries, []);
  watch.agentLost('a', 2_000, 40);
  assert.deepEqual(
    entries.map(({ agent, reason, count, source, atMs }) => [agent, reason, count, source, atMs]),
    [['a', 'agent-lost', 40, '*', 2_000]],
  );
});

test('without a ledger losses are not counted as written', () => {
  const { watch } = watched({ onLosses: null });
  watch.takeLosses('a', [LOSS]);
  assert.equal(watch.ledgerEntries, 0);
});

test('the report so far is made only when it is due, and then again after as long', () => {
  const made: number[] = [];
  const report = {} as RunReport;
  const { watch } = watched({ partialEveryMs: 60_000, onPartial: (given) => assert.equal(given, report) });
  for (const atMs of [1_000, 60_999, 61_000, 61_001, 120_999, 121_000])
    watch.partial(atMs, () => {
      made.push(atMs);
      return report;
    });
  assert.deepEqual(made, [61_000, 121_000]);
  const early = new RunWatch({ ...UNWATCHED, onPartial: () => assert.fail('the ramp has not begun') });
  early.partial(1e9, () => assert.fail('no report is made'));
});

test('a requirement that can no longer hold ends a run only where that is wanted', () => {
  const requirements = [parseRequirement('failed<5'), parseRequirement('failed<1')];
  const stats = { ...emptyStats(), failed: { refused: 2 } };
  const facts = new RunLog(runSpec()).metricFacts(stats, 'ramping', 0);
  const wanted = watched({ requirements, abortEarly: true }).watch;
  assert.equal(wanted.isAbortingEarly, true);
  assert.equal(wanted.brokenRequirement(facts)?.text, 'failed<1');
  assert.equal(watched({ requirements }).watch.brokenRequirement(facts), null);
});

test('a target that does not say its counts is named once, and again after it did', async () => {
  const counts = {
    openNow: 1,
    openMax: 1,
    acceptedTotal: 1,
    sourceAddresses: 1,
    descriptorsFull: 0,
    workersLost: 0,
  };
  let answer: { counts: typeof counts } | { problem: string } = { problem: 'ECONNREFUSED' };
  const witness = { source: 'http', targets: 1, isRequired: true, ask: async () => answer };
  const { watch } = watched({ targetWitness: witness });
  await watch.askTarget();
  const first = watch.takeTargetProblem();
  assert.match(first ?? '', /ECONNREFUSED/);
  assert.equal(watch.takeTargetProblem(), null);
  assert.equal(watch.seenByTarget, null);
  answer = { counts };
  await watch.askTarget();
  assert.deepEqual([watch.takeTargetProblem(), watch.seenByTarget], [null, 1]);
});
