/**
 * Owns the interface behind which protocols differ, what a protocol may ask of the engine, and the bytes that a socket did
 * not take yet, slot by slot. Must never hold anything for a socket that takes what it is given.
 *
 *   engine -> protocol : opened, bytes, writable, probe, closing, forgotten
 *   protocol -> engine : send, opened, verified, answered, fail
 *
 * A protocol is given slots of the connection table and keeps what it needs about them in typed arrays of its own
 * (`capacity` is known when it is made). It answers by calling the host, because one receive may hold several things
 * (the end of a handshake and an answer), and because TLS, which runs in Node's own loop, answers when no event of the
 * engine is being handled. After `host.fail` the slot is gone: return immediately. No method may allocate per connection.
 */
import type { DropReason, FailReason } from '../../base/outcome.ts';

/** What the engine does for a protocol. */
export interface ProtocolHost {
  /** slots of the connection table */
  readonly capacity: number;
  /**
   * send(2) on the slot's descriptor; what was taken is counted as bytes out.
   * @returns bytes taken, 0 when the socket is full (`onWritable` follows), or -errno
   */
  send(slot: number, buffer: Uint8Array, length: number): number;
  /** The handshake is over: the connection counts as established and open. Only for `hasHandshake` protocols. */
  opened(slot: number): void;
  /** The far application has proven itself. */
  verified(slot: number): void;
  /** The slot's probe was answered in full. */
  answered(slot: number): void;
  /**
   * The slot's probe was answered, and not as it should be.
   * @param isLost the connection is of no use any more
   * @returns whether the slot is still there
   */
  answeredWrongly(slot: number, isLost: boolean): boolean;
  /**
   * The connection is no good: counted as `fail` while it is being opened, as `drop` when it was open; then closed.
   * @param detail what the protocol knows beyond that, see stats/protocol-errors.ts
   */
  lost(slot: number, fail: FailReason, drop: DropReason, detail?: string): void;
  /** From now on the protocol owns the slot's descriptor: it reads, writes and, in `onForgotten`, closes it. */
  handOver(slot: number): number;
  /** Must be called first by a protocol that acts outside of the engine's own calls. @returns ms since the start */
  awake(): number;
  /** From now on the next probe of a connection comes no later than this after the one before it: the target asks for it. */
  probeAtLeastEvery(ms: number): void;
  /** Bytes that went past `send`. */
  transferred(slot: number, bytesIn: number, bytesOut: number): void;
  /** The target said something that is no valid answer of the protocol: kept in case the connection ends. @param to exclusive */
  said(slot: number, buffer: Uint8Array, from: number, to: number): void;
}

/** What has come of an answer that is overdue: nothing, or something else; null: none is waited for, or that is all the same. */
export type Overdue = 'nothing-said' | 'other-said' | null;

/** One way to use a connection. */
export interface Protocol {
  /** Whether the connection is open only after `host.opened`; otherwise as soon as the kernel has connected. */
  readonly hasHandshake: boolean;
  /** Whether it can probe; probes of a protocol that cannot are never due. */
  readonly canProbe: boolean;
  /** Milliseconds between two probes at most, whatever was asked; absent: any. */
  readonly probeEveryMsMax?: number;
  /** Whether it lives on Node's own loop, so that the engine must not block it. */
  readonly runsInNode?: boolean;
  /** The kernel has connected. May send. */
  onConnected(slot: number): void;
  /** `length` bytes came; the buffer is shared by all connections and is overwritten by the next receive. */
  onBytes(slot: number, buffer: Uint8Array, length: number): void;
  /** The socket takes bytes again after a short `host.send`. */
  onWritable(slot: number): void;
  /** Send the probe with this number (1 or more); the one before it was answered. */
  onProbeDue(slot: number, sequence: number): void;
  /** The engine closes the connection now by its own will (not after a loss): say goodbye if the protocol has a word for it. */
  onClosing(slot: number): void;
  /** What was said of an answer whose time is up; asked before the slot is lost. */
  overdue?(slot: number): Overdue;
  /** The slot is gone, for whatever reason. */
  onForgotten(slot: number): void;
  /** The engine has ended, perhaps with slots in use: nothing may keep the process alive. */
  end?(): void;
}

/** A target that does not read for so long that this fills up gets no more from us; its probes time out. */
const SEND_BUFFER_BYTES_MAX = 16_384;

/** Sends whole units in order. */
export class SendBuffer {
  readonly #host: ProtocolHost;
  readonly #waiting = new Map<number, Uint8Array>();

  constructor(host: ProtocolHost) {
    this.#host = host;
  }

  /**
   * Sends `length` bytes, or keeps what the socket does not take. The buffer is the caller's again at once.
   * @returns false when nothing of it was sent or kept, because the buffer is full
   */
  send(slot: number, buffer: Uint8Array, length: number): boolean {
    const waiting = this.#waiting.get(slot);
    if (waiting !== undefined) {
      if (waiting.length + length > SEND_BUFFER_BYTES_MAX) return false;
      const joined = new Uint8Array(waiting.length + length);
      joined.set(waiting);
      joined.set(buffer.subarray(0, length), waiting.length);
      this.#waiting.set(slot, joined);
      return true;
    }
    // An error is reported by the socket's next event, with its reason.
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
