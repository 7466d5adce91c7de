/**
 * Owns telling the process that forked this agent that it is still busy closing. Must never keep the process alive: the
 * signs end when the last work is done, or when the event loop hangs.
 */
import { CLOSING_SIGN, CLOSING_SIGN_EVERY_MS } from '../run/shutdown-heartbeat.ts';
import { every } from '../time/timer.ts';

/** From now on signs go to the parent, where there is one, until this process ends by itself. */
export function giveClosingSigns(): void {
  if (!process.connected) return;
  // Its listeners keep the pipe, and so this process; from now on only work that is left may.
  process.channel?.unref();
  sendSign();
  every(CLOSING_SIGN_EVERY_MS, sendSign, { isUnref: true });
}

/** A parent that is gone needs no sign. */
function sendSign(): void {
  if (process.connected) process.send?.(CLOSING_SIGN, () => {});
}
