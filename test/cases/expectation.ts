/**
 * Owns what a case must come out as, and whether a run did: party, rule, share that is explained, exit code, words of the
 * target. Pure, so that recordings are judged by it too. Must never be softened for a case.
 */
import type { Party } from '../../src/base/outcome.ts';
import type { Diagnosis, RunReport, VerdictName } from '../../src/judge/report.ts';

/** What the far side knew, counted there while the run held. */
export interface FarSide {
  /** established and taken by the application, at most and at the last look in the hold; null: no look fell into it */
  readonly takenMax: number;
  readonly takenLast: number | null;
  /** established by its kernel, and no application has them */
  readonly waitingMax: number;
  readonly waitingLast: number | null;
  readonly synReceivedMax: number;
  /** Recv-Q of its listeners; it also counts what the other side has closed meanwhile */
  readonly acceptQueueMax: number;
}

/** What a run left behind that may be judged. */
export interface JudgedRun {
  readonly exitCode: number | null;
  /** null: the run wrote none */
  readonly report: RunReport | null;
  /** what a person read, white space evened out */
  readonly text: string;
  readonly farSide: FarSide | null;
  /** what only this case knows */
  readonly truth: Readonly<Record<string, unknown>>;
}

type Range = number | readonly [min: number, max: number];
type OfRun<T> = T | ((run: JudgedRun) => T);

/** How a case must come out. */
export interface Expected {
  readonly exit: number | readonly number[];
  /** `null`: nothing ran out */
  readonly party: Party | null;
  /** from here nothing proves the party: then `unknown` is right too, and a third is wrong */
  readonly orUnknown?: boolean;
  /** the rule of the diagnosis that explains most; null: no diagnosis; absent: any of the right party */
  readonly rule?: string | readonly string[] | null;
  /** connections that this diagnosis explains */
  readonly explains?: OfRun<Range>;
  readonly held?: OfRun<Range>;
  /** further rules that may stand beside it, because a second thing happened */
  readonly besides?: readonly string[];
  /** what a person must read, such as the target's own words */
  readonly says?: readonly RegExp[];
  /** what the diagnosis that explains most must say, such as the length of a timeout or an endpoint */
  readonly cause?: readonly RegExp[];
  /** what must not be written anywhere a person reads */
  readonly never?: readonly RegExp[];
  /** held may be more than the far side had: only where it closed in the last moments, or counts otherwise */
  readonly farSideDiffers?: boolean;
}

/** How far a run is from what it must be. */
export interface Grade {
  /** `wrong`: names a party that it was not, or passes what was not held */
  readonly party: 'right' | 'unknown' | 'wrong';
  /** each way in which it differs; empty: right */
  readonly offences: readonly string[];
}

const VERDICT_OF_EXIT: Readonly<Record<number, VerdictName>> = {
  0: 'pass',
  1: 'fail',
  3: 'refused',
  4: 'incomplete',
  130: 'incomplete',
  143: 'incomplete',
};

function isWithin(value: number, range: Range): boolean {
  return typeof range === 'number' ? value === range : value >= range[0] && value <= range[1];
}

function ofRun<T>(value: OfRun<T>, run: JudgedRun): T {
  return typeof value === 'function' ? (value as (run: JudgedRun) => T)(run) : value;
}

function wanted(range: Range): string {
  return typeof range === 'number' ? String(range) : `${range[0]} to ${range[1]}`;
}

/** The diagnosis that explains most; of equals the one that stands first. */
export function mainDiagnosis(diagnoses: readonly Diagnosis[]): Diagnosis | null {
  let best: Diagnosis | null = null;
  for (const one of diagnoses) if (best === null || one.count > best.count) best = one;
  return best;
}

function isRightParty(party: Party | null, expected: Expected): boolean {
  return party === expected.party || (expected.orUnknown === true && party === 'unknown');
}

function gradeParty(report: RunReport, expected: Expected): Grade['party'] {
  if (isRightParty(report.whoRanOut, expected)) return 'right';
  return report.whoRanOut === 'unknown' ? 'unknown' : 'wrong';
}

