/**
 * Owns what a target that counts for itself says of itself, as it crosses `--target-stats`. Must never trust it: it came
 * over the network.
 */

/** What the built-in target tells. */
export interface TargetCounts {
  readonly openNow: number;
  readonly openMax: number;
  readonly acceptedTotal: number;
  readonly sourceAddresses: number;
  readonly descriptorsFull: number;
  readonly workersLost: number;
}

const FIELDS = [
  'openNow',
  'openMax',
  'acceptedTotal',
  'sourceAddresses',
  'descriptorsFull',
  'workersLost',
] as const satisfies readonly (keyof TargetCounts)[];

/**
 * What several targets hold together: sums, with two exceptions. Maxima of different moments cannot be added, so `openMax`
 * is what is open now; and the same source may connect to each, so `sourceAddresses` is that of the one that sees most.
 * @param counts at least one
 */
export function addTargetCounts(counts: readonly TargetCounts[]): TargetCounts {
  const [only] = counts;
  if (counts.length === 1 && only !== undefined) return only;
  const sum = (pick: (one: TargetCounts) => number): number =>
    counts.reduce((all, one) => all + pick(one), 0);
  const openNow = sum((one) => one.openNow);
  return {
    openNow,
    openMax: openNow,
    acceptedTotal: sum((one) => one.acceptedTotal),
    sourceAddresses: Math.max(...counts.map((one) => one.sourceAddresses)),
    descriptorsFull: sum((one) => one.descriptorsFull),
    workersLost: sum((one) => one.workersLost),
  };
}

/**
 * Reads an answer.
 * @param text JSON; further fields are left alone
 * @returns null when it is not what a target says
 */
export function parseTargetCounts(text: string): TargetCounts | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isCounts(value)) return null;
  const { openNow, openMax, acceptedTotal, sourceAddresses, descriptorsFull, workersLost } = value;
  const counts = { openNow, openMax, acceptedTotal, sourceAddresses, descriptorsFull, workersLost };
  // Who holds more than it ever held, or ever accepted, tells of something else.
  return counts.openNow <= counts.openMax && counts.openMax <= counts.acceptedTotal ? counts : null;
}

function isCounts(value: unknown): value is TargetCounts {
  if (typeof value !== 'object' || value === null) return false;
  const given = new Map(Object.entries(value));
  return FIELDS.every((field) => {
    const count: unknown = given.get(field);
    return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0;
  });
}
