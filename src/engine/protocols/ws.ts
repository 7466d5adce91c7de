/**
 * Owns the WebSocket proof (RFC 6455): an upgrade that is checked, with its key and the answer that it asks for; pings
 * whose pongs must come back equal; answers to what a server may ask. Must never hold a frame (ws-frames.ts), or remember
 * a key: it is a keyed permutation of slot and connection number, worked out again when the answer comes, so that it costs
 * 4 bytes a slot and no other process can foresee it.
 *
 *   us -> target : GET path, Upgrade: websocket      (slot is handshaking)
 *   target -> us : 101, Sec-WebSocket-Accept         open and verified
 *   us -> target : [text message], ping              each probe; its 16 bytes name slot and number
 *   target -> us : pong                              answered, when it is equal
 *   both ways    : messages, where some are asked for (messages.ts)
 *   target -> us : ping                              pong
 *   target -> us : close                             the same code back, then lost as `fin`
 *   target -> us : what RFC 6455 forbids             close 1002, 1007 or 1009, then lost as `protocol`
 */

import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import type { ProtocolOptions } from '../../base/endpoint.ts';
import { DropReason, FailReason } from '../../base/outcome.ts';
import { DEFAULT_REQUEST_OPTIONS, requestHead } from '../../base/request-options.ts';
import { MESSAGE_BYTES_MAX } from '../../base/traffic-options.ts';
import { HeadReader, hasToken, otherProtocol, type ResponseHead, refusalText, saidEnd } from './http-head.ts';
import { Messages, type MessagesOf } from './messages.ts';
import { type Overdue, type Protocol, type ProtocolHost, SendBuffer } from './protocol.ts';
import {
  CloseCode,
  FrameReader,
  type FrameSink,
  FrameWriter,
  isCloseCode,
  Opcode,
  Utf8,
  utf8After,
} from './ws-frames.ts';

const PING_BYTES = 16;
const MAGIC = 0x626b3163;
const MAGIC_BYTES = 4;
const CONTROL_BYTES_MAX = 125;
/** in `#phase` */
const Phase = { none: 0, upgrading: 1, open: 2 } as const;

/** How requests are addressed. */
export interface RequestTarget {
  readonly options: ProtocolOptions;
  /** the value of the Host header for the slot's endpoint */
  authority(slot: number): string;
}

/** WebSocket connections. */
export class WsProtocol implements Protocol, FrameSink {
  readonly hasHandshake = true;
  readonly canProbe = true;
  readonly #host: ProtocolHost;
  readonly #target: RequestTarget;
  readonly #salt: number;
  readonly #keys = new HandshakeKeys();
  readonly #subprotocols: readonly string[];
  readonly #heads = new HeadReader();
  readonly #frames: FrameReader;
  readonly #unsent: SendBuffer;
  readonly #writer: FrameWriter;
  readonly #ping = new Uint8Array(PING_BYTES);
  readonly #pingView = new DataView(this.#ping.buffer);
  readonly #closing = new Uint8Array(2);
  readonly #message: Uint8Array | null;
  /** null: nothing is said but pings */
  readonly #messages: Messages | null;
  /** messages that came in pieces, by slot; nearly always empty */
  readonly #pieces = new Map<number, Uint8Array>();
  /** requests by authority: a run has few endpoints, and a request is the same but for its key */
  readonly #requests = new Map<string, Buffer>();
  readonly #phase: Uint8Array;
  /** 1: a ping is out */
  readonly #pinging: Uint8Array;
  readonly #sequence: Uint32Array;
  /** how many connections the slot has begun */
  readonly #connection: Uint32Array;

  /**
   * @param salt 32 bits that differ between processes
   * @param said what connections say; null: nothing but pings
   */
  constructor(host: ProtocolHost, salt: number, target: RequestTarget, said: MessagesOf | null) {
    const { capacity } = host;
    this.#host = host;
    this.#target = target;
    this.#salt = salt;
    this.#subprotocols = (target.options.request ?? DEFAULT_REQUEST_OPTIONS).subprotocols;
    this.#frames = new FrameReader(capacity, this, said !== null);
    this.#unsent = new SendBuffer(host);
    const { message } = target.options;
    this.#message = message === null ? null : new TextEncoder().encode(message);
    const payloadMax = said === null ? CONTROL_BYTES_MAX : MESSAGE_BYTES_MAX;
    this.#writer = new FrameWriter(Math.max(payloadMax, this.#message?.length ?? 0));
    const transmit = (slot: number, payload: Uint8Array, length: number, isBinary: boolean): void =>
      this.#send(slot, isBinary ? Opcode.binary : Opcode.text, payload, length);
    this.#messages = said === null ? null : new Messages(host, said, transmit);
    this.#phase = new Uint8Array(capacity);
    this.#pinging = new Uint8Array(capacity);
    this.#sequence = new Uint32Array(capacity);
    this.#connection = new Uint32Array(capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + 1 + 4 + 4 + this.#frames.bytesPerSlot + (this.#messages?.bytesPerSlot ?? 0);
  }

