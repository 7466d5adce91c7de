/**
 * Owns tables of counts by key, and their addition. They have no prototype: a key that another process chose, such as
 * `toString`, finds nothing there that it did not put there. Must never drop a count.
 */

/** A table in which nothing is counted yet. */
export function emptyCounts<Key extends string = string>(): Partial<Record<Key, number>> {
  return Object.create(null) as Partial<Record<Key, number>>;
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
