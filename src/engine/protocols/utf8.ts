/**
 * Owns the check whether bytes are UTF-8, piece by piece, with one byte of state (RFC 3629 section 4).
 * Must never decode.
 */

/** States: how many continuation bytes must follow, and where the next of them is bounded more tightly. */
export const Utf8 = {
  /** at the end of a character */
  whole: 0,
  one: 1,
  two: 2,
  three: 3,
  /** after E0: A0 to BF, or it would be too long a form */
  afterE0: 4,
  /** after ED: 80 to 9F, or it would be a surrogate */
  afterED: 5,
  /** after F0: 90 to BF, or it would be too long a form */
  afterF0: 6,
  /** after F4: 80 to 8F, or it would lie above U+10FFFF */
  afterF4: 7,
  broken: 8,
} as const;

function begin(byte: number): number {
  if (byte < 0x80) return Utf8.whole;
  if (byte < 0xc2) return Utf8.broken;
  if (byte < 0xe0) return Utf8.one;
  if (byte === 0xe0) return Utf8.afterE0;
  if (byte === 0xed) return Utf8.afterED;
  if (byte < 0xf0) return Utf8.two;
  if (byte === 0xf0) return Utf8.afterF0;
  if (byte < 0xf4) return Utf8.three;
  return byte === 0xf4 ? Utf8.afterF4 : Utf8.broken;
}

function step(state: number, byte: number): number {
  if (state === Utf8.whole) return begin(byte);
  if ((byte & 0xc0) !== 0x80) return Utf8.broken;
  switch (state) {
    case Utf8.one:
      return Utf8.whole;
    case Utf8.two:
      return Utf8.one;
    case Utf8.three:
      return Utf8.two;
    case Utf8.afterE0:
      return byte >= 0xa0 ? Utf8.one : Utf8.broken;
    case Utf8.afterED:
      return byte < 0xa0 ? Utf8.one : Utf8.broken;
    case Utf8.afterF0:
      return byte >= 0x90 ? Utf8.two : Utf8.broken;
    case Utf8.afterF4:
      return byte < 0x90 ? Utf8.two : Utf8.broken;
    default:
      return Utf8.broken;
  }
}

/**
 * The state after more bytes.
 * @param state `Utf8.whole` at the begin of a text; the text is good when it ends with `Utf8.whole`
 * @param from index of the first byte, @param to index behind the last
 */
export function utf8After(state: number, bytes: Uint8Array, from: number, to: number): number {
  let now = state;
  for (let at = from; at < to && now !== Utf8.broken; at++) now = step(now, bytes[at]!);
  return now;
}
