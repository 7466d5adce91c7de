/**
 * Tests the epoll driver on simulated calls: each that fails with each errno that the kernel can give, and that an open which
 * fails is the same with io_uring.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EpollDriver } from '../../../src/engine/drivers/epoll-driver.ts';
import { UringDriver } from '../../../src/engine/drivers/uring-driver.ts';
import { Errno } from '../../../src/engine/libc.ts';
import { type Cast, FAULTS, PLAY_OPTIONS, playFaults, playOpens, playSequences } from './driver-play.ts';
import { SimulatedCalls } from './simulated-calls.ts';
import { SimulatedKernel } from './simulated-kernel.ts';

const { socket, reuse, bind, connect, receive, send, linger, close } = FAULTS;

const CAST: Cast = {
  faults: {
    ...{ socket, reuse, bind, connect, receive, send, linger, close },
    // epoll_ctl(2)
    watch: [Errno.ENOMEM, Errno.ENOSPC, Errno.EPERM, Errno.EINVAL, Errno.EBADF],
    watchAgain: [Errno.ENOMEM, Errno.ENOENT, Errno.EINVAL, Errno.EBADF],
  },
  enterErrnos: [Errno.EINTR],
  make: (random) => {
    const calls = new SimulatedCalls();
    // Small batches: what is in the next one may be closed, and opened again, before it is taken.
    if (random !== undefined) calls.eventsMax = 1 + Math.floor(random() * 8);
    return { host: calls, driver: new EpollDriver(PLAY_OPTIONS, calls), used: () => 0 };
  },
};

test('the n-th call of each kind fails with each errno that the kernel can give', () => {
  playFaults(CAST);
});

test('sequences by chance: no event is lost, no descriptor is left, each reason is right', (t) => {
  t.diagnostic(playSequences(CAST));
});

test('an open that fails is reported alike by both drivers, whichever step fails, and with which errno', () => {
  const opens = { socket, reuse, bind, connect };
  const uring: Cast = {
    ...CAST,
    make: () => {
      const kernel = new SimulatedKernel();
      const driver = new UringDriver(PLAY_OPTIONS, { submissions: 64, completions: 128, kernel });
      return { host: kernel, driver, used: () => driver.indicesUsed };
    },
  };
  const told = playOpens(CAST, opens);
  assert.deepEqual(
    told.map((failed) => failed?.errno),
    Object.values(opens).flat(),
  );
  assert.deepEqual(playOpens(uring, opens), told);
});
