/** Tests the packets of MQTT: what is written, byte for byte as the standards show it, and what is read, however it is cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  PacketReader,
  type PacketReason,
  type PacketSink,
  PacketWriter,
} from '../../../src/engine/protocols/mqtt-packets.ts';
import { packet, text } from './mqtt-broker.ts';

/** Everything that was read, one line each. */
class Heard implements PacketSink {
  readonly lines: string[] = [];

  #add(what: string, reason?: PacketReason): true {
    const words =
      reason?.words === undefined || reason.words === null ? '' : ` ${Buffer.from(reason.words).toString()}`;
    const alive = (reason?.serverKeepAliveSec ?? -1) < 0 ? '' : ` alive ${reason?.serverKeepAliveSec}`;
    this.lines.push(`${what}${reason === undefined ? '' : ` ${reason.code}`}${alive}${words}`);
    return true;
  }

  onConnack(_slot: number, reason: PacketReason): boolean {
    return this.#add('connack', reason);
  }
  onSuback(_slot: number, reason: PacketReason): boolean {
    return this.#add('suback', reason);
  }
  onPublish(_slot: number): boolean {
    return this.#add('publish');
  }
  onPingresp(_slot: number): boolean {
    return this.#add('pingresp');
  }
  onDisconnect(_slot: number, reason: PacketReason): void {
    this.#add('disconnect', reason);
  }
  onBroken(_slot: number, what: string): void {
    this.#add(`broken: ${what}`);
  }
}

function read(level: 4 | 5, pieces: readonly Buffer[]): string[] {
  const heard = new Heard();
  const reader = new PacketReader(2, level, heard);
  for (const piece of pieces) reader.take(1, piece, piece.length);
  return heard.lines;
}

/** A property of each kind, the reason string among them. */
const PROPERTIES = Buffer.concat([
  Buffer.from([0x24, 1]),
  Buffer.from([0x13, 1, 2]),
  Buffer.from([0x11, 0, 0, 0, 9]),
  Buffer.from([0x0b, 0x80, 0x01]),
  Buffer.from([0x16]),
  text('binary'),
  Buffer.from([0x26]),
  text('a'),
  text('b'),
  Buffer.from([0x1f]),
  text('why not'),
]);

const STREAM: readonly Buffer[] = [
  packet(0x20, 0, 0, PROPERTIES.length, PROPERTIES),
  packet(0x90, 0, 1, 0, 0x87),
  packet(0x30, text('t'), Buffer.alloc(300, 7)),
  packet(0xd0),
  packet(0x3d & ~6, text('t'), 'dup and retain'),
  packet(0xd0),
  packet(0xe0, 0x8e, 0),
];
const STREAM_LINES = [
  'connack 0 alive 258 why not',
  'suback 135',
  'publish',
  'pingresp',
  'publish',
  'pingresp',
  'disconnect 142',
];

test('a stream of packets is read the same, whole, in every two pieces, and byte by byte', () => {
  const whole = Buffer.concat(STREAM);
  assert.deepEqual(read(5, [whole]), STREAM_LINES);
  for (let cut = 1; cut < whole.length; cut++)
    assert.deepEqual(read(5, [whole.subarray(0, cut), whole.subarray(cut)]), STREAM_LINES, `cut at ${cut}`);
  assert.deepEqual(
    read(
      5,
      Array.from(whole, (byte) => Buffer.from([byte])),
    ),
    STREAM_LINES,
  );
});

test('a DISCONNECT without a code, and a CONNACK of 3.1.1 for a client of 5', () => {
  assert.deepEqual(read(5, [packet(0xe0)]), ['disconnect 0']);
  assert.deepEqual(read(5, [packet(0x20, 0, 1)]), ['connack 1']);
  assert.deepEqual(read(4, [packet(0x20, 1, 0), packet(0x90, 0, 1, 128)]), ['connack 0', 'suback 128']);
});

