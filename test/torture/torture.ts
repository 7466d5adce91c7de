/**
 * Owns a round of torture: each scenario once with nothing failing, to see what it uses, and then with each failure, or with a sample
 * of all that a seed draws. Must never decide what is a fault (torture-run.ts).
 */
import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import { randomOf } from '../support/injection-plan.ts';
import type { createNetwork } from '../support/network.ts';
import { type Failure, failuresOf, type Uses } from './torture-plan.ts';
import { describeCase, makeLab, type Outcome, SCENARIOS, type Scenario, torture } from './torture-run.ts';

/** Runs side by side, each in a network of its own, where nothing else is said: a run waits for most of its time. */
const LABS = 3;

export interface RoundOptions {
  readonly after: Parameters<typeof createNetwork>[0];
  /** which of all are drawn */
  readonly seed: number;
  /** how many failures are tried in all; null: each */
  readonly sample: number | null;
  /** of those so many parts are made, by turns: this one is tried, and the first is 1; null: all */
  readonly part: { readonly which: number; readonly of: number } | null;
  /** how many runs are side by side; null: a few */
  readonly labs: number | null;
  /** an expression that the line of each matches; null: any */
  readonly filter: string | null;
  /** the failures that would be tried are said, and none is */
  readonly isList: boolean;
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
  const count = options.labs ?? LABS;
  const labs = await Promise.all(Array.from({ length: count }, () => makeLab(options.after)));
  const limit = pLimit(count);
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
  const used = new Map<Scenario, readonly Uses[]>();
  await Promise.all(
    SCENARIOS.map((scenario) =>
      inLab(async (lab) => {
        const outcome = await torture(lab, scenario, null);
        note(`${scenario.name}: nothing fails`, outcome);
        used.set(scenario, outcome.uses);
      }),
    ),
  );
  const all = casesOf(used);
  const drawn = drawnOf(all, options);
  options.onLine(`${drawn.length} of ${all.length} failures are tried`);
  if (options.isList) {
    for (const { scenario, failure } of drawn) options.onLine(describeCase(scenario, failure));
    return { tried: 0, missed: 0, faults };
  }
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

/** Every failure of every scenario; what is alike in two of them is tried in full in the first. */
function casesOf(used: ReadonlyMap<Scenario, readonly Uses[]>): Case[] {
  const known = new Set<string>();
  return SCENARIOS.flatMap((scenario) =>
    failuresOf(used.get(scenario) ?? [], known).map((failure) => ({ scenario, failure })),
  );
}

/** Which of all are tried, in an order that does not depend on which run ended first. */
function drawnOf(all: readonly Case[], { filter, part, sample, seed }: RoundOptions): Case[] {
  const lines = all.map((one) => ({ one, line: describeCase(one.scenario, one.failure) }));
  const wanted = lines
    .sort((a, b) => (a.line < b.line ? -1 : 1))
    .filter(({ line }) => filter === null || new RegExp(filter).test(line))
    .filter(({ line }) => part === null || partOf(line, part.of) === part.which)
    .map(({ one }) => one);
  return sample === null ? wanted : sampleOf(wanted, sample, seed);
}

/** By the line itself: each part counts the uses anew, and where a count differs by one the parts are still disjoint. */
function partOf(line: string, of: number): number {
  return (createHash('sha256').update(line).digest().readUInt32BE() % of) + 1;
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
