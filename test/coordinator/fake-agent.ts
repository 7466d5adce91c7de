/**
 * Owns an agent process that joins nobody, for tests of its parent: how it behaves is its `--name`.
 *
 *   obeys    ends when it is told to
 *   busy     is told to end and works on for BUSY_MS, giving signs as a real agent does
 *   hangs    gives one sign, and then never ends
 *   exits    ends at once, with 7
 *   deaf     never ends, whatever it is told
 *   loading  is busy before it can hear anything, and would then stay for ever
 */
import { fileURLToPath } from 'node:url';
import { giveClosingSigns } from '../../src/agent/shutdown-beats.ts';
import { CLOSING_SIGN } from '../../src/run/shutdown-heartbeat.ts';

/** The compiled path of this program, to fork. */
export const FAKE_AGENT_ENTRY = fileURLToPath(import.meta.url);

const LOADING_MS = 10_000;
/** Longer than a parent waits for one that is silent. */
export const BUSY_MS = 3_500;

function behave(name: string): void {
  switch (name) {
    case 'obeys':
      process.on('SIGTERM', () => process.exit(0));
      setInterval(() => {}, 1_000);
      break;
    case 'busy':
      process.on('disconnect', () => {});
      process.on('SIGTERM', () => {
        giveClosingSigns();
        setTimeout(() => {}, BUSY_MS);
      });
      break;
    case 'hangs':
      process.on('disconnect', () => {});
      process.on('SIGTERM', () => process.send?.(CLOSING_SIGN));
      setInterval(() => {}, 1_000);
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