  onConnected(slot: number): void {
    this.#connection[slot]!++;
    this.#phase[slot] = Phase.upgrading;
    const authority = this.#target.authority(slot);
    let request = this.#requests.get(authority);
    if (request === undefined) {
      request = requestOf(this.#target.options, authority);
      this.#requests.set(authority, request);
    }
    request.write(this.#key(slot), request.length - KEY_CHARACTERS - 4, 'latin1');
    this.#unsent.send(slot, request, request.length);
  }

  #key(slot: number): string {
    return this.#keys.keyOf(slot, this.#connection[slot]!);
  }

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    if (this.#phase[slot] === Phase.open) {
      this.#frames.take(slot, buffer, 0, length);
      return;
    }
    const result = this.#heads.take(slot, buffer, 0, length);
    if (result.type === 'more') return;
    const wrong =
      result.type === 'bad'
        ? (otherProtocol(buffer, 0, length) ?? result.what)
        : wrongUpgrade(result.head, this.#key(slot), this.#subprotocols);
    if (wrong !== null) {
      const text = result.type === 'head' ? refusalText(result.head, buffer, result.next, length) : buffer;
      this.#host.said(slot, text, 0, text === buffer ? saidEnd(buffer, 0, length) : text.length);
      this.#host.lost(slot, FailReason.handshake, DropReason.protocol, `ws ${wrong}`);
      return;
    }
    this.#phase[slot] = Phase.open;
    if (this.#messages?.opensByAnswer !== true) {
      this.#host.opened(slot);
      this.#host.verified(slot);
    }
    this.#messages?.begin(slot);
    if (result.type === 'head' && result.next < length) this.#frames.take(slot, buffer, result.next, length);
  }

  onProbeDue(slot: number, sequence: number): void {
    this.#sequence[slot] = sequence;
    if (this.#messages?.isSending === true) {
      this.#messages.say(slot);
      if (this.#messages.areAnswered) return;
    }
    this.#pinging[slot] = 1;
    if (this.#message !== null) this.#send(slot, Opcode.text, this.#message, this.#message.length);
    this.#writePing(slot);
    this.#send(slot, Opcode.ping, this.#ping, PING_BYTES);
  }

  #writePing(slot: number): void {
    this.#pingView.setUint32(0, MAGIC, true);
    this.#pingView.setUint32(4, slot, true);
    this.#pingView.setUint32(8, this.#sequence[slot]!, true);
    this.#pingView.setUint32(12, this.#salt, true);
  }

  #send(slot: number, opcode: number, payload: Uint8Array, length: number): void {
    this.#unsent.send(slot, this.#writer.buffer, this.#writer.write(opcode, payload, length));
  }

  onWritable(slot: number): void {
    this.#unsent.flush(slot);
  }

  onData(slot: number, bytes: Uint8Array, from: number, to: number, isEnd: boolean): boolean {
    const before = this.#pieces.get(slot);
    if (this.#messages === null) return true;
    if (before === undefined && isEnd) return this.#messages.hearMessage(slot, bytes, from, to);
    const room = MESSAGE_BYTES_MAX - (before?.length ?? 0);
    const piece = bytes.subarray(from, Math.min(to, from + room));
    const heard = Buffer.concat(before === undefined ? [piece] : [before, piece]);
    if (isEnd) this.#pieces.delete(slot);
    else this.#pieces.set(slot, heard);
    return isEnd ? this.#messages.hearMessage(slot, heard, 0, heard.length) : true;
  }

  overdue(slot: number): Overdue {
    return this.#phase[slot] === Phase.open ? (this.#messages?.overdue(slot) ?? null) : null;
  }

  onControl(slot: number, opcode: number, payload: Uint8Array, length: number): boolean {
    if (opcode === Opcode.ping) {
      this.#send(slot, Opcode.pong, payload, length);
      return true;
    }
    if (opcode === Opcode.pong) return this.#onPong(slot, payload, length);
    this.#onClose(slot, payload, length);
    return false;
  }

  /** A server may send pongs without a ping (section 5.5.3); one that begins like our ping must be it. */
  #onPong(slot: number, payload: Uint8Array, length: number): boolean {
    if (this.#pinging[slot] === 0) return true;
    this.#writePing(slot);
    let equal = 0;
    while (equal < PING_BYTES && equal < length && payload[equal] === this.#ping[equal]) equal++;
    if (equal < MAGIC_BYTES) return true;
    if (equal < PING_BYTES || length > PING_BYTES) {
      this.#host.lost(slot, FailReason.handshake, DropReason.probeMismatch, 'ws pong differs from its ping');
      return false;
    }
    this.#pinging[slot] = 0;
    this.#host.answered(slot);
    return true;
  }

  #onClose(slot: number, payload: Uint8Array, length: number): void {
    const code = length >= 2 ? payload[0]! * 256 + payload[1]! : 0;
    if (length === 1 || (length >= 2 && !isCloseCode(code))) {
      this.onBroken(slot, CloseCode.protocol, 'a close frame without a valid code');
      return;
    }
    if (length > 2 && utf8After(Utf8.whole, payload, 2, length) !== Utf8.whole) {
      this.onBroken(slot, CloseCode.badData, 'a close reason that is not UTF-8');
      return;
    }
    this.#send(slot, Opcode.close, payload, Math.min(length, 2));
    const what = length >= 2 ? `ws close ${code}` : 'ws close without a code';
    const text = Buffer.concat([
      Buffer.from(length > 2 ? `${what} ` : what),
      payload.subarray(2, Math.max(2, length)),
    ]);
    this.#host.said(slot, text, 0, text.length);
    this.#host.lost(slot, FailReason.handshake, DropReason.fin, what);
  }

  onBroken(slot: number, code: number, what: string): void {
    this.#sendClose(slot, code);
    this.#host.lost(slot, FailReason.handshake, DropReason.protocol, `ws ${code}: ${what}`);
  }

  #sendClose(slot: number, code: number): void {
    this.#closing[0] = code >>> 8;
    this.#closing[1] = code & 0xff;
    this.#send(slot, Opcode.close, this.#closing, 2);
  }

  onClosing(slot: number): void {
    if (this.#phase[slot] === Phase.open) this.#sendClose(slot, CloseCode.normal);
  }

  onForgotten(slot: number): void {
    this.#phase[slot] = Phase.none;
    this.#pinging[slot] = 0;
    this.#messages?.forget(slot);
    this.#pieces.delete(slot);
    this.#frames.forget(slot);
    this.#heads.forget(slot);
    this.#unsent.forget(slot);
  }
}

/** The request, with room for a key right before the blank line. */
function requestOf(options: ProtocolOptions, authority: string): Buffer {
  const { headers, subprotocols } = options.request ?? DEFAULT_REQUEST_OPTIONS;
  const offer = { name: 'Sec-WebSocket-Protocol', value: subprotocols.join(', ') };
  const own = [
    { name: 'User-Agent', value: 'c100k-bench' },
    { name: 'Upgrade', value: 'websocket' },
    { name: 'Connection', value: 'Upgrade' },
    { name: 'Sec-WebSocket-Version', value: '13' },
    ...(subprotocols.length === 0 ? [] : [offer]),
  ];
  const key = { name: 'Sec-WebSocket-Key', value: '='.repeat(KEY_CHARACTERS) };
  return Buffer.from(
    requestHead(`GET ${options.path} HTTP/1.1`, authority, own, [...headers, key]),
    'latin1',
  );
}

/** What is wrong with the answer to an upgrade (RFC 6455 section 4.1, the six checks at its end); null: nothing. */
function wrongUpgrade(head: ResponseHead, key: string, offered: readonly string[]): string | null {
  const { status, isHttp11, fields } = head;
  if (!isHttp11) return 'an answer in HTTP/1.0';
  if (status !== 101) return `status ${status}`;
  if (fields.get('upgrade')?.toLowerCase() !== 'websocket') return 'no "Upgrade: websocket"';
  if (!hasToken(fields.get('connection'), 'upgrade')) return 'no "Connection: Upgrade"';
  if (fields.get('sec-websocket-accept') !== acceptOf(key)) return 'wrong Sec-WebSocket-Accept';
  // None is offered, so a server may choose none.
  if ((fields.get('sec-websocket-extensions') ?? '') !== '') return 'an extension that was not offered';
  return wrongSubprotocol(fields.get('sec-websocket-protocol'), offered);
}

/** A browser ends a connection whose server chooses none of what was offered, and so does this. */
function wrongSubprotocol(chosen: string | undefined, offered: readonly string[]): string | null {
  if (chosen === undefined) return offered.length === 0 ? null : 'no subprotocol of those offered was chosen';
  return offered.includes(chosen) ? null : 'a subprotocol that was not offered';
}

/** Characters of a key: 16 bytes in base64. */
const KEY_CHARACTERS = 24;

const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The keys of one process. */
class HandshakeKeys {
  // One block in, one block out; AES as a permutation gives 16 bytes that look random and never repeat.
  readonly #cipher = createCipheriv('aes-128-ecb', randomBytes(16), null).setAutoPadding(false);
  readonly #block = Buffer.alloc(16);

  /** The key of one connection of a slot, 24 characters. @param connection its number, so that a slot's next key differs */
  keyOf(slot: number, connection: number): string {
    this.#block.writeUInt32LE(slot, 0);
    this.#block.writeUInt32LE(connection, 4);
    return this.#cipher.update(this.#block).toString('base64');
  }
}

/** What a server must answer to a key. */
function acceptOf(key: string): string {
  return createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
}
