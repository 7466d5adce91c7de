/** Owns finding the field of a report that a page names. Must never judge its value. */

/** The value of a report at a path such as `agents.0.held`, whose keys may have dots. */
export function reportedAt(value: unknown, path: string): unknown {
  if (path === '') return value;
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [key, inner] of Object.entries(value)) {
    if (path === key) return inner;
    const found = path.startsWith(`${key}.`) ? reportedAt(inner, path.slice(key.length + 1)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}
