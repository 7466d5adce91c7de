/**
 * Owns the silent hold, and the banner proof: nothing is sent. What comes is read and counted by the engine, and proves
 * nothing, unless a banner is expected: then the target speaks first, and its first bytes must be the expected ones.
 * Must never answer.
 */

import { DropReason, FailReason } from '../../base/outcome.ts';
import type { Protocol, ProtocolHost } from './protocol.ts';

/** The silent hold: whatever comes was not asked for. */
export class SilentProtocol implements Protocol {
  readonly hasHandshake = false;
  readonly canProbe = false;
  readonly #host: ProtocolHost;

  constructor(host: ProtocolHost) {
    this.#host = host;
  }

  onConnected(_slot: number): void {}

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    this.#host.said(slot, buffer, 0, length);
  }

  onWritable(_slot: number): void {}

  onProbeDue(_slot: number, _sequence: number): void {}

  onClosing(_slot: number): void {}

  onForgotten(_slot: number): void {}
}

const COMPLETE = 255;

/** A connection is open once the far application has said its banner; what comes after it is thrown away. */
export class BannerProtocol implements Protocol {
  readonly hasHandshake = true;
  readonly canProbe = false;
  readonly #host: ProtocolHost;
  readonly #banner: Uint8Array;
  /** bytes of the banner that have come, or COMPLETE */
  readonly #got: Uint8Array;

  /** @param banner text of up to 254 bytes; empty: the first byte is proof enough */
  constructor(host: ProtocolHost, banner: string) {
    this.#host = host;
    this.#banner = new TextEncoder().encode(banner).subarray(0, COMPLETE - 1);
    this.#got = new Uint8Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1;
  }

  onConnected(_slot: number): void {}

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    // The right banner too: a target that says no may do so behind it.
    this.#host.said(slot, buffer, 0, length);
    let got = this.#got[slot]!;
    if (got === COMPLETE) return;
    for (let at = 0; at < length && got < this.#banner.length; at++, got++) {
      if (buffer[at] === this.#banner[got]) continue;
      this.#host.lost(slot, FailReason.handshake, DropReason.protocol, 'banner differs from --expect-banner');
      return;
    }
    if (got < this.#banner.length) {
      this.#got[slot] = got;
      return;
    }
    this.#got[slot] = COMPLETE;
    this.#host.opened(slot);
    this.#host.verified(slot);
  }

  onWritable(_slot: number): void {}

  onProbeDue(_slot: number, _sequence: number): void {}

  onClosing(_slot: number): void {}

  onForgotten(slot: number): void {
    this.#got[slot] = 0;
  }
}
