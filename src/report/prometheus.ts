/**
 * Owns the report as a Prometheus text file, for the textfile collector of a node exporter. Must never speak HTTP.
 *
 * The format is text 0.0.4: `# HELP`, `# TYPE`, then one sample a line; label values escape backslash, quote and newline.
 */
import { cleanDeep } from '../base/clean-text.ts';
import type { Latency, RunReport } from '../judge/report.ts';

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
