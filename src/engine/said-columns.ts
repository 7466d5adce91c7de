/**
 * Owns what targets said on each connection, as the number of its first and of its latest text: a text is held once, however many
 * connections it came on. Must never hold more texts than its bound, or allocate for a text that is known already.
 */
import {
  boundedTexts,
  escapeBytes,
  SAID_BYTES_MAX,
  type SaidText,
  type SaidTexts,
} from '../stats/target-texts.ts';

/** Texts that are held; the last ones are kept free for connections that end while all others are in use. */
const TEXTS = 254;
const TEXTS_AT_END = 64;
const NONE = 0;
const OTHER = 255;

/** By slot; numbers of texts are 1 to TEXTS. No method but `texts` allocates for a known text. */
export class SaidColumns {
  readonly #first: Uint8Array;
  readonly #latest: Uint8Array;
  readonly #bytes = new Uint8Array((TEXTS + 1) * SAID_BYTES_MAX);
  readonly #length = new Uint8Array(TEXTS + 1);
  readonly #hash = new Int32Array(TEXTS + 1);
  readonly #numbers = new Map<number, number>();
  /** slots that refer to a text */
  readonly #uses = new Int32Array(TEXTS + 1);
  readonly #endedFirst = new Float64Array(TEXTS + 1);
  readonly #endedLast = new Float64Array(TEXTS + 1);
  #other = 0;
  /** the latest text that found no room, and whose it was */
  readonly #unheld = new Uint8Array(SAID_BYTES_MAX);
  #unheldLength = 0;
  #unheldSlot = -1;

  constructor(capacity: number) {
    this.#first = new Uint8Array(capacity);
    this.#latest = new Uint8Array(capacity);
  }

  get bytesPerSlot(): number {
    return 2;
  }

  /** The target said something that is no valid answer of the protocol. @param to exclusive */
  note(slot: number, buffer: Uint8Array, from: number, to: number): void {
    const end = Math.min(to, from + SAID_BYTES_MAX);
    if (end <= from) return;
    // A server may greet and say no in one breath: of what is too long its last line is the latest text.
    const lastAt = end < to ? lastLineOf(buffer, from, to) : from;
    const isWhole = lastAt === from;
    let number = NONE;
    if (isWhole || this.#first[slot] === NONE) {
      number = this.#numberOf(buffer, from, end, TEXTS - TEXTS_AT_END);
      if (this.#first[slot] === NONE) this.#refer(this.#first, slot, number);
    }
    this.#latestIs(slot, isWhole ? number : NONE, buffer, lastAt, isWhole ? end : to);
  }

  /** @param number of the text, where it is known; else NONE */
  #latestIs(slot: number, number: number, buffer: Uint8Array, from: number, end: number): void {
    const latest = number === NONE ? this.#numberOf(buffer, from, end, TEXTS - TEXTS_AT_END) : number;
    if (latest === OTHER) {
      for (let at = from; at < end; at++) this.#unheld[at - from] = buffer[at]!;
      this.#unheldLength = end - from;
      this.#unheldSlot = slot;
    }
    this.#refer(this.#latest, slot, latest);
  }

  /** The slot's connection failed or ended: what was said on it counts. Before `forget`. */
  ended(slot: number): void {
    const first = this.#first[slot]!;
    let last = this.#latest[slot]!;
    if (first === NONE) return;
    if (last === OTHER && this.#unheldSlot === slot) {
      last = this.#numberOf(this.#unheld, 0, this.#unheldLength, TEXTS);
      this.#refer(this.#latest, slot, last);
    }
    if (last !== OTHER && last !== first) this.#endedLast[last]!++;
    if (first !== OTHER) this.#endedFirst[first]!++;
    else if (last === OTHER) this.#other++;
  }

  /** The slot is free. */
  forget(slot: number): void {
    if (this.#unheldSlot === slot) this.#unheldSlot = -1;
    if (this.#first[slot] === NONE) return;
    this.#refer(this.#first, slot, NONE);
    this.#refer(this.#latest, slot, NONE);
  }

  #refer(column: Uint8Array, slot: number, number: number): void {
    const before = column[slot]!;
    if (number !== NONE && number !== OTHER) this.#uses[number]!++;
    column[slot] = number;
    if (before === NONE || before === OTHER) return;
    this.#uses[before]!--;
    if (this.#uses[before] === 0 && this.#endedFirst[before]! + this.#endedLast[before]! === 0) {
      this.#numbers.delete(this.#hash[before]!);
      this.#length[before] = 0;
    }
  }

  /** The number of a text, which is taken in while there is room among the first `most`; else OTHER. */
  #numberOf(buffer: Uint8Array, from: number, end: number, most: number): number {
    let hash = 0x811c9dc5 | 0;
    for (let at = from; at < end; at++) hash = Math.imul(hash ^ buffer[at]!, 0x01000193);
    const known = this.#numbers.get(hash);
    if (known !== undefined) return this.#isSame(known, buffer, from, end) ? known : OTHER;
    // The next free number; a text is new rarely.
    for (let number = 1; number <= most; number++) {
      if (this.#length[number] !== 0) continue;
      for (let at = from; at < end; at++) this.#bytes[number * SAID_BYTES_MAX + at - from] = buffer[at]!;
      this.#length[number] = end - from;
      this.#hash[number] = hash;
      this.#numbers.set(hash, number);
      return number;
    }
    return OTHER;
  }

  #isSame(number: number, buffer: Uint8Array, from: number, end: number): boolean {
    if (this.#length[number] !== end - from) return false;
    for (let at = from; at < end; at++) {
      if (this.#bytes[number * SAID_BYTES_MAX + at - from] !== buffer[at]) return false;
    }
    return true;
  }

  /** A snapshot: what was said on connections that failed or ended. */
  texts(): SaidTexts {
    const list: SaidText[] = [];
    for (let number = 1; number <= TEXTS; number++) {
      const first = this.#endedFirst[number]!;
      const last = this.#endedLast[number]!;
      if (first + last === 0) continue;
      const at = number * SAID_BYTES_MAX;
      const bytes = this.#bytes.subarray(at, at + this.#length[number]!);
      list.push({ text: escapeBytes(bytes), first, last });
    }
    return boundedTexts(list, this.#other);
  }
}

const LINE_FEED = 10;

/**
 * Where the last line begins, of those that fit into a text; a line break at the very end ends it and begins none.
 * @returns `from`: there is none behind another line, or it is too long
 */
function lastLineOf(buffer: Uint8Array, from: number, to: number): number {
  const least = Math.max(from + 1, to - SAID_BYTES_MAX);
  for (let at = to - 1; at >= least; at--) if (buffer[at - 1] === LINE_FEED) return at;
  return from;
}
