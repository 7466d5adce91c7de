/**
 * Owns the short report for a terminal: what was tested, open connections over time, the counts beside who checked them, causes with
 * their next commands, and the verdict as the last line. It fits 24 rows at 60 to 120 columns: what finds no room is left out as a
 * whole, least important first, and said. Must never cut a word or a number, or judge.
 */
import { totalOf } from '../base/outcome.ts';
import { counted, formatCount, formatDuration, formatMs } from '../base/units.ts';
import type { Latency, RunReport } from '../judge/report.ts';
import { holdWords } from '../run/run-spec.ts';
import type { PlaceOutcomes } from '../stats/place-outcomes.ts';
import { balancePieces } from './balance-text.ts';
import { chartRow, openOverTime } from './chart.ts';
import { incidentPieces } from './incident-text.ts';
import { countPieces, formatWholeSeconds, type Paint, wrapText } from './layout.ts';
import { churnText, heldText, stagesText } from './load-text.ts';
import { isInterrupted, messagePieces, reasonText, verdictLine } from './verdict-text.ts';

/** Rows of the report: with the line of the shell's prompt, and one for what was typed, a terminal of 24 shows all of it. */
const ROWS_MAX = 22;
/** Labels take so many columns. */
const LABEL_WIDTH = 11;
/** Of the chart, from the most that it takes down. */
const CHART_ROWS = [4, 3, 2, 1] as const;
const PLACES_MAX = 4;
const WARNINGS_MAX = 3;
const NAMES_MAX = 3;

/** How the report is to look. */
interface SummaryLook {
  /** of the terminal */
  readonly columns: number;
  readonly paint: Paint;
  /** files that were written */
  readonly files: readonly string[];
}

type Style = Parameters<Paint>[0];

/** A line before it is coloured: the label keeps its own colour. */
interface Line {
  readonly label: string;
  readonly text: string;
  readonly style: Style | null;
}

/** A part of the report in forms that take fewer and fewer rows; the last one may be empty. */
interface Section {
  readonly forms: readonly (readonly Line[])[];
  /** what is left out first has the highest */
  readonly rank: number;
}

/**
 * The report in at most 22 lines, ending in a line break; the last line is the verdict. Causes and refusals are always whole: where
 * they alone take more, it is longer.
 * @param report clean
 */
export function renderSummary(report: RunReport, { columns, paint, files }: SummaryLook): string {
  const width = columns - 1;
  const verdict = wrapText(verdictLine(report), width);
  const sections = sectionsOf(report, files, width);
  const lines = fitted(sections, ROWS_MAX - verdict.length - 1);
  const shown = lines.map(({ label, text, style }) => {
    const head = paint('dim', label.padEnd(LABEL_WIDTH));
    const body = style === null ? text : paint(style, text);
    return text === '' ? paint('dim', label) : `${label === '' ? ' '.repeat(LABEL_WIDTH) : head}${body}`;
  });
  const colour = verdictStyle(report);
  const last = verdict.map((line) => paint('bold', paint(colour, line)));
  return `${[...shown.map((line) => line.trimEnd()), '', ...last].join('\n')}\n`;
}

/** Green, red, or yellow for a run that its person has ended. */
export function verdictStyle(report: RunReport): Style {
  if (report.verdict === 'pass') return 'good';
  return isInterrupted(report) ? 'warn' : 'bad';
}

/** The lines of all sections in their largest forms that fit. */
function fitted(sections: readonly Section[], rowsMax: number): Line[] {
  const chosen = sections.map(() => 0);
  const linesOf = (): Line[] =>
    sections.flatMap(({ forms }, index) => [...(forms[chosen[index] ?? 0] ?? [])]);
  for (;;) {
    const lines = linesOf();
    if (lines.length <= rowsMax) return lines;
    let next = -1;
    for (const [index, { forms, rank }] of sections.entries()) {
      const canShrink = (chosen[index] ?? 0) < forms.length - 1;
      if (canShrink && (next < 0 || rank > (sections[next]?.rank ?? 0))) next = index;
    }
    if (next < 0) return lines;
    chosen[next] = (chosen[next] ?? 0) + 1;
  }
}

