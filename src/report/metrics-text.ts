/**
 * Owns the metrics of a run as other programs take them: text for Prometheus, for its textfile collector and for a scrape, and
 * JSON of OTLP. All have the same names. Must never count a connection twice: what agents report is not summed beside it.
 *
 * Prometheus is text 0.0.4: `# HELP`, `# TYPE`, then one sample a line; label values escape backslash, quote and newline. OTLP is
 * the JSON of opentelemetry-proto's ExportMetricsServiceRequest: names in lowerCamelCase, 64-bit integers as text.
 */

import { cleanDeep } from '../base/clean-text.ts';
import { recoverySec } from '../judge/metric.ts';
import type { AgentReport, Latency, RunReport } from '../judge/report.ts';
import { balanceRatio } from '../stats/balance.ts';
import { type Incident, RECOVERY_PARTS, type RecoveryPart } from '../stats/incident-log.ts';
import { backendName } from './balance-text.ts';

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly labels?: Labels;
  readonly value: number | null;
}

interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

function byReason(counts: Readonly<Record<string, number | undefined>>, labels: Labels = {}): Sample[] {
  return Object.entries(counts).map(([reason, value]) => ({
    labels: { ...labels, reason },
    value: value ?? 0,
  }));
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

/** What an agent counts itself. */
const AGENT_STATES = ['established', 'held', 'verified', 'open'] as const;

function agentStates(agent: AgentReport): Sample[] {
  return AGENT_STATES.map((state) => ({ labels: { agent: agent.name, state }, value: agent[state] }));
}

/** @param byAgent what agents count is given agent by agent, in place of its sum */
function connectionGauges(report: RunReport, byAgent: boolean): Gauge[] {
  const { connections: c, agents } = report;
  const sums: Sample[] = AGENT_STATES.map((state) => ({ labels: { state }, value: c[state] }));
  const perAgent = (pick: (agent: AgentReport) => AgentReport['failed' | 'dropped']): Sample[] =>
    agents.flatMap((agent) => byReason(pick(agent), { agent: agent.name }));
  return [
    {
      name: 'connections',
      help: 'connections by what became of them',
      samples: [
        { labels: { state: 'asked' }, value: report.asked.connections },
        ...(byAgent ? agents.flatMap(agentStates) : sums),
        { labels: { state: 'reopened' }, value: c.reopened },
        { labels: { state: 'unattempted' }, value: c.unattempted },
        { labels: { state: 'seen_by_target' }, value: report.target?.openNow ?? null },
      ],
    },
    {
      name: 'connections_failed',
      help: 'connects that did not become connections, by reason',
      samples: byAgent ? perAgent(({ failed }) => failed) : byReason(c.failed),
    },
    {
      name: 'connections_dropped',
      help: 'connections that were lost while held, by reason',
      samples: byAgent ? perAgent(({ dropped }) => dropped) : byReason(c.dropped),
    },
  ];
}

/** Connections by back end, at the end of the hold or now. */
function balanceGauges({ balance }: RunReport): Gauge[] {
  const last = balance?.end ?? balance?.series.at(-1);
  if (!balance || !last) return [];
  return [
    {
      name: 'backend_connections',
      help: 'open connections by back end',
      samples: Object.entries(last.open).map(([name, value]) => ({
        labels: { backend: backendName(name) },
        value,
      })),
    },
    {
      name: 'backend_balance',
      help: 'the highest number of connections of one back end over the mean of all',
      samples: [{ value: balanceRatio(last.open) }],
    },
  ];
}

/** Drops and how they came back: the slowest of each part, as requirements name it. */
function incidentGauges({ incidents }: RunReport): Gauge[] {
  if (!incidents) return [];
  const most = (pick: (incident: Incident) => number): Sample[] => [
    { value: Math.max(0, ...incidents.map(pick)) },
  ];
  return [
    {
      name: 'incidents',
      help: 'drops of 1 % or more within a second',
      samples: [{ value: incidents.length }],
    },
    {
      name: 'incidents_missing',
      help: 'connections that were lost in them and are not back',
      samples: [{ value: incidents.at(-1)?.missing ?? 0 }],
    },
    {
      name: 'recovery_seconds',
      help: 'until a part of the connections that were lost together was back, in the slowest incident; left out: not yet',
      samples: Object.keys(RECOVERY_PARTS).flatMap((part) => {
        const value = recoverySec(incidents, part as RecoveryPart);
        return value === null || value === Number.POSITIVE_INFINITY ? [] : [{ labels: { part }, value }];
      }),
    },
    {
      name: 'recovery_connects_per_second_max',
      help: 'the most connects that were called within one second of an incident',
      samples: most(({ connectsPerSecMax }) => connectsPerSecMax),
    },
    {
      name: 'recovery_connects_refused',
      help: 'connects that were refused in the incident with the most of them',
      samples: most(({ refused }) => refused),
    },
  ];
}

/** What is known of a run only when it is over. */
function endGauges(report: RunReport): Gauge[] {
  const passed = report.verdict === 'pass' ? 1 : 0;
  return [
    { name: 'run_passed', help: '1 when the run kept every requirement', samples: [{ value: passed }] },
    { name: 'run_exit_code', help: 'exit code of the run', samples: [{ value: report.exitCode }] },
    {
      name: 'run_end_seconds',
      help: 'when the run ended, seconds since the epoch',
      samples: [{ value: Date.parse(report.endedAt) / 1_000 }],
    },
  ];
}

/** Of messages that were asked for. */
function messageGauges({ messages }: RunReport): Gauge[] {
  if (messages == null) return [];
  const { sent, answered, wrong, late, missing, ratePerSec, areAnswered } = messages;
  const counts = areAnswered ? { sent, answered, wrong, late, missing } : { sent };
  return [
    {
      name: 'messages',
      help: 'messages by what became of them; late ones are answered too',
      samples: Object.entries(counts).map(([state, value]) => ({ labels: { state }, value })),
    },
    {
      name: 'messages_per_second',
      help: 'messages sent in a second of the hold',
      samples: [{ value: ratePerSec }],
    },
  ];
}

function gaugesOf(report: RunReport, byAgent: boolean): Gauge[] {
  const { generator: g } = report;
  const single = (name: string, help: string, value: number | null): Gauge => ({
    name,
    help,
    samples: [{ value }],
  });
  return [
    ...(report.isPartial ? [] : endGauges(report)),
    ...connectionGauges(report, byAgent),
    { name: 'connect_seconds', help: 'connect latency by quantile', samples: quantiles(report.connectMs) },
    { name: 'probe_seconds', help: 'probe latency by quantile', samples: quantiles(report.echoMs) },
    ...messageGauges(report),
    single(
      'latency_trustworthy',
      '0 when the generator was too slow to measure',
      report.latencyTrustworthy ? 1 : 0,
    ),
    ...incidentGauges(report),
    ...balanceGauges(report),
    single('ramp_seconds', 'first connect to last established', report.ramp.seconds),
    single('hold_seconds', 'how long was held', report.hold.seconds),
    single('syn_retransmits', 'SYNs that were sent again', report.ramp.synRetransmits),
    single(
      'kernel_established',
      'sockets that the kernels called established at the end of the hold',
      report.kernel.established,
    ),
    {
      name: 'generator_loop_lag_seconds',
      help: 'how late the loops of the holders were',
      samples: [
        { labels: { quantile: '0.99' }, value: g.loopLagMsP99 / 1_000 },
        { labels: { quantile: '1' }, value: g.loopLagMsMax / 1_000 },
      ],
    },
    {
      name: 'requirement_passed',
      help: '1 when a requirement holds',
      samples: report.requirements.map(({ requirement, passed }) => ({
        labels: { requirement },
        value: passed ? 1 : 0,
      })),
    },
  ];
}

/** A metric without any sample is left out, head and all. */
function gaugeText({ name, help, samples }: Gauge, labels: Labels): string {
  const lines = samples.flatMap((sample) =>
    sample.value === null
      ? []
      : [`c100k_${name}${labelText({ ...labels, ...sample.labels })} ${sample.value}`],
  );
  if (lines.length === 0) return '';
  return [`# HELP c100k_${name} ${help}`, `# TYPE c100k_${name} gauge`, ...lines, ''].join('\n');
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([key, value]) =>
      `${key}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

/**
 * The numbers of a run as gauges for the textfile collector of a node exporter, ending in a line break.
 * @param given the final numbers
 */
export function prometheusText(given: RunReport): string {
  const report = cleanDeep(given);
  return gaugesOf(report, false)
    .map((gauge) => gaugeText(gauge, {}))
    .join('');
}

/** What tells a run from others: its name, or when it began. */
function labelsOf({ about, startedAt, asked }: RunReport): Labels {
  return { run: about?.name ?? startedAt, target: asked.target.join(' ') };
}

/**
 * The same gauges for a scrape: each with its run and target; what an agent counts, with the agent in place of the sum.
 * @param given the numbers so far
 */
export function scrapeText(given: RunReport): string {
  const report = cleanDeep(given);
  const labels = labelsOf(report);
  return gaugesOf(report, true)
    .map((gauge) => gaugeText(gauge, labels))
    .join('');
}

/**
 * The same gauges as the body of a request to `/v1/metrics`.
 * @param given the numbers so far
 * @param wallMs when they were so, since the epoch
 */
export function otlpJson(given: RunReport, wallMs: number): string {
  const report = cleanDeep(given);
  const attributesOf = (labels: Labels): object[] =>
    Object.entries(labels).map(([key, stringValue]) => ({ key, value: { stringValue } }));
  const timeUnixNano = `${Math.round(wallMs)}000000`;
  const metrics = gaugesOf(report, true).flatMap(({ name, help, samples }) => {
    const dataPoints = samples.flatMap(({ labels = {}, value }) =>
      value === null ? [] : [{ attributes: attributesOf(labels), timeUnixNano, asDouble: value }],
    );
    return dataPoints.length === 0
      ? []
      : [{ name: `c100k_${name}`, description: help, gauge: { dataPoints } }];
  });
  const service = { 'service.name': 'c100k-bench', 'service.version': report.toolVersion };
  const resource = { attributes: attributesOf({ ...service, ...labelsOf(report) }) };
  const scope = { name: 'c100k-bench', version: report.toolVersion };
  return JSON.stringify({ resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics }] }] });
}
