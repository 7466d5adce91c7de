/**
 * Owns templates as bytes: what differs from message to message is written into one buffer. Must never allocate for a message,
 * or remember one: what a connection has sent is worked out again from its slot, so a rendering of the same exchange is the same.
 */
import { type MessageTemplate, renderedBytesMax, type TemplatePart } from '../../base/traffic-options.ts';

/** What messages may say about a slot's connection. */
export interface MessageFacts {
  readonly agent: string;
  source(slot: number): string;
  port(slot: number): number;
  /** number within the agent */
  connection(slot: number): number;
  /** number of the exchange; 0: the first message */
  sequence(slot: number): number;
  /** when the exchange was meant to begin, milliseconds since the epoch */
  timeMs(slot: number): number;
}

const ZERO = 48;
const HEX_DIGITS = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0));

type CompiledPart =
  | Exclude<TemplatePart, { readonly type: 'bytes' }>
  | { readonly type: 'bytes'; readonly bytes: Uint8Array };

/** One template. */
export class MessageRenderer {
  readonly isBinary: boolean;
  /** what `render` has written */
  readonly buffer: Uint8Array;
  readonly #parts: readonly CompiledPart[];
  readonly #facts: MessageFacts;
  readonly #salt: number;
  /** the length of a template without places; -1: it has some */
  readonly #fixedLength: number;
  #at = 0;
  /** of the places for random characters, how many were written: what is expected has the same as what was sent */
  #randoms = 0;

  /** @param salt 32 bits that differ between processes */
  constructor(template: MessageTemplate, facts: MessageFacts, salt: number) {
    this.isBinary = template.isBinary;
    this.#facts = facts;
    this.#salt = salt;
    this.buffer = new Uint8Array(renderedBytesMax(template));
    this.#parts = template.parts.map((part) =>
      part.type === 'bytes' ? { type: 'bytes', bytes: Buffer.from(part.base64, 'base64') } : part,
    );
    const isFixed = template.parts.every(({ type }) => type === 'bytes');
    if (isFixed) for (const part of this.#parts) this.#writePart(part, 0, null);
    this.#fixedLength = isFixed ? this.#at : -1;
  }

  /**
   * Writes the slot's message into `buffer`.
   * @param groups what a pattern matched, one character for each byte; null: there was none
   * @returns its length
   */
  render(slot: number, groups: readonly (string | undefined)[] | null): number {
    if (this.#fixedLength >= 0) return this.#fixedLength;
    this.#at = 0;
    this.#randoms = 0;
    for (const part of this.#parts) this.#writePart(part, slot, groups);
    return this.#at;
  }

  #writePart(part: CompiledPart, slot: number, groups: readonly (string | undefined)[] | null): void {
    switch (part.type) {
      case 'bytes':
        this.buffer.set(part.bytes, this.#at);
        this.#at += part.bytes.length;
        break;
      case 'rand':
        this.#writeRandom(slot, part.size);
        break;
      case 'group':
        this.#writeText(groups?.[part.index] ?? '');
        break;
      case 'field':
        this.#writeField(part.name, slot);
        break;
    }
  }

  #writeField(name: (CompiledPart & { readonly type: 'field' })['name'], slot: number): void {
    switch (name) {
      case 'conn':
        this.#writeNumber(this.#facts.connection(slot));
        break;
      case 'seq':
        this.#writeNumber(this.#facts.sequence(slot));
        break;
      case 'port':
        this.#writeNumber(this.#facts.port(slot));
        break;
      case 'time':
        this.#writeNumber(this.#facts.timeMs(slot));
        break;
      case 'source':
        this.#writeText(this.#facts.source(slot));
        break;
      case 'agent':
        this.#writeText(this.#facts.agent);
        break;
    }
  }

  /** What does not fit is left out: an agent's name has no more characters than the bound of its place. */
  #writeText(text: string): void {
    for (let at = 0; at < text.length && this.#at < this.buffer.length; at++)
      this.buffer[this.#at++] = text.charCodeAt(at);
  }

  #writeNumber(value: number): void {
    let rest = Math.max(0, Math.floor(value));
    let digits = 1;
    for (let left = rest; left >= 10; left = Math.floor(left / 10)) digits++;
    for (let at = this.#at + digits - 1; at >= this.#at; at--) {
      this.buffer[at] = ZERO + (rest % 10);
      rest = Math.floor(rest / 10);
    }
    this.#at += digits;
  }

  /** Eight digits from each 32 bits of a mixed counter. */
  #writeRandom(slot: number, size: number): void {
    const facts = this.#facts;
    let seed = mix(this.#salt ^ mix(facts.connection(slot) | 0));
    seed = mix(seed ^ Math.imul(facts.sequence(slot) + 1, 0x9e3779b1) ^ (++this.#randoms << 24));
    let bits = 0;
    for (let at = 0; at < size; at++) {
      if ((at & 7) === 0) bits = mix(seed + at);
      this.buffer[this.#at++] = HEX_DIGITS[bits & 15]!;
      bits >>>= 4;
    }
  }
}

/** A bijection of 32 bits whose every bit depends on every other (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let bits = value ^ (value >>> 16);
  bits = Math.imul(bits, 0x85ebca6b);
  bits ^= bits >>> 13;
  bits = Math.imul(bits, 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
