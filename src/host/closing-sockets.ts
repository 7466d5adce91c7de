/**
 * Owns waiting until the far ends have answered our FINs: an address that goes away earlier leaves the target with
 * sockets in LAST_ACK whose answers nobody takes.
 * Must never close anything.
 */
import { realWaiting, type Waiting, waitUntil } from '../time/timer.ts';
import { countLines } from './command.ts';
import { systemClock } from './system-clock.ts';

const SS_TIMEOUT_MS = 5_000;
const LOOK_EVERY_MS = 100;

/** States in which a segment is still on its way; TIME_WAIT needs no answer any more. */
const STATES = ['fin-wait-1', 'fin-wait-2', 'closing', 'last-ack'];

/** What it asks and waits with; a test gives its own. */
export interface ClosingCheck {
  readonly count: (ours: ReadonlySet<string>, timeoutMs: number) => Promise<number | null>;
  readonly waiting: Waiting;
}

const REAL_CHECK: ClosingCheck = { count: countClosing, waiting: realWaiting(systemClock.monotonicMs) };

/**
 * Waits until no socket that is bound to one of these addresses is closing.
 * @param addresses IP literals
 * @param timeoutMs at most so long, whatever `ss` takes; a target that never closes its side keeps sockets in FIN_WAIT_2
 */
export async function untilClosed(
  addresses: readonly string[],
  timeoutMs: number,
  { count, waiting }: ClosingCheck = REAL_CHECK,
): Promise<void> {
  const ours = new Set(addresses);
  const isClosed = async (leftMs: number): Promise<boolean> => {
    const closing = await count(ours, Math.min(SS_TIMEOUT_MS, leftMs));
    return closing === null || closing === 0;
  };
  await waitUntil(isClosed, waiting.nowMs() + timeoutMs, LOOK_EVERY_MS, waiting);
}

/** Sockets bound to one of these addresses that are still closing; null: `ss` could not say. */
async function countClosing(ours: ReadonlySet<string>, timeoutMs: number): Promise<number | null> {
  const args = ['-Htn', ...STATES.flatMap((state) => ['state', state])];
  const { code, count } = await countLines('ss', args, {
    timeoutMs,
    // Columns with several states: State Recv-Q Send-Q Local:Port Peer:Port.
    matches: (line) => ours.has(addressOf(line.trim().split(/\s+/)[3] ?? '')),
  });
  return code === 0 ? count : null;
}

function addressOf(name: string): string {
  const address = name.slice(0, name.lastIndexOf(':'));
  return address.startsWith('[') ? address.slice(1, -1) : address;
}
