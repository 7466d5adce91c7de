/** Tests one epoll instance on sockets of this process. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as libc from '../../src/engine/libc.ts';
import { Poller } from '../../src/engine/poller.ts';
import { HANG_MS, pause, settled, until } from '../support/waiting.ts';

/** A socket that is not connected: epoll reports it at once as hung up and writable (tcp_poll in net/ipv4/tcp.c). */
function readySocket(): number {
  return libc.tcpSocket(libc.AF_INET);
}

function waitOnce(poller: Poller, timeoutMs: number): Promise<number> {
  return new Promise((resolve) => poller.waitAsync(timeoutMs, resolve));
}

test('events come with the slot under which a descriptor is watched', () => {
  const poller = new Poller();
  const fds = [readySocket(), readySocket()];
  assert.equal(poller.add(fds[0]!, libc.EPOLLOUT, 7), 0);
  assert.equal(poller.add(fds[1]!, libc.EPOLLOUT, 0x7fff_ffff), 0);
  assert.equal(poller.wait(0), 2);
  assert.deepEqual([poller.slotAt(0), poller.slotAt(1)].sort(), [0x7fff_ffff, 7].sort());
  assert((poller.eventsAt(0) & libc.EPOLLHUP) !== 0);
  assert.equal(poller.remove(fds[0]!), 0);
  assert.equal(poller.wait(0), 1);
  libc.close(fds[1]!);
  assert.equal(poller.wait(0), 0, 'a closed descriptor is watched no more');
  libc.close(fds[0]!);
  poller.close();
});

test('an edge is reported once, and again after the watch was set again', () => {
  const poller = new Poller();
  const fd = readySocket();
  poller.add(fd, libc.EPOLLOUT | libc.EPOLLET, 1);
  assert.equal(poller.wait(0), 1);
  assert.equal(poller.wait(0), 0);
  poller.modify(fd, libc.EPOLLOUT | libc.EPOLLET, 2);
  assert.equal(poller.wait(0), 1);
  assert.equal(poller.slotAt(0), 2);
  libc.close(fd);
  poller.close();
});

test('a wait in a worker thread leaves timers alive, and wake() ends it without an event', async () => {
  const poller = new Poller();
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  // Longer than the test waits: only wake() can end it.
  const waiting = waitOnce(poller, 10 * HANG_MS);
  await until('timers fire while it waits', () => ticks >= 3);
  poller.wake();
  assert.equal(await settled('the wait ends', waiting), 0);
  clearInterval(timer);
  poller.close();
});

test('waiting twice at a time is a bug, and is said', async () => {
  const poller = new Poller();
  const waiting = waitOnce(poller, 10 * HANG_MS);
  assert.throws(() => poller.wait(0), /owns the event buffer/);
  assert.throws(() => poller.waitAsync(1, () => {}), /one wait at a time/);
  poller.wake();
  await settled('the wait ends', waiting);
  poller.close();
});

test('closing ends a wait in the worker thread, without calling back', async () => {
  const poller = new Poller();
  let called = false;
  poller.waitAsync(60_000, () => {
    called = true;
  });
  poller.close();
  // The test's process would stay alive for a minute if the wait went on.
  await pause(100);
  assert.equal(called, false);
});
