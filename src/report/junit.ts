/**
 * Owns the report as JUnit XML: a test suite of one test case for each requirement. Must never judge a requirement.
 *
 * The format is the common one of CI servers: testsuites > testsuite (name, tests, failures, errors, skipped, time,
 * timestamp) > testcase (classname, name, time) > failure (message, type) or error.
 */
import { cleanDeep } from '../base/clean-text.ts';
import type { RunReport } from '../judge/report.ts';
import { verdictLine } from './text.ts';

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
  const name = attribute(`c100k-bench ${report.asked.target.join(' ')}`);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="c100k-bench" ${counts} time="${seconds}">`,
    `  <testsuite name="${name}" ${counts} skipped="0" time="${seconds}" timestamp="${report.startedAt.slice(0, 19)}">`,
    ...cases.flatMap((one) => caseLines(one, seconds)),
    `    <system-out>${text([verdictLine(report), report.reason, ...report.notes].join('\n'))}</system-out>`,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
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

function caseLines({ name, kind, message }: Case, seconds: string): string[] {
  const open = `    <testcase classname="c100k-bench" name="${attribute(name)}" time="${seconds}"`;
  if (kind === 'passed') return [`${open}/>`];
  return [
    `${open}>`,
    `      <${kind} message="${attribute(message)}" type="requirement"/>`,
    '    </testcase>',
  ];
}

/** Whether XML 1.0 has a place for a code point, escaped or not (its production `Char`). */
function isWritable(code: number): boolean {
  if (code < 0x20) return code === 0x09 || code === 0x0a || code === 0x0d;
  return !(code >= 0xd800 && code <= 0xdfff) && code !== 0xfffe && code !== 0xffff;
}

function text(value: string): string {
  // Iterating gives whole code points, so a surrogate seen here stands alone.
  return Array.from(value, (character) => (isWritable(character.codePointAt(0) ?? 0) ? character : '?'))
    .join('')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}

function attribute(value: string): string {
  return text(value).replaceAll('"', '&quot;').replaceAll('\n', '&#10;').replaceAll('\t', '&#9;');
}
