/**
 * Owns how a test waits for what it looks at: until it is so, however long a busy machine takes. Must never make a test
 * fail because something was slow: the one deadline only ends a test that hangs. What must be quick is shown by counting
 * work, or measured by the bench.
 */
import { performance } from 'node:perf_hooks';

/** Ends a wait that would last for ever. No test may rest on it: nothing that works comes near it. */
export const HANG_MS = 60_000;

const POLL_MS = 10;

// Taken before a test can put a fake in its place: waiting goes on while the timers of the program stand still.
const realSetTimeout = globalThis.setTimeout;
const realClearTimeout = globalThis.clearTimeout;

/** Lets `ms` pass, also while timers are mocked. For what must not happen: it says nothing on a busy machine, but fails on none. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void realSetTimeout(resolve, ms));
}

/**
 * Waits until something is so.
 * @param what for the error
 * @throws Error naming it when it hangs
 */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const beganMs = performance.now();
  while (!(await isSo())) {
    if (performance.now() - beganMs > HANG_MS) throw new Error(`still not so: ${what}`);
    await pause(POLL_MS);
  }
}

/**
 * What a promise resolves to.
 * @param what for the error
 * @throws Error naming it when it hangs
 */
export async function settled<T>(what: string, promise: Promise<T>, hangMs = HANG_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const hung = new Promise<never>((_, reject) => {
    timer = realSetTimeout(() => reject(new Error(`still waiting: ${what}`)), hangMs);
  });
  try {
    return await Promise.race([promise, hung]);
  } finally {
    realClearTimeout(timer);
  }
}
