/**
 * Owns the closed lists of what can happen to one connection: why a connect failed, why a held connection
 * dropped, why a tuple was skipped. Must never hold a count (stats.ts) or a decision (verdict.ts).
 */

/** Why a connect did not become an open connection. */
export const FailReason = {
  refused: 'refused',
  timeout: 'timeout',
  reset: 'reset',
  unreachable: 'unreachable',
  prohibited: 'prohibited',
  handshake: 'handshake',
  tls: 'tls',
  descriptors: 'descriptors',
  memory: 'memory',
  sourceExhausted: 'source-exhausted',
  sourceLost: 'source-lost',
  other: 'other',
} as const;
export type FailReason = (typeof FailReason)[keyof typeof FailReason];

/** Why an open connection was lost while we wanted to hold it. */
export const DropReason = {
  fin: 'fin',
  rst: 'rst',
  timeout: 'timeout',
  unreachable: 'unreachable',
  probeTimeout: 'probe-timeout',
  probeMismatch: 'probe-mismatch',
  protocol: 'protocol',
  tls: 'tls',
  holderLost: 'holder-lost',
  agentLost: 'agent-lost',
  aliasLost: 'alias-lost',
  other: 'other',
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** Why a tuple was passed over. Never a failure of the target. */
export const SkipReason = {
  portInUse: 'port-in-use',
  tupleInUse: 'tuple-in-use',
  selfConnect: 'self-connect',
  other: 'other',
} as const;
export type SkipReason = (typeof SkipReason)[keyof typeof SkipReason];

const DROP_REASONS: ReadonlySet<string> = new Set(Object.values(DropReason));

/** Whether a word is of the closed list. */
export function isDropReason(word: string): word is DropReason {
  return DROP_REASONS.has(word);
}

/** Which of the three machines ran out. */
export type Party = 'target' | 'path' | 'generator' | 'unknown';

/** Counts by reason; a reason that never happened is absent. */
export type Counts<Reason extends string> = Partial<Record<Reason, number>>;

/** The failures that our own host caused: they make a run incomplete, not failed. */
const GENERATOR_FAILS: ReadonlySet<string> = new Set<FailReason>([
  FailReason.descriptors,
  FailReason.memory,
  FailReason.sourceExhausted,
  FailReason.sourceLost,
  FailReason.prohibited,
]);

/** The losses that our own side caused. */
const GENERATOR_DROPS: ReadonlySet<string> = new Set<DropReason>([
  DropReason.holderLost,
  DropReason.agentLost,
  DropReason.aliasLost,
]);

/** Whether a failed connect is the generator's own doing. */
export function isGeneratorFail(reason: FailReason): boolean {
  return GENERATOR_FAILS.has(reason);
}

/** Whether a lost connection is the generator's own doing. */
export function isGeneratorDrop(reason: DropReason): boolean {
  return GENERATOR_DROPS.has(reason);
}

/** The sum of counts over all reasons. */
export function totalOf(counts: Counts<string>): number {
  let total = 0;
  for (const count of Object.values(counts)) total += count ?? 0;
  return total;
}
