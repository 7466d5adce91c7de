/**
 * Tests the io_uring driver beyond what both drivers must do: more connections than descriptors, queues that overflow, and
 * every errno that the kernel can give at every place, on a simulated kernel with an account of its own.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DriverEvent, OpenStep, openOutcomeOf } from '../../../src/engine/drivers/driver.ts';
import { UringDriver } from '../../../src/engine/drivers/uring-driver.ts';
import * as libc from '../../../src/engine/libc.ts';
import { startNetTarget } from '../../support/net-target.ts';
import { until } from '../../support/waiting.ts';
import { farSide, optionsTo, ownSource, URING_SKIP, Watched } from './driver-harness.ts';
import {
  type Cast,
  FAULTS,
  PLAY_OPTIONS,
  Play,
  playFaults,
  playSequences,
  type Simulated,
  SLOTS,
} from './driver-play.ts';
import { SimulatedKernel } from './simulated-kernel.ts';
import { SYN_REJECTED } from './simulated-socket.ts';

const { Errno } = libc;
const PORT = 14_000;

// ---- the real kernel ----

test('more connections in one process than it may have descriptors', { skip: URING_SKIP }, async (t) => {
  const targets = [await startNetTarget(t), await startNetTarget(t)];
  const each = 12_000;
  const count = each * targets.length;
  const limit = Number(/Max open files +(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 0);
  // Where the limit is higher, rings are made as if it were not.
  const filesPerRing = Math.min(limit, 10_000);
  const ports = targets.map((target) => target.port);
  const driver = new UringDriver(optionsTo(ports, count), { filesPerRing });
  const side = new Watched(driver);
  t.after(() => driver.end());
  let started = 0;
  let open = 0;
  side.onEvent = (slot, event) => {
    assert.equal(event, DriverEvent.connected, `slot ${slot}`);
    open++;
  };
  await side.until('all are connected', () => {
    while (started < count && started - open < 500) {
      assert(driver.open(started, 0, PORT + (started % each), Math.floor(started / each)));
      started++;
    }
    return open === count;
  });
  assert(readdirSync('/proc/self/fd').length < 500, 'they are no descriptors of this process');
  for (const target of targets)
    await until('each target has its part', async () => (await target.counts()).open === each);
  // One of each ring: what is parked there is seen, in the worker thread too.
  side.onEvent = () => {};
  const parked = new Promise<void>((resolve) => driver.park(600_000, resolve));
  targets[1]!.reset();
  await parked;
  await side.until('half of them end', () => side.told.filter((told) => told.ended !== null).length === each);
  assert(side.told.every((told, slot) => (told.ended === null) === slot < each));
  for (let slot = 0; slot < count; slot++) driver.close(slot, 'rst');
  await side.until('the other target sees the rest go', () => driver.indicesUsed === 0);
  side.turn(0);
  await until('the far side has none', async () => {
    side.turn(0);
    return (await targets[0]!.counts()).open === 0;
  });
});

test('a completion queue that overflows loses no event', { skip: URING_SKIP }, async (t) => {
  const far = await farSide(t);
  const count = 400;
  // The smallest queues: every batch overflows, and watches are ended by it.
  const sizes = { submissions: 8, completions: 16 };
  const side = new Watched(new UringDriver(optionsTo([far.port], count), sizes));
  const { driver } = side;
  t.after(() => driver.end());
  let started = 0;
  await side.until('all are connected', () => {
    while (started < count && driver.open(started, 0, PORT + started, 0)) started++;
    return side.told.every((told) => told.connected === 1);
  });
  await until('all are accepted', () => far.sockets.length === count);
  for (let round = 1; round <= 5; round++) {
    for (const socket of far.sockets) socket.write(`round ${round};`);
    await side.until('each has its bytes', () => side.told.every((told) => told.bytes.length === round * 8));
    for (let slot = 0; slot < count; slot++) driver.send(slot, Buffer.from('answer;'), 7);
    await side.until('each answer arrives', () =>
      far.sockets.every((socket) => far.receivedBytes(socket) === round * 7),
    );
  }
  for (const [index, socket] of far.sockets.entries())
    if (index % 2 === 0) socket.end();
    else socket.resetAndDestroy();
  await side.until('each has ended', () => side.told.every((told) => told.ended !== null));
  assert.equal(side.told.filter((told) => told.ended === 0).length, count / 2);
  for (let slot = 0; slot < count; slot++) driver.close(slot, 'rst');
  await side.settle();
});

// ---- the simulated kernel ----

/** A driver on a simulated kernel. @param sizes of its rings */
function simulated(
  sizes = { submissions: 64, completions: 128, filesPerRing: 100 },
): Simulated & { readonly kernel: SimulatedKernel; readonly uring: UringDriver } {
  const kernel = new SimulatedKernel();
  const uring = new UringDriver(PLAY_OPTIONS, { ...sizes, kernel, spareIndices: 4 });
  return { host: kernel, kernel, driver: uring, uring, used: () => uring.indicesUsed };
}

const SIZES_BY_CHANCE = [
  // The smallest: nearly every call overflows.
  { submissions: 8, completions: 4, filesPerRing: 100 },
  { submissions: 8, completions: 16, filesPerRing: 4 },
  { submissions: 64, completions: 128, filesPerRing: 5 },
];

const CAST: Cast = {
  faults: { ...FAULTS, hear: [Errno.EPERM], look: [Errno.EOPNOTSUPP] },
  enterErrnos: [Errno.EAGAIN, Errno.EINTR, Errno.EBUSY],
  make: (random) =>
    simulated(
      random === undefined ? undefined : SIZES_BY_CHANCE[Math.floor(random() * SIZES_BY_CHANCE.length)],
    ),
};

