/**
 * Owns the report as GitHub Actions shows it: Markdown for the summary of a step, and annotations. Must never write
 * (cli/) or look at the environment.
 */
import { cleanDeep } from '../base/clean-text.ts';
import type { RunReport } from '../judge/report.ts';
import { renderReport, verdictLine } from './text.ts';

/** GitHub refuses a summary above 1,024 KiB; several steps may share it, so one takes a small part. */
const SUMMARY_BYTES_MAX = 128 * 1_024;
/** GitHub shows ten of a kind. */
const ANNOTATIONS_MAX = 10;

/**
 * Markdown for `$GITHUB_STEP_SUMMARY`, ending in a line break.
 * @param given the final numbers
 */
export function stepSummary(given: RunReport): string {
  const report = cleanDeep(given);
  const mark = report.verdict === 'pass' ? '✅' : report.verdict === 'fail' ? '❌' : '⚠️';
  const head = [`### ${mark} ${escaped(verdictLine(report))}`, '', escaped(report.reason), ''];
  const rows = report.requirements.map(
    ({ requirement, passed, actualText }) =>
      `| ${passed ? '✅' : '❌'} | ${code(requirement)} | ${escaped(actualText)} |`,
  );
  const table = rows.length === 0 ? [] : ['| | requirement | was |', '| --- | --- | --- |', ...rows, ''];
  const found = report.diagnoses.map(
    ({ party, message, next }) => `- **${party}**: ${escaped(message)}. Next: ${escaped(next)}`,
  );
  const start = [...head, ...table, ...found, ...(found.length > 0 ? [''] : [])].join('\n');
  const block = ['<details><summary>report</summary>', '', '```text'].join('\n');
  const end = ['```', '', '</details>', ''].join('\n');
  const room = SUMMARY_BYTES_MAX - Buffer.byteLength(start + block + end) - 64;
  // A fence of the report's own would end ours.
  const body = cut(renderReport(report).trimEnd().replaceAll('```', "'''"), room);
  return `${start}\n${block}\n${body}\n${end}`;
}

function cut(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  return `${new TextDecoder().decode(bytes.subarray(0, Math.max(0, bytesMax)))}\n... cut`;
}

/**
 * Text that Markdown takes as text: no markup, no HTML, no list, and no link that GitHub makes by itself of an address
 * (`https://`, `www.`, `a@b`).
 */
function escaped(text: string): string {
  return text
    .replaceAll('\n', ' ')
    .trim()
    .replace(/[\\`*_{}[\]<>|#~&:@!]/g, (character) => `\\${character}`)
    .replace(/www\./gi, (found) => `${found.slice(0, 3)}\\.`)
    .replace(/^[-+=]/, '\\$&')
    .replace(/^(\d+)([.)])/, '$1\\$2');
}

/** A code span has no escapes: text that would need one is shown as text. */
function code(text: string): string {
  return text === '' || /[`|\\\n]/.test(text) ? escaped(text) : `\`${text}\``;
}

/**
 * Workflow commands, one a line: an error for each broken requirement and for who ran out, a warning for each finding
 * that warns; at most ten of a kind.
 * @param given the final numbers
 */
export function annotations(given: RunReport): string[] {
  const report = cleanDeep(given);
  const errors = [
    ...(report.verdict === 'pass' ? [] : [command('error', verdictLine(report), report.reason)]),
    ...report.requirements
      .filter(({ passed, isDefault }) => !passed && !isDefault)
      .map(({ requirement, actualText }) => command('error', requirement, `was ${actualText}`)),
    ...report.diagnoses.map(({ party, message, next }) =>
      command('error', `${party} ran out`, `${message}. Next: ${next}`),
    ),
  ];
  const warnings = report.findings
    .filter(({ severity }) => severity === 'warn')
    .map(({ what, message }) => command('warning', what, message));
  return [...errors.slice(0, ANNOTATIONS_MAX), ...warnings.slice(0, ANNOTATIONS_MAX)];
}

/** Escaped as GitHub's own toolkit does it: `%`, line ends, and in properties also `:` and `,`. */
function command(kind: 'error' | 'warning', title: string, message: string): string {
  const data = (text: string): string =>
    text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const property = (text: string): string => data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
  return `::${kind} title=${property(`c100k-bench: ${title}`)}::${data(message)}`;
}
