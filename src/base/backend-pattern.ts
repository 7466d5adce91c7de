/**
 * Owns what `--backend-from` means: where in the first bytes of a connection the name of its back end stands. Must never be applied to more
 * than `BACKEND_BYTES_MAX` bytes: an expression may take long over a long text.
 */

/** Bytes of a connection that a name is looked for in. */
export const BACKEND_BYTES_MAX = 1_024;
/** Characters of the pattern, and of a name; a longer name is cut. */
export const BACKEND_PATTERN_MAX = 256;
export const BACKEND_NAME_MAX = 64;
/** Back ends with a count of their own; further ones are counted together under `OTHER_BACKENDS`. */
export const BACKENDS_MAX = 64;
/** How the second line of a whoami target begins; the name of the target follows. */
export const WHOAMI_NAME_PREFIX = 'at ';
/** No name is this: blanks at the ends are cut off. */
export const OTHER_BACKENDS = ' others';

/** A field's name (RFC 9110, token). */
const HEADER = /^header:([!#$%&'*+.^`|~\w-]+)$/;

/**
 * The expression whose one group is the name.
 * @param pattern `/regex/`, `/regex/i`, or `header:NAME`
 * @returns null: it is neither, or has not exactly one group
 */
export function backendExpression(pattern: string): RegExp | null {
  if (pattern.length > BACKEND_PATTERN_MAX) return null;
  const [, name] = HEADER.exec(pattern) ?? [];
  if (name !== undefined) {
    const escaped = name.replaceAll(/[.*+?^$|\\]/g, '\\$&');
    // The whole line must have come, or a part of the name would be taken for it.
    return new RegExp(`\\r\\n${escaped}:[ \\t]*([^\\r\\n]*?)[ \\t]*\\r\\n`, 'i');
  }
  const [, body, flags] = /^\/(.+)\/(i?)$/s.exec(pattern) ?? [];
  if (body === undefined) return null;
  try {
    const expression = new RegExp(body, flags);
    // An alternative of nothing matches, and its groups are counted.
    const groups = (new RegExp(`${body}|`, flags).exec('')?.length ?? 1) - 1;
    return groups === 1 ? expression : null;
  } catch {
    return null;
  }
}
