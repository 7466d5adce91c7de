/**
 * Owns the WebSocket frames of every connection (RFC 6455 section 5): reading what a server sends, byte stream in,
 * control frames out; the check of text for UTF-8, piece by piece (RFC 3629 section 4); and writing masked client frames.
 * Must never touch a socket, decode text or decide what an answer proves.
 *
 *   data frames     are checked: text must be UTF-8, lengths are bounded, fragments must fit; then thrown away, unless the
 *                   sink wants them: then it gets their payload piece by piece
 *   control frames  are handed over whole, also when they come between the fragments of a message
 *
 * State is a few bytes per slot. A frame header or control frame that is cut by the end of a read (at most 131 bytes)
 * waits in a map that is nearly always empty.
 */
import { randomFillSync } from 'node:crypto';

export const Opcode = {
  continuation: 0x0,
  text: 0x1,
  binary: 0x2,
  close: 0x8,
  ping: 0x9,
  pong: 0xa,
} as const;

/** RFC 6455 section 7.4.1. */
export const CloseCode = { normal: 1_000, protocol: 1_002, badData: 1_007, tooBig: 1_009 } as const;

/** The longest message from the server, over all its fragments; a longer one is refused with 1009. */
const MESSAGE_IN_BYTES_MAX = 16 * 1024 * 1024;

const CONTROL_BYTES_MAX = 125;
/** header and payload of the longest control frame, with room for a mask that must not be there */
const UNIT_BYTES_MAX = 2 + 4 + CONTROL_BYTES_MAX;

/** Who gets what has come. */
export interface FrameSink {
  /** A whole control frame. @returns whether the slot is still there */
  onControl(slot: number, opcode: number, payload: Uint8Array, length: number): boolean;
  /**
   * Payload of a message; absent: it is thrown away.
   * @param isEnd the message ends with it; the last piece may be empty
   * @returns whether the slot is still there
   */
  onData?(slot: number, bytes: Uint8Array, from: number, to: number, isEnd: boolean): boolean;
  /** The server broke the protocol: the slot must be failed with this close code. */
  onBroken(slot: number, code: number, what: string): void;
}

const FAILED = -1;
const INCOMPLETE = 0;

/** Reads server frames. */
export class FrameReader {
  readonly #sink: FrameSink;
  /** opcode of the message that is being received in fragments; 0: none */
  readonly #message: Uint8Array;
  /** 1: the current data frame is the last of its message */
  readonly #isFinal: Uint8Array;
  /** state of the UTF-8 check of a text message */
  readonly #utf8: Uint8Array;
  /** payload bytes of the current data frame that are still to come */
  readonly #remaining: Uint32Array;
  /** payload bytes of the message so far, the current frame's included */
  readonly #messageBytes: Uint32Array;
  readonly #carry = new Map<number, Uint8Array>();
  readonly #scratch = new Uint8Array(UNIT_BYTES_MAX * 2);
  readonly #payload = new Uint8Array(CONTROL_BYTES_MAX);
  readonly #wantsData: boolean;

  /** @param wantsData whether the sink is to be handed what messages say */
  constructor(capacity: number, sink: FrameSink, wantsData = false) {
    this.#sink = sink;
    this.#wantsData = wantsData;
    this.#message = new Uint8Array(capacity);
    this.#isFinal = new Uint8Array(capacity);
    this.#utf8 = new Uint8Array(capacity);
    this.#remaining = new Uint32Array(capacity);
    this.#messageBytes = new Uint32Array(capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + 1 + 1 + 4 + 4;
  }

  forget(slot: number): void {
    this.#message[slot] = 0;
    this.#isFinal[slot] = 0;
    this.#utf8[slot] = Utf8.whole;
    this.#remaining[slot] = 0;
    this.#messageBytes[slot] = 0;
    this.#carry.delete(slot);
  }

