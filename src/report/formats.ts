/**
 * Owns the report in the formats that other programs read, and the plan as JSON: JSON (docs/report.schema.json describes
 * the report), JUnit XML, Markdown and annotations for GitHub Actions; metrics are in metrics-text.ts.
 * Must never judge, write (cli/), speak HTTP or look at the environment, and never add, drop or rename a field of the JSON.
 *
 * JUnit is the common format of CI servers: testsuites > testsuite (name, tests, failures, errors, skipped, time,
 * timestamp) > testcase (classname, name, time) > failure (message, type) or error.
 */
import { cleanDeep, cleanJson } from '../base/clean-text.ts';
import type { RunReport } from '../judge/report.ts';
import type { Plan } from './plan-text.ts';
import { renderReport } from './text.ts';
import { messagePieces, verdictLine } from './verdict-text.ts';

/**
 * The report as JSON, ending in a line break.
 * @param report the final numbers
 */
export function reportJson(report: RunReport): string {
  return `${cleanJson(JSON.stringify(report, null, 2))}\n`;
}

/**
 * The plan as JSON, ending in a line break.
 * @param plan what a run would take
 */
export function planJson(plan: Plan): string {
  return `${cleanJson(JSON.stringify(plan, null, 2))}\n`;
}

/**
 * The whole report as JUnit XML, ending in a line break.
 * @param given the final numbers
 */
export function junitXml(given: RunReport): string {
  const report = cleanDeep(given);
  const seconds = Math.max(0, (Date.parse(report.endedAt) - Date.parse(report.startedAt)) / 1_000).toFixed(3);
  const cases = casesOf(report);
  const failures = cases.filter(({ kind }) => kind === 'failure').length;
  const errors = cases.filter(({ kind }) => kind === 'error').length;
  const counts = `tests="${cases.length}" failures="${failures}" errors="${errors}"`;
  const called = runTitle(report);
  const name = xmlAttribute(`c100k-bench ${called}`);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="c100k-bench" ${counts} time="${seconds}">`,
    `  <testsuite name="${name}" ${counts} skipped="0" time="${seconds}" timestamp="${report.startedAt.slice(0, 19)}">`,
    ...cases.flatMap((one) => caseLines(one, seconds, called)),
    `    <system-out>${xmlText(saidOf(report).join('\n'))}</system-out>`,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

/** What the suite as a whole came to. */
function saidOf(report: RunReport): string[] {
  const party = report.whoRanOut === null ? [] : [`who ran out: ${report.whoRanOut}`];
  const messages = messagePieces(report).join(', ');
  const counts = messages === '' ? [] : [`messages: ${messages}`];
  return [verdictLine(report), report.reason, ...party, ...counts, ...report.notes];
}

/** What tells a run from others of the same job: its name, or its target. */
function runTitle({ about, asked }: RunReport): string {
  return about?.name ?? asked.target.join(' ');
}

/** A command line that ended without a report. */
export interface FailedCommand {
  /** the name or the target that it was given; may be empty */
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  /** when, as ISO 8601 */
  readonly at: string;
}

/** JUnit XML of a command line that ended without a report, ending in a line break: one test case, an error. */
export function failureJunit(given: FailedCommand): string {
  const { name, code, message, hint, at } = cleanDeep(given);
  const suite = xmlAttribute(`c100k-bench ${name}`.trimEnd());
  const counts = 'tests="1" failures="0" errors="1"';
  const why = xmlAttribute(`${message} (hint: ${hint})`);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="c100k-bench" ${counts} time="0.000">`,
    `  <testsuite name="${suite}" ${counts} skipped="0" time="0.000" timestamp="${at.slice(0, 19)}">`,
    `    <testcase classname="${suite}" name="the run begins" time="0.000">`,
    `      <error message="${why}" type="${xmlAttribute(code)}"/>`,
    '    </testcase>',
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

/** A workflow command for a command line that ended without a report; with the place in a run file, where that is wrong. */
export function failureAnnotation(given: FailedCommand): string {
  const { name, code, message, hint } = cleanDeep(given);
  const [, file, line, col] = /^(.+?):(\d+):(\d+): /.exec(message) ?? [];
  const place = file === undefined ? {} : { file, line, col };
  return workflowCommand('error', name, code, `${message}. ${hint}`, place);
}

interface Case {
  readonly name: string;
  readonly kind: 'passed' | 'failure' | 'error';
  readonly message: string;
}

/** A run that was refused, interrupted or fell short by our own fault proves nothing about the target: an error. */
function casesOf(report: RunReport): Case[] {
  const isError = report.verdict === 'refused' || report.verdict === 'incomplete';
  const cases: Case[] = report.requirements.map(({ requirement, passed, actualText }) => ({
    name: requirement,
    kind: passed ? 'passed' : isError ? 'error' : 'failure',
    message: passed ? '' : `${requirement}: was ${actualText}`,
  }));
  if (isError && cases.every(({ kind }) => kind === 'passed')) {
    cases.push({ name: 'the run is complete', kind: 'error', message: report.reason });
  }
  return cases;
}

function caseLines({ name, kind, message }: Case, seconds: string, called: string): string[] {
  const suite = xmlAttribute(`c100k-bench ${called}`);
  const open = `    <testcase classname="${suite}" name="${xmlAttribute(name)}" time="${seconds}"`;
  if (kind === 'passed') return [`${open}/>`];
  return [
    `${open}>`,
    `      <${kind} message="${xmlAttribute(message)}" type="requirement"/>`,
    '    </testcase>',
  ];
}

/** Whether XML 1.0 has a place for a code point, escaped or not (its production `Char`). */
function isWritable(code: number): boolean {
  if (code < 0x20) return code === 0x09 || code === 0x0a || code === 0x0d;
  return !(code >= 0xd800 && code <= 0xdfff) && code !== 0xfffe && code !== 0xffff;
}

function xmlText(value: string): string {
  // Iterating gives whole code points, so a surrogate seen here stands alone.
  return Array.from(value, (character) => (isWritable(character.codePointAt(0) ?? 0) ? character : '?'))
    .join('')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}

function xmlAttribute(value: string): string {
  return xmlText(value).replaceAll('"', '&quot;').replaceAll('\n', '&#10;').replaceAll('\t', '&#9;');
}

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
  const title = markdownText(`run ${runTitle(report)} (${report.asked.protocol}, ${report.startedAt})`);
  const head = [
    `### ${mark} ${markdownText(verdictLine(report))}`,
    '',
    title,
    '',
    markdownText(report.reason),
    '',
  ];
  const rows = report.requirements.map(
    ({ requirement, passed, actualText }) =>
      `| ${passed ? '✅' : '❌'} | ${codeSpan(requirement)} | ${markdownText(actualText)} |`,
  );
  const table = rows.length === 0 ? [] : ['| | requirement | was |', '| --- | --- | --- |', ...rows, ''];
  const found = report.diagnoses.map(
    ({ party, message, next }) => `- **${party}**: ${markdownText(message)}. Next: ${markdownText(next)}`,
  );
  const start = [...head, ...table, ...found, ...(found.length > 0 ? [''] : [])].join('\n');
  const block = ['<details><summary>report</summary>', '', '```text'].join('\n');
  const end = ['```', '', '</details>', ''].join('\n');
  const room = SUMMARY_BYTES_MAX - Buffer.byteLength(start + block + end) - 64;
  // A fence of the report's own would end ours.
  const body = cutToBytes(renderReport(report).trimEnd().replaceAll('```', "'''"), room);
  return `${start}\n${block}\n${body}\n${end}`;
}

