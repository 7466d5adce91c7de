/**
 * Owns messages on a plain stream (tcp, tls, echo): what comes is split into lines where rules wait for some, and handed on. Must
 * never judge it (messages.ts).
 *
 * A rule about text sees whole lines, so that a line that comes in two pieces is one; a rule about bytes (`0x...`) sees them
 * where a line, or another such match, has ended. Bytes that wait for the rest of their line wait in a map that is nearly always empty.
 */
import { HEARD_BYTES_MAX } from '../../base/traffic-options.ts';
import { Messages, type MessagesOf } from './messages.ts';
import { type Overdue, type Protocol, type ProtocolHost, SendBuffer } from './protocol.ts';

const LF = 10;
/** the rest has not come yet, or the slot is gone */
const NOTHING_MORE = -1;

/** Connections that talk. */
export class TalkProtocol implements Protocol {
  readonly hasHandshake: boolean;
  readonly canProbe: boolean;
  readonly #messages: Messages;
  readonly #unsent: SendBuffer;
  readonly #hasLineRules: boolean;
  readonly #carry = new Map<number, Uint8Array>();
  /** 1: the begin of the line that is being received was handed on */
  readonly #inLine: Uint8Array;

  constructor(host: ProtocolHost, of: MessagesOf) {
    this.#unsent = new SendBuffer(host);
    this.#messages = new Messages(host, of, (slot, buffer, length) => {
      this.#unsent.send(slot, buffer, length);
    });
    this.hasHandshake = this.#messages.opensByAnswer;
    this.canProbe = this.#messages.areAnswered;
    this.#hasLineRules = this.#messages.rules.some(({ isBinary }) => !isBinary);
    this.#inLine = new Uint8Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + this.#messages.bytesPerSlot;
  }

  onConnected(slot: number): void {
    this.#messages.begin(slot);
  }

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    if (this.#messages.rules.length === 0) {
      this.#messages.hearBytes(slot, buffer, 0, length);
      return;
    }
    const carried = this.#carry.get(slot);
    if (carried === undefined) {
      this.#takeUnits(slot, buffer, length);
      return;
    }
    this.#carry.delete(slot);
    const joined = new Uint8Array(carried.length + length);
    joined.set(carried);
    joined.set(buffer.subarray(0, length), carried.length);
    this.#takeUnits(slot, joined, joined.length);
  }

  #takeUnits(slot: number, bytes: Uint8Array, length: number): void {
    for (let at = 0; at < length; ) {
      if (this.#inLine[slot] === 0) at = this.#takeUnit(slot, bytes, at, length);
      else {
        const end = lineEnd(bytes, at, length);
        if (bytes[end - 1] === LF) this.#inLine[slot] = 0;
        at = this.#messages.hearBytes(slot, bytes, at, end) ? end : NOTHING_MORE;
      }
      if (at === NOTHING_MORE) return;
    }
  }

  /** @returns where the next unit begins, or NOTHING_MORE */
  #takeUnit(slot: number, bytes: Uint8Array, at: number, length: number): number {
    for (const rule of this.#messages.rules) {
      if (!rule.isBinary || !rule.mayMatch(bytes, at, length)) continue;
      if (length - at < rule.length) return this.#keep(slot, bytes, at, length);
      this.#messages.reply(slot, rule);
      return at + rule.length;
    }
    const end = lineEnd(bytes, at, length);
    const isWhole = bytes[end - 1] === LF || end - at >= HEARD_BYTES_MAX;
    for (const rule of this.#messages.rules) {
      if (rule.isBinary || !rule.mayMatch(bytes, at, end)) continue;
      if (!isWhole) return this.#keep(slot, bytes, at, length);
      if (!rule.matches(bytes, at, end)) continue;
      this.#messages.reply(slot, rule);
      return end;
    }
    if (!isWhole && this.#hasLineRules) this.#inLine[slot] = 1;
    return this.#messages.hearBytes(slot, bytes, at, end) ? end : NOTHING_MORE;
  }

  #keep(slot: number, bytes: Uint8Array, at: number, length: number): typeof NOTHING_MORE {
    this.#carry.set(slot, bytes.slice(at, length));
    return NOTHING_MORE;
  }

  onWritable(slot: number): void {
    this.#unsent.flush(slot);
  }

  onProbeDue(slot: number, _sequence: number): void {
    this.#messages.say(slot);
  }

  overdue(slot: number): Overdue {
    return this.#messages.overdue(slot);
  }

  onClosing(_slot: number): void {}

  onForgotten(slot: number): void {
    this.#messages.forget(slot);
    this.#carry.delete(slot);
    this.#inLine[slot] = 0;
    this.#unsent.forget(slot);
  }
}

function lineEnd(bytes: Uint8Array, at: number, length: number): number {
  for (let end = at; end < length; end++) if (bytes[end] === LF) return end + 1;
  return length;
}
