/**
 * Owns a round of torture: each scenario once with nothing failing, to see what it uses, and then with each failure, or with a sample
 * of all that a seed draws. Must never decide what is a fault (torture-run.ts).
 */
import pLimit from 'p-limit';
import { randomOf } from '../support/injection-plan.ts';
import type { createNetwork } from '../support/network.ts';
import { type Failure, failuresOf, type Uses } from './torture-plan.ts';
import { describeCase, makeLab, type Outcome, SCENARIOS, type Scenario, torture } from './torture-run.ts';

/** Scenarios run side by side, each in a network of its own. */
const LABS = 3;

export interface RoundOptions {
  readonly after: Parameters<typeof createNetwork>[0];
  /** which of all are drawn */
  readonly seed: number;
  /** how many failures are tried in all; null: each */
  readonly sample: number | null;
  /** an expression that the line of each matches; null: any */
  readonly filter: string | null;
  readonly onLine: (line: string) => void;
}

export interface RoundResult {
  readonly tried: number;
  readonly missed: number;
  readonly faults: readonly string[];
}

interface Case {
  readonly scenario: Scenario;
  readonly failure: Failure;
}

/** Runs it. */
export async function tortureRound(options: RoundOptions): Promise<RoundResult> {
  const labs = await Promise.all(Array.from({ length: LABS }, () => makeLab(options.after)));
  const limit = pLimit(LABS);
  const faults: string[] = [];
  const inLab = (work: (lab: (typeof labs)[number]) => Promise<void>): Promise<void> =>
    limit(async () => {
      const lab = labs.pop();
      if (lab === undefined) throw new Error('as many run as there are labs');
      try {
        await work(lab);
      } finally {
        labs.push(lab);
      }
    });
  const note = (what: string, { faults: found, code, missed, ms, said }: Outcome): void => {
    options.onLine(`${what} -> ${code}${missed ? ' (missed)' : ''}, ${Math.round(ms)} ms`);
    for (const fault of found) {
      options.onLine(`  FAULT ${fault}`);
      faults.push(`${what}: ${fault}`);
    }
    if (found.length > 0) options.onLine(said.replace(/^/gm, '    | '));
  };
  const cases: Case[] = [];
  await Promise.all(
    SCENARIOS.map((scenario) =>
      inLab(async (lab) => {
        const outcome = await torture(lab, scenario, null);
        note(`${scenario.name}: nothing fails`, outcome);
        const used: readonly Uses[] = outcome.uses;
        cases.push(...failuresOf(used).map((failure) => ({ scenario, failure })));
      }),
    ),
  );
  const { filter } = options;
  const wanted = cases
    .sort((a, b) => (describeCase(a.scenario, a.failure) < describeCase(b.scenario, b.failure) ? -1 : 1))
    .filter((one) => filter === null || new RegExp(filter).test(describeCase(one.scenario, one.failure)));
  const drawn = options.sample === null ? wanted : sampleOf(wanted, options.sample, options.seed);
  options.onLine(`${drawn.length} of ${wanted.length} failures are tried`);
  let missed = 0;
  let tried = 0;
  await Promise.all(
    drawn.map(({ scenario, failure }) =>
      inLab(async (lab) => {
        tried += 1;
        const outcome = await torture(lab, scenario, failure);
        if (outcome.missed) missed += 1;
        note(describeCase(scenario, failure), outcome);
      }),
    ),
  );
  return { tried, missed, faults };
}

/** So many of all: from each kind of failure one before a second of any, then at random. */
function sampleOf(cases: readonly Case[], count: number, seed: number): Case[] {
  const random = randomOf(seed);
  const shuffled = cases.map((one) => ({ one, at: random() })).sort((a, b) => a.at - b.at);
  const seen = new Map<string, number>();
  return shuffled
    .map(({ one }) => {
      const kind = `${one.failure.role} ${one.failure.call} ${one.failure.how}`;
      const before = seen.get(kind) ?? 0;
      seen.set(kind, before + 1);
      return { one, before };
    })
    .sort((a, b) => a.before - b.before)
    .slice(0, count)
    .map(({ one }) => one);
}
