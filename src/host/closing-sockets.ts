/**
 * Owns waiting until the far ends have answered our FINs: an address that goes away earlier leaves the target with
 * sockets in LAST_ACK whose answers nobody takes.
 * Must never close anything.
 */

import { pause } from '../time/timer.ts';
import { countLines } from './command.ts';

const SS_TIMEOUT_MS = 5_000;
const LOOK_EVERY_MS = 100;

/** States in which a segment is still on its way; TIME_WAIT needs no answer any more. */
const STATES = ['fin-wait-1', 'fin-wait-2', 'closing', 'last-ack'];

/**
 * Waits until no socket that is bound to one of these addresses is closing.
 * @param addresses IP literals
 * @param timeoutMs at most so long; a target that never closes its side keeps sockets in FIN_WAIT_2
 */
export async function untilClosed(addresses: readonly string[], timeoutMs: number): Promise<void> {
  const ours = new Set(addresses);
  const args = ['-Htn', ...STATES.flatMap((state) => ['state', state])];
  for (let waitedMs = 0; waitedMs < timeoutMs; waitedMs += LOOK_EVERY_MS) {
    const { code, count } = await countLines('ss', args, {
      timeoutMs: SS_TIMEOUT_MS,
      // Columns with several states: State Recv-Q Send-Q Local:Port Peer:Port.
      matches: (line) => ours.has(addressOf(line.trim().split(/\s+/)[3] ?? '')),
    });
    if (code !== 0 || count === 0) return;
    await pause(LOOK_EVERY_MS);
  }
}

function addressOf(name: string): string {
  const address = name.slice(0, name.lastIndexOf(':'));
  return address.startsWith('[') ? address.slice(1, -1) : address;
}
