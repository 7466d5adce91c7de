/**
 * Owns whether a value that another process of this host said has the shape of a model, where a schema would be too much: processes that must stay small load this,
 * and it costs nothing to load. Must never repair a value, and never throw.
 */

/** A table of JSON, whatever is in it. */
export type Table = Readonly<Record<string, unknown>>;

/** Whether it is one: no list, and not null. */
export function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether it can be added to another one. */
export const isNumber = (value: unknown): value is number =>
  typeof value === 'number' && Number.isFinite(value);

/** A number of at least 0; it may have a fraction. */
export const isCount = (value: unknown): value is number => isNumber(value) && value >= 0;

/**
 * Whether a value has all that a model has, of the same kind. In the model an empty list stands for pairs of index and count, an empty table for counts by name, and
 * null for a number or none; numbers are at least 0.
 */
export function isLike(model: unknown, value: unknown): boolean {
  if (model === null) return value === null || isCount(value);
  if (typeof model === 'number') return isCount(value);
  if (Array.isArray(model)) return Array.isArray(value) && value.length % 2 === 0 && value.every(isCount);
  if (!isTable(model)) return typeof value === typeof model;
  if (!isTable(value)) return false;
  const keys = Object.keys(model);
  return keys.length === 0
    ? Object.values(value).every(isCount)
    : keys.every((key) => isLike(model[key], value[key]));
}
