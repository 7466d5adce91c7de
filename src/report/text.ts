/**
 * Owns the report as text for a person: what the verdict rests on, then the verdict as the last line. The full form has everything in at
 * most 80 columns; the short one fits a terminal (summary-text.ts).
 * Must never decide or compute a verdict (judge/verdict.ts) or write to a stream (cli/).
 */

import { cleanDeep, cleanText, withoutOrders } from '../base/clean-text.ts';
import { type Counts, totalOf } from '../base/outcome.ts';
import { counted, formatBytes, formatCount, formatDuration, formatMs } from '../base/units.ts';
import { limitsPhrase } from '../judge/generator-health.ts';
import type { AgentReport, Latency, RunReport } from '../judge/report.ts';
import { holdWords } from '../run/run-spec.ts';
import { balancePieces } from './balance-text.ts';
import { evidenceLines } from './evidence-text.ts';
import { incidentPieces } from './incident-text.ts';
import {
  attentionLines,
  bulleted,
  countPieces,
  formatWholeSeconds,
  labelled,
  labelledPieces,
  narrowed,
  noPaint,
  type Paint,
  TEXT_WIDTH,
  table,
  wrapText,
} from './layout.ts';
import { churnText, loadLines, stagesText } from './load-text.ts';
import { seenLines } from './plan-text.ts';
import { renderSummary, verdictStyle } from './summary-text.ts';
import { messagePieces, reasonText, verdictLine } from './verdict-text.ts';

/** Sources or endpoints up to this number are listed one by one; above it only their spread is shown. */
const LIST_MAX = 8;

/** How a report is shown; what is left out is the default. */
interface ReportLook {
  /** default: full */
  readonly form?: 'short' | 'full';
  /** of the terminal, 60 to 120; default 80 */
  readonly columns?: number;
  /** files that were written, for the short form; default none */
  readonly files?: readonly string[];
}

/**
 * The report as text, ending in a line break. The last line is the verdict, where it is not wrapped.
 * @param given the final numbers
 * @param paint colours; default none
 */
export function renderReport(given: RunReport, paint: Paint = noPaint, look: ReportLook = {}): string {
  const report = cleanDeep(given);
  const { form = 'full', columns = TEXT_WIDTH, files = [] } = look;
  if (form === 'short') {
    return withoutOrders(renderSummary(report, { columns, paint, files: files.map(cleanText) }));
  }
  const body = [
    ...headLines(report),
    ...(report.verdict === 'refused' ? [] : measuredLines(report)),
    ...attentionLines(report.findings),
    ...noteLines(report.notes),
    '',
    ...reasonLines(report),
  ];
  // A command is never wrapped: it must survive copy and paste.
  const commands = new Set(report.findings.flatMap(({ fix }) => (fix === null ? [] : [fix])));
  const lines = narrowed(body, columns, commands).map((line) => paintMark(line, paint));
  const last = wrapText(verdictLine(report), columns).map((line) =>
    paint('bold', paint(verdictStyle(report), line)),
  );
  return `${withoutOrders([...lines, ...last].join('\n'))}\n`;
}

const MARKS = { '✗': 'bad', '!': 'warn', '✓': 'good' } as const;

/** Colours the mark that a line begins with. */
function paintMark(line: string, paint: Paint): string {
  const mark = /^ {2}([✗!✓]) /.exec(line)?.[1] as keyof typeof MARKS | undefined;
  return mark === undefined ? line : `  ${paint(MARKS[mark], mark)}${line.slice(3)}`;
}

/** What was tested. */
function headLines({ toolVersion, startedAt, asked, load }: RunReport): string[] {
  const endpoints = asked.endpoints.length > 1 ? `, ${formatCount(asked.endpoints.length)} endpoints` : '';
  const rate = asked.ratePerSec === null ? [] : [`${formatCount(asked.ratePerSec)} connects/s`];
  return [
    ...labelled('target', `${asked.target.join(', ')} (${asked.protocol}${endpoints})`),
    ...labelledPieces('load', [
      counted(asked.connections, 'connection'),
      ...rate,
      load == null || load.stages.length === 0 ? `held ${holdWords(asked.holdMs)}` : stagesText(load),
      ...churnText(load),
    ]),
    ...labelledPieces('run', [`c100k-bench ${toolVersion}`, startedAt]),
  ];
}

/** Why, and who ran out; nothing on a pass, where the verdict line says it all. */
function reasonLines(report: RunReport): string[] {
  if (report.verdict === 'pass') return [];
  // A refusal is explained by its findings, with the commands that fix them.
  if (report.verdict === 'refused' && report.findings.some((finding) => finding.severity === 'refuse'))
    return [];
  const lines = wrapText(reasonText(report), TEXT_WIDTH);
  if (report.whoRanOut !== null) lines.push(`who ran out: ${report.whoRanOut}`);
  for (const { party, message, next } of report.diagnoses) {
    lines.push(
      ...bulleted(`${party}:`, message),
      ...wrapText(`next: ${next}`, TEXT_WIDTH - 6).map((line) => `      ${line}`),
    );
  }
  return lines;
}

