/**
 * Owns the cases that the program does not get right yet. Each goes from the list when it does: a case on it that comes out
 * right fails the suite. Must never hold a case for another reason.
 */
export const KNOWN_WRONG: ReadonlySet<string> = new Set([]);
