/**
 * Owns the echo proof: a probe of 16 bytes that names its slot and number, and comes back byte for byte.
 * Must never hold the bytes of a probe: what is expected is worked out again when an answer comes.
 *
 *   0  magic "c1kb"   4  slot   8  sequence   12  salt of this process      all little-endian
 */
import { DropReason, FailReason } from '../../base/outcome.ts';
import type { Protocol, ProtocolHost } from './protocol.ts';

/** Bytes of one probe. */
const ECHO_PROBE_BYTES = 16;

const MAGIC = 0x626b3163;
/** in `#received`: no probe is out */
const NOTHING_OUT = 255;

/** Probes that the far application must send back. One probe per connection is out at a time. */
export class EchoProtocol implements Protocol {
  readonly hasHandshake = false;
  readonly canProbe = true;
  readonly #host: ProtocolHost;
  readonly #salt: number;
  readonly #probe = new Uint8Array(ECHO_PROBE_BYTES);
  readonly #rest = new Uint8Array(ECHO_PROBE_BYTES);
  readonly #probeView = new DataView(this.#probe.buffer);
  /** bytes of the answer that have come, or NOTHING_OUT */
  readonly #received: Uint8Array;
  /** bytes of the probe that the socket has taken */
  readonly #sent: Uint8Array;
  readonly #sequence: Uint32Array;

  /** @param salt 32 bits that differ between processes, so that an answer to the probe of another process is a mismatch */
  constructor(host: ProtocolHost, salt: number) {
    this.#host = host;
    this.#salt = salt;
    this.#received = new Uint8Array(host.capacity).fill(NOTHING_OUT);
    this.#sent = new Uint8Array(host.capacity);
    this.#sequence = new Uint32Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + 1 + 4;
  }

  #writeProbe(slot: number): void {
    this.#probeView.setUint32(0, MAGIC, true);
    this.#probeView.setUint32(4, slot, true);
    this.#probeView.setUint32(8, this.#sequence[slot]!, true);
    this.#probeView.setUint32(12, this.#salt, true);
  }

  onConnected(_slot: number): void {}

  onProbeDue(slot: number, sequence: number): void {
    this.#sequence[slot] = sequence;
    this.#received[slot] = 0;
    this.#sent[slot] = 0;
    this.#sendRest(slot);
  }

  onWritable(slot: number): void {
    if (this.#received[slot] !== NOTHING_OUT && this.#sent[slot]! < ECHO_PROBE_BYTES) this.#sendRest(slot);
  }

  /** Sends what the socket has not taken yet; a target that never reads runs into the probe timeout. */
  #sendRest(slot: number): void {
    this.#writeProbe(slot);
    const sent = this.#sent[slot]!;
    let bytes = this.#probe;
    if (sent > 0) {
      this.#rest.set(this.#probe.subarray(sent));
      bytes = this.#rest;
    }
    const took = this.#host.send(slot, bytes, ECHO_PROBE_BYTES - sent);
    // An error is reported by the socket's next event, with its reason.
    if (took > 0) this.#sent[slot] = sent + took;
  }

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    const received = this.#received[slot]!;
    // Nothing was asked, or more came than was sent: that is no echo.
    const expectedMax = received === NOTHING_OUT ? 0 : this.#sent[slot]! - received;
    if (length > expectedMax) {
      this.#mismatch(slot, buffer, length);
      return;
    }
    this.#writeProbe(slot);
    for (let at = 0; at < length; at++) {
      if (buffer[at] === this.#probe[received + at]) continue;
      this.#mismatch(slot, buffer, length);
      return;
    }
    if (received + length < ECHO_PROBE_BYTES) {
      this.#received[slot] = received + length;
      return;
    }
    this.#received[slot] = NOTHING_OUT;
    this.#host.answered(slot);
  }

  #mismatch(slot: number, buffer: Uint8Array, length: number): void {
    this.#host.said(slot, buffer, 0, length);
    this.#host.lost(slot, FailReason.handshake, DropReason.probeMismatch);
  }

  onClosing(_slot: number): void {}

  onForgotten(slot: number): void {
    this.#received[slot] = NOTHING_OUT;
  }
}
