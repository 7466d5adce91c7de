/**
 * Owns an agent process that joins nobody, for tests of its parent: how it behaves is its `--name`.
 *
 *   obeys    ends when it is told to, and writes the first word of its parent into the file of UP_FILE_VARIABLE and `.word`
 *   busy     is told to end and works on until SIGUSR2, giving signs as a real agent does
 *   hangs    gives one sign, and then never ends
 *   exits    ends at once, with 7
 *   local    waits, and ends when it is told to
 *   deaf     never ends, whatever it is told
 *   loading  is busy before it can hear anything, for longer than any test waits
 *
 * It makes the file that UP_FILE_VARIABLE names, if there is one, as soon as it behaves so.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SHUTDOWN_HEARTBEAT, startShutdownHeartbeat } from '../../src/agent/process-pipe.ts';
import { HANG_MS } from '../support/waiting.ts';

/** The compiled path of this program, to fork. */
export const FAKE_AGENT_ENTRY = fileURLToPath(import.meta.url);

const LOADING_MS = 3 * HANG_MS;

/** Names the file that says that the agent is up. */
export const UP_FILE_VARIABLE = 'TEST_AGENT_UP_FILE';

function sayUp(): void {
  const path = process.env[UP_FILE_VARIABLE];
  if (path !== undefined) writeFileSync(path, '');
}

function behave(name: string): void {
  switch (name) {
    case 'obeys':
      process.on('SIGTERM', () => process.exit(0));
      process.once('message', (word) =>
        writeFileSync(`${process.env[UP_FILE_VARIABLE]}.word`, JSON.stringify(word)),
      );
      setInterval(() => {}, 1_000);
      break;
    case 'busy':
      process.on('disconnect', () => {});
      process.on('SIGUSR2', () => process.exit(0));
      process.on('SIGTERM', () => {
        startShutdownHeartbeat();
        setInterval(() => {}, 1_000);
      });
      break;
    case 'hangs':
      process.on('disconnect', () => {});
      process.on('SIGTERM', () => process.send?.(SHUTDOWN_HEARTBEAT));
      setInterval(() => {}, 1_000);
      break;
    case 'exits':
      sayUp();
      process.exit(7);
      break;
    case 'local':
      setInterval(() => {}, 1_000);
      break;
    case 'deaf':
      process.on('SIGTERM', () => {});
      setInterval(() => {}, 1_000);
      break;
    case 'loading':
      sayUp();
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOADING_MS);
      break;
  }
  sayUp();
}

if (process.argv[1] === FAKE_AGENT_ENTRY) {
  const { argv } = process;
  behave(argv[argv.indexOf('--name') + 1] ?? '');
}