/** Everything that was measured, in the order in which people ask for it. */
function measuredLines(report: RunReport): string[] {
  const agents = agentTable(report.agents);
  return [
    ...requirementLines(report),
    '',
    ...connectionLines(report),
    ...proofLines(report),
    ...targetLines(report),
    ...labelledMessages(report),
    ...loadLines(report.load),
    ...latencyLines(report),
    ...rampLines(report),
    ...spreadLines('by source', report.bySource),
    ...spreadLines('by endpoint', report.byEndpoint),
    ...backendLines(report),
    ...evidenceLines(report.evidence),
    ...(report.seen === null ? [] : seenLines(report.seen)),
    ...kernelLines(report),
    ...generatorLines(report),
    ...(agents.length === 0 ? [] : ['', ...agents]),
  ];
}

/** Requirements that the user typed, with tick or cross. */
function requirementLines(report: RunReport): string[] {
  const typed = report.requirements.filter(({ isDefault }) => !isDefault);
  if (typed.length === 0) return [];
  const lines = typed.flatMap(({ requirement, passed, actualText }) =>
    bulleted(passed ? '✓' : '✗', `${requirement}  (${actualText})`),
  );
  return ['', 'required', ...lines];
}

const PROOF_WORDS = {
  probes: 'each connection answered a probe that was sent after the hold was over, or was dropped',
  'since-ramp': 'not proven since the ramp: each connection was answered once; --probe-every asks again',
  'kernel-only':
    'no application has answered: the connections stay silent, and only kernels have (see Proof in the manual)',
} as const;

function shortHoldWords(probeEveryMs: number): string {
  return (
    'each connection answered a probe before the hold began; the hold was too short to ask every one again ' +
    `(--probe-every ${formatDuration(probeEveryMs)})`
  );
}

function proofLines(report: RunReport): string[] {
  if (report.hold.seconds === 0) return [];
  const { proof } = report.hold;
  const { probeEveryMs } = report.asked;
  // Probes were on, and the hold has ended before each connection was asked again.
  const isShort = proof === 'since-ramp' && probeEveryMs !== null;
  return labelled('proof', isShort ? shortHoldWords(probeEveryMs) : PROOF_WORDS[proof]);
}

/** Rows of the table that puts our view and the target's side by side. */
const SIDE_BY_SIDE_ROWS_MAX = 8;

/** Connected, verified and seen by the target, over time. */
function targetLines(report: RunReport): string[] {
  const { target, timeline } = report;
  if (target === null) return [];
  const lines = labelledPieces('target says', [
    `holds ${formatCount(target.openNow)} now`,
    `${formatCount(target.openMax)} at most`,
    `from ${counted(target.sourceAddresses, 'source address', 'source addresses')}`,
    `accepted ${formatCount(target.acceptedTotal)}`,
    ...(target.descriptorsFull > 0
      ? [`${formatCount(target.descriptorsFull)} times out of descriptors`]
      : []),
    ...(target.unanswered > 0 ? [`${formatCount(target.unanswered)} times no answer`] : []),
  ]);
  const points = timeline.filter(({ phase }) => phase === 'ramping' || phase === 'holding');
  const step = Math.max(1, Math.ceil(points.length / SIDE_BY_SIDE_ROWS_MAX));
  const shown = points.filter((_, index) => index % step === 0 || index === points.length - 1);
  if (shown.length < 2) return lines;
  const rows = shown.map(({ atSec, open, verified, seenByTarget }) => [
    `${atSec.toFixed(0)} s`,
    formatCount(open),
    formatCount(verified),
    seenByTarget === null ? '-' : formatCount(seenByTarget),
  ]);
  return [...lines, ...table([['at', 'connected', 'verified', 'seen by target'], ...rows])];
}

function connectionLines(report: RunReport): string[] {
  const c = report.connections;
  const pieces = [
    `asked ${formatCount(report.asked.connections)}`,
    `established ${formatCount(c.established)}`,
    `open at the end ${formatCount(c.open)}`,
  ];
  if (report.asked.probeEveryMs !== null || c.verified > 0)
    pieces.push(`verified ${formatCount(c.verified)}`);
  if (c.unattempted > 0) pieces.push(`not attempted ${formatCount(c.unattempted)}`);
  if (c.reopened > 0) pieces.push(`reopened ${formatCount(c.reopened)}`);
  return [
    ...labelledPieces('connections', pieces),
    ...incidentPieces(report).flatMap((pieces, at) => labelledPieces(at === 0 ? 'incidents' : '', pieces)),
    ...countLines('failed', c.failed),
    ...countLines('dropped', c.dropped),
    ...(totalOf(c.localSkips) > 0 ? countLines('skipped', c.localSkips) : []),
  ];
}

