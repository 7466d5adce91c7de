/**
 * Owns the whoami proof: the target's first line names the address and port that the connection came from, and that
 * is compared with what we bound. Must never send: a proxy that waits for the client's first bytes is told apart by that.
 *
 *     target -> us : "192.168.0.1:40001\n"  or  "[2001:db8::1]:40001\n"      then both hold
 */
import { isAddress, unmapV4 } from '../../base/address.ts';
import { DropReason, FailReason } from '../../base/outcome.ts';
import type { SeenTally } from '../seen-tally.ts';
import type { Protocol, ProtocolHost } from './protocol.ts';

/** `[` + 45 characters of an IPv6 literal + `]:65535` and a line end: nothing longer is a whoami line. */
export const WHOAMI_LINE_BYTES_MAX = 64;

const LINE_FEED = 10;

/** What the connection of a slot was bound to. */
export interface BoundTuples {
  readonly sourceIndex: (slot: number) => number;
  readonly port: (slot: number) => number;
  readonly endpointIndex: (slot: number) => number;
}

/** What one line says; null when it is no whoami line. */
export function parseWhoami(line: string): { readonly address: string; readonly port: number } | null {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})\r?$/.exec(line);
  const address = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (!isAddress(address) || !(port >= 1 && port <= 65_535)) return null;
  return { address: unmapV4(address), port };
}

/** A connection is open once the far application has said whom it sees. A line costs a string; what is held, nothing. */
export class WhoamiProtocol implements Protocol {
  readonly hasHandshake = true;
  readonly canProbe = false;
  readonly #host: ProtocolHost;
  /** whom the target says that it sees */
  readonly seen: SeenTally;
  readonly #bound: BoundTuples;
  /** 1: the line has come */
  readonly #told: Uint8Array;
  /** lines that came in pieces, by slot; nearly always empty */
  readonly #partial = new Map<number, string>();

  constructor(host: ProtocolHost, tally: SeenTally, bound: BoundTuples) {
    this.#host = host;
    this.seen = tally;
    this.#bound = bound;
    this.#told = new Uint8Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1;
  }

  onConnected(_slot: number): void {}

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    if (this.#told[slot] === 1) return;
    const end = buffer.subarray(0, length).indexOf(LINE_FEED);
    const piece = String.fromCharCode(
      ...buffer.subarray(0, Math.min(end < 0 ? length : end, WHOAMI_LINE_BYTES_MAX)),
    );
    const line = (this.#partial.get(slot) ?? '') + piece;
    if (end < 0 && line.length < WHOAMI_LINE_BYTES_MAX) {
      this.#partial.set(slot, line);
      return;
    }
    const seen = end < 0 ? null : parseWhoami(line);
    if (seen === null) {
      this.#host.lost(slot, FailReason.handshake, DropReason.protocol);
      return;
    }
    this.#partial.delete(slot);
    this.#told[slot] = 1;
    const { sourceIndex, port, endpointIndex } = this.#bound;
    this.seen.arrived(sourceIndex(slot), port(slot), endpointIndex(slot), seen.address, seen.port);
    this.#host.opened(slot);
    this.#host.verified(slot);
  }

  onWritable(_slot: number): void {}

  onProbeDue(_slot: number, _sequence: number): void {}

  onClosing(_slot: number): void {}

  onForgotten(slot: number): void {
    this.#told[slot] = 0;
    this.#partial.delete(slot);
  }
}
