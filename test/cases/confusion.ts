/**
 * Owns the page of all recordings: which rule each shows, what it looks like, what must be said of it and what is. Pure. Must never
 * leave a case out.
 */
import type { CaseSpec } from './case.ts';
import { gradeRun } from './expectation.ts';
import type { Recording } from './recording.ts';
import { replayed } from './replay.ts';

type Entry = readonly [CaseSpec, Recording];

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function rulesOf({ expected }: CaseSpec): readonly string[] {
  const { rule } = expected;
  return rule === undefined || rule === null ? [] : typeof rule === 'string' ? [rule] : rule;
}

/** How well a case comes out: `party only` names the right party and is wrong in something else. */
function gradeOf([spec, recording]: Entry): 'right' | 'party only' | 'unknown' | 'wrong' {
  const { party, offences } = gradeRun(replayed(recording), spec.expected);
  if (offences.length === 0) return 'right';
  return party === 'right' ? 'party only' : party;
}

function sums(entries: readonly Entry[]): string {
  const counts = new Map<string, number>();
  for (const entry of entries) counts.set(gradeOf(entry), (counts.get(gradeOf(entry)) ?? 0) + 1);
  return ['right', 'party only', 'unknown', 'wrong']
    .map((grade) => `${grade} ${counts.get(grade) ?? 0}`)
    .join(', ');
}

function caseRow(entry: Entry): string {
  const [spec, recording] = entry;
  const { report, exitCode } = replayed(recording);
  const rules = rulesOf(spec).join(' or ');
  const named = (report?.diagnoses ?? []).map(({ what }) => what).join(', ');
  const said = `${report?.whoRanOut ?? 'nothing'}${named === '' ? '' : ` (${named})`}, exit ${exitCode}`;
  const party = `${spec.expected.party ?? 'nothing'}${spec.expected.orUnknown === true ? ' or unknown' : ''}`;
  const must = `${party}${rules === '' ? '' : ` (${rules})`}, exit ${[spec.expected.exit].flat().join(' or ')}`;
  return `| \`${spec.name}\` | ${cell(spec.fault)} | ${must} | ${said} | ${gradeOf(entry)} |`;
}

/** A rule, the recorded cases that show it, and those that look like one of them and are not. */
function ruleRow(rule: string, entries: readonly Entry[]): string {
  const own = entries.filter(([spec]) => rulesOf(spec).includes(rule)).map(([{ name }]) => name);
  const alike = entries
    .filter(
      ([spec]) => !own.includes(spec.name) && spec.looksLike !== undefined && own.includes(spec.looksLike),
    )
    .map(([{ name }]) => name);
  const resembled = entries
    .filter(([spec]) => own.includes(spec.name))
    .flatMap(([{ looksLike }]) => (looksLike === undefined || own.includes(looksLike) ? [] : [looksLike]));
  const list = (names: readonly string[]): string =>
    [...new Set(names)].map((name) => `\`${name}\``).join(', ');
  return `| \`${rule}\` | ${list(own)} | ${list([...alike, ...resembled])} |`;
}

/** The page as Markdown. */
export function diagnosisPage(entries: readonly Entry[]): string {
  const rules = [...new Set(entries.flatMap(([spec]) => rulesOf(spec)))].sort();
  return [
    '# Diagnoses, and the runs that show them',
    '',
    'Written by `npm run cases -- --page`; a test compares it. Each case is a fault with real peers in network namespaces',
    '(`test/cases/catalogue/`), recorded once with a capture beside it (`test/cases/recordings/`) and played through the rules as they are',
    'now. [What each diagnosis rests on](decisions/diagnosis-evidence.md) has the evidence.',
    '',
    '## Rules',
    '',
    '| rule | recorded cases | looks alike, and is not |',
    '| --- | --- | --- |',
    ...rules.map((rule) => ruleRow(rule, entries)),
    '',
    '## Cases',
    '',
    '`party only`: the party is right, and a word, a rule or a number is not yet. `wrong`: another party is named, or what was not held',
    'passes.',
    '',
    `${entries.length} cases: ${sums(entries)}.`,
    '',
    '| case | what is done | must be | is | grade |',
    '| --- | --- | --- | --- | --- |',
    ...entries.map(caseRow),
    '',
  ].join('\n');
}
