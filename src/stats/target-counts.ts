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
  if (typeof value !== 'object' || value === null) return null;
  const given = value as Readonly<Record<string, unknown>>;
  const isWhole = FIELDS.every(
    (field) => Number.isSafeInteger(given[field]) && (given[field] as number) >= 0,
  );
  if (!isWhole) return null;
  const counts = Object.fromEntries(FIELDS.map((field) => [field, given[field]])) as unknown as TargetCounts;
  // Who holds more than it ever held, or ever accepted, tells of something else.
  return counts.openNow <= counts.openMax && counts.openMax <= counts.acceptedTotal ? counts : null;
}
