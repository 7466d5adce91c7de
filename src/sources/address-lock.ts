/**
 * Owns the rule that one process at a time changes the addresses of a network namespace.
 * Must never be held for longer than a few `ip` commands take.
 *
 * The lock is an abstract Unix socket: its name belongs to the network namespace, exactly as addresses do (unix(7)), and
 * the kernel frees it when its holder dies. No file, nothing stale.
 */
import { createServer, type Server } from 'node:net';
import { systemClock } from '../host/system-clock.ts';
import { realWaiting, type Waiting, waitUntil } from '../time/timer.ts';

const LOCK_NAME = '\0c100k-bench-addresses';
const RETRY_EVERY_MS = 20;
/** How long the lock is waited for. */
const LOCK_MS_MAX = 10_000;

/**
 * Does some work while no other run changes addresses.
 * @param work gets whether the lock was taken; after ten seconds it is called without it, because an abstract name can
 *   be taken by any user, and no user must be able to keep a run from removing what it added
 * @param name of the lock; a test has its own, because runs on the same host take this one
 */
export async function withAddressLock<Result>(
  work: (isLocked: boolean) => Promise<Result>,
  waiting: Waiting = realWaiting(systemClock.monotonicMs),
  name = LOCK_NAME,
): Promise<Result> {
  let server: Server | null = null;
  const isTaken = async (): Promise<boolean> => {
    server = await tryLock(name);
    return server !== null;
  };
  const isLocked = await waitUntil(isTaken, waiting.nowMs() + LOCK_MS_MAX, RETRY_EVERY_MS, waiting);
  try {
    return await work(isLocked);
  } finally {
    (server as Server | null)?.close();
  }
}

function tryLock(name: string): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', () => resolve(null));
    server.listen(name, () => resolve(server));
  });
}