function sectionsOf(report: RunReport, files: readonly string[], width: number): Section[] {
  const whole = (label: string, text: string, style: Style | null = null): Line[] =>
    labelledLines(label, text, width, style);
  const optional = (rank: number, ...forms: Line[][]): Section => ({ forms: [...forms, []], rank });
  const always = (lines: Line[]): Section => ({ forms: [lines], rank: 0 });
  const isRefused = report.verdict === 'refused';
  const measured = isRefused
    ? []
    : [
        optional(4, ...CHART_ROWS.map((rows) => chartLines(report, width, rows))),
        always(countLines(report, width)),
        optional(5, whole('checked', checkedText(report))),
        optional(5, whole('held', heldText(report.load))),
        optional(7, latencyLines(report, width)),
        optional(6, placeLines(report, width, PLACES_MAX), placeLines(report, width, 1)),
        optional(5, incidentLines(report, width)),
        optional(6, whole('back ends', balancePieces(report).map(kept).join(', '))),
        always(requirementLines(report, width)),
      ];
  return [
    optional(9, whole('', headText(report), 'dim')),
    always(whole('target', targetText(report))),
    optional(3, whole('load', loadText(report))),
    ...measured,
    causeSection(report, width),
    warningSection(report, width),
    optional(8, files.length === 0 ? [] : whole('files', files.join('  '))),
  ];
}

/** Between words that stay on one line. */
const NO_BREAK = '\u00a0';

/** On one line: a number and its unit. */
function kept(text: string): string {
  return text.replaceAll(' ', NO_BREAK);
}

/** A word that is longer than a line, such as a URL, goes on in the next one. */
function broken(line: string, width: number): string[] {
  const lines: string[] = [];
  for (let at = 0; at < line.length; at += width) lines.push(line.slice(at, at + width));
  return lines;
}

/** A labelled text, wrapped under itself. */
function labelledLines(label: string, text: string, width: number, style: Style | null = null): Line[] {
  if (text === '') return [];
  const room = width - LABEL_WIDTH;
  const wrapped = wrapText(text, room).flatMap((line) => broken(line, room));
  return wrapped.map((line, index) => ({
    label: index === 0 ? label : '',
    text: line.replaceAll(NO_BREAK, ' '),
    style,
  }));
}

function headText({ toolVersion, startedAt, endedAt }: RunReport): string {
  const seconds = (Date.parse(endedAt) - Date.parse(startedAt)) / 1_000;
  const took = Number.isFinite(seconds) && seconds >= 0 ? `, took ${formatWholeSeconds(seconds)}` : '';
  const at = startedAt.replace('T', ' ').replace(/\.\d+Z$/, ' UTC');
  return `c100k-bench ${toolVersion}, ${at}${took}`;
}

function firstOf(texts: readonly string[]): string {
  const more = texts.length - NAMES_MAX;
  return texts.slice(0, NAMES_MAX).join(', ') + (more > 0 ? ` and ${formatCount(more)} more` : '');
}

function targetText({ asked }: RunReport): string {
  const endpoints = asked.endpoints.length > 1 ? `, ${formatCount(asked.endpoints.length)} endpoints` : '';
  return `${firstOf(asked.target)} (${asked.protocol}${endpoints})`;
}

function loadText({ asked, agents, load, messages }: RunReport): string {
  const rate =
    asked.ratePerSec === null
      ? 'as fast as the target accepts'
      : `${formatCount(asked.ratePerSec)} connects/s`;
  const everyMs = messages?.everyMs ?? asked.probeEveryMs;
  const what = messages == null ? 'probe' : 'message';
  const probes = everyMs === null ? '' : `, a ${what} every ${formatDuration(everyMs)}`;
  const many = agents.length > 1 ? `, ${counted(agents.length, 'agent')}` : '';
  const time =
    load == null || load.stages.length === 0 ? `held ${holdWords(asked.holdMs)}` : stagesText(load);
  const churn = churnText(load).map((words) => `, ${words}`);
  return `${counted(asked.connections, 'connection')}, ${rate}, ${time}${churn.join('')}${probes}${many}`;
}

