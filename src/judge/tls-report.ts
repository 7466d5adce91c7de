/**
 * Owns what a report says about TLS sessions. Must never judge them.
 */

import { formatCount } from '../base/units.ts';
import { latencySummary, type SparseHistogram } from '../stats/histogram.ts';
import type { TlsCounts } from '../stats/tls-counts.ts';
import type { Latency, TlsReport } from './report.ts';

/** The report's object. @param latencyOf how this report writes a latency */
export function tlsReportOf(
  { handshakeUs, ...counts }: TlsCounts,
  latencyOf: (sparse: SparseHistogram) => Latency,
): TlsReport {
  return { ...counts, handshakeMs: latencyOf(handshakeUs) };
}

/** One line for a person; none when no session was agreed on. */
export function tlsNotes(tls: TlsCounts | undefined): string[] {
  if (tls === undefined || tls.sessions === 0) return [];
  const { p50, p99 } = latencySummary(tls.handshakeUs);
  const ms = (us: number | null): string => `${((us ?? 0) / 1_000).toFixed(1)} ms`;
  const ciphers = Object.entries(tls.ciphers).map(([name, count]) => `${formatCount(count)} x ${name}`);
  const unchecked =
    tls.unverified === 0
      ? ''
      : `; ${formatCount(tls.unverified)} certificates would not have passed without --insecure`;
  return [
    `tls: ${formatCount(tls.sessions)} sessions, ${formatCount(tls.resumed)} resumed, handshake p50 ${ms(p50)} ` +
      `p99 ${ms(p99)}, ${ciphers.join(', ')}${unchecked}`,
  ];
}