/** `failed  12   timeout 10   refused 2`, the most frequent first. */
function countLines(label: string, counts: Counts<string>): string[] {
  return labelledPieces(label, [formatCount(totalOf(counts)), ...countPieces(counts)]);
}

function labelledMessages(report: RunReport): string[] {
  const pieces = messagePieces(report);
  return pieces.length === 0 ? [] : labelledPieces('messages', pieces);
}

function latencyLines(report: RunReport): string[] {
  const lines = percentileLines('connect', report.connectMs);
  if (lines.length > 0 && differs(report.connectMs, report.connectFromIntendedMs)) {
    lines.push(...percentileLines('  intended', report.connectFromIntendedMs));
  }
  lines.push(...percentileLines(report.messages == null ? 'echo' : 'message', report.echoMs));
  if (lines.length > 0 && !report.latencyTrustworthy) {
    lines.push(
      ...labelled('', `not trustworthy: generator limited (${limitsPhrase(report.generator.limits)})`),
    );
  }
  return lines;
}

function percentileLines(label: string, latency: Latency): string[] {
  if (latency.count === 0) return [];
  return labelledPieces(label, [
    `p50 ${formatMs(latency.p50)}`,
    `p90 ${formatMs(latency.p90)}`,
    `p99 ${formatMs(latency.p99)}`,
    `p99.9 ${formatMs(latency.p999)}`,
    `max ${formatMs(latency.max)}`,
  ]);
}

/** Whether any shown percentile differs: then the generator was late, and that belongs in the text. */
function differs(a: Latency, b: Latency): boolean {
  const keys = ['p50', 'p90', 'p99', 'p999', 'max'] as const;
  return keys.some((key) => formatMs(a[key]) !== formatMs(b[key]));
}

function rampLines(report: RunReport): string[] {
  const { seconds, ratePerSec, synRetransmits, retransmittedConnects } = report.ramp;
  if (report.connections.attempted === 0) return [];
  const lines = labelledPieces('ramp', [
    formatWholeSeconds(seconds),
    `${formatCount(Math.round(ratePerSec))} connections/s`,
  ]);
  if (retransmittedConnects > 0) {
    const connects = retransmittedConnects === 1 ? 'connect' : 'connects';
    const many = synRetransmits > retransmittedConnects ? ` (${formatCount(synRetransmits)} in all)` : '';
    const text = `${formatCount(retransmittedConnects)} ${connects} needed a SYN retransmit${many}`;
    lines.push(...labelled('  SYN', text));
    const ladder = report.kernel.hosts[0]?.synLadderSec ?? [];
    if (ladder.length > 0) {
      const steps = ladder.map((step) => `${step}`).join(', ');
      lines.push(
        ...labelled(
          '',
          `this kernel sends a SYN again after ${steps} s: so are the steps in connect latency`,
        ),
      );
    }
  }
  return lines;
}

/** Open connections by source or endpoint: a list when few, the spread when many, nothing for a single one. */
function spreadLines(label: string, counts: Readonly<Record<string, number>>): string[] {
  const entries = Object.entries(counts);
  if (entries.length < 2) return [];
  if (entries.length <= LIST_MAX) {
    return labelledPieces(
      label,
      entries.map(([name, count]) => `${name} ${formatCount(count)}`),
    );
  }
  const values = entries.map(([, count]) => count);
  const least = formatCount(Math.min(...values));
  const most = formatCount(Math.max(...values));
  return labelled(label, `${formatCount(entries.length)} of them, from ${least} to ${most} connections each`);
}

function backendLines(report: RunReport): string[] {
  const pieces = balancePieces(report);
  return pieces.length === 0 ? [] : labelledPieces('back ends', pieces);
}