/** Open connections over the time since the ramp began, as high as what was asked for. */
function chartLines({ timeline, asked }: RunReport, width: number, rows: number): Line[] {
  const points = timeline.filter(({ phase }) => phase === 'ramping' || phase === 'holding');
  if (points.length < 3) return [];
  const top = formatCount(asked.connections);
  const chartWidth = width - LABEL_WIDTH - top.length - 2;
  const values = openOverTime(points, chartWidth);
  const end = formatWholeSeconds(points.at(-1)?.atSec ?? 0);
  const drawn = Array.from({ length: rows }, (_, row) => {
    const axis = row === 0 ? top : row === rows - 1 ? '0' : '';
    return `${axis.padStart(top.length)} │${chartRow(values, asked.connections, row, rows)}`;
  });
  const lines = drawn.map((text, index) => ({ label: index === 0 ? 'open' : '', text, style: null }));
  if (rows === 1) return lines;
  const scale = `${' '.repeat(top.length)}  0 s${end.padStart(chartWidth - 3)}`;
  return [...lines, { label: '', text: scale, style: 'dim' as const }];
}

function countLines(report: RunReport, width: number): Line[] {
  const { connections: c, asked } = report;
  const pieces = [
    `held ${formatCount(c.held)} of ${formatCount(asked.connections)}`,
    `established ${formatCount(c.established)}`,
    `open at the end ${formatCount(c.open)}`,
    ...(c.unattempted > 0 ? [`not attempted ${formatCount(c.unattempted)}`] : []),
    ...(c.reopened > 0 ? [`reopened ${formatCount(c.reopened)}`] : []),
  ].map(kept);
  const of = (label: string, counts: Parameters<typeof countPieces>[0]): Line[] => {
    const total = totalOf(counts);
    if (total === 0) return [];
    return labelledLines(label, `${formatCount(total)}: ${countPieces(counts).join(', ')}`, width, 'bad');
  };
  const lost = [...of('failed', c.failed), ...of('dropped', c.dropped)];
  const none = lost.length === 0 ? ', nothing failed, nothing was lost' : '';
  const messages = labelledLines('messages', messagePieces(report).map(kept).join(', '), width);
  return [...labelledLines('counts', pieces.join(', ') + none, width), ...lost, ...messages];
}

/** Who else has counted or answered. */
function checkedText({ connections, kernel, target, hold }: RunReport): string {
  const pieces: string[] = [];
  if (connections.verified > 0)
    pieces.push(`the application answered on ${formatCount(connections.verified)}`);
  if (target !== null) pieces.push(`the target counts ${formatCount(target.openNow)}`);
  if (kernel.established !== null) pieces.push(`the kernel counts ${formatCount(kernel.established)}`);
  if (hold.seconds > 0 && hold.proof === 'kernel-only') pieces.push('no application has answered');
  return pieces.join(', ');
}

function latencyLines(report: RunReport, width: number): Line[] {
  const of = (what: string, { count, p50, p99, max }: Latency): string[] =>
    count === 0
      ? []
      : [
          `${what} ${[`p50 ${formatMs(p50)}`, `p99 ${formatMs(p99)}`, `max ${formatMs(max)}`].map(kept).join(', ')}`,
        ];
  const pieces = [
    ...of('connect', report.connectMs),
    ...of(report.messages == null ? 'probe' : 'message', report.echoMs),
  ];
  if (pieces.length === 0) return [];
  const lines = labelledLines('latency', pieces.join('; '), width);
  if (report.latencyTrustworthy) return lines;
  return [...lines, ...labelledLines('', 'not trustworthy: the generator was at its limits', width, 'warn')];
}

/** The worst of several endpoints, where something is missing. */
function placeLines({ evidence }: RunReport, width: number, most: number): Line[] {
  const places = Object.entries(evidence?.byEndpoint ?? {});
  const missing = ({ failed, dropped }: PlaceOutcomes): number => totalOf(failed) + totalOf(dropped);
  const worst = places
    .filter(([, place]) => missing(place) > 0)
    .toSorted(([, a], [, b]) => missing(b) - missing(a));
  if (places.length < 2 || worst.length === 0) return [];
  const lines = worst.slice(0, most).flatMap(([name, place], index) => {
    const counts = [...countPieces(place.failed), ...countPieces(place.dropped)].join(', ');
    const text = `${name === '*' ? 'all others' : name}: ${formatCount(missing(place))} of ${formatCount(place.asked)} missing (${counts})`;
    return labelledLines(index === 0 ? 'endpoints' : '', text, width);
  });
  const more = worst.length - most;
  return more > 0 ? [...lines, ...labelledLines('', `and ${formatCount(more)} more`, width, 'dim')] : lines;
}