  /** Takes the next bytes of a connection, `bytes[from..to)`. After a failure, or when the sink says so, it returns at once. */
  take(slot: number, bytes: Uint8Array, from: number, to: number): void {
    let at = from;
    const carried = this.#carry.get(slot);
    if (carried !== undefined) {
      at = this.#takeCarried(slot, carried, bytes, from, to);
      if (at < 0) return;
    }
    while (at < to) {
      if (this.#remaining[slot]! > 0) {
        at = this.#takePayload(slot, bytes, at, to);
        if (at < 0) return;
        continue;
      }
      const took = this.#takeUnit(slot, bytes, at, to);
      if (took === FAILED) return;
      if (took === INCOMPLETE) {
        this.#carry.set(slot, bytes.slice(at, to));
        return;
      }
      at += took;
    }
  }

  /** Completes the unit that was cut by the last read: where to go on in `bytes`, or FAILED. */
  #takeCarried(slot: number, carried: Uint8Array, bytes: Uint8Array, from: number, to: number): number {
    const scratch = this.#scratch;
    const added = Math.min(to - from, UNIT_BYTES_MAX);
    scratch.set(carried);
    scratch.set(bytes.subarray(from, from + added), carried.length);
    this.#carry.delete(slot);
    const length = carried.length + added;
    const took = this.#takeUnit(slot, scratch, 0, length);
    if (took === FAILED) return FAILED;
    if (took === INCOMPLETE) {
      this.#carry.set(slot, scratch.slice(0, length));
      return to;
    }
    return from + took - carried.length;
  }

  /** One header of a data frame or one whole control frame: bytes taken, INCOMPLETE or FAILED. */
  #takeUnit(slot: number, bytes: Uint8Array, at: number, to: number): number {
    if (to - at < 2) return INCOMPLETE;
    const first = bytes[at]!;
    const second = bytes[at + 1]!;
    const opcode = first & 0x0f;
    const isFinal = (first & 0x80) !== 0;
    if ((first & 0x70) !== 0) return this.#fail(slot, CloseCode.protocol, 'reserved bits are set');
    if ((second & 0x80) !== 0) return this.#fail(slot, CloseCode.protocol, 'the server masks its frames');
    const short = second & 0x7f;
    if (opcode >= 0x8) {
      if (opcode > Opcode.pong) return this.#fail(slot, CloseCode.protocol, 'unknown opcode');
      if (!isFinal) return this.#fail(slot, CloseCode.protocol, 'a control frame in fragments');
      if (short > CONTROL_BYTES_MAX)
        return this.#fail(slot, CloseCode.protocol, 'a control frame above 125 bytes');
      if (to - at < 2 + short) return INCOMPLETE;
      // A copy: what the sink sends may come from the same buffer.
      this.#payload.set(bytes.subarray(at + 2, at + 2 + short));
      return this.#sink.onControl(slot, opcode, this.#payload, short) ? 2 + short : FAILED;
    }
    return this.#takeDataHeader(slot, bytes, at, to, opcode, isFinal);
  }

  #takeDataHeader(
    slot: number,
    bytes: Uint8Array,
    at: number,
    to: number,
    opcode: number,
    isFinal: boolean,
  ): number {
    if (opcode > Opcode.binary) return this.#fail(slot, CloseCode.protocol, 'unknown opcode');
    const isFirst = opcode !== Opcode.continuation;
    if (isFirst && this.#message[slot] !== 0)
      return this.#fail(slot, CloseCode.protocol, 'a new message inside a fragmented one');
    if (!isFirst && this.#message[slot] === 0)
      return this.#fail(slot, CloseCode.protocol, 'a continuation of nothing');
    const short = bytes[at + 1]! & 0x7f;
    const header = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (to - at < header) return INCOMPLETE;
    let length = short;
    if (short === 126) {
      length = bytes[at + 2]! * 256 + bytes[at + 3]!;
      if (length < 126) return this.#fail(slot, CloseCode.protocol, 'a length that is not the shortest form');
    } else if (short === 127) {
      if ((bytes[at + 2]! & 0x80) !== 0)
        return this.#fail(slot, CloseCode.protocol, 'a length with its highest bit set');
      length = 0;
      for (let byte = 2; byte < 10; byte++) length = length * 256 + bytes[at + byte]!;
      if (length < 65_536)
        return this.#fail(slot, CloseCode.protocol, 'a length that is not the shortest form');
    }
    if (isFirst) {
      this.#message[slot] = opcode;
      this.#utf8[slot] = Utf8.whole;
      this.#messageBytes[slot] = 0;
    }
    if (this.#messageBytes[slot]! + length > MESSAGE_IN_BYTES_MAX)
      return this.#fail(slot, CloseCode.tooBig, `a message above ${MESSAGE_IN_BYTES_MAX} bytes`);
    this.#messageBytes[slot]! += length;
    this.#remaining[slot] = length;
    this.#isFinal[slot] = isFinal ? 1 : 0;
    if (length === 0 && !(this.#endFrame(slot) && this.#handOn(slot, bytes, at, at))) return FAILED;
    return header;
  }

  /** Takes payload of the current data frame: where to go on, or FAILED. */
  #takePayload(slot: number, bytes: Uint8Array, at: number, to: number): number {
    const end = Math.min(to, at + this.#remaining[slot]!);
    if (this.#message[slot] === Opcode.text) {
      const state = utf8After(this.#utf8[slot]!, bytes, at, end);
      if (state === Utf8.broken) return this.#fail(slot, CloseCode.badData, 'a text that is not UTF-8');
      this.#utf8[slot] = state;
    }
    this.#remaining[slot]! -= end - at;
    if (this.#remaining[slot] === 0 && !this.#endFrame(slot)) return FAILED;
    return this.#wantsData && !this.#handOn(slot, bytes, at, end) ? FAILED : end;
  }

  /** After the end of the frame was noted, if it is that. @returns whether the slot is still there */
  #handOn(slot: number, bytes: Uint8Array, from: number, to: number): boolean {
    if (!this.#wantsData) return true;
    const isEnd = this.#message[slot] === 0;
    return this.#sink.onData?.(slot, bytes, from, to, isEnd) ?? true;
  }

  /** Whether all is well. */
  #endFrame(slot: number): boolean {
    if (this.#isFinal[slot] === 0) return true;
    if (this.#message[slot] === Opcode.text && this.#utf8[slot] !== Utf8.whole) {
      this.#fail(slot, CloseCode.badData, 'a text that is not UTF-8');
      return false;
    }
    this.#message[slot] = 0;
    return true;
  }

  #fail(slot: number, code: number, what: string): typeof FAILED {
    this.#sink.onBroken(slot, code, what);
    return FAILED;
  }
}

/** Whether a close code may be sent by an endpoint (RFC 6455 section 7.4). */
export function isCloseCode(code: number): boolean {
  return (
    (code >= 1_000 && code <= 1_003) || (code >= 1_007 && code <= 1_014) || (code >= 3_000 && code <= 4_999)
  );
}

const MASK_POOL_BYTES = 4_096;

/** Writes client frames into one buffer of its own, each with a mask that no other process can foresee (RFC 6455 section 5.3). */
export class FrameWriter {
  readonly buffer: Uint8Array;
  readonly #masks = new Uint8Array(MASK_POOL_BYTES);
  #nextMask = MASK_POOL_BYTES;

  /** @param payloadBytesMax up to 65,535 */
  constructor(payloadBytesMax: number) {
    this.buffer = new Uint8Array(payloadBytesMax + 8);
  }

  /** Writes a final frame into `buffer`: its length. */
  write(opcode: number, payload: Uint8Array, length: number): number {
    const { buffer } = this;
    buffer[0] = 0x80 | opcode;
    let at = 2;
    if (length <= 125) buffer[1] = 0x80 | length;
    else {
      buffer[1] = 0x80 | 126;
      buffer[2] = length >>> 8;
      buffer[3] = length & 0xff;
      at = 4;
    }
    if (this.#nextMask === MASK_POOL_BYTES) {
      randomFillSync(this.#masks);
      this.#nextMask = 0;
    }
    const mask = this.#nextMask;
    this.#nextMask += 4;
    for (let byte = 0; byte < 4; byte++) buffer[at + byte] = this.#masks[mask + byte]!;
    at += 4;
    for (let byte = 0; byte < length; byte++)
      buffer[at + byte] = payload[byte]! ^ this.#masks[mask + (byte & 3)]!;
    return at + length;
  }
}

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
