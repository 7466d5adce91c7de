/**
 * Owns TLS under another protocol: the connected descriptor goes to Node's own TLS, and what comes out of it goes to
 * the protocol inside, which does not know. Must never speak for the inner protocol.
 *
 *   engine <-> TlsLayer <-> tls.TLSSocket <-> descriptor
 *                 ^
 *                 +-> inner protocol (tcp, banner, ws, http), whose host this is
 *
 * From `handOver` on Node reads, writes and closes the descriptor; the engine keeps the slot, its timers and its counts.
 * A session costs about 40 KB. Each connection pays, and shows, a full handshake, unless resumption is asked for: then the latest
 * session of an endpoint and client certificate is offered to it again.
 */
import type { SecureContext, TLSSocket } from 'node:tls';
import type { ProtocolOptions } from '../../base/endpoint.ts';
import { DropReason, FailReason } from '../../base/outcome.ts';
import { LatencyRecorder } from '../../stats/histogram.ts';
import type { TlsCounts } from '../../stats/stats.ts';
import { dropReasonOf, Errno, failReasonOf } from '../libc.ts';
import type { Overdue, Protocol, ProtocolHost } from './protocol.ts';

/** Bytes that Node may keep for one socket before the inner protocol is asked to wait. */
const WRITABLE_BYTES_MAX = 65_536;
const CIPHERS_MAX = 32;
/** OpenSSL's codes of the alerts that the far side sent, before the session and, in TLS 1.3, after it: RFC 8446 section 6 has the names. */
const ALERT = /^ERR_SSL_(?:SSLV3|TLSV1|TLSV13|SSL\/TLS)_(?:ALERT_)?([A-Z_]+)$/;

/** What a layer needs beside the protocol inside it. */
interface TlsLayerOptions {
  readonly options: ProtocolOptions;
  /** whether a goodbye is worth waiting for (`--close fin`) */
  readonly closesGently: boolean;
  /** canonical address of the slot's endpoint: what a certificate is checked against when the target is no name */
  address(slot: number): string;
  /** index of the slot's endpoint: a session is of use there alone */
  endpoint(slot: number): number;
  /** the number of slot 0 among the agent's connections, which client certificates go by */
  readonly connectionsFrom: number;
  /** what is offered; empty: nothing is */
  readonly alpn: readonly string[];
  /** whether the protocol inside is HTTP/1.1, so that nothing else may be chosen */
  readonly isHttp: boolean;
}

type SlotSocket = TLSSocket & { slot: number; isAgreed: boolean; beganMs: number; session: Buffer | null };

/** Any protocol, over TLS. */
export class TlsLayer implements Protocol, ProtocolHost {
  readonly hasHandshake = true;
  readonly runsInNode = true;
  readonly canProbe: boolean;
  readonly probeEveryMsMax: number;
  readonly #host: ProtocolHost;
  readonly #options: TlsLayerOptions;
  readonly #inner: Protocol;
  readonly #sockets = new Map<number, SlotSocket>();
  // Holders without TLS must not pay for its modules: they are loaded when the first layer is made.
  readonly #tls = process.getBuiltinModule('node:tls');
  readonly #net = process.getBuiltinModule('node:net');
  /** one for each client certificate that a slot may be dealt; one alone where none is shown */
  readonly #contexts = new Map<number, SecureContext>();
  readonly #pairs: number;
  readonly #sessionOf = new Map<number, Buffer>();
  readonly #alpn = new Map<string, number>();
  readonly #handshakeUs = new LatencyRecorder();
  #sessions = 0;
  #resumed = 0;
  #unverified = 0;
  readonly #ciphers = new Map<string, number>();

  /**
   * @param makeInner is given the host that the inner protocol must use
   * @throws Error from OpenSSL when the CA, a certificate or a key is no PEM
   */
  constructor(host: ProtocolHost, options: TlsLayerOptions, makeInner: (host: ProtocolHost) => Protocol) {
    this.#host = host;
    this.#options = options;
    const { ca, pairs = [{}] } = options.options.tls;
    const trusted = ca === null ? {} : { ca };
    this.#pairs = pairs.length;
    // Of a fleet's certificates a holder makes those alone that its slots are dealt.
    for (let slot = 0; slot < Math.min(host.capacity, pairs.length); slot++) {
      const pair = this.#pairOf(slot);
      this.#contexts.set(pair, this.#tls.createSecureContext({ ...trusted, ...pairs[pair] }));
    }
    this.#inner = makeInner(this);
    this.canProbe = this.#inner.canProbe;
    this.probeEveryMsMax = this.#inner.probeEveryMsMax ?? Number.POSITIVE_INFINITY;
  }