function cutToBytes(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  return `${new TextDecoder().decode(bytes.subarray(0, Math.max(0, bytesMax)))}\n... cut`;
}

/**
 * Text that Markdown takes as text: no markup, no HTML, no list, and no link that GitHub makes by itself of an address
 * (`https://`, `www.`, `a@b`).
 */
export function markdownText(text: string): string {
  return text
    .replaceAll('\n', ' ')
    .trim()
    .replace(/[\\`*_{}[\]<>|#~&:@!]/g, (character) => `\\${character}`)
    .replace(/www\./gi, (found) => `${found.slice(0, 3)}\\.`)
    .replace(/^[-+=]/, '\\$&')
    .replace(/^(\d+)([.)])/, '$1\\$2');
}

/** A code span has no escapes: text that would need one is shown as text. */
function codeSpan(text: string): string {
  return text === '' || /[`|\\\n]/.test(text) ? markdownText(text) : `\`${text}\``;
}

/**
 * Workflow commands, one a line: an error for each broken requirement and for who ran out, a warning for each finding
 * that warns; at most ten of a kind.
 * @param given the final numbers
 */
export function annotations(given: RunReport): string[] {
  const report = cleanDeep(given);
  const name = runTitle(report);
  const errors = [
    ...(report.verdict === 'pass'
      ? []
      : [workflowCommand('error', name, verdictLine(report), report.reason)]),
    ...report.requirements
      .filter(({ passed, isDefault }) => !passed && !isDefault)
      .map(({ requirement, actualText }) => workflowCommand('error', name, requirement, `was ${actualText}`)),
    ...report.diagnoses.map(({ party, message, next }) =>
      workflowCommand('error', name, `${party} ran out`, `${message}. Next: ${next}`),
    ),
  ];
  const warnings = report.findings
    .filter(({ severity }) => severity === 'warn')
    .map(({ what, message }) => workflowCommand('warning', name, what, message));
  return [...errors.slice(0, ANNOTATIONS_MAX), ...warnings.slice(0, ANNOTATIONS_MAX)];
}

/** Escaped as GitHub's own toolkit does it: `%`, line ends, and in properties also `:` and `,`. */
function workflowCommand(
  kind: 'error' | 'warning',
  name: string,
  title: string,
  message: string,
  place: Readonly<Record<string, string | undefined>> = {},
): string {
  const data = (text: string): string =>
    text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const property = (text: string): string => data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
  const properties = { title: `${`c100k-bench ${name}`.trimEnd()}: ${title}`, ...place };
  const said = Object.entries(properties).map(([key, text = '']) => `${key}=${property(text)}`);
  return `::${kind} ${said.join(',')}::${data(message)}`;
}
