/**
 * Owns which histograms of a stats message are worth saying again: they are most of its bytes, and in a silent hold none of
 * them changes for hours. Must never know when a message was lost: who sends says everything again after a cut.
 */
import { histogramCount, type SparseHistogram } from './histogram.ts';
import type { Stats } from './stats.ts';

type HistogramField = 'connectUs' | 'connectFromIntendedUs' | 'probeUs';

/** Stats in which null stands for a histogram that has not changed since the last ones on the same channel. */
export type StatsNews = Omit<Stats, HistogramField> & {
  readonly [Field in HistogramField]: SparseHistogram | null;
};

/** A histogram only grows, so its total tells whether it changed. */
function news(now: SparseHistogram, told: SparseHistogram | undefined): SparseHistogram | null {
  return told !== undefined && histogramCount(told) === histogramCount(now) ? null : now;
}

/**
 * What of the stats the other side does not know.
 * @param told the stats that were said last on this channel; null: none, so everything is news
 */
export function statsNews(stats: Stats, told: Stats | null): StatsNews {
  return {
    ...stats,
    connectUs: news(stats.connectUs, told?.connectUs),
    connectFromIntendedUs: news(stats.connectFromIntendedUs, told?.connectFromIntendedUs),
    probeUs: news(stats.probeUs, told?.probeUs),
  };
}

/** The whole stats again, from news and what was known before. */
export function withNews(known: Stats, said: StatsNews): Stats {
  return {
    ...said,
    connectUs: said.connectUs ?? known.connectUs,
    connectFromIntendedUs: said.connectFromIntendedUs ?? known.connectFromIntendedUs,
    probeUs: said.probeUs ?? known.probeUs,
  };
}