const BROKEN: readonly (readonly [what: string, level: 4 | 5, bytes: Buffer, line: RegExp])[] = [
  ['a CONNACK of MQTT 5 for a client of 3.1.1', 4, packet(0x20, 0, 0, 0), /malformed CONNACK/],
  ['a CONNACK with reserved flags', 5, packet(0x20, 2, 0, 0), /malformed CONNACK/],
  ['a CONNACK that is empty', 5, packet(0x20), /malformed CONNACK/],
  ['properties that end beyond their packet', 5, packet(0x20, 0, 0, 9, 0x13), /malformed CONNACK/],
  ['properties that end before their packet', 5, packet(0x20, 0, 0, 0, 1), /malformed CONNACK/],
  ['a property that there is not', 5, packet(0x20, 0, 0, 2, 0x7e, 1), /malformed CONNACK/],
  ['a text that ends beyond its properties', 5, packet(0x20, 0, 0, 4, 0x1f, 0, 9, 65), /malformed CONNACK/],
  ['a text without its length', 5, packet(0x20, 0, 0, 2, 0x1f, 0), /malformed CONNACK/],
  ['a SUBACK for another packet', 5, packet(0x90, 0, 2, 0, 0), /SUBACK/],
  ['a SUBACK for two topics', 5, packet(0x90, 0, 1, 0, 0, 0), /SUBACK/],
  ['a PINGRESP with a body', 5, packet(0xd0, 1), /malformed PINGRESP/],
  ['a DISCONNECT in 3.1.1', 4, packet(0xe0), /DISCONNECT, which no server of MQTT 3.1.1 sends/],
  ['a PUBLISH with QoS 1', 5, packet(0x32, text('t')), /QoS above 0/],
  ['a PUBACK', 5, packet(0x40, 0, 1), /PUBACK/],
  ['an AUTH', 5, packet(0xf0, 0), /AUTH/],
  ['reserved flags', 5, packet(0xd1), /reserved flags/],
  ['type 0', 5, packet(0x00), /no MQTT/],
  ['a length of five bytes', 5, Buffer.from([0x20, 0xff, 0xff, 0xff, 0xff, 1]), /length of more than 4/],
  ['a CONNACK of 20,000 bytes', 5, packet(0x20, Buffer.alloc(20_000)), /above 16384 bytes/],
];

for (const [what, level, bytes, line] of BROKEN) {
  test(`${what} is said to be wrong once, and what follows is not read`, () => {
    const lines = read(level, [Buffer.concat([bytes, packet(0xd0)])]);
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0] ?? '', /^broken: /);
    assert.match(lines[0] ?? '', line);
  });
}

test('what a slot has kept of a packet is forgotten with it', () => {
  const heard = new Heard();
  const reader = new PacketReader(2, 5, heard);
  const half = packet(0x30, text('t'), Buffer.alloc(50)).subarray(0, 10);
  reader.take(1, half, half.length);
  reader.forget(1);
  const begun = packet(0x20, 0, 0, 0).subarray(0, 3);
  reader.take(1, begun, begun.length);
  reader.forget(1);
  reader.take(1, packet(0xd0), 2);
  assert.deepEqual(heard.lines, ['publish', 'pingresp']);
});

const TEXTS = {
  clientId: 'd-{agent}-{conn}-{conn}',
  user: null,
  password: null,
  keepAliveSec: 300,
  subscribe: null,
};

test('CONNECT says what was asked, with the number of the connection in its templates', () => {
  const four = new PacketWriter({ ...TEXTS, level: 4 }, 'a$&b');
  assert.deepEqual(
    Buffer.from(four.buffer.subarray(0, four.connect(1_090))),
    packet(0x10, text('MQTT'), 4, 2, 1, 44, text('d-a$&b-1090-1090')),
  );
  const five = new PacketWriter(
    { ...TEXTS, level: 5, user: 'ü{conn}', password: '{conn}', subscribe: 'x/{conn}/#' },
    'a',
  );
  assert.deepEqual(
    Buffer.from(five.buffer.subarray(0, five.connect(0))),
    packet(0x10, text('MQTT'), 5, 0xc2, 1, 44, 0, text('d-a-0-0'), text('ü0'), text('{conn}')),
  );
  assert.deepEqual(
    Buffer.from(five.buffer.subarray(0, five.subscribe(99_999_999))),
    packet(0x82, 0, 1, 0, text('x/99999999/#'), 0),
  );
  assert.equal(four.subscribe(1), 0);
});

test('the buffer holds the longest of all packets, whose length takes two and three bytes', () => {
  const long = 'x'.repeat(900);
  const writer = new PacketWriter(
    { ...TEXTS, level: 4, clientId: `${long}{conn}`, user: long, password: 'p'.repeat(16_384) },
    'a',
  );
  const length = writer.connect(Number.MAX_SAFE_INTEGER);
  assert(length <= writer.buffer.length);
  assert.deepEqual(
    Buffer.from(writer.buffer.subarray(0, length)),
    packet(
      0x10,
      text('MQTT'),
      4,
      0xc2,
      1,
      44,
      text(`${long}9007199254740991`),
      text(long),
      text('p'.repeat(16_384)),
    ),
  );
});
