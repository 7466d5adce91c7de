import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallError, succeeded } from '../../../src/engine/drivers/call-error.ts';
import * as libc from '../../../src/engine/libc.ts';
import { POLLER_CALLS, Poller } from '../../../src/engine/poller.ts';

test('a call that failed is named with its errno', () => {
  assert.equal(succeeded('eventfd', 7), 7);
  assert.throws(() => succeeded('eventfd', -libc.Errno.EMFILE), { message: 'eventfd failed with EMFILE' });
  assert.equal(new CallError('mmap', 9_999).message, 'mmap failed with errno 9999');
});

test('an epoll instance that cannot be made keeps no descriptor', () => {
  const { ENFILE, ENOMEM, ENOSPC } = libc.Errno;
  for (const broken of [
    { epollCreate: () => -ENFILE },
    { eventfd: () => -ENOMEM },
    { epollCtl: () => -ENOSPC },
  ]) {
    const open = new Set<number>();
    const made = (fd: number): number => {
      if (fd >= 0) open.add(fd);
      return fd;
    };
    const calls = { ...POLLER_CALLS, ...broken };
    assert.throws(
      () =>
        new Poller({
          ...calls,
          epollCreate: () => made(calls.epollCreate()),
          eventfd: () => made(calls.eventfd()),
          close: (fd) => {
            open.delete(fd);
            return libc.close(fd);
          },
        }),
      CallError,
    );
    assert.equal(open.size, 0);
  }
});
