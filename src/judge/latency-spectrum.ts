/**
 * Owns the percentiles of a latency that a report carries as an encoded histogram, dense towards the slow end.
 * Must never fail for a histogram that cannot be read: the spectrum is then absent.
 */
import { decodedValuesUs } from '../stats/histogram-encoding.ts';
import type { Latency } from './report.ts';

/** A share of all, and the time that it did not exceed. */
interface SpectrumPoint {
  /** 0 to 100 */
  readonly percent: number;
  readonly ms: number;
}

/** Half of what is left at each step: 50, 75, 87.5, ... */
const HALVINGS = 20;
/** Text of a histogram that is decoded at most: ours has some 10,000 characters. */
const ENCODED_MAX = 1_000_000;

/**
 * The spectrum.
 * @returns ascending, ending with the maximum at 100; null: nothing was measured, or the histogram cannot be read
 */
export function latencySpectrum({ count, histogram }: Latency): readonly SpectrumPoint[] | null {
  if (histogram === null || count === 0 || histogram.length > ENCODED_MAX) return null;
  const percents = [0, 10, 25];
  for (let step = 1; step <= HALVINGS; step++) {
    const left = 100 / 2 ** step;
    // Beyond one of all there is only the maximum.
    if ((left / 100) * count < 1) break;
    percents.push(100 - left);
    if ((left / 100) * count >= 4) percents.push(100 - left * 0.75);
  }
  percents.push(100);
  const values = decodedValuesUs(histogram, percents);
  if (values === null) return null;
  return percents.map((percent, at) => ({ percent, ms: (values[at] ?? 0) / 1_000 }));
}