  /** Figures of the sessions so far. */
  counts(): TlsCounts {
    return {
      sessions: this.#sessions,
      resumed: this.#resumed,
      unverified: this.#unverified,
      handshakeUs: this.#handshakeUs.sparse(),
      ciphers: Object.fromEntries(this.#ciphers),
      alpn: Object.fromEntries(this.#alpn),
    };
  }

  // ---- what the engine tells ----

  onConnected(slot: number): void {
    const fd = this.#host.handOver(slot);
    const { options } = this.#options;
    const raw = new this.#net.Socket({ fd, readable: true, writable: true });
    const name = options.tls.servername ?? options.host;
    const isName = name !== null && this.#net.isIP(name) === 0;
    const session = this.#sessionOf.get(this.#sessionKey(slot));
    const socket = this.#tls.connect({
      socket: raw,
      secureContext: this.#contexts.get(this.#pairOf(slot)),
      // Without a name there is no SNI (RFC 6066 section 3), and the certificate must carry the address.
      ...(isName ? { servername: name } : { host: name ?? this.#options.address(slot) }),
      rejectUnauthorized: options.tls.isVerified,
      ...(this.#options.alpn.length === 0 ? {} : { ALPNProtocols: [...this.#options.alpn] }),
      ...(session === undefined ? {} : { session }),
    }) as SlotSocket;
    socket.slot = slot;
    socket.session = null;
    socket.isAgreed = false;
    socket.beganMs = this.#host.awake();
    this.#sockets.set(slot, socket);
    socket.on('secureConnect', this.#onSecure);
    if (options.tls.resumes === true) socket.on('session', this.#onSession);
    socket.on('data', this.#onData);
    socket.on('drain', this.#onDrain);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.on('close', this.#onEnd);
  }

  #pairOf(slot: number): number {
    return (this.#options.connectionsFrom + slot) % this.#pairs;
  }

  #sessionKey(slot: number): number {
    return this.#options.endpoint(slot) * this.#pairs + this.#pairOf(slot);
  }

  /** Bytes never come from the engine: the descriptor is Node's. */
  onBytes(_slot: number, _buffer: Uint8Array, _length: number): void {}

  onWritable(_slot: number): void {}

  onProbeDue(slot: number, sequence: number): void {
    this.#inner.onProbeDue(slot, sequence);
  }

  overdue(slot: number): Overdue {
    return this.#inner.overdue?.(slot) ?? null;
  }

  onClosing(slot: number): void {
    const socket = this.#sockets.get(slot);
    if (socket === undefined) return;
    if (socket.isAgreed) this.#inner.onClosing(slot);
    if (!this.#options.closesGently) return;
    // Node sends what is left and the goodbyes of both layers, then closes.
    this.#sockets.delete(slot);
    socket.destroySoon();
    // A target that does not read must not keep the process; the kernel sends what it has taken.
    socket.unref();
  }

  onForgotten(slot: number): void {
    this.#inner.onForgotten(slot);
    const socket = this.#sockets.get(slot);
    if (socket === undefined) return;
    this.#sockets.delete(slot);
    socket.destroy();
  }

  end(): void {
    const left = [...this.#sockets.values()];
    this.#sockets.clear();
    for (const socket of left) socket.destroy();
  }

  // ---- what Node tells; one function each for all sockets ----

  /** Whether the socket still is its slot's; the engine's time is made fresh. */
  #isCurrent(socket: SlotSocket): boolean {
    if (this.#sockets.get(socket.slot) !== socket) return false;
    this.#host.awake();
    return true;
  }

  readonly #onSecure = ((layer: TlsLayer) =>
    function (this: TLSSocket): void {
      layer.#secured(this as SlotSocket);
    })(this);

  /** One or more tickets come with the session (TLS 1.2) or after it. */
  readonly #onSession = ((layer: TlsLayer) =>
    function (this: TLSSocket, session: Buffer): void {
      const socket = this as SlotSocket;
      if (layer.#sockets.get(socket.slot) !== socket) return;
      // A session is offered again only when its certificate has passed: a resumed one is not checked against the name.
      if (socket.isAgreed) layer.#sessionOf.set(layer.#sessionKey(socket.slot), session);
      else socket.session = session;
    })(this);

  readonly #onData = ((layer: TlsLayer) =>
    function (this: TLSSocket, chunk: Buffer): void {
      const socket = this as SlotSocket;
      if (!layer.#isCurrent(socket)) return;
      layer.#host.transferred(socket.slot, chunk.length, 0);
      layer.#inner.onBytes(socket.slot, chunk, chunk.length);
    })(this);

  readonly #onDrain = ((layer: TlsLayer) =>
    function (this: TLSSocket): void {
      const socket = this as SlotSocket;
      if (layer.#isCurrent(socket)) layer.#inner.onWritable(socket.slot);
    })(this);

  readonly #onEnd = ((layer: TlsLayer) =>
    function (this: TLSSocket): void {
      const socket = this as SlotSocket;
      if (!layer.#isCurrent(socket)) return;
      const what = socket.isAgreed ? undefined : 'tls the target closed during the handshake';
      layer.#host.lost(socket.slot, FailReason.handshake, DropReason.fin, what);
    })(this);

  readonly #onError = ((layer: TlsLayer) =>
    function (this: TLSSocket, error: NodeJS.ErrnoException): void {
      layer.#failed(this as SlotSocket, error);
    })(this);

  #secured(socket: SlotSocket): void {
    if (!this.#isCurrent(socket)) return;
    const { slot } = socket;
    socket.isAgreed = true;
    this.#sessions++;
    if (socket.isSessionReused()) this.#resumed++;
    if (!socket.authorized) this.#unverified++;
    this.#handshakeUs.record((this.#host.awake() - socket.beganMs) * 1_000);
    const cipher = `${socket.getProtocol()} ${socket.getCipher().name}`;
    const key = this.#ciphers.has(cipher) || this.#ciphers.size < CIPHERS_MAX ? cipher : 'other';
    this.#ciphers.set(key, (this.#ciphers.get(key) ?? 0) + 1);
    if (socket.session !== null) this.#sessionOf.set(this.#sessionKey(slot), socket.session);
    // One of those that were offered, so there are few.
    const chosen = socket.alpnProtocol || 'none';
    this.#alpn.set(chosen, (this.#alpn.get(chosen) ?? 0) + 1);
    if (this.#options.isHttp && chosen !== 'none' && chosen !== 'http/1.1') {
      this.#host.lost(
        slot,
        FailReason.tls,
        DropReason.tls,
        `tls ${chosen} was chosen by ALPN, and this run speaks HTTP/1.1`,
      );
      return;
    }
    if (!this.#inner.hasHandshake) {
      this.#host.opened(slot);
      this.#host.verified(slot);
    }
    this.#inner.onConnected(slot);
  }

  #failed(socket: SlotSocket, error: NodeJS.ErrnoException): void {
    if (!this.#isCurrent(socket)) return;
    const code = error.code ?? error.message;
    const errno = Errno[code as keyof typeof Errno];
    if (errno === undefined) {
      const alert = ALERT.exec(code)?.[1];
      if (alert !== undefined) {
        const text = Buffer.from(`TLS alert ${alert.toLowerCase()}`);
        this.#host.said(socket.slot, text, 0, text.length);
      }
      this.#host.lost(socket.slot, FailReason.tls, DropReason.tls, `tls ${code}`);
      return;
    }
    // Node reports a FIN in the middle of a handshake as ECONNRESET of its own making, without an errno.
    const isFin = code === 'ECONNRESET' && error.syscall === undefined && error.errno === undefined;
    const what = isFin ? 'tls the target closed during the handshake' : undefined;
    const fail = isFin ? FailReason.handshake : failReasonOf(errno);
    this.#host.lost(socket.slot, fail, dropReasonOf(errno), what);
  }

  // ---- what the inner protocol may ask for ----

  get capacity(): number {
    return this.#host.capacity;
  }

  send(slot: number, buffer: Uint8Array, length: number): number {
    const socket = this.#sockets.get(slot);
    if (socket === undefined || socket.destroyed || socket.writableLength > WRITABLE_BYTES_MAX) return 0;
    // A copy: Node keeps what it cannot send yet, and the buffer is shared by all connections.
    socket.write(Buffer.from(buffer.subarray(0, length)));
    this.#host.transferred(slot, 0, length);
    return length;
  }

  opened(slot: number): void {
    this.#host.opened(slot);
  }

  verified(slot: number): void {
    this.#host.verified(slot);
  }

  answered(slot: number): void {
    this.#host.answered(slot);
  }

  answeredWrongly(slot: number, isLost: boolean): boolean {
    return this.#host.answeredWrongly(slot, isLost);
  }

  lost(slot: number, fail: FailReason, drop: DropReason, detail?: string): void {
    this.#host.lost(slot, fail, drop, detail);
  }

  handOver(slot: number): number {
    return this.#host.handOver(slot);
  }

  awake(): number {
    return this.#host.awake();
  }

  probeAtLeastEvery(ms: number): void {
    this.#host.probeAtLeastEvery(ms);
  }

  transferred(slot: number, bytesIn: number, bytesOut: number): void {
    this.#host.transferred(slot, bytesIn, bytesOut);
  }

  said(slot: number, buffer: Uint8Array, from: number, to: number): void {
    this.#host.said(slot, buffer, from, to);
  }
}
