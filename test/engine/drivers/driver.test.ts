/**
 * Tests each driver by the same sentences, with real sockets on loopback; what our side did is asked of the far side.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { test } from 'node:test';
import { DriverEvent, OpenStep, openOutcomeOf } from '../../../src/engine/drivers/driver.ts';
import { sockAddr } from '../../../src/engine/drivers/sockaddr.ts';
import * as libc from '../../../src/engine/libc.ts';
import { kernelCounter } from '../../support/kernel-view.ts';
import { pause, settled, until } from '../../support/waiting.ts';
import { DRIVERS, farSide, optionsTo, ownSource, Watched } from './driver-harness.ts';

const PORT = 12_000;
const { Errno } = libc;

for (const { name, skip, make } of DRIVERS) {
  const options = { skip };

  test(`${name}: connects from the given address and port`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 3)));
    t.after(() => side.driver.end());
    for (let slot = 0; slot < 3; slot++) assert(side.driver.open(slot, 0, PORT + slot, 0));
    await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
    await until('all are accepted', () => far.sockets.length === 3);
    const seen = far.sockets.map((socket) => `${socket.remoteAddress}:${socket.remotePort}`).sort();
    assert.deepEqual(
      seen,
      [0, 1, 2].map((slot) => `${ownSource(0)}:${PORT + slot}`),
    );
  });

  test(`${name}: connects over IPv6`, options, async (t) => {
    const far = await farSide(t, '::1');
    const driver = make({
      capacity: 1,
      sources: [sockAddr('::1', 0)],
      endpoints: [sockAddr('::1', far.port)],
    });
    const side = new Watched(driver);
    t.after(() => driver.end());
    driver.open(0, 0, 0, 0);
    await side.until('it is connected', () => side.told[0]!.connected === 1);
    await until('it is accepted', () => far.sockets.length === 1);
    assert.equal(far.sockets[0]!.remoteAddress, '::1');
  });

  test(`${name}: one source port serves two endpoints`, options, async (t) => {
    const first = await farSide(t);
    const second = await farSide(t);
    const side = new Watched(make(optionsTo([first.port, second.port], 2)));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    side.driver.open(1, 0, PORT, 1);
    await side.until('both are connected', () => side.told.every((told) => told.connected === 1));
    await until('both are accepted', () => first.sockets.length === 1 && second.sockets.length === 1);
    assert.equal(first.sockets[0]!.remotePort, second.sockets[0]!.remotePort);
  });

  test(`${name}: each way that an open fails has its step, its errno and its reason`, options, async (t) => {
    const far = await farSide(t);
    const dead = createServer();
    await new Promise<void>((resolve) => void dead.listen(0, '127.0.0.1', resolve));
    const deadPort = (dead.address() as { port: number }).port;
    await new Promise((resolve) => void dead.close(resolve));
    // A port on which some process listens at 0.0.0.0 cannot be bound on any address.
    const everywhere = createServer();
    await new Promise<void>((resolve) => void everywhere.listen(0, '0.0.0.0', resolve));
    t.after(() => everywhere.close());
    const busyPort = (everywhere.address() as { port: number }).port;
    // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
    const side = new Watched(make(optionsTo([far.port, deadPort], 6, [ownSource(0), '192.0.2.1'])));
    const { driver } = side;
    t.after(() => driver.end());
    driver.open(0, 0, PORT, 0);
    await side.until('the first is connected', () => side.told[0]!.connected === 1);
    driver.open(1, 0, PORT, 0);
    driver.open(2, 0, PORT + 1, 1);
    driver.open(3, 0, busyPort, 0);
    driver.open(4, 1, PORT, 0);
    driver.open(5, 0, PORT + 2, 0);
    await side.until(
      'four have failed, and one is connected',
      () => side.told.filter((told) => told.failed !== null).length === 4 && side.told[5]!.connected === 1,
    );
    const failed = [1, 2, 3, 4].map((slot) => side.told[slot]!.failed!);
    assert.deepEqual(failed, [
      { step: OpenStep.connect, errno: Errno.EADDRNOTAVAIL },
      { step: OpenStep.connect, errno: Errno.ECONNREFUSED },
      { step: OpenStep.bind, errno: Errno.EADDRINUSE },
      { step: OpenStep.bind, errno: Errno.EADDRNOTAVAIL },
    ]);
    assert.deepEqual(
      failed.map(({ step, errno }) => openOutcomeOf(step as OpenStep, errno)),
      [
        { kind: 'skipped', skip: 'tuple-in-use' },
        { kind: 'failed', fail: 'refused', isFinal: false },
        { kind: 'skipped', skip: 'port-in-use' },
        { kind: 'failed', fail: 'source-lost', isFinal: false },
      ],
    );
    for (const slot of [1, 2, 3, 4]) driver.close(slot, 'rst');
    for (const slot of [1, 2, 3, 4]) side.forget(slot);
    for (const slot of [1, 2, 3, 4]) assert(driver.open(slot, 0, PORT + 10 + slot, 0));
    await side.until('their slots serve again', () =>
      [1, 2, 3, 4].every((slot) => side.told[slot]!.connected === 1),
    );
    await until('those are accepted', () => far.sockets.length === 6);
  });

  test(`${name}: an address family that the endpoint has not is reported`, options, async (t) => {
    const far = await farSide(t);
    const sources = [sockAddr('::1', 0)];
    const endpoints = [sockAddr('127.0.0.1', far.port)];
    const side = new Watched(make({ capacity: 1, sources, endpoints }));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    await side.until('it has failed', () => side.told[0]!.failed !== null);
    assert.equal(side.told[0]!.failed!.step, OpenStep.connect);
  });

  test(`${name}: a FIN of the far side is the end, after the bytes before it`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 2)));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    await side.until('it is connected', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
    const text = Buffer.alloc(300_000, 'abcdefghij');
    far.sockets[0]!.end(text);
    await side.until('it has ended', () => side.told[0]!.ended !== null);
    assert.equal(side.told[0]!.ended, 0);
    assert(side.told[0]!.bytes.equals(text), 'all bytes, in their order');
  });

  test(`${name}: a RST of the far side is the end, with its errno`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 1)));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    await side.until('it is connected', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
    far.sockets[0]!.resetAndDestroy();
    await side.until('it has ended', () => side.told[0]!.ended !== null);
    assert.equal(side.told[0]!.ended, Errno.ECONNRESET);
  });

  test(`${name}: a RST that a send meets first is a RST, not a FIN`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 1)));
    const { driver } = side;
    t.after(() => driver.end());
    driver.open(0, 0, PORT, 0);
    await side.until('it is connected', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
    far.sockets[0]!.resetAndDestroy();
    // The far kernel has sent it when its descriptor is gone; on loopback it has arrived then.
    await until('the far side is gone', () => far.sockets[0]!.closed);
    driver.send(0, Buffer.from('late'), 4);
    await side.until('it has ended', () => side.told[0]!.ended !== null);
    assert([Errno.ECONNRESET, Errno.EPIPE].includes(side.told[0]!.ended!), `errno ${side.told[0]!.ended}`);
  });

  test(`${name}: bytes come as they are sent, in pieces of any size`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 4)));
    t.after(() => side.driver.end());
    for (let slot = 0; slot < 4; slot++) side.driver.open(slot, 0, PORT + slot, 0);
    await side.until('all are accepted', () => far.sockets.length === 4);
    await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
    // 4,096 and 65,536 are sizes of our own buffers: exactly full is not the same as one less.
    const pieces = [1, 15, 4_095, 4_096, 4_097, 8_192, 65_536, 100_000, 3];
    const sent = far.sockets.map(() => Buffer.alloc(0));
    for (const size of pieces) {
      for (const [index, socket] of far.sockets.entries()) {
        const piece = Buffer.alloc(size, String.fromCharCode(97 + index));
        sent[index] = Buffer.concat([sent[index]!, piece]);
        socket.write(piece);
      }
      const total = sent[0]!.length;
      await side.until(`${size} more are there`, () =>
        side.told.every((told) => told.bytes.length === total),
      );
    }
    const slotOf = (index: number): number => far.sockets[index]!.remotePort! - PORT;
    for (const [index, all] of sent.entries()) assert(side.told[slotOf(index)]!.bytes.equals(all));
  });

  test(`${name}: what is sent arrives, also when the far side reads late`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 1)));
    const { driver } = side;
    t.after(() => driver.end());
    driver.open(0, 0, PORT, 0);
    await side.until('it is accepted', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
    const socket = far.sockets[0]!;
    socket.pause();
    const all = Buffer.alloc(12_000_000);
    for (let at = 0; at < all.length; at += 4) all.writeUInt32LE(at, at);
    let at = 0;
    const sendOn = (): void => {
      while (at < all.length) {
        const piece = all.subarray(at, at + 16_384);
        const taken = driver.send(0, piece, piece.length);
        assert(taken >= 0 && taken <= piece.length);
        at += taken;
        if (taken < piece.length) return;
      }
    };
    side.onEvent = (_, event) => {
      if (event === DriverEvent.writable) sendOn();
    };
    sendOn();
    assert(at < all.length, 'not all is taken at once');
    let quiet = 0;
    for (let last = -1; quiet < 20; quiet = last === at ? quiet + 1 : 0) {
      last = at;
      side.turn(1);
      await new Promise((resolve) => void setImmediate(resolve));
    }
    assert(at < all.length, 'a far side that does not read takes no more');
    const takenBefore = at;
    const tolds = side.told[0]!.writable;
    await side.settle();
    assert.equal(side.told[0]!.writable, tolds, 'nothing is said while it is full');
    socket.resume();
    await side.until('all is taken', () => at === all.length);
    await side.until('all has arrived', () => far.receivedBytes(socket) === all.length);
    assert(far.received(socket).equals(all), 'in its order');
    assert(takenBefore > 0);
    assert.equal(driver.bytesSent, all.length);
  });

  test(`${name}: many that do not read hold up none that does`, options, async (t) => {
    const far = await farSide(t);
    // More than the chunks of one call.
    const count = 2_300;
    const side = new Watched(make(optionsTo([far.port], count)));
    const { driver } = side;
    t.after(() => driver.end());
    for (let slot = 0; slot < count; slot++) driver.open(slot, 0, PORT + slot, 0);
    await side.until('all are accepted', () => far.sockets.length === count);
    await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
    const last = PORT + count - 1;
    for (const socket of far.sockets) if (socket.remotePort !== last) socket.pause();
    const piece = Buffer.alloc(512, 'x');
    const sent = new Array<number>(count).fill(0);
    // Enough for all to be held up once: what cannot be sent at once goes when the driver says so.
    const fill = (slot: number): void => {
      while (sent[slot]! < 4 * piece.length) {
        const taken = driver.send(slot, piece, piece.length);
        sent[slot]! += taken;
        if (taken < piece.length) return;
      }
    };
    side.onEvent = (slot, event) => {
      if (event === DriverEvent.writable && slot !== count - 1) fill(slot);
    };
    for (let slot = 0; slot < count - 1; slot++) fill(slot);
    let at = 0;
    const word = Buffer.from('all of this');
    while (at < word.length) {
      at += driver.send(count - 1, word.subarray(at), word.length - at);
      side.turn(1);
    }
    const reader = far.sockets.find((socket) => socket.remotePort === last)!;
    await side.until('the one that reads has it', () => far.receivedBytes(reader) === word.length);
    assert.equal(String(far.received(reader)), String(word));
    assert(
      sent.every((bytes, slot) => bytes > 0 || slot === count - 1),
      'each was given a turn',
    );
  });

  test(`${name}: close by FIN is a FIN at the far side, after what was sent`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 1)));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    await side.until('it is accepted', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
    assert.equal(side.driver.send(0, Buffer.from('goodbye'), 7), 7);
    side.driver.close(0, 'fin');
    await side.until('the far side sees the end', () => far.ended.has(far.sockets[0]!));
    assert.equal(String(far.received(far.sockets[0]!)), 'goodbye');
    assert.equal(far.errors.size, 0);
  });

  test(`${name}: a close in the very moment in which bytes come lets the socket go`, options, async (t) => {
    const far = await farSide(t);
    const count = 200;
    const side = new Watched(make(optionsTo([far.port], count)));
    t.after(() => side.driver.end());
    for (let slot = 0; slot < count; slot++) side.driver.open(slot, 0, PORT + slot, 0);
    await side.until('all are accepted', () => far.sockets.length === count);
    const closed = new Set<number>();
    side.onEvent = (slot, event) => {
      if (event !== DriverEvent.bytes) return;
      closed.add(slot);
      side.driver.close(slot, 'fin');
      // The event of these is on its way when the close is submitted.
      for (const socket of far.sockets) if (socket.remotePort === PORT + slot) socket.write('second');
    };
    for (const socket of far.sockets) socket.write('first');
    await side.until('all are closed', () => closed.size === count);
    await side.until('the far side sees each go', () =>
      far.sockets.every((socket) => far.ended.has(socket) || far.errors.has(socket)),
    );
  });

  test(`${name}: close by RST is a RST at the far side`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 1)));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    await side.until('it is accepted', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
    side.driver.close(0, 'rst');
    await side.until('the far side sees it', () => far.errors.size === 1);
    assert.equal(far.errors.get(far.sockets[0]!), 'ECONNRESET');
    assert.equal(far.ended.size, 0);
  });

  test(
    `${name}: an open that is given up sends nothing on, and its slot serves again`,
    options,
    async (t) => {
      const far = await farSide(t);
      // A listener whose queue is full answers no SYN: the connect hangs.
      const listener = libc.tcpSocket(libc.AF_INET);
      t.after(() => libc.close(listener));
      const any = sockAddr('127.0.0.1', 0);
      assert.equal(libc.bind(listener, any.bytes, any.length), 0);
      assert.equal(libc.listen(listener, 0), 0);
      const bytes = new Uint8Array(28);
      libc.getsockname(listener, bytes, new Int32Array([28]));
      const fullPort = bytes[2]! * 256 + bytes[3]!;
      const count = 20;
      const side = new Watched(make(optionsTo([far.port, fullPort], count)));
      const { driver } = side;
      t.after(() => driver.end());
      for (let slot = 0; slot < count; slot++) driver.open(slot, 0, PORT + slot, 1);
      await side.settle();
      const hanging = side.told.filter((told) => told.connected === 0);
      assert(
        hanging.length >= count - 2 && hanging.every((told) => told.failed === null),
        `${hanging.length}`,
      );
      for (let slot = 0; slot < count; slot++) driver.close(slot, 'rst');
      for (let slot = 0; slot < count; slot++) side.forget(slot);
      // The same ports again, to another endpoint, in the same turn.
      for (let slot = 0; slot < count; slot++) assert(driver.open(slot, 0, PORT + slot, 0));
      await side.until('all are accepted', () => far.sockets.length === count);
      await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
      await side.settle();
      assert(side.told.every((told) => told.connected === 1 && told.failed === null && told.ended === null));
    },
  );

  test(`${name}: opened and closed in the same turn, again and again`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 8)));
    const { driver } = side;
    t.after(() => driver.end());
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 100; round++) {
      for (let slot = 0; slot < 8; slot++) assert(driver.open(slot, 0, PORT + round * 8 + slot, 0));
      if (round % 3 !== 0) side.turn(0);
      for (let slot = 0; slot < 8; slot++) driver.close(slot, round % 2 === 0 ? 'rst' : 'fin');
      for (let slot = 0; slot < 8; slot++) side.forget(slot);
      if (round % 5 === 0) await side.settle();
    }
    await side.settle();
    assert(side.told.every((told) => told.connected === 0 && told.failed === null && told.ended === null));
    for (let slot = 0; slot < 8; slot++) assert(driver.open(slot, 0, 30_000 + slot, 0));
    await side.until('the slots serve', () => side.told.every((told) => told.connected === 1));
    const isOpen = (port: number): boolean =>
      far.sockets.some((socket) => socket.remotePort === port && !socket.destroyed && !far.ended.has(socket));
    await until('the far side has the last ones', () => [0, 7].every((slot) => isOpen(30_000 + slot)));
    for (const socket of far.sockets) if (socket.remotePort! < 30_000) socket.destroy();
    await side.settle();
    const after = readdirSync('/proc/self/fd').length;
    assert(after < before + 40, `${before} descriptors before, ${after} after`);
  });

  test(
    `${name}: what is said of a slot ends with its close, in the middle of a turn too`,
    options,
    async (t) => {
      const far = await farSide(t);
      const side = new Watched(make(optionsTo([far.port], 30)));
      const { driver } = side;
      t.after(() => driver.end());
      for (let slot = 0; slot < 30; slot++) driver.open(slot, 0, PORT + slot, 0);
      await side.until('all are accepted', () => far.sockets.length === 30);
      await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
      for (const socket of far.sockets) socket.end(Buffer.alloc(10_000, 'y'));
      await new Promise((resolve) => void setImmediate(resolve));
      const closed = new Set<number>();
      side.onEvent = (slot) => {
        assert(!closed.has(slot), `slot ${slot} was closed`);
        // Its neighbour too, whose own event may be in this batch already.
        for (const one of [slot, (slot + 1) % 30]) {
          if (closed.has(one)) continue;
          closed.add(one);
          driver.close(one, 'fin');
        }
      };
      await side.until('all were closed', () => closed.size === 30);
      await side.settle();
    },
  );

  test(`${name}: TCP_INFO of a connection, asked on demand, costs no descriptor`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 1)));
    t.after(() => side.driver.end());
    const info = new Uint8Array(256);
    assert(side.driver.open(0, 0, PORT, 0));
    await side.until('it is connected', () => side.told[0]!.connected === 1);
    const before = readdirSync('/proc/self/fd').length;
    for (let times = 0; times < 50; times++) assert(side.driver.tcpInfo(0, info) >= 104);
    assert(readdirSync('/proc/self/fd').length < before + 25);
    assert.equal(info[0], 1, 'TCP_ESTABLISHED');
    assert.equal(new DataView(info.buffer).getUint32(100, true), 0, 'no retransmits on loopback');
    far.sockets[0]?.destroy();
  });

  test(
    `${name}: whether a segment has come since it was asked, of many connections at once`,
    options,
    async (t) => {
      const far = await farSide(t);
      const side = new Watched(make(optionsTo([far.port], 40)));
      t.after(() => side.driver.end());
      for (let slot = 0; slot < 40; slot++) assert(side.driver.open(slot, 0, PORT + slot, 0));
      await side.until(
        'they are accepted',
        () => far.sockets.length === 40 && side.told.every((told) => told.connected === 1),
      );
      const slots = Int32Array.from({ length: 40 }, (_, slot) => slot);
      const isHeard = new Uint8Array(40);
      for (const slot of slots) side.driver.beginHearing(slot);
      if (!side.driver.hasHeard(slots, 40, isHeard)) return assert.equal(name, 'epoll');
      assert.equal(isHeard.indexOf(1), -1, 'nothing has come since');
      // An answer of the far kernel to a keepalive is a segment, and so are bytes of its application.
      side.driver.setKeepalive(3, true);
      const byPort = far.sockets.find((socket) => socket.remotePort === PORT + 7);
      byPort?.write('x');
      const heard = (): string => {
        assert(side.driver.hasHeard(slots, 40, isHeard));
        return [...isHeard.keys()].filter((slot) => isHeard[slot] === 1).join(' ');
      };
      // The socket must have been idle for a second.
      await side.until('two were heard', () => heard() === '3 7');
      side.driver.beginHearing(7);
      assert.equal(heard(), '3');
      side.driver.close(3, 'rst');
      assert.equal(heard(), '', 'of a connection that is closed nothing is known');
    },
  );

  test(`${name}: a window probe is answered in the call that asks for it, and takes no port from others`, {
    skip: skip || (libc.mayProbeWindow() ? false : 'needs CAP_NET_ADMIN'),
  }, async (t) => {
    const far = await farSide(t);
    const other = await farSide(t);
    const side = new Watched(make(optionsTo([far.port, other.port], 3)));
    t.after(() => side.driver.end());
    for (const slot of [0, 1]) assert(side.driver.open(slot, 0, PORT + slot, 0));
    await side.until('both', () => side.told.filter((told) => told.connected === 1).length === 2);
    // Another program has the same port of another address for itself: from now on who shares a port is looked at anew.
    const stranger = libc.tcpSocket(libc.AF_INET);
    t.after(() => libc.close(stranger));
    const { bytes, length } = sockAddr(ownSource(1), PORT);
    assert.equal(libc.bind(stranger, bytes, length), 0);
    const slots = Int32Array.of(0, 1);
    const isHeard = new Uint8Array(2);
    for (const slot of slots) side.driver.beginHearing(slot);
    const before = kernelCounter('TcpExt', 'TCPWinProbe');
    side.driver.probeWindow(0);
    if (side.driver.hasHeard(slots, 2, isHeard)) assert.deepEqual([...isHeard], [1, 0]);
    else assert.equal(name, 'epoll');
    assert(kernelCounter('TcpExt', 'TCPWinProbe') > before);
    assert(side.driver.open(2, 0, PORT, 1));
    await side.until('its port serves another endpoint', () => side.told[2]!.connected === 1);
  });

  test(`${name}: TCP_INFO after a connect has failed, until the slot is closed`, options, async (t) => {
    const far = await farSide(t);
    const deadPort = far.port;
    await new Promise((resolve) => void far.server.close(resolve));
    const side = new Watched(make(optionsTo([deadPort], 1)));
    t.after(() => side.driver.end());
    side.driver.open(0, 0, PORT, 0);
    await side.until('it has failed', () => side.told[0]!.failed !== null);
    const info = new Uint8Array(256);
    assert(side.driver.tcpInfo(0, info) >= 104);
    assert.equal(info[0], 7, 'TCP_CLOSE');
    side.driver.close(0, 'fin');
    assert(side.driver.tcpInfo(0, info) < 0);
  });

  test(
    `${name}: a detached connection is a common descriptor, and the driver is silent`,
    options,
    async (t) => {
      const far = await farSide(t);
      const side = new Watched(make(optionsTo([far.port], 2)));
      t.after(() => side.driver.end());
      side.driver.open(0, 0, PORT, 0);
      await side.until('it is accepted', () => side.told[0]!.connected === 1 && far.sockets.length === 1);
      const fd = side.driver.detach(0);
      assert(fd >= 0);
      const socket = new Socket({ fd });
      const answers: Buffer[] = [];
      socket.on('data', (chunk) => void answers.push(chunk as Buffer));
      socket.write('to the far side');
      far.sockets[0]!.write('and back');
      await side.until('both have it', () => far.receivedBytes(far.sockets[0]!) === 15 && answers.length > 0);
      assert.equal(String(Buffer.concat(answers)), 'and back');
      assert(side.driver.tcpInfo(0, new Uint8Array(256)) >= 104);
      side.driver.close(0, 'rst');
      await side.settle();
      assert.equal(side.told[0]!.bytes.length, 0);
      assert(!far.ended.has(far.sockets[0]!) && far.errors.size === 0, 'close leaves the descriptor alone');
      socket.end();
      await until('the far side sees the FIN', () => far.ended.has(far.sockets[0]!));
      socket.destroy();
    },
  );

  test(`${name}: a parked driver is woken by what happens, and by wake()`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 2)));
    const { driver } = side;
    t.after(() => driver.end());
    const parked = (): Promise<void> => new Promise((resolve) => driver.park(600_000, resolve));
    for (let slot = 0; slot < 2; slot++) driver.open(slot, 0, PORT + slot, 0);
    while (side.told.some((told) => told.connected === 0)) {
      await settled('it is woken by the connects', parked());
      side.turn(0);
    }
    await until('both are accepted', () => far.sockets.length === 2);
    far.sockets[0]!.write('bytes');
    const first = far.sockets[0]!.remotePort! - PORT;
    while (side.told[first]!.bytes.length === 0) {
      await settled('it is woken by bytes', parked());
      side.turn(0);
    }
    far.sockets[0]!.end();
    while (side.told[first]!.ended === null) {
      await settled('it is woken by a FIN', parked());
      side.turn(0);
    }
    far.sockets[1]!.resetAndDestroy();
    while (side.told[1 - first]!.ended === null) {
      await settled('it is woken by a RST', parked());
      side.turn(0);
    }
    const waiting = parked();
    driver.wake();
    await settled('it is woken by wake()', waiting);
  });

  test(`${name}: a parked driver with nothing to do stays parked`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 50)));
    const { driver } = side;
    t.after(() => driver.end());
    for (let slot = 0; slot < 50; slot++) driver.open(slot, 0, PORT + slot, 0);
    await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
    await side.settle();
    let wakes = 0;
    const again = (): void => {
      wakes++;
      side.turn(0);
      driver.park(20, again);
    };
    driver.park(20, again);
    const beganMs = performance.now();
    await until('it was parked often', () => wakes >= 20);
    // Twenty waits of 20 ms each: one that ends early finds nothing, and the loop would spin.
    assert(performance.now() - beganMs >= 19 * 15);
  });

  test(`${name}: the end closes what is open, also while it is parked`, options, async (t) => {
    const far = await farSide(t);
    const side = new Watched(make(optionsTo([far.port], 5)));
    for (let slot = 0; slot < 5; slot++) side.driver.open(slot, 0, PORT + slot, 0);
    await side.until('all are accepted', () => far.sockets.length === 5);
    await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
    let wakes = 0;
    side.driver.park(600_000, () => wakes++);
    side.driver.end();
    // With epoll the descriptors are the process's, which ends; rings are given back, and what is in them.
    const isGone = (): boolean => name === 'epoll' || far.ended.size + far.errors.size === 5;
    await until('the far side sees them go', isGone);
    await pause(50);
    assert.equal(wakes, 0);
  });
}
