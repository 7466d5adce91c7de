/**
 * Owns the packets of MQTT 3.1.1 and 5 as a client reads and writes them: lengths, properties, the few packets that a held
 * connection is sent, templates whose number differs by connection. What is published is passed over unread. Must never
 * allocate for a packet that comes in one piece, or know what a packet means for a connection (mqtt.ts).
 *
 *   0  type and flags   1..4  remaining length, 7 bits a byte, lowest first   then the packet      MQTT 5 section 2.1
 */

const encoder = new TextEncoder();

/** Types that a server sends, and what it may not send to us. */
const PacketType = {
  connect: 1,
  connack: 2,
  publish: 3,
  subscribe: 8,
  suback: 9,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
} as const;

const PACKET_NAMES: Readonly<Record<number, string>> = {
  1: 'CONNECT',
  4: 'PUBACK',
  5: 'PUBREC',
  6: 'PUBREL',
  7: 'PUBCOMP',
  8: 'SUBSCRIBE',
  10: 'UNSUBSCRIBE',
  11: 'UNSUBACK',
  12: 'PINGREQ',
  14: 'DISCONNECT',
  15: 'AUTH',
};

/** The level that MQTT 5 has. */
const LEVEL_5 = 5;
/** A packet that is read whole; reason strings are the longest part of one. */
const PACKET_BYTES_MAX = 16_384;
const LENGTH_BYTES_MAX = 4;

/** What a packet with a reason says; one record for all, valid until the next packet. */
export interface PacketReason {
  /** of CONNACK, SUBACK and DISCONNECT */
  readonly code: number;
  /** MQTT 5: the keep alive that the server sets, seconds; -1: it leaves ours */
  readonly serverKeepAliveSec: number;
  /** MQTT 5: the server's own words; null: none */
  readonly words: Uint8Array | null;
}

/** What the reader calls. False: the slot is gone. */
export interface PacketSink {
  onConnack(slot: number, reason: PacketReason): boolean;
  onSuback(slot: number, reason: PacketReason): boolean;
  /** A message begins, which is passed over. */
  onPublish(slot: number): boolean;
  onPingresp(slot: number): boolean;
  onDisconnect(slot: number, reason: PacketReason): void;
  /** What came is no MQTT, or is not to be sent to us. @param bytes what came, `bytes[from..to)` */
  onBroken(slot: number, what: string, bytes: Uint8Array, from: number, to: number): void;
}

/** How the value of a property is encoded (MQTT 5 section 2.2.2.2). */
const BYTE = 1;
const TWO = 2;
const FOUR = 3;
const VARIABLE = 4;
const TEXT = 5;
const PAIR = 6;

const PROPERTY_KINDS = new Uint8Array(128);
for (const id of [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a]) PROPERTY_KINDS[id] = BYTE;
for (const id of [0x13, 0x21, 0x22, 0x23]) PROPERTY_KINDS[id] = TWO;
for (const id of [0x02, 0x11, 0x18, 0x27]) PROPERTY_KINDS[id] = FOUR;
PROPERTY_KINDS[0x0b] = VARIABLE;
for (const id of [0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c, 0x1f]) PROPERTY_KINDS[id] = TEXT;
PROPERTY_KINDS[0x26] = PAIR;

const SERVER_KEEP_ALIVE = 0x13;
const REASON_STRING = 0x1f;

/** Takes packets apart, of all slots. */
export class PacketReader {
  readonly #sink: PacketSink;
  readonly #is5: boolean;
  /** bytes of what is published that are still to come */
  readonly #skip: Uint32Array;
  /** packets that came in pieces; nearly always empty */
  readonly #carry = new Map<number, Uint8Array>();
  readonly #reason = { code: 0, serverKeepAliveSec: -1, words: null as Uint8Array | null };
  /** the number that `#number` has read */
  #value = 0;

  constructor(capacity: number, level: number, sink: PacketSink) {
    this.#sink = sink;
    this.#is5 = level === LEVEL_5;
    this.#skip = new Uint32Array(capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 4;
  }

