/**
 * Owns a program that is an agent's end of the pipe to its parent and nothing else: it sends what it heard of this host, or
 * beats until it is killed. The first argument says which; the second how long to wait, in milliseconds.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { hostSpecOfParent, startShutdownHeartbeat } from '../../src/agent/process-pipe.ts';

/** The compiled path of this program, to fork. */
export const PIPE_ENTRY = fileURLToPath(import.meta.url);

/** What one says that hears its host's things, or not. */
export interface Heard {
  readonly hostSpec?: unknown;
  readonly error?: { readonly code: string; readonly exitCode: number; readonly message: string };
}

async function hear(timeoutMs: number): Promise<Heard> {
  try {
    return { hostSpec: await hostSpecOfParent(timeoutMs) };
  } catch (error) {
    const { code, exitCode, message } = error as NonNullable<Heard['error']>;
    return { error: { code, exitCode, message } };
  }
}

if (process.argv[1] === PIPE_ENTRY) {
  const [, , what, ms] = process.argv;
  if (what === 'hear') {
    const heard = await hear(Number(ms));
    // A parent that has closed the pipe reads the exit code alone: 3 says that null came.
    if (process.connected) process.send?.(heard, () => process.disconnect());
    else process.exitCode = heard.hostSpec === null ? 3 : 1;
  } else {
    startShutdownHeartbeat();
    // Nothing else keeps it: the pipe must not.
    await sleep(Number(ms));
  }
}
