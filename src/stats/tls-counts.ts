/**
 * Owns the figures of TLS sessions, and their addition. Must never hold a certificate or a key.
 */
import { addBounded } from '../base/counts.ts';
import { mergeHistograms, type SparseHistogram } from './histogram.ts';

/** Names of ciphers that a report tells apart; what goes beyond is counted as `other`. */
const CIPHERS_MAX = 256;

/** Cumulative. */
export interface TlsCounts {
  /** sessions that were agreed on */
  readonly sessions: number;
  /** of these, taken up from an earlier one; a full handshake costs the target more */
  readonly resumed: number;
  /** of these, with a certificate that would not have passed (`--insecure`) */
  readonly unverified: number;
  /** microseconds from the kernel's connect to the agreed session */
  readonly handshakeUs: SparseHistogram;
  /** sessions by `protocol cipher`, such as `TLSv1.3 TLS_AES_256_GCM_SHA384` */
  readonly ciphers: Readonly<Record<string, number>>;
}

/** The sum of two parts. */
export function mergeTls(a: TlsCounts, b: TlsCounts): TlsCounts {
  return {
    sessions: a.sessions + b.sessions,
    resumed: a.resumed + b.resumed,
    unverified: a.unverified + b.unverified,
    handshakeUs: mergeHistograms(a.handshakeUs, b.handshakeUs),
    ciphers: addBounded(a.ciphers, b.ciphers, CIPHERS_MAX, 'other'),
  };
}