  forget(slot: number): void {
    this.#skip[slot] = 0;
    if (this.#carry.size > 0) this.#carry.delete(slot);
  }

  /** Takes `bytes[0..length)`. */
  take(slot: number, bytes: Uint8Array, length: number): void {
    const carried = this.#carry.size === 0 ? undefined : this.#carry.get(slot);
    if (carried === undefined) {
      this.#takeAll(slot, bytes, length);
      return;
    }
    this.#carry.delete(slot);
    const joined = new Uint8Array(carried.length + length);
    joined.set(carried);
    joined.set(bytes.subarray(0, length), carried.length);
    this.#takeAll(slot, joined, joined.length);
  }

  #takeAll(slot: number, bytes: Uint8Array, length: number): void {
    let at = 0;
    while (at >= 0 && at < length) {
      const skip = Math.min(this.#skip[slot]!, length - at);
      this.#skip[slot]! -= skip;
      at += skip;
      if (at < length) at = this.#takePacket(slot, bytes, at, length);
    }
  }

  /** Where the next packet begins, or -1: the slot is gone, or the rest is kept. */
  #takePacket(slot: number, bytes: Uint8Array, at: number, length: number): number {
    const wrong = this.#wrongBegin(bytes[at]!);
    if (wrong !== null) return this.#broken(slot, wrong, bytes, at, length);
    const body = this.#number(bytes, at + 1, length);
    if (body === 0) return this.#broken(slot, 'a length of more than 4 bytes', bytes, at, length);
    if (body < 0) return this.#keep(slot, bytes, at, length);
    const size = this.#value;
    if (bytes[at]! >>> 4 === PacketType.publish) {
      this.#skip[slot] = size;
      return this.#sink.onPublish(slot) ? body : -1;
    }
    if (size > PACKET_BYTES_MAX)
      return this.#broken(slot, `a packet above ${PACKET_BYTES_MAX} bytes`, bytes, at, length);
    if (body + size > length) return this.#keep(slot, bytes, at, length);
    return this.#takeBody(slot, bytes, at, body, body + size);
  }

  /** What is wrong with the first byte of a packet; null: nothing. */
  #wrongBegin(first: number): string | null {
    const type = first >>> 4;
    const flags = first & 15;
    switch (type) {
      case PacketType.publish:
        // What is subscribed to is asked for with QoS 0, so nothing waits for an answer of ours.
        return (flags & 6) === 0 ? null : 'a PUBLISH with a QoS above 0, which was not asked for';
      case PacketType.connack:
      case PacketType.suback:
      case PacketType.pingresp:
        break;
      case PacketType.disconnect:
        if (this.#is5) break;
        return 'a DISCONNECT, which no server of MQTT 3.1.1 sends';
      default:
        return type === 0 ? 'no MQTT' : `${PACKET_NAMES[type]}, which no server sends to us`;
    }
    return flags === 0 ? null : 'no MQTT: reserved flags are set';
  }