function kernelLines(report: RunReport): string[] {
  const { counts } = report.kernel;
  if (counts.length === 0) return [];
  const counters = counterPieces(report.kernel.counters);
  const methods = {
    'sock-diag': 'sock_diag',
    ss: 'ss',
    'proc-net-tcp': '/proc/net/tcp',
    none: 'no way to ask',
  };
  const lines: string[] = [];
  for (const when of ['ramp-end', 'hold-end'] as const) {
    const here = counts.filter((count) => count.when === when);
    if (here.length === 0) continue;
    const asked = here.filter((count) => count.established !== null);
    const moment = when === 'ramp-end' ? 'after the ramp' : 'after the hold';
    const label = lines.length === 0 ? 'kernel' : '';
    if (asked.length === 0) {
      lines.push(...labelled(label, `could not be asked ${moment}`));
      continue;
    }
    const established = asked.reduce((sum, count) => sum + (count.established ?? 0), 0);
    const open = asked.reduce((sum, count) => sum + count.open, 0);
    const others = asked.reduce((sum, count) => sum + (count.others ?? 0), 0);
    const method = methods[asked[0]?.method ?? 'none'];
    const partly = asked.length < here.length ? `, ${asked.length} of ${here.length} agents asked` : '';
    lines.push(
      ...labelledPieces(label, [
        `${formatCount(established)} established ${moment} (${method}${partly})`,
        ...(others === 0 ? [] : [`others ${formatCount(others)}`]),
        `our count ${formatCount(open)}`,
      ]),
    );
  }
  if (counters.length > 0) lines.push(...labelledPieces('', counters));
  return lines;
}

const COUNTERS_SHOWN = [
  ['RetransSegs', 'retransmits'],
  ['TCPSynRetrans', 'SYN retransmits'],
  ['ListenOverflows', 'accept queue overflows'],
  ['TCPAbortOnMemory', 'aborts for memory'],
  ['oom_kill', 'processes killed for memory'],
] as const;

/** What a person should know of the kernel's counters: they are of the whole host. */
function counterPieces(counters: RunReport['kernel']['counters']): string[] {
  return COUNTERS_SHOWN.flatMap(([name, words]) => {
    const count = counters[name] ?? 0;
    return count > 0 ? [`${words} ${formatCount(count)}`] : [];
  });
}

function generatorLines(report: RunReport): string[] {
  const g = report.generator;
  if (g.holders === 0) return [];
  const pieces = [
    `${formatCount(g.holders)} ${g.holders === 1 ? 'holder' : 'holders'}`,
    `CPU ${formatWholeSeconds(g.cpuMs / 1000)}`,
  ];
  if (g.cpuPercentOfOneCoreWhileHolding !== null) {
    pieces.push(`${g.cpuPercentOfOneCoreWhileHolding.toFixed(1)} % of a core while holding`);
  }
  pieces.push(
    `loop lag p99 ${formatMs(g.loopLagMsP99)}`,
    `up to ${formatMs(g.loopLagMsMax)}`,
    ...(g.scheduleLagMsP99 > 1 ? [`connects late p99 ${formatMs(g.scheduleLagMsP99)}`] : []),
    ...(g.rampCpuWaitRatioMax > 0.05
      ? [`waited for a core ${Math.round(g.rampCpuWaitRatioMax * 100)} % of the ramp`]
      : []),
    `resident up to ${formatBytes(g.residentBytesMax)} each`,
    `spare descriptors ${formatCount(g.descriptorHeadroomMin)}`,
    `tuples used ${(g.tupleFillRatio * 100).toFixed(0)} %`,
  );
  return [...labelledPieces('generator', pieces), ...engineLines(report.agents)];
}

/** Agents that are named for one engine at most; of more their number is said. */
const ENGINE_AGENTS_MAX = 4;

/** Each engine once, with its reason; where agents differ, with whose it is. */
function engineLines(agents: readonly AgentReport[]): string[] {
  const byEngine = new Map<string, string[]>();
  for (const { engine, name } of agents) {
    if (engine === null) continue;
    const text = `${engine.name}: ${engine.why}`;
    byEngine.set(text, [...(byEngine.get(text) ?? []), name]);
  }
  const whose = (names: readonly string[]): string => {
    if (byEngine.size === 1) return '';
    return names.length > ENGINE_AGENTS_MAX ? ` (${names.length} agents)` : ` (${names.join(', ')})`;
  };
  const pieces = [...byEngine].map(([text, names]) => `${text}${whose(names)}`);
  return pieces.length === 0 ? [] : labelledPieces('engine', pieces);
}

function agentTable(agents: readonly AgentReport[]): string[] {
  if (agents.length === 0) return [];
  const heads = ['agent', 'quota', 'established', 'held', 'failed', 'dropped', 'capacity', 'bound by'];
  const rows = agents.map((agent) => [
    agent.lost ? `${agent.name} (lost)` : agent.name,
    formatCount(agent.quota),
    formatCount(agent.established),
    formatCount(agent.held),
    formatCount(totalOf(agent.failed)),
    formatCount(totalOf(agent.dropped)),
    formatCount(agent.capacity),
    agent.boundBy,
  ]);
  return table([heads, ...rows]);
}

function noteLines(notes: readonly string[]): string[] {
  if (notes.length === 0) return [];
  return ['', 'notes', ...notes.flatMap((note) => bulleted('-', note))];
}
