/** Tests whose sockets share the room for connections without a proof. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { GATE_LIMITS, Gate, type GateReason } from '../../src/control/gate.ts';
import { systemClock } from '../../src/time/timer.ts';

/** A socket that says nothing, from some address. */
class SilentSocket extends EventEmitter {
  readonly remoteAddress: string;
  readonly remotePort: number;
  isDestroyed = false;

  constructor(remoteAddress: string, remotePort: number) {
    super();
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
  }

  destroy(): void {
    this.isDestroyed = true;
  }
}

/** As many as one address may have, and those of `more`: how many of the first were turned away. */
function turnedAway(t: TestContext, first: string, more: readonly string[]): number {
  const refused: GateReason[] = [];
  const gate = new Gate({
    clock: systemClock,
    knownKeyFor: () => null,
    onRefused: (reason) => refused.push(reason),
    onProven: () => assert.fail('no socket has shown a key'),
  });
  t.after(() => gate.close());
  const take = (address: string, port: number): SilentSocket => {
    const socket = new SilentSocket(address, port);
    gate.take(socket as unknown as Socket);
    return socket;
  };
  const sockets = Array.from({ length: GATE_LIMITS.unprovenPerAddress }, (_, port) => take(first, port));
  assert.deepEqual(refused, [], 'there is room for all of one address');
  for (const [port, address] of more.entries()) take(address, port);
  const gone = sockets.filter((socket) => socket.isDestroyed).length;
  assert.deepEqual(refused, Array<GateReason>(gone).fill('crowded'));
  assert(
    sockets.slice(0, gone).every((socket) => socket.isDestroyed),
    'the oldest go first',
  );
  return gone;
}

test('an IPv4 address counts by itself, however it is written', (t) => {
  assert.equal(turnedAway(t, '10.0.0.1', ['::ffff:10.0.0.1', '10.0.0.1']), 2);
  assert.equal(turnedAway(t, '10.0.0.1', ['10.0.0.2', '::ffff:10.0.0.3']), 0);
});

test('IPv6 counts by its /64, short forms and zones included', (t) => {
  assert.equal(turnedAway(t, '2001:db8:1:2:3:4:5:6', ['2001:db8:1:2::1']), 1);
  assert.equal(turnedAway(t, '2001:db8:1:2::1', ['2001:db8:1:3::1']), 0);
  assert.equal(turnedAway(t, '2001:db8::1', ['2001:db8::ffff:1']), 1);
  assert.equal(turnedAway(t, 'fe80::1%eth0', ['fe80::2%eth1']), 1);
  assert.equal(turnedAway(t, '::1', ['2001:db8::1']), 0);
});
