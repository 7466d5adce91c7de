/**
 * Owns the report in the formats that other programs read, and the plan as JSON: JSON (docs/report.schema.json describes
 * the report), JUnit XML, Markdown and annotations for GitHub Actions, and text for Prometheus.
 * Must never judge, write (cli/), speak HTTP or look at the environment, and never add, drop or rename a field of the JSON.
 *
 * JUnit is the common format of CI servers: testsuites > testsuite (name, tests, failures, errors, skipped, time,
 * timestamp) > testcase (classname, name, time) > failure (message, type) or error. Prometheus is text 0.0.4, for the
 * textfile collector of a node exporter: `# HELP`, `# TYPE`, then one sample a line; label values escape backslash, quote
 * and newline.
 */
import { cleanDeep, cleanJson } from '../base/clean-text.ts';
import type { Latency, RunReport } from '../judge/report.ts';
import type { Plan } from './plan-text.ts';
import { renderReport, verdictLine } from './text.ts';

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
  const name = xmlAttribute(`c100k-bench ${report.asked.target.join(' ')}`);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="c100k-bench" ${counts} time="${seconds}">`,
    `  <testsuite name="${name}" ${counts} skipped="0" time="${seconds}" timestamp="${report.startedAt.slice(0, 19)}">`,
    ...cases.flatMap((one) => caseLines(one, seconds)),
    `    <system-out>${xmlText(saidOf(report).join('\n'))}</system-out>`,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

/** What the suite as a whole came to. */
function saidOf(report: RunReport): string[] {
  const party = report.whoRanOut === null ? [] : [`who ran out: ${report.whoRanOut}`];
  return [verdictLine(report), report.reason, ...party, ...report.notes];
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
  const open = `    <testcase classname="c100k-bench" name="${xmlAttribute(name)}" time="${seconds}"`;
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
  const head = [`### ${mark} ${markdownText(verdictLine(report))}`, '', markdownText(report.reason), ''];
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
  const errors = [
    ...(report.verdict === 'pass' ? [] : [workflowCommand('error', verdictLine(report), report.reason)]),
    ...report.requirements
      .filter(({ passed, isDefault }) => !passed && !isDefault)
      .map(({ requirement, actualText }) => workflowCommand('error', requirement, `was ${actualText}`)),
    ...report.diagnoses.map(({ party, message, next }) =>
      workflowCommand('error', `${party} ran out`, `${message}. Next: ${next}`),
    ),
  ];
  const warnings = report.findings
    .filter(({ severity }) => severity === 'warn')
    .map(({ what, message }) => workflowCommand('warning', what, message));
  return [...errors.slice(0, ANNOTATIONS_MAX), ...warnings.slice(0, ANNOTATIONS_MAX)];
}

/** Escaped as GitHub's own toolkit does it: `%`, line ends, and in properties also `:` and `,`. */
function workflowCommand(kind: 'error' | 'warning', title: string, message: string): string {
  const data = (text: string): string =>
    text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const property = (text: string): string => data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
  return `::${kind} title=${property(`c100k-bench: ${title}`)}::${data(message)}`;
}

interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number | null;
}

/**
 * The numbers of a run as gauges, ending in a line break.
 * @param given the final numbers
 */
export function prometheusText(given: RunReport): string {
  const report = cleanDeep(given);
  const { connections: c, generator: g } = report;
  const byReason = (counts: Readonly<Record<string, number | undefined>>): Sample[] =>
    Object.entries(counts).map(([reason, value]) => ({ labels: { reason }, value: value ?? 0 }));
  const target = report.target?.openNow ?? null;
  return [
    gauge('run_passed', '1 when the run kept every requirement', [
      { value: report.verdict === 'pass' ? 1 : 0 },
    ]),
    gauge('run_exit_code', 'exit code of the run', [{ value: report.exitCode }]),
    gauge('run_end_seconds', 'when the run ended, seconds since the epoch', [
      { value: Date.parse(report.endedAt) / 1_000 },
    ]),
    gauge('connections', 'connections by what became of them', [
      { labels: { state: 'asked' }, value: report.asked.connections },
      { labels: { state: 'established' }, value: c.established },
      { labels: { state: 'held' }, value: c.held },
      { labels: { state: 'verified' }, value: c.verified },
      { labels: { state: 'open' }, value: c.open },
      { labels: { state: 'reopened' }, value: c.reopened },
      { labels: { state: 'unattempted' }, value: c.unattempted },
      { labels: { state: 'seen_by_target' }, value: target },
    ]),
    gauge('connections_failed', 'connects that did not become connections, by reason', byReason(c.failed)),
    gauge('connections_dropped', 'connections that were lost while held, by reason', byReason(c.dropped)),
    gauge('connect_seconds', 'connect latency by quantile', quantiles(report.connectMs)),
    gauge('probe_seconds', 'probe latency by quantile', quantiles(report.echoMs)),
    gauge('latency_trustworthy', '0 when the generator was too slow to measure', [
      { value: report.latencyTrustworthy ? 1 : 0 },
    ]),
    gauge('ramp_seconds', 'first connect to last established', [{ value: report.ramp.seconds }]),
    gauge('hold_seconds', 'how long was held', [{ value: report.hold.seconds }]),
    gauge('syn_retransmits', 'SYNs that were sent again', [{ value: report.ramp.synRetransmits }]),
    gauge('kernel_established', 'sockets that the kernels called established at the end of the hold', [
      { value: report.kernel.established },
    ]),
    gauge('generator_loop_lag_seconds', 'how late the loops of the holders were', [
      { labels: { quantile: '0.99' }, value: g.loopLagMsP99 / 1_000 },
      { labels: { quantile: '1' }, value: g.loopLagMsMax / 1_000 },
    ]),
    gauge('requirement_passed', '1 when a requirement holds', [
      ...report.requirements.map(({ requirement, passed }) => ({
        labels: { requirement },
        value: passed ? 1 : 0,
      })),
    ]),
  ].join('');
}

function quantiles(latency: Latency): Sample[] {
  const seconds = (ms: number | null): number | null => (ms === null ? null : ms / 1_000);
  return [
    { labels: { quantile: '0.5' }, value: seconds(latency.p50) },
    { labels: { quantile: '0.9' }, value: seconds(latency.p90) },
    { labels: { quantile: '0.99' }, value: seconds(latency.p99) },
    { labels: { quantile: '0.999' }, value: seconds(latency.p999) },
    { labels: { quantile: '1' }, value: seconds(latency.max) },
  ];
}

/** A metric without any sample is left out, head and all. */
function gauge(name: string, help: string, samples: readonly Sample[]): string {
  const lines = samples.flatMap(({ labels, value }) =>
    value === null ? [] : [`c100k_${name}${labelText(labels ?? {})} ${value}`],
  );
  if (lines.length === 0) return '';
  return [`# HELP c100k_${name} ${help}`, `# TYPE c100k_${name} gauge`, ...lines, ''].join('\n');
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(
    ([key, value]) =>
      `${key}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
