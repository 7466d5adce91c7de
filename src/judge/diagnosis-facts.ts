/**
 * Owns what a diagnosis may rest on: the numbers of a report, and the evidence beside them, each part of which an older agent may
 * not have sent. Must never read an absent part as zero.
 */
import type { Counts, DropReason, FailReason } from '../base/outcome.ts';
import type { KernelEvidence } from '../host/kernel-evidence.ts';
import type { SparseHistogram } from '../stats/histogram.ts';
import type { RunReport, TimelinePoint } from './report.ts';

/** Counts over time by kind, buckets of `2^folds` units each since the run's start. */
interface Series<Kind extends string> {
  readonly folds: number;
  readonly counts: Readonly<Record<Kind, readonly number[]>>;
}

/** Lengths of time in milliseconds, with their exact least and most. */
export interface Durations {
  readonly histogram: SparseHistogram;
  readonly leastMs: number;
  readonly mostMs: number;
}

/** What became of the connects to one endpoint, or of one source. */
export interface PlaceCounts {
  readonly asked: number;
  readonly established: number;
  readonly failed: Counts<FailReason>;
  readonly dropped: Counts<DropReason>;
}

interface Words {
  readonly asked: number;
  readonly answered: number;
  readonly reset: number;
  readonly silent: number;
}

type ByEnd = { readonly fin: Durations; readonly rst: Durations };

/** When, where, how old, what was said, what was sent: see stats/evidence.ts, which sends it. */
export interface DiagnosisEvidence {
  /** by the time of the call */
  readonly connectsAt?: Series<'established' | 'answeredNo' | 'silent'>;
  readonly lossesAt?: Series<'fin' | 'rst' | 'silent'>;
  readonly lossAgeMs?: ByEnd;
  readonly lossSilenceMs?: ByEnd;
  readonly byEndpoint?: Readonly<Record<string, PlaceCounts>>;
  readonly bySourceOutcome?: Readonly<Record<string, PlaceCounts>>;
  /** by block of 1,024 source ports */
  readonly byPortBlock?: Readonly<
    Record<'asked' | 'established' | 'answeredNo' | 'silent', readonly number[]>
  >;
  /** refusals by the number of successes since the refusal before, in the order of the calls; the last one: so many or more */
  readonly gapsBetweenFailures?: readonly number[];
  readonly said?: {
    readonly texts: readonly { readonly text: string; readonly first: number; readonly last: number }[];
  };
  readonly notSent?: number;
  readonly notAcknowledged?: number;
  readonly acknowledged?: number;
  /** lost before their application had ever answered, where it is asked */
  readonly lostUnanswered?: number;
  /** connects by `ADDRESS TYPE/CODE` of the ICMP error that ended them */
  readonly rejections?: Readonly<Record<string, number>>;
  readonly finalCheck?: { readonly rampEnd: Words; readonly holdEnd: Words };
}

/** What a diagnosis rests on; a report has it all. */
export type DiagnosisFacts = Pick<
  RunReport,
  'asked' | 'connections' | 'probes' | 'losses' | 'hold' | 'kernel' | 'target' | 'agents'
> & {
  readonly generator: Pick<RunReport['generator'], 'limits' | 'loopLagMsMax'>;
  /** only where a whoami target was asked */
  readonly seen?: RunReport['seen'];
  readonly evidence?: DiagnosisEvidence | null;
  readonly timeline?: readonly TimelinePoint[];
  readonly connectMs?: Pick<RunReport['connectMs'], 'max'>;
  readonly echoMs?: Pick<RunReport['echoMs'], 'p90'>;
  readonly troubles?: RunReport['troubles'];
};

type Aftermath = NonNullable<KernelEvidence['aftermath']>[string];
type FarSide = NonNullable<KernelEvidence['farSide']>[string];

/** A counter of the kernel, summed over hosts. */
export function counterOf(facts: DiagnosisFacts, name: string): number {
  return facts.kernel.counters[name] ?? 0;
}

/** What was found of the listeners of this host that are endpoints. */
export function farSidesOf(facts: DiagnosisFacts): readonly FarSide[] {
  return facts.kernel.hosts.flatMap(({ farSide }) => Object.values(farSide ?? {}));
}

/** One more connect to each endpoint, over all agents. */
export function aftermathsOf(facts: DiagnosisFacts): readonly Aftermath[] {
  return facts.kernel.hosts.flatMap(({ aftermath }) => Object.values(aftermath ?? {}));
}

/** How all further connects ended; null: none was made, or they differ. */
export function newConnects(facts: DiagnosisFacts): Aftermath['connect'] | null {
  const all = new Set(aftermathsOf(facts).map(({ connect }) => connect));
  return all.size === 1 ? ([...all][0] ?? null) : null;
}

/** Whether a router is on the way to every endpoint (or to none); null: not known, or they differ. */
export function isRouted(facts: DiagnosisFacts): boolean | null {
  const all = new Set(aftermathsOf(facts).map((one) => one.isRouted));
  return all.size === 1 ? ([...all][0] ?? null) : null;
}