/** Text, JSON and exit code must tell one story, whatever the case. */
function contradictions(report: RunReport, run: JudgedRun): string[] {
  const list: string[] = [];
  const main = mainDiagnosis(report.diagnoses);
  if (VERDICT_OF_EXIT[run.exitCode ?? -1] !== report.verdict)
    list.push(`exit ${run.exitCode} beside the verdict ${report.verdict}`);
  if (main !== null && report.verdict === 'fail' && main.party !== report.whoRanOut)
    list.push(`whoRanOut ${report.whoRanOut}, but what explains most is of ${main.party}`);
  if (report.verdict === 'fail' && report.whoRanOut === 'generator') list.push('fail names the generator');
  if (report.verdict === 'incomplete' && (report.whoRanOut === 'target' || report.whoRanOut === 'path'))
    list.push(`incomplete names the ${report.whoRanOut}`);
  return list;
}

/**
 * Judges diagnoses alone, so that rules can be tried on a recording.
 * @returns each way in which they differ; empty: right
 */
export function gradeDiagnoses(
  diagnoses: readonly Diagnosis[],
  expected: Expected,
  run: JudgedRun,
): string[] {
  const list: string[] = [];
  const main = mainDiagnosis(diagnoses);
  const { rule } = expected;
  if (rule === null && main !== null) list.push(`diagnosed ${main.what}, and nothing ran out`);
  if (rule === undefined || rule === null) return list;
  const rules = typeof rule === 'string' ? [rule] : rule;
  const isUnknown = expected.orUnknown === true && main?.what === 'unknown';
  if (main === null || !(rules.includes(main.what) || isUnknown))
    list.push(`rule ${main?.what ?? 'none'} instead of ${rules.join(' or ')}`);
  const allowed = new Set([...rules, 'unknown', ...(expected.besides ?? [])]);
  for (const { what, count } of diagnoses)
    if (!allowed.has(what) && what !== main?.what) list.push(`also names ${what} for ${count}`);
  // What nothing proves has no length, place or number.
  for (const pattern of isUnknown ? [] : (expected.cause ?? []))
    if (main === null || !pattern.test(`${main.message}; ${main.next}`))
      list.push(`the diagnosis does not say ${pattern}`);
  if (expected.explains !== undefined && main !== null) {
    const range = ofRun(expected.explains, run);
    if (!isWithin(main.count, range))
      list.push(`${main.what} explains ${main.count} instead of ${wanted(range)}`);
  }
  return list;
}

function countOffences(report: RunReport, expected: Expected, run: JudgedRun): string[] {
  const list: string[] = [];
  const { held } = report.connections;
  if (expected.held !== undefined) {
    const range = ofRun(expected.held, run);
    if (!isWithin(held, range)) list.push(`held ${held} instead of ${wanted(range)}`);
  }
  const far = run.farSide;
  if (far !== null && far.takenLast !== null && expected.farSideDiffers !== true && held > far.takenLast)
    list.push(`held ${held}, and the far side had taken ${far.takenLast}`);
  return list;
}

/** Judges one run of a case. */
export function gradeRun(run: JudgedRun, expected: Expected): Grade {
  const offences: string[] = [];
  const exits = typeof expected.exit === 'number' ? [expected.exit] : expected.exit;
  if (run.exitCode === null || !exits.includes(run.exitCode))
    offences.push(`exit ${run.exitCode} instead of ${exits.join(' or ')}`);
  for (const pattern of expected.says ?? [])
    if (!pattern.test(run.text)) offences.push(`does not say ${pattern}`);
  for (const pattern of expected.never ?? [])
    if (pattern.test(run.text)) offences.push(`says ${pattern.exec(run.text)?.[0] ?? ''}`);
  const { report } = run;
  if (report === null) return { party: offences.length === 0 ? 'right' : 'wrong', offences };
  const party = gradeParty(report, expected);
  if (party !== 'right')
    offences.push(`party ${report.whoRanOut ?? 'none'} instead of ${expected.party ?? 'none'}`);
  offences.push(
    ...gradeDiagnoses(report.diagnoses, expected, run),
    ...countOffences(report, expected, run),
    ...contradictions(report, run),
  );
  const isFalsePass = run.exitCode === 0 && !exits.includes(0);
  return { party: isFalsePass ? 'wrong' : party, offences };
}
