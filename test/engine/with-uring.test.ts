/** Runs the tests of the engine and its protocols once more, with io_uring; those of TLS need a common descriptor. */
import { test } from 'node:test';
import { URING_SKIP } from './drivers/driver-harness.ts';
import { useEngine } from './engine-run.ts';

if (URING_SKIP === false) {
  useEngine('uring');
  await import('./engine.test.ts');
  await import('./opener.test.ts');
  await import('./loss-ledger.test.ts');
  await import('./protocols/echo.test.ts');
  await import('./protocols/http.test.ts');
  await import('./protocols/ws.test.ts');
} else {
  test('the engine with io_uring', { skip: URING_SKIP }, () => {});
}
