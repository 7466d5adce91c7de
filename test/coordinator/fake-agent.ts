/**
 * Owns an agent process that joins nobody, for tests of its parent: how it behaves is its `--name`.
 *
 *   obeys    ends when its pipe closes
 *   exits    ends at once, with 7
 *   deaf     never ends, whatever it is told
 *   loading  is busy before it can hear anything, and would then stay for ever
 */
import { fileURLToPath } from 'node:url';

/** The compiled path of this program, to fork. */
export const FAKE_AGENT_ENTRY = fileURLToPath(import.meta.url);

const LOADING_MS = 10_000;

function behave(name: string): void {
  switch (name) {
    case 'obeys':
      process.on('disconnect', () => process.exit(0));
      process.on('SIGTERM', () => {});
      break;
    case 'exits':
      process.exit(7);
      break;
    case 'deaf':
      process.on('SIGTERM', () => {});
      setInterval(() => {}, 1_000);
      break;
    case 'loading':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOADING_MS);
      setInterval(() => {}, 1_000);
      break;
  }
  process.send?.('up');
}

if (process.argv[1] === FAKE_AGENT_ENTRY) {
  const { argv } = process;
  behave(argv[argv.indexOf('--name') + 1] ?? '');
}
