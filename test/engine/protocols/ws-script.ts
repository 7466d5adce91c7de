/**
 * Owns a WebSocket server for tests that says exactly the bytes it is told to, right or wrong, and that reads client
 * frames strictly. Written from RFC 6455 alone; must never import the program.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';

/** A frame that the client sent, unmasked. */
export interface ClientFrame {
  readonly opcode: number;
  readonly payload: Buffer;
  readonly mask: string;
}

/** What one scripted connection has seen. */
export class ScriptedSocket {
  readonly socket: Socket;
  readonly frames: ClientFrame[] = [];
  request = '';
  isEnded = false;
  readonly #onRequest: (self: ScriptedSocket) => void;
  readonly #onFrame: (self: ScriptedSocket, frame: ClientFrame) => void;
  #bytes = Buffer.alloc(0);
  #isUpgraded = false;

  constructor(
    socket: Socket,
    onRequest: (self: ScriptedSocket) => void,
    onFrame: (self: ScriptedSocket, frame: ClientFrame) => void = () => {},
  ) {
    this.socket = socket;
    this.#onRequest = onRequest;
    this.#onFrame = onFrame;
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('close', () => {
      this.isEnded = true;
    });
    socket.on('end', () => {
      this.isEnded = true;
    });
  }

  get key(): string {
    return /^sec-websocket-key: *(\S+) *$/im.exec(this.request)?.[1] ?? '';
  }

  /** The right answer to the upgrade. */
  get answer(): string {
    const accept = createHash('sha1')
      .update(`${this.key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    return (
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`
    );
  }

  /** The code of the client's close frame; null: none has come; 0: it has no code. */
  get closeCode(): number | null {
    const close = this.frames.find((frame) => frame.opcode === 8);
    if (close === undefined) return null;
    return close.payload.length === 0 ? 0 : close.payload.readUInt16BE(0);
  }

  #take(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    if (!this.#isUpgraded) {
      const end = this.#bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.request = this.#bytes.toString('latin1', 0, end + 2);
      this.#bytes = this.#bytes.subarray(end + 4);
      this.#isUpgraded = true;
      this.#onRequest(this);
    }
    for (let frame = this.#nextFrame(); frame !== null; frame = this.#nextFrame()) {
      this.frames.push(frame);
      this.#onFrame(this, frame);
    }
  }

  #nextFrame(): ClientFrame | null {
    const bytes = this.#bytes;
    if (bytes.length < 6) return null;
    assert.equal(bytes[0]! & 0xf0, 0x80, 'client frames are final, without reserved bits');
    assert.equal(bytes[1]! & 0x80, 0x80, 'client frames are masked');
    const short = bytes[1]! & 0x7f;
    assert(short < 127, 'nothing of ours is longer than 65,535 bytes');
    const header = short === 126 ? 8 : 6;
    if (bytes.length < header) return null;
    const length = short === 126 ? bytes.readUInt16BE(2) : short;
    if (bytes.length < header + length) return null;
    const mask = bytes.subarray(header - 4, header);
    const payload = Buffer.from(bytes.subarray(header, header + length));
    for (let at = 0; at < length; at++) payload[at]! ^= mask[at & 3]!;
    this.#bytes = bytes.subarray(header + length);
    return { opcode: bytes[0]! & 0x0f, payload, mask: mask.toString('hex') };
  }
}

/** How a server frame differs from a right one. */
export interface FrameOptions {
  readonly final?: boolean;
  readonly reserved?: number;
  readonly masked?: boolean;
  /** bytes of the length field: 2, 8 or as short as possible */
  readonly lengthBytes?: 2 | 8;
  /** what the header says instead of the truth */
  readonly claimed?: bigint;
}

/** A server frame, right unless told otherwise. */
export function frame(opcode: number, payload: Buffer | string, options: FrameOptions = {}): Buffer {
  const body = Buffer.from(payload);
  const claimed = options.claimed ?? BigInt(body.length);
  const first = (options.final === false ? 0 : 0x80) | ((options.reserved ?? 0) << 4) | opcode;
  const mask = options.masked === true ? 0x80 : 0;
  const bytes = options.lengthBytes ?? (claimed < 126n ? 0 : claimed < 65_536n ? 2 : 8);
  let head: Buffer;
  if (bytes === 0) head = Buffer.from([first, mask | Number(claimed)]);
  else if (bytes === 2) {
    head = Buffer.from([first, mask | 126, 0, 0]);
    head.writeUInt16BE(Number(claimed), 2);
  } else {
    head = Buffer.from([first, mask | 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeBigUInt64BE(claimed, 2);
  }
  if (options.masked !== true) return Buffer.concat([head, body]);
  const key = Buffer.from([1, 2, 3, 4]);
  const covered = Buffer.from(body.map((byte, at) => byte ^ key[at & 3]!));
  return Buffer.concat([head, key, covered]);
}

/** A close frame. */
export function closeFrame(code: number, reason: Buffer | string = ''): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return frame(8, Buffer.concat([head, Buffer.from(reason)]));
}
