/**
 * Owns bytes that a socket did not take at once, slot by slot, until it does.
 * Must never hold anything for a socket that takes what it is given: nearly always it is empty.
 */
import type { ProtocolHost } from './protocol.ts';

/** A target that does not read for so long that this fills up gets no more from us; its probes time out. */
export const OUTBOX_BYTES_MAX = 16_384;

/** Sends whole units in order. */
export class Outbox {
  readonly #host: ProtocolHost;
  readonly #waiting = new Map<number, Uint8Array>();

  constructor(host: ProtocolHost) {
    this.#host = host;
  }

  /**
   * Sends `length` bytes, or keeps what the socket does not take. The buffer is the caller's again at once.
   * @returns false when nothing of it was sent or kept, because the outbox is full
   */
  send(slot: number, buffer: Uint8Array, length: number): boolean {
    const waiting = this.#waiting.get(slot);
    if (waiting !== undefined) {
      if (waiting.length + length > OUTBOX_BYTES_MAX) return false;
      const joined = new Uint8Array(waiting.length + length);
      joined.set(waiting);
      joined.set(buffer.subarray(0, length), waiting.length);
      this.#waiting.set(slot, joined);
      return true;
    }
    // An error is told by the socket's next event, with its reason.
    const took = Math.max(0, this.#host.send(slot, buffer, length));
    if (took < length) this.#waiting.set(slot, buffer.slice(took, length));
    return true;
  }

  /** The socket takes bytes again. */
  flush(slot: number): void {
    const waiting = this.#waiting.get(slot);
    if (waiting === undefined) return;
    const took = Math.max(0, this.#host.send(slot, waiting, waiting.length));
    if (took >= waiting.length) this.#waiting.delete(slot);
    else if (took > 0) this.#waiting.set(slot, waiting.slice(took));
  }

  forget(slot: number): void {
    this.#waiting.delete(slot);
  }
}
