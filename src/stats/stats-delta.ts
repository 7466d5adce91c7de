/**
 * Owns what of an agent's stats is worth saying again, and putting together what was said: histograms that have not changed are left
 * out, and of one that has grown a little only what came to it, where the other side takes that. Must never lose a count.
 *
 * Histograms are most of the bytes of a stats message, and in a silent hold none of them changes for hours. When a message
 * was lost is not known here: the sender sends everything again after contact was cut.
 */
import type { Evidence } from './evidence.ts';
import {
  compactHistogram,
  grownBy,
  grownHistogram,
  histogramCount,
  type SparseHistogram,
} from './histogram.ts';
import { changedLoad, type LoadCounts } from './load-counts.ts';
import type { Stats } from './stats.ts';

const HISTOGRAMS = [
  'connectUs',
  'connectFromIntendedUs',
  'probeUs',
] as const satisfies readonly (keyof Stats)[];
type HistogramField = (typeof HISTOGRAMS)[number];

/** Stats in which null stands for a histogram, or evidence, that has not changed since the last ones on the same channel. */
export type StatsDelta = Omit<Stats, HistogramField | 'evidence' | 'load'> & {
  readonly [Field in HistogramField]: SparseHistogram | null;
} & {
  readonly evidence?: Evidence | null;
  readonly load?: LoadCounts | null;
  /** what came to histograms that are null here, since the last ones on the same channel; absent: nothing */
  readonly grown?: Grown;
};

/** By histogram: what came to it, which is never nothing. */
type Grown = { readonly [Field in HistogramField]?: SparseHistogram };

/**
 * What of the stats the other side does not know.
 * @param sent the stats that were sent last on this channel; null: none, so everything has changed
 * @param takesGrowth whether the other side knows `grown`; without, a histogram that has changed is said whole
 */
export function statsDelta(stats: Stats, sent: Stats | null, takesGrowth = false): StatsDelta {
  const grown: { [Field in HistogramField]?: SparseHistogram } = {};
  const changed = (field: HistogramField): SparseHistogram | null => {
    const now = stats[field];
    const before = sent?.[field];
    if (before === undefined) return now;
    // A histogram only grows, so its total tells whether it changed.
    if (before === now || histogramCount(before) === histogramCount(now)) return null;
    const added = takesGrowth ? grownBy(before, now) : null;
    if (added === null || added.length >= now.length) return now;
    grown[field] = added;
    return null;
  };
  const [connectUs, connectFromIntendedUs, probeUs] = HISTOGRAMS.map(changed) as [
    SparseHistogram | null,
    SparseHistogram | null,
    SparseHistogram | null,
  ];
  return {
    ...stats,
    connectUs,
    connectFromIntendedUs,
    probeUs,
    ...(Object.keys(grown).length === 0 ? {} : { grown }),
    ...(stats.load === undefined ? {} : { load: changedLoad(stats.load, sent?.load) }),
    ...(stats.evidence === undefined ? {} : { evidence: changedEvidence(stats.evidence, sent?.evidence) }),
  };
}

/** In a silent hold nothing of it changes for hours, and it is the longest part of a message. */
function changedEvidence(now: Evidence, sent: Evidence | undefined): Evidence | null {
  return sent !== undefined && JSON.stringify(sent) === JSON.stringify(now) ? null : now;
}

/** The whole stats again, from what was said and what was known before. They are to be kept, so their histograms are compact. */
export function withDelta(known: Stats, { evidence, load, grown, ...said }: StatsDelta): Stats {
  const keptLoad = load === null ? known.load : load;
  const kept = evidence === null ? known.evidence : evidence;
  const whole = (field: HistogramField): SparseHistogram => {
    const given = said[field];
    if (given !== null) return compactHistogram(given);
    const added = grown?.[field];
    return added === undefined ? known[field] : grownHistogram(known[field], added);
  };
  return {
    ...said,
    ...(kept === undefined ? {} : { evidence: kept }),
    ...(keptLoad === undefined ? {} : { load: keptLoad }),
    connectUs: whole('connectUs'),
    connectFromIntendedUs: whole('connectFromIntendedUs'),
    probeUs: whole('probeUs'),
  };
}
