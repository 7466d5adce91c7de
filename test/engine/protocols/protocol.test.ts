/** Tests the bytes that a socket did not take: nothing is lost, doubled or reordered, and there is a bound. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ProtocolHost, SendBuffer } from '../../../src/engine/protocols/protocol.ts';

/** A socket that takes at most `room` bytes of each slot. */
class Socket implements Pick<ProtocolHost, 'send'> {
  readonly got: number[] = [];
  room = 0;
  errno = 0;

  send(_slot: number, buffer: Uint8Array, length: number): number {
    if (this.errno !== 0) return -this.errno;
    const took = Math.min(this.room, length);
    this.got.push(...buffer.subarray(0, took));
    this.room -= took;
    return took;
  }
}

function bufferOn(socket: Socket): SendBuffer {
  const none = (): never => assert.fail('a buffer only sends');
  return new SendBuffer({
    capacity: 4,
    send: (slot, buffer, length) => socket.send(slot, buffer, length),
    opened: none,
    verified: none,
    answered: none,
    answeredWrongly: none,
    lost: none,
    handOver: none,
    awake: none,
    probeAtLeastEvery: none,
    transferred: none,
    said: none,
  });
}

test('what the socket takes in whatever portions is what was sent, in order', () => {
  const moves = fc.array(fc.tuple(fc.boolean(), fc.nat({ max: 200 })), { maxLength: 60 });
  fc.assert(
    fc.property(moves, (choices) => {
      const socket = new Socket();
      const buffer = bufferOn(socket);
      const sent: number[] = [];
      for (const [isSent, size] of choices) {
        if (isSent) {
          const unit = Uint8Array.from({ length: size }, (_, at) => (sent.length + at) & 255);
          assert.equal(buffer.send(1, unit, size), true);
          sent.push(...unit);
          unit.fill(255);
        } else {
          socket.room = size;
          buffer.flush(1);
        }
        assert.deepEqual(socket.got, sent.slice(0, socket.got.length));
      }
      socket.room = Number.POSITIVE_INFINITY;
      buffer.flush(1);
      assert.deepEqual(socket.got, sent);
    }),
  );
});

test('a unit that does not fit is refused as a whole, and another slot has room of its own', () => {
  const socket = new Socket();
  const buffer = bufferOn(socket);
  const unit = new Uint8Array(10_000).fill(7);
  assert.deepEqual(
    [
      buffer.send(0, unit, 10_000),
      buffer.send(0, unit, 6_384),
      buffer.send(0, unit, 1),
      buffer.send(1, unit, 1),
    ],
    [true, true, false, true],
  );
  socket.room = 100_000;
  buffer.flush(0);
  assert.equal(socket.got.length, 16_384);
  buffer.flush(0);
  assert.equal(socket.got.length, 16_384, 'once');
});

test('a slot that is forgotten sends nothing more, and an error keeps what was to be sent', () => {
  const socket = new Socket();
  const buffer = bufferOn(socket);
  socket.errno = 32;
  assert.equal(buffer.send(2, Uint8Array.of(1, 2, 3), 3), true);
  buffer.flush(2);
  socket.errno = 0;
  socket.room = 2;
  buffer.flush(2);
  assert.deepEqual(socket.got, [1, 2]);
  buffer.forget(2);
  socket.room = 9;
  buffer.flush(2);
  assert.deepEqual(socket.got, [1, 2]);
});
