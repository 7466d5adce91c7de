/**
 * Owns the silent hold: nothing is sent, what comes is read and counted by the engine, and proves nothing here.
 * Must never answer.
 */
import type { Protocol } from './protocol.ts';

/** The silent hold. */
export const tcpProtocol: Protocol = {
  hasHandshake: false,
  canProbe: false,
  onConnected() {},
  onBytes() {},
  onWritable() {},
  onProbeDue() {},
  onClosing() {},
  onForgotten() {},
};
