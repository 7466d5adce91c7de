/**
 * Owns preflight findings as text for a person.
 * Must never judge a finding: its severity is given.
 */
import type { Finding } from '../base/finding.ts';
import { bulleted } from './layout.ts';

const BULLETS = { refuse: '✗', warn: '!', ok: '✓' } as const;

/**
 * One finding: its line with the arithmetic, and the command that mends it.
 * @param finding what preflight found
 */
export function findingLines(finding: Finding): string[] {
  const lines = bulleted(BULLETS[finding.severity], finding.message);
  // A command is never wrapped: it must survive copy and paste.
  if (finding.fix !== null && finding.severity !== 'ok') lines.push(`      ${finding.fix}`);
  return lines;
}

/**
 * A headed block of the findings that need attention (`refuse` and `warn`); nothing when there are none.
 * @param findings all findings of a run
 */
export function attentionLines(findings: readonly Finding[]): string[] {
  const refused = findings.filter((finding) => finding.severity === 'refuse');
  const warned = findings.filter((finding) => finding.severity === 'warn');
  const lines: string[] = [];
  if (refused.length > 0) lines.push('', 'refused because', ...refused.flatMap(findingLines));
  if (warned.length > 0) lines.push('', 'warnings', ...warned.flatMap(findingLines));
  return lines;
}
