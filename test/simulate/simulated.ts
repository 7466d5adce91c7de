/** Owns one call of the simulator, in a process of its own: it replaces modules and timers. Must never judge what it printed. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const OUTPUT_BYTES_MAX = 2 ** 26;

/** How a call ended. */
interface Ended {
  readonly code: number;
  /** stdout, then stderr */
  readonly output: string;
}

/** Calls it with these arguments. */
export function simulated(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { maxBuffer: OUTPUT_BYTES_MAX }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), output: stdout + stderr }),
    );
  });
}
