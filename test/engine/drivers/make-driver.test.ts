/**
 * Tests that an engine with the driver for io_uring does what one with epoll does: the same tests of the engine and its
 * protocols once more. Those of TLS need a common descriptor.
 */
import { test } from 'node:test';
import { useEngine } from '../engine-run.ts';
import { URING_SKIP } from './driver-harness.ts';

if (URING_SKIP === false) {
  useEngine('uring');
  await import('../engine.test.ts');
  await import('../connections.test.ts');
  await import('../tally.test.ts');
  await import('../tcp-info.test.ts');
  await import('../final-check.test.ts');
  await import('../opener.test.ts');
  await import('../loss-ledger.test.ts');
  await import('../protocols/echo.test.ts');
  await import('../protocols/http.test.ts');
  await import('../protocols/tcp.test.ts');
  await import('../protocols/ws.test.ts');
} else {
  test('the engine with io_uring', { skip: URING_SKIP }, () => {});
}
