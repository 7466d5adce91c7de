/**
 * Owns which back end each open connection has, by the name that stands in its first bytes, and how many each has now. Must never change what
 * the protocol inside sees. Without `--backend-from`, and but for whoami, it is not there.
 */
import { setFlagsFromString } from 'node:v8';
import {
  BACKEND_BYTES_MAX,
  BACKEND_NAME_MAX,
  BACKENDS_MAX,
  OTHER_BACKENDS,
} from '../../base/backend-pattern.ts';
import { cleanText } from '../../base/clean-text.ts';
import type { Protocol } from './protocol.ts';

/**
 * From now on an expression that goes back and forth over a text for too long is matched in linear time, so that no target can stop a holder by
 * its bytes. V8 can do that for those without look-around, back references and the flag `i`.
 */
export function boundBacktracking(): void {
  setFlagsFromString('--enable-experimental-regexp-engine-on-excessive-backtracks');
}

/** What a slot's connection is known of; higher numbers are back ends. */
const Known = { not: 0, never: 1, first: 2 } as const;

/** Counts of one engine. */
export class BackendTally {
  readonly #expression: RegExp | null;
  readonly #names: string[] = [];
  readonly #indexOf = new Map<string, number>();
  readonly #open: number[] = [];
  /** by slot: `Known`, or the back end */
  readonly #of: Uint8Array;
  /** first bytes that had no name in them yet, by slot; nearly always empty */
  readonly #partial = new Map<number, string>();

  /** @param expression null: names come by `named` alone */
  constructor(expression: RegExp | null, capacity: number) {
    if (expression !== null) boundBacktracking();
    this.#expression = expression;
    this.#of = new Uint8Array(capacity);
  }

  /** Bytes came; a name is looked for until it is there, or too much has come. A name costs a string; what is held, nothing. */
  came(slot: number, buffer: Uint8Array, length: number): void {
    if (this.#of[slot] !== Known.not || this.#expression === null) return;
    const before = this.#partial.get(slot) ?? '';
    const end = Math.min(length, BACKEND_BYTES_MAX - before.length);
    // Each byte is a character, so that what came in pieces fits together.
    const text = before + Buffer.from(buffer.buffer, buffer.byteOffset, end).toString('latin1');
    const found = this.#expression.exec(text)?.[1];
    if (found === undefined && text.length < BACKEND_BYTES_MAX) {
      this.#partial.set(slot, text);
      return;
    }
    this.#partial.delete(slot);
    if (found === undefined) {
      this.#of[slot] = Known.never;
      return;
    }
    this.named(slot, found);
  }

  /** The back end of a connection of which none is known. @param found each byte a character */
  named(slot: number, found: string): void {
    const index = this.#index(nameOf(found));
    this.#of[slot] = Known.first + index;
    this.#open[index] = (this.#open[index] ?? 0) + 1;
  }

  /** Whether there is something to say: that none was named says something where `--backend-from` asks for them. */
  get isReported(): boolean {
    return this.#expression !== null || this.#names.length > 0;
  }

  #index(name: string): number {
    const known = this.#indexOf.get(name);
    if (known !== undefined) return known;
    if (this.#names.length > BACKENDS_MAX) return BACKENDS_MAX;
    const index = this.#names.length;
    const own = index === BACKENDS_MAX ? OTHER_BACKENDS : name;
    this.#names.push(own);
    this.#indexOf.set(own, index);
    return index;
  }

  forget(slot: number): void {
    const of = this.#of[slot] ?? Known.not;
    if (of >= Known.first) this.#open[of - Known.first] = (this.#open[of - Known.first] ?? 1) - 1;
    else this.#partial.delete(slot);
    this.#of[slot] = Known.not;
  }

  /** Open connections by back end, those that have none left included: a back end without a connection is one too. */
  counts(): Record<string, number> {
    return Object.fromEntries(this.#names.map((name, index) => [name, this.#open[index] ?? 0]));
  }
}

/** One line, cut; an empty one is named too. */
function nameOf(found: string): string {
  const text = cleanText(Buffer.from(found, 'latin1').toString('utf8')).trim().slice(0, BACKEND_NAME_MAX);
  return text === '' ? '(empty)' : text;
}

/** A protocol whose first bytes are looked at: the same object, so that what others ask of it stays what it was. */
export function withBackends(protocol: Protocol, tally: BackendTally): Protocol {
  const onBytes = protocol.onBytes.bind(protocol);
  const onForgotten = protocol.onForgotten.bind(protocol);
  protocol.onBytes = (slot, buffer, length) => {
    tally.came(slot, buffer, length);
    onBytes(slot, buffer, length);
  };
  protocol.onForgotten = (slot) => {
    tally.forget(slot);
    onForgotten(slot);
  };
  return protocol;
}
