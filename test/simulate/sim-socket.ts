/**
 * Owns one end of a connection as the modules under test see it: a TLS socket, and the WebSocket on top of it. Must never
 * change what is sent but for a fault that says so.
 */
import { EventEmitter } from 'node:events';
import type { Wire } from './sim-network.ts';

const CLOSED_ABNORMALLY = 1006;
/** A frame's header, about. */
const FRAME_BYTES = 8;

/** A TLS socket whose handshake is over, or a client's that is to be. */
export class SimTls extends EventEmitter {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress = '10.0.0.1';
  readonly authorized = true;
  readonly #end: 'client' | 'server';
  wire: Wire | null = null;
  isGone = false;

  constructor(end: 'client' | 'server', remoteAddress: string, remotePort: number) {
    super();
    this.#end = end;
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
  }

  attach(wire: Wire): void {
    this.wire = wire;
    wire.onGone[this.#end] = () => this.gone(null);
  }

  isSessionReused(): boolean {
    return true;
  }

  getProtocol(): string {
    return 'TLSv1.3';
  }

  getPeerCertificate(): object {
    return {};
  }

  /** @param error what is told to whoever listens for it */
  destroy(error?: Error): this {
    if (this.isGone) return this;
    this.wire?.leave(this.#end);
    this.isGone = true;
    // As Node's sockets do: whoever has called may still begin to listen.
    process.nextTick(() => this.#emitGone(error ?? null));
    return this;
  }

  /** The connection is over, on this side. */
  gone(error: Error | null): void {
    if (this.isGone) return;
    this.isGone = true;
    this.#emitGone(error);
  }

  #emitGone(error: Error | null): void {
    if (error !== null && this.listenerCount('error') > 0) this.emit('error', error);
    this.emit('close');
  }
}

/** A WebSocket as far as the control channel uses one. */
export class SimWebSocket extends EventEmitter {
  readonly OPEN = 1;
  readyState = 0;
  readonly #end: 'client' | 'server';
  readonly #tls: SimTls;
  #peer: SimWebSocket | null = null;
  #hasSentClose = false;
  #isPaused = false;
  readonly #unread: (() => void)[] = [];

  constructor(end: 'client' | 'server', tls: SimTls) {
    super();
    this.#end = end;
    this.#tls = tls;
    tls.on('close', () => this.#closed(CLOSED_ABNORMALLY, ''));
  }

  /** Both ends are there. */
  join(peer: SimWebSocket): void {
    this.#peer = peer;
    this.readyState = this.OPEN;
  }

  get bufferedAmount(): number {
    return this.#lane?.bytes ?? 0;
  }

  get #lane(): Wire['toServer'] | undefined {
    return this.#end === 'client' ? this.#tls.wire?.toServer : this.#tls.wire?.toClient;
  }

  send(text: string): void {
    const lane = this.#lane;
    if (this.readyState !== this.OPEN || lane === undefined) return;
    const sent = lane.nextText ?? text;
    lane.nextText = null;
    const bytes = sent.length + FRAME_BYTES;
    lane.send(bytes, () => this.#peer?.read(() => this.#peer?.heard(sent, bytes)));
  }

  /** What has come is read now, or when it is read again. */
  read(what: () => void): void {
    if (this.#isPaused) this.#unread.push(what);
    else what();
  }

  heard(text: string, bytes: number): void {
    if (this.#tls.isGone) return;
    this.#tls.emit('data', { length: bytes });
    if (this.readyState === this.OPEN || this.readyState === 2) this.emit('message', text, false);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    for (const what of this.#unread.splice(0)) what();
  }

  /** The close handshake of RFC 6455: the frame is answered, then the connection ends. */
  close(code = 1005, reason = ''): void {
    if (this.readyState >= 2) return;
    this.readyState = 2;
    this.#sayClose(code, reason);
  }

  #sayClose(code: number, reason: string): void {
    if (this.#hasSentClose) return;
    this.#hasSentClose = true;
    this.#lane?.send(FRAME_BYTES, () => this.#peer?.read(() => this.#peer?.heardClose(code, reason)));
  }

  heardClose(code: number, reason: string): void {
    if (this.#tls.isGone || this.readyState === 3) return;
    this.#sayClose(code, reason);
    this.#closed(code, reason);
    this.#tls.destroy();
  }

  terminate(): void {
    if (this.readyState === 3) return;
    this.#tls.destroy();
  }

  #closed(code: number, reason: string): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.emit('close', code, reason);
  }
}
