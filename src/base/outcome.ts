/**
 * Owns the reasons under which a connection that failed, was lost or was never tried is counted, and tables of counts by
 * key with their addition. Must never drop a count.
 *
 * Tables have no prototype: a key that another process chose, such as `toString`, finds nothing there that it did not put
 * there.
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

/** Counts by key; a key that only one side has keeps its number. */
export function addCounts<Key extends string>(
  a: Readonly<Partial<Record<Key, number>>>,
  b: Readonly<Partial<Record<Key, number>>>,
): Partial<Record<Key, number>> {
  const sum: Partial<Record<Key, number>> = Object.assign(Object.create(null), a);
  for (const key of Object.keys(b) as Key[]) sum[key] = (sum[key] ?? 0) + (b[key] ?? 0);
  return sum;
}

/**
 * The same with a bound on the keys: what finds no room is counted under `other`, so the sum stays true.
 * @param keysMax without `other`
 */
export function addBounded(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
  keysMax: number,
  other: string,
): Record<string, number> {
  const sum: Record<string, number> = Object.assign(Object.create(null), a);
  let room = keysMax - Object.keys(a).length;
  for (const [key, count] of Object.entries(b)) {
    const isNew = sum[key] === undefined;
    const into = isNew && room <= 0 ? other : key;
    if (isNew && into === key) room -= 1;
    sum[into] = (sum[into] ?? 0) + count;
  }
  return sum;
}
