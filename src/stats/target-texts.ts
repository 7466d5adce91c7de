/**
 * Owns what targets said on connections that then failed or ended, as distinct texts with counts. A text is data from elsewhere: escaped,
 * cut, bounded in number. Must never be a key of anything else.
 */

/** Bytes of what was said that are kept. */
export const SAID_BYTES_MAX = 120;
/** The longest text: each byte may be written as `\xNN`. */
export const SAID_CHARACTERS_MAX = 4 * SAID_BYTES_MAX;
/** Distinct texts that a run tells apart. */
export const SAID_TEXTS_MAX = 16;

/** One text. */
export interface SaidText {
  /** printable ASCII; other bytes as `\n`, `\r`, `\t`, `\\` or `\xNN` */
  readonly text: string;
  /** connections that failed or ended and whose first bytes these were */
  readonly first: number;
  /** the same with the last bytes, where those were not the first ones too */
  readonly last: number;
}

/** Cumulative; the most frequent first. */
export interface SaidTexts {
  readonly texts: readonly SaidText[];
  /** connections that failed or ended after a text that found no room */
  readonly other: number;
}

const ESCAPES: ReadonlyMap<number, string> = new Map([
  [9, '\\t'],
  [10, '\\n'],
  [13, '\\r'],
  [92, '\\\\'],
]);

/** Bytes as a text of printable ASCII, which says each of them. @param bytes at most `SAID_BYTES_MAX` count */
export function escapeBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes.subarray(0, SAID_BYTES_MAX)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 92;
    text += isPlain
      ? String.fromCharCode(byte)
      : (ESCAPES.get(byte) ?? `\\x${byte.toString(16).padStart(2, '0')}`);
  }
  return text;
}

/** The most frequent stay; the others count as `other`. */
export function boundedTexts(texts: readonly SaidText[], other: number): SaidTexts {
  const sorted = texts.toSorted(
    (a, b) => b.first + b.last - a.first - a.last || (a.text < b.text ? -1 : a.text > b.text ? 1 : 0),
  );
  let rest = other;
  for (const { first, last } of sorted.slice(SAID_TEXTS_MAX)) rest += first + last;
  return { texts: sorted.slice(0, SAID_TEXTS_MAX), other: rest };
}

/** The sum of two parts. */
export function mergeTexts(a: SaidTexts, b: SaidTexts): SaidTexts {
  const byText = new Map(a.texts.map((each) => [each.text, each]));
  for (const { text, first, last } of b.texts) {
    const before = byText.get(text);
    byText.set(text, { text, first: first + (before?.first ?? 0), last: last + (before?.last ?? 0) });
  }
  return boundedTexts([...byText.values()], a.other + b.other);
}