test('the n-th request of each kind fails with each errno that the kernel can give', () => {
  playFaults(CAST);
});

test('sequences by chance: no event is lost, no index and nothing in the kernel is left, each reason is right', (t) => {
  t.diagnostic(playSequences(CAST));
});

test('what io_uring_enter cannot do is reported, because nothing can be held any more', () => {
  for (const errno of [
    Errno.EBADF,
    Errno.EFAULT,
    Errno.EINVAL,
    Errno.EOPNOTSUPP,
    Errno.EPERM,
    Errno.EEXIST,
  ]) {
    const { kernel, uring } = simulated();
    uring.open(0, 0, 1, 0);
    kernel.enterFault = () => ({ errno, taken: 0 });
    assert.throws(() => uring.turn(0), new RegExp(`enter failed with errno ${errno}`));
  }
  for (const errno of [Errno.EAGAIN, Errno.EBUSY]) {
    const { kernel, uring } = simulated();
    uring.open(0, 0, 1, 0);
    kernel.enterFault = () => ({ errno, taken: 0 });
    assert.throws(() => uring.turn(0), /enter failed with errno 11/);
  }
});

test('each errno of an open has the reason that it has with epoll', () => {
  const reasonOf = (step: OpenStep, errno: number): string => {
    const outcome = openOutcomeOf(step, errno);
    return outcome.kind === 'skipped' ? outcome.skip : outcome.fail + (outcome.isFinal ? '!' : '');
  };
  const table = (point: 'socket' | 'bind' | 'connect', step: OpenStep): string[] =>
    FAULTS[point].map((errno) => reasonOf(step, errno));
  assert.deepEqual(table('socket', OpenStep.socket), [
    'descriptors!',
    'descriptors!',
    'memory',
    'memory',
    'prohibited',
    'prohibited',
    'other',
    'other',
    'other',
    'other',
  ]);
  assert.deepEqual(table('bind', OpenStep.bind), [
    'port-in-use',
    'source-lost',
    'prohibited',
    'prohibited',
    'memory',
    'memory',
    'other',
  ]);
  assert.deepEqual(table('connect', OpenStep.connect), [
    'refused',
    'timeout',
    'reset',
    'reset',
    'reset',
    'unreachable',
    'unreachable',
    'unreachable',
    'unreachable',
    'unreachable',
    'tuple-in-use',
    'other',
    'prohibited',
    'prohibited',
    'memory',
    'memory',
    'other',
    'other',
  ]);
});

test('an open finds no index while closes are on their way, and one when they are done', () => {
  const { kernel, uring, ...rest } = simulated();
  const play = new Play(rest);
  kernel.connectResult = () => -1;
  // Four are spare: each open that is given up keeps its index until its connect is gone.
  for (let opens = 0; opens < 10; opens++) {
    play.open(0);
    if (play.ports[0] === 0) break;
    play.close(0, 'rst');
  }
  assert.equal(uring.indicesUsed, SLOTS + 4);
  assert.equal(uring.open(0, 0, 9_999, 0), false);
  play.quiesce();
  assert.equal(uring.indicesUsed, 0);
  play.open(0);
  play.quiesce();
  assert.equal(play.side.told[0]!.connected, 1);
  play.finish();
});

test('a SYN that our own kernel rejects is no connection, though CONNECT answers 0; what comes of the next one counts', () => {
  const { kernel, ...rest } = simulated();
  const play = new Play({ ...rest });
  kernel.connectResult = () => SYN_REJECTED;
  for (let slot = 0; slot < 4; slot++) play.open(slot);
  for (let turns = 0; turns < 6; turns++) play.side.turn(0);
  assert(
    play.side.told.slice(0, 4).every(({ connected, failed }) => connected === 0 && failed === null),
    'nothing is known yet',
  );
  const [first, second, third] = [0, 1, 2].map((slot) => play.socketOf(slot)!);
  kernel.resolve(first!, Errno.EHOSTUNREACH);
  kernel.resolve(second!, 0);
  // Connected, answered and reset before the driver looks again.
  kernel.resolve(third!, 0);
  kernel.arrive(third!, Buffer.from('\0\x01\x02'));
  kernel.reset(third!, Errno.ECONNRESET);
  play.close(3, 'rst');
  for (let turns = 0; turns < 6; turns++) play.side.turn(0);
  const [lost, open, brief] = play.side.told;
  assert.deepEqual(lost!.failed, { step: OpenStep.connect, errno: Errno.EHOSTUNREACH });
  assert.deepEqual([open!.connected, open!.ended, lost!.connected], [1, null, 0]);
  assert.deepEqual([brief!.connected, brief!.bytes.length, brief!.ended], [1, 3, Errno.ECONNRESET]);
  play.quiesce();
  play.check();
  play.finish();
});

test('sources are many, and each open has its own', { skip: URING_SKIP }, async (t) => {
  const far = await farSide(t);
  const sources = [0, 1, 2].map(ownSource);
  const side = new Watched(new UringDriver(optionsTo([far.port], 300, sources), { submissions: 16 }));
  t.after(() => side.driver.end());
  for (let slot = 0; slot < 300; slot++) assert(side.driver.open(slot, slot % 3, PORT + slot, 0));
  await side.until('all are connected', () => side.told.every((told) => told.connected === 1));
  await until('all are accepted', () => far.sockets.length === 300);
  const seen = new Set(far.sockets.map((socket) => `${socket.remoteAddress}:${socket.remotePort}`));
  for (let slot = 0; slot < 300; slot++)
    assert(seen.has(`${sources[slot % 3]}:${PORT + slot}`), `slot ${slot}`);
});
