/**
 * Owns a broker of MQTT for tests that says exactly the bytes it is told to, and that reads a client's packets strictly. Written
 * from the standards alone; must never import the program.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';

/** A packet with its length. */
export function packet(first: number, ...body: readonly (number | string | Buffer)[]): Buffer {
  const bytes = Buffer.concat(
    body.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part))),
  );
  const length: number[] = [];
  let rest = bytes.length;
  do {
    length.push((rest % 128) + (rest >= 128 ? 128 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.concat([Buffer.from([first, ...length]), bytes]);
}

/** A text with its two bytes of length. */
export function text(of: string): Buffer {
  const bytes = Buffer.from(of);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

/** What a client's CONNECT says. */
export interface SaidConnect {
  readonly level: number;
  readonly isClean: boolean;
  readonly keepAlive: number;
  readonly clientId: string;
  readonly user: string | null;
  readonly password: string | null;
}

/** One connection at the broker. */
export class BrokerSocket {
  readonly socket: Socket;
  connect: SaidConnect | null = null;
  readonly topics: string[] = [];
  pings = 0;
  disconnects = 0;
  isEnded = false;
  readonly #onPacket: (self: BrokerSocket, type: number) => void;
  #bytes = Buffer.alloc(0);

  /** @param onPacket after each packet, with its type */
  constructor(socket: Socket, onPacket: (self: BrokerSocket, type: number) => void) {
    this.socket = socket;
    this.#onPacket = onPacket;
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('close', () => {
      this.isEnded = true;
    });
  }

  #take(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    for (;;) {
      let size = 0;
      let at = 1;
      for (let place = 1; ; place *= 128, at++) {
        const byte = this.#bytes[at];
        if (byte === undefined) return;
        size += (byte & 127) * place;
        if (byte < 128) break;
      }
      const end = at + 1 + size;
      if (this.#bytes.length < end) return;
      const first = this.#bytes[0] ?? 0;
      const body = this.#bytes.subarray(at + 1, end);
      this.#bytes = this.#bytes.subarray(end);
      this.#read(first, body);
      this.#onPacket(this, first >> 4);
    }
  }

  #read(first: number, body: Buffer): void {
    switch (first) {
      case 0x10:
        assert.equal(this.connect, null, 'one CONNECT');
        this.connect = readConnect(body);
        return;
      case 0x82:
        this.topics.push(readSubscribe(body, this.connect?.level ?? 0));
        return;
      case 0xc0:
        assert.equal(body.length, 0);
        this.pings++;
        return;
      case 0xe0:
        assert.equal(body.length, 0);
        this.disconnects++;
        return;
      default:
        assert.fail(`a client sent ${first.toString(16)}`);
    }
  }
}

function readConnect(body: Buffer): SaidConnect {
  assert.equal(body.subarray(0, 6).toString('latin1'), '\x00\x04MQTT');
  const [level = 0, flags = 0] = body.subarray(6, 8);
  let at = 10;
  if (level === 5) assert.equal(body[at++], 0, 'no properties');
  const next = (): string => {
    const end = at + 2 + body.readUInt16BE(at);
    assert(end <= body.length, 'a text ends within its packet');
    const part = body.subarray(at + 2, end).toString();
    at = end;
    return part;
  };
  const clientId = next();
  const user = (flags & 128) === 0 ? null : next();
  const password = (flags & 64) === 0 ? null : next();
  assert.equal(at, body.length, 'nothing is left');
  assert.equal(flags & 0x3d, 0, 'no will, and no reserved flag');
  return { level, isClean: (flags & 2) !== 0, keepAlive: body.readUInt16BE(8), clientId, user, password };
}

function readSubscribe(body: Buffer, level: number): string {
  assert.equal(body.readUInt16BE(0), 1);
  let at = 2;
  if (level === 5) assert.equal(body[at++], 0, 'no properties');
  const end = at + 2 + body.readUInt16BE(at);
  assert.equal(body.length, end + 1);
  assert.equal(body[end], 0, 'QoS 0 and no other option');
  return body.subarray(at + 2, end).toString();
}
