/**
 * Owns the table of all recordings: what each must come out as, what was said of it, right, unknown or wrong. Pure. Must never
 * leave a case out.
 */
import type { CaseSpec } from './case.ts';
import { gradeRun } from './expectation.ts';
import type { Recording } from './recording.ts';

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

/**
 * The table as Markdown, with its sums in the last line. `right` is right in everything, `party only` names the right party and is
 * wrong in something else.
 */
export function confusionTable(entries: readonly (readonly [CaseSpec, Recording])[]): string {
  const sums = new Map<string, number>();
  const rows = entries.map(([spec, recording]) => {
    const { party, offences } = gradeRun(recording, spec.expected);
    const grade = offences.length === 0 ? 'right' : party === 'right' ? 'party only' : party;
    sums.set(grade, (sums.get(grade) ?? 0) + 1);
    const { rule, party: wanted } = spec.expected;
    const rules = (typeof rule === 'string' ? [rule] : (rule ?? [])).join(' or ');
    const { rules: named, whoRanOut } = recording.today;
    const said = `${whoRanOut ?? 'nothing'}${named.length > 0 ? ` (${named.join(', ')})` : ''}, exit ${recording.exitCode}`;
    const must = `${wanted ?? 'nothing'}${rules === '' ? '' : ` (${rules})`}, exit ${[spec.expected.exit].flat().join(' or ')}`;
    return `| \`${spec.name}\` | ${cell(spec.fault)} | ${spec.looksLike === undefined ? '' : `\`${spec.looksLike}\``} | ${must} | ${said} | ${grade} |`;
  });
  const totals = [...sums].map(([grade, count]) => `${grade} ${count}`).join(', ');
  return [
    '| case | what is done | looks like | must be | was | grade |',
    '| --- | --- | --- | --- | --- | --- |',
    ...rows,
    '',
    `${entries.length} cases: ${totals}`,
    '',
  ].join('\n');
}
