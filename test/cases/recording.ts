/**
 * Owns the recording of a case: the report and the raw facts of one run, small enough to be kept and read. Must never hold a
 * path, a host name or a process id of the machine that made it.
 */
import type { Party } from '../../src/base/outcome.ts';
import type { RunReport, VerdictName } from '../../src/judge/report.ts';
import type { CaseSpec } from './case.ts';
import { mainDiagnosis } from './expectation.ts';
import type { PlayedRun } from './stage.ts';

/** What the program said when this was recorded. */
export interface Said {
  readonly verdict: VerdictName | null;
  readonly whoRanOut: Party | null;
  readonly rules: readonly string[];
}

export interface Recording extends PlayedRun {
  readonly fault: string;
  readonly recordedOn: string;
  readonly today: Said;
}

const LOSS_COUNTS_MAX = 12;
const TIMELINE_MAX = 30;
const SAID_MAX = 12;
const PLACES_MAX = 16;
const TEXT_MAX = 2_500;
const TEXT_END = 1_000;

function few<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).slice(0, PLACES_MAX));
}

/** Leaves out what no rule can use: histograms, each holder's health, further sources. */
function smallReport(report: RunReport): RunReport {
  const bare = { histogram: null };
  return {
    ...report,
    startedAt: '',
    endedAt: '',
    connectMs: { ...report.connectMs, ...bare },
    connectFromIntendedMs: { ...report.connectFromIntendedMs, ...bare },
    echoMs: { ...report.echoMs, ...bare },
    tls: report.tls === null ? null : { ...report.tls, handshakeMs: { ...report.tls.handshakeMs, ...bare } },
    losses: { ...report.losses, counts: report.losses.counts.slice(0, LOSS_COUNTS_MAX) },
    bySource: few(report.bySource),
    byEndpoint: few(report.byEndpoint),
    findings: report.findings.filter(({ severity }) => severity !== 'ok'),
    agents: report.agents.map((agent) => ({ ...agent, sources: agent.sources.slice(0, 4), holders: [] })),
    timeline: report.timeline.slice(0, TIMELINE_MAX),
  };
}

/** Process ids differ from run to run and say nothing. */
function withoutPids(text: string): string {
  return text.replace(/\bpid \d+/g, 'pid N').replace(/node\[\d+\]/g, 'node[N]');
}

/** One line for each part, so that a difference between two recordings can be read. */
export function writtenRecording(recording: Recording): string {
  const { report, ...rest } = recording;
  const lines = (record: object, indent: string): string =>
    Object.entries(record)
      .map(([key, value]) => `${indent}${JSON.stringify(key)}: ${JSON.stringify(value)}`)
      .join(',\n');
  const last = report === null ? 'null' : `{\n${lines(report, '    ')}\n  }`;
  return `{\n${lines(rest, '  ')},\n  "report": ${last}\n}\n`;
}

/** Begin and end: the verdict is last. */
function shortText(text: string): string {
  if (text.length <= TEXT_MAX) return text;
  return `${text.slice(0, TEXT_MAX - TEXT_END)} ... ${text.slice(-TEXT_END)}`;
}

/** What is kept of a run. */
export function recordingOf(spec: CaseSpec, run: PlayedRun, recordedOn: string): Recording {
  const { report } = run;
  const main = report === null ? null : mainDiagnosis(report.diagnoses);
  const others = report === null ? [] : report.diagnoses.filter((one) => one !== main);
  return {
    fault: spec.fault,
    command: run.command,
    recordedOn,
    exitCode: run.exitCode,
    today: {
      verdict: report?.verdict ?? null,
      whoRanOut: report?.whoRanOut ?? null,
      rules: [...(main === null ? [] : [main]), ...others].map(({ what }) => what),
    },
    truth: run.truth,
    farSide: run.farSide,
    // Of TLS each text is another one.
    wire: run.wire === null ? null : { ...run.wire, said: run.wire.said.slice(0, SAID_MAX) },
    counters: run.counters,
    aftermath: run.aftermath,
    text: shortText(withoutPids(run.text)),
    report:
      report === null ? null : (JSON.parse(withoutPids(JSON.stringify(smallReport(report)))) as RunReport),
  };
}
