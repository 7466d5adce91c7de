/**
 * Owns the standard wire format of a histogram: HdrHistogram V2, compressed, base64, as other tools read it.
 * Must never be imported by a holder or a worker of the target: the complete package costs 15 MB resident.
 */
import {
  decodeFromCompressedBase64,
  encodeIntoCompressedBase64,
  Float64Histogram,
  type Histogram,
} from 'hdr-histogram-js';
import { LATENCY_US_MAX, LATENCY_US_MIN, SIGNIFICANT_DIGITS, type SparseHistogram } from './histogram.ts';

/**
 * Encodes a histogram for a report.
 * @param sparse latencies in microseconds
 * @returns base64; the part of the format that says the range and the digits is taken from stats/histogram.ts
 */
export function encodeHistogram(sparse: SparseHistogram): string {
  // Double-width counts: a merged histogram may hold more than 2^32 of one value.
  const histogram = new Float64Histogram(LATENCY_US_MIN, LATENCY_US_MAX, SIGNIFICANT_DIGITS);
  for (let at = 0; at < sparse.length; at += 2) {
    histogram.recordValueWithCount(histogram.valueFromIndex(sparse[at]!), sparse[at + 1]!);
  }
  return encodeIntoCompressedBase64(histogram);
}

/**
 * Values of an encoded histogram, which may come from any file.
 * @param percents 0 to 100 each
 * @returns microseconds, one for each; null: it is no histogram
 */
export function decodedValuesUs(encoded: string, percents: readonly number[]): readonly number[] | null {
  try {
    const histogram: Histogram = decodeFromCompressedBase64(encoded);
    const values = percents.map((percent) => histogram.getValueAtPercentile(percent));
    return values.every(Number.isFinite) ? values : null;
  } catch {
    return null;
  }
}