  /**
   * Reads a variable byte integer into `#value`.
   * @returns where it ends; -1: not here yet; 0: it is too long
   */
  #number(bytes: Uint8Array, from: number, to: number): number {
    let value = 0;
    for (let index = 0; index < LENGTH_BYTES_MAX; index++) {
      if (from + index >= to) return -1;
      const byte = bytes[from + index]!;
      value += (byte & 127) * 128 ** index;
      if (byte < 128) {
        this.#value = value;
        return from + index + 1;
      }
    }
    return 0;
  }

  #keep(slot: number, bytes: Uint8Array, from: number, to: number): -1 {
    this.#carry.set(slot, bytes.slice(from, to));
    return -1;
  }

  #broken(slot: number, what: string, bytes: Uint8Array, from: number, to: number): -1 {
    this.#sink.onBroken(slot, what, bytes, from, to);
    return -1;
  }

  #takeBody(slot: number, bytes: Uint8Array, begin: number, from: number, to: number): number {
    this.#reason.code = 0;
    this.#reason.serverKeepAliveSec = -1;
    this.#reason.words = null;
    switch (bytes[begin]! >>> 4) {
      case PacketType.connack:
        if (!this.#readConnack(bytes, from, to))
          return this.#broken(slot, 'a malformed CONNACK', bytes, begin, to);
        return this.#sink.onConnack(slot, this.#reason) ? to : -1;
      case PacketType.suback:
        if (!this.#readSuback(bytes, from, to))
          return this.#broken(slot, 'a SUBACK that is none of ours', bytes, begin, to);
        return this.#sink.onSuback(slot, this.#reason) ? to : -1;
      case PacketType.pingresp:
        if (from !== to) return this.#broken(slot, 'a malformed PINGRESP', bytes, begin, to);
        return this.#sink.onPingresp(slot) ? to : -1;
      default:
        if (!this.#readReason(bytes, from, to))
          return this.#broken(slot, 'a malformed DISCONNECT', bytes, begin, to);
        this.#sink.onDisconnect(slot, this.#reason);
        return -1;
    }
  }

  /** A server of 3.1.1 answers in its own form also to a CONNECT of 5, which it does not take. */
  #readConnack(bytes: Uint8Array, from: number, to: number): boolean {
    if (to - from < 2 || bytes[from]! > 1) return false;
    return this.#is5 ? this.#readReason(bytes, from + 1, to) : this.#readCode(bytes, from + 1, to);
  }

  #readSuback(bytes: Uint8Array, from: number, to: number): boolean {
    if (to - from < 3 || bytes[from]! * 256 + bytes[from + 1]! !== SUBSCRIBE_ID) return false;
    const codes = this.#is5 ? this.#properties(bytes, from + 2, to) : from + 2;
    return codes > 0 && this.#readCode(bytes, codes, to);
  }

  #readCode(bytes: Uint8Array, from: number, to: number): boolean {
    if (to !== from + 1) return false;
    this.#reason.code = bytes[from]!;
    return true;
  }

  /** A reason code, and perhaps properties; nothing at all is the code 0. */
  #readReason(bytes: Uint8Array, from: number, to: number): boolean {
    if (from === to) return true;
    this.#reason.code = bytes[from]!;
    return from + 1 === to || this.#properties(bytes, from + 1, to) === to;
  }

  /** Reads properties. @returns where they end, or -1: they are malformed */
  #properties(bytes: Uint8Array, from: number, to: number): number {
    let at = this.#number(bytes, from, to);
    if (at <= 0 || at + this.#value > to) return -1;
    const end = at + this.#value;
    while (at < end) {
      const id = bytes[at]!;
      const next = this.#endOfValue(id, bytes, at + 1, end);
      if (next < 0 || next > end) return -1;
      if (id === SERVER_KEEP_ALIVE) this.#reason.serverKeepAliveSec = bytes[at + 1]! * 256 + bytes[at + 2]!;
      if (id === REASON_STRING) this.#reason.words = bytes.subarray(at + 3, next);
      at = next;
    }
    return end;
  }

  /** Where a property's value ends, perhaps beyond `end`; -1: it has none. */
  #endOfValue(id: number, bytes: Uint8Array, from: number, end: number): number {
    switch (PROPERTY_KINDS[id]) {
      case BYTE:
        return from + 1;
      case TWO:
        return from + 2;
      case FOUR:
        return from + 4;
      case VARIABLE: {
        const outer = this.#number(bytes, from, end);
        return outer <= 0 ? -1 : outer;
      }
      case TEXT:
        return endOfText(bytes, from, end);
      case PAIR: {
        const name = endOfText(bytes, from, end);
        return name < 0 ? -1 : endOfText(bytes, name, end);
      }
      default:
        return -1;
    }
  }
}

/** Where a text with its two bytes of length ends, perhaps beyond `end`; -1: its length is not there. */
function endOfText(bytes: Uint8Array, from: number, end: number): number {
  return from + 2 > end ? -1 : from + 2 + bytes[from]! * 256 + bytes[from + 1]!;
}

/** A text in which `{agent}` and `{conn}` stand for what they name. */
class Template {
  /** the connection's number stands between two of them */
  readonly #parts: readonly Uint8Array[];
  readonly #fixedBytes: number;

  constructor(text: string, agent: string) {
    this.#parts = text.split('{conn}').map((part) => encoder.encode(part.replaceAll('{agent}', () => agent)));
    this.#fixedBytes = this.#parts.reduce((sum, part) => sum + part.length, 0);
  }

  /** Bytes of the text of a connection, without its length. */
  lengthOf(conn: number): number {
    return this.#fixedBytes + (this.#parts.length - 1) * digitsOf(conn);
  }