function incidentLines(report: RunReport, width: number): Line[] {
  return incidentPieces(report).flatMap((pieces, at) =>
    labelledLines(at === 0 ? 'incidents' : '', pieces.map(kept).join(', '), width),
  );
}

function requirementLines({ requirements }: RunReport, width: number): Line[] {
  return requirements
    .filter(({ isDefault }) => !isDefault)
    .flatMap(({ requirement, passed, actualText }, index) =>
      labelledLines(
        index === 0 ? 'required' : '',
        `${passed ? '✓' : '✗'} ${requirement} (${actualText})`,
        width,
        passed ? 'good' : 'bad',
      ),
    );
}

/** Of a refusal what is missing, with the command that fixes it. */
function refusalLines({ findings }: RunReport, width: number): Line[] {
  const refusals = findings.filter(({ severity }) => severity === 'refuse');
  return refusals.flatMap(({ message, fix }) => [
    ...labelledLines('refused', message, width, 'bad'),
    // A command is never wrapped: it must survive copy and paste.
    ...(fix === null ? [] : [{ label: '', text: fix, style: null }]),
  ]);
}

/**
 * Each cause once, with its next command. Where not all fit, those that explain least are counted: a verdict that has left the
 * terminal helps less than a cause that the full form has.
 */
function causeSection(report: RunReport, width: number): Section {
  if (report.verdict === 'pass') return { forms: [[]], rank: 0 };
  if (report.verdict === 'refused') {
    const lines = refusalLines(report, width);
    if (lines.length > 0) return { forms: [lines], rank: 0 };
  }
  const { diagnoses } = report;
  // What a cause says is said once.
  const reason = diagnoses.reduce((text, { message }) => text.replace(message, ''), reasonText(report));
  const why = labelledLines('why', reason.replace(/[;:,\s]+$/, ''), width);
  const byCount = diagnoses.toSorted((a, b) => b.count - a.count);
  const some = (most: number): Line[] => {
    const left = byCount.slice(most);
    const causes = diagnoses
      .filter((diagnosis) => !left.includes(diagnosis))
      .flatMap(({ party, message, next }) => [
        ...labelledLines('cause', `${party}: ${message}`, width, 'warn'),
        ...labelledLines('', `next: ${next}`, width),
      ]);
    if (left.length === 0) return [...why, ...causes];
    const explained = left.reduce((sum, { count }) => sum + count, 0);
    const rest = `and ${counted(left.length, 'more cause')}, of ${counted(explained, 'connection')}: --report full shows all`;
    return [...why, ...causes, ...labelledLines('', rest, width, 'dim')];
  };
  const forms = Array.from({ length: Math.max(1, diagnoses.length) }, (_, less) =>
    some(diagnoses.length - less),
  );
  return { forms, rank: 1 };
}

function warningSection({ findings, notes }: RunReport, width: number): Section {
  const warnings = findings.filter(({ severity }) => severity === 'warn');
  const said: readonly { readonly text: string; readonly style: Style | null }[] = [
    ...warnings.map(({ message }) => ({ text: `! ${message}`, style: 'warn' as const })),
    ...notes.map((note) => ({ text: `- ${note}`, style: null })),
  ];
  const [what, label] = warnings.length > 0 ? ['warning', 'warnings'] : ['note', 'notes'];
  const some = (most: number): Line[] => {
    const lines = said
      .slice(0, most)
      .flatMap(({ text, style }) => labelledLines('', text, width, style))
      .map((line, index) => (index === 0 ? { ...line, label } : line));
    const more = said.length - most;
    const rest = `${most === 0 ? '' : 'and '}${counted(more, most === 0 ? what : `more ${what}`)}: --report full shows all`;
    return more > 0 ? [...lines, ...labelledLines(most === 0 ? label : '', rest, width, 'dim')] : lines;
  };
  if (said.length === 0) return { forms: [[]], rank: 0 };
  return { forms: [some(WARNINGS_MAX), some(1), some(0)], rank: 10 };
}