  /** Writes the text with its two bytes of length. @returns where it ends */
  write(into: Uint8Array, at: number, conn: number): number {
    let next = writeTwo(into, at, this.lengthOf(conn));
    for (let index = 0; index < this.#parts.length; index++) {
      if (index > 0) next = writeDigits(into, next, conn);
      into.set(this.#parts[index]!, next);
      next += this.#parts[index]!.length;
    }
    return next;
  }
}

function digitsOf(number: number): number {
  let digits = 1;
  for (let rest = number; rest >= 10; rest = Math.floor(rest / 10)) digits++;
  return digits;
}

function writeDigits(into: Uint8Array, at: number, number: number): number {
  const end = at + digitsOf(number);
  let rest = number;
  for (let place = end - 1; place >= at; place--) {
    into[place] = 48 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  return end;
}

function writeTwo(into: Uint8Array, at: number, number: number): number {
  into[at] = number >>> 8;
  into[at + 1] = number & 255;
  return at + 2;
}

function writeNumber(into: Uint8Array, at: number, number: number): number {
  let rest = number;
  let next = at;
  while (rest >= 128) {
    into[next++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  into[next++] = rest;
  return next;
}

/** Each connection subscribes once. */
const SUBSCRIBE_ID = 1;
const CLEAN_START = 2;
const HAS_USER = 128;
const HAS_PASSWORD = 64;

/** What packets are made from; see base/session-options.ts. */
interface PacketTexts {
  readonly level: number;
  readonly clientId: string;
  readonly user: string | null;
  readonly password: string | null;
  readonly keepAliveSec: number;
  readonly subscribe: string | null;
}

/** Writes packets into one buffer for all connections, which is valid until the next one. */
export class PacketWriter {
  readonly buffer: Uint8Array;
  readonly #is5: boolean;
  /** CONNECT from its protocol name to its properties */
  readonly #connectHead: Uint8Array;
  readonly #clientId: Template;
  readonly #user: Template | null;
  readonly #password: Uint8Array | null;
  readonly #subscribe: Template | null;

  /** @param agent stands for `{agent}` */
  constructor(texts: PacketTexts, agent: string) {
    const { level, user, password, subscribe, keepAliveSec } = texts;
    this.#is5 = level === LEVEL_5;
    this.#clientId = new Template(texts.clientId, agent);
    this.#user = user === null ? null : new Template(user, agent);
    this.#password = password === null ? null : encoder.encode(password);
    this.#subscribe = subscribe === null ? null : new Template(subscribe, agent);
    const flags = CLEAN_START | (user === null ? 0 : HAS_USER) | (password === null ? 0 : HAS_PASSWORD);
    const head = [0, 4, ...encoder.encode('MQTT'), level, flags, keepAliveSec >>> 8, keepAliveSec & 255];
    this.#connectHead = Uint8Array.from(this.#is5 ? [...head, 0] : head);
    // No connection has a number with more digits than this one.
    const most = Number.MAX_SAFE_INTEGER;
    const subscribeBytes = 16 + (this.#subscribe?.lengthOf(most) ?? 0);
    this.buffer = new Uint8Array(Math.max(16 + this.#connectBytes(most), subscribeBytes));
  }

  /** Bytes of CONNECT behind its length. */
  #connectBytes(conn: number): number {
    const user = this.#user === null ? 0 : 2 + this.#user.lengthOf(conn);
    const password = this.#password === null ? 0 : 2 + this.#password.length;
    return this.#connectHead.length + 2 + this.#clientId.lengthOf(conn) + user + password;
  }

  /** @param conn the connection's number @returns bytes written */
  connect(conn: number): number {
    const { buffer } = this;
    buffer[0] = PacketType.connect << 4;
    let at = writeNumber(buffer, 1, this.#connectBytes(conn));
    buffer.set(this.#connectHead, at);
    at = this.#clientId.write(buffer, at + this.#connectHead.length, conn);
    if (this.#user !== null) at = this.#user.write(buffer, at, conn);
    if (this.#password === null) return at;
    at = writeTwo(buffer, at, this.#password.length);
    buffer.set(this.#password, at);
    return at + this.#password.length;
  }

  /** @returns bytes written; 0: there is nothing to subscribe to */
  subscribe(conn: number): number {
    if (this.#subscribe === null) return 0;
    const { buffer } = this;
    // Its flags are 2 (MQTT 5 section 3.8.1).
    buffer[0] = (PacketType.subscribe << 4) | 2;
    const properties = this.#is5 ? 1 : 0;
    let at = writeNumber(buffer, 1, 2 + properties + 2 + this.#subscribe.lengthOf(conn) + 1);
    at = writeTwo(buffer, at, SUBSCRIBE_ID);
    if (this.#is5) buffer[at++] = 0;
    at = this.#subscribe.write(buffer, at, conn);
    buffer[at] = 0;
    return at + 1;
  }

  pingreq(): number {
    return this.#bare(PacketType.pingreq);
  }

  /** In order, so that no will is published. */
  disconnect(): number {
    return this.#bare(PacketType.disconnect);
  }

  #bare(type: number): number {
    this.buffer[0] = type << 4;
    this.buffer[1] = 0;
    return 2;
  }
}
