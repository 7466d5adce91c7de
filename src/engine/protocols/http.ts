/**
 * Owns the HTTP/1.1 keep-alive proof: one request at a time (GET unless another method was asked for), its status checked, its
 * body read to the end and thrown away.
 * Must never hold a body: what is left of it is a number.
 *
 *   us -> target : GET path [body]               when the kernel has connected, then each probe
 *   target -> us : status, head, body            the first makes it open and verified, the others answer a probe
 *
 * An answer that ends the connection (`Connection: close`, HTTP/1.0, a body without a length) cannot be held: it is
 * lost as `protocol`.
 */
import type { ProtocolOptions } from '../../base/endpoint.ts';
import { DropReason, FailReason } from '../../base/outcome.ts';
import { DEFAULT_REQUEST_OPTIONS, type RequestMethod, requestHead } from '../../base/request-options.ts';
import { HeadReader, hasToken, otherProtocol, type ResponseHead, refusalText, saidEnd } from './http-head.ts';
import { type Protocol, type ProtocolHost, SendBuffer } from './protocol.ts';
import type { RequestTarget } from './ws.ts';

/** What the next byte of a slot belongs to. */
const Part = {
  /** nothing was asked */
  idle: 0,
  head: 1,
  body: 2,
  /** digits of a chunk's size */
  chunkSize: 3,
  /** the rest of the line with the size */
  chunkExtension: 4,
  chunk: 5,
  /** the line end behind a chunk's data */
  chunkEnd: 6,
  /** at the begin of a trailer line, or of the blank line that ends it all */
  trailerBegin: 7,
  trailer: 8,
} as const;

const CR = 13;
const LF = 10;
/** Larger chunks are refused, so that their size stays a safe integer: 2^48 bytes. */
const CHUNK_DIGITS_MAX = 12;
/** Bytes of chunk extensions and of trailers; a target must not keep us reading lines for ever. */
const LINE_BYTES_MAX = 16_384;

/** The value of one hexadecimal digit; -1 for anything else. */
function hexOf(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 0x20;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

/** Methods whose request has a length even when it has no body (RFC 9110 section 8.6). */
const METHODS_WITH_BODY: ReadonlySet<RequestMethod> = new Set(['POST', 'PUT', 'PATCH']);

function requestOf({ path, request }: ProtocolOptions, authority: string): Buffer {
  const { method, headers, body } = request ?? DEFAULT_REQUEST_OPTIONS;
  const bytes = Buffer.from(body ?? '', 'base64');
  const length = { name: 'Content-Length', value: String(bytes.length) };
  const own = [
    { name: 'User-Agent', value: 'c100k-bench' },
    { name: 'Accept', value: '*/*' },
    ...(body !== null || METHODS_WITH_BODY.has(method) ? [length] : []),
  ];
  const head = requestHead(`${method} ${path} HTTP/1.1`, authority, own, headers);
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes]);
}

/** HTTP/1.1 connections that are kept alive. */
export class HttpProtocol implements Protocol {
  readonly hasHandshake = true;
  readonly canProbe = true;
  readonly #host: ProtocolHost;
  readonly #target: RequestTarget;
  readonly #method: RequestMethod;
  readonly #heads = new HeadReader();
  readonly #unsent: SendBuffer;
  readonly #requests = new Map<string, Buffer>();
  readonly #part: Uint8Array;
  /** 1: the first answer has come */
  readonly #isOpen: Uint8Array;
  /** bytes of the body or of the chunk that are still to come; the size while its digits come */
  readonly #remaining: Float64Array;
  /** digits of the chunk size, then bytes of lines that are thrown away */
  readonly #lineBytes: Uint16Array;

  constructor(host: ProtocolHost, target: RequestTarget) {
    this.#host = host;
    this.#target = target;
    this.#method = (target.options.request ?? DEFAULT_REQUEST_OPTIONS).method;
    this.#unsent = new SendBuffer(host);
    this.#part = new Uint8Array(host.capacity);
    this.#isOpen = new Uint8Array(host.capacity);
    this.#remaining = new Float64Array(host.capacity);
    this.#lineBytes = new Uint16Array(host.capacity);
  }

  /** User memory of one slot, in bytes. */
  get bytesPerSlot(): number {
    return 1 + 1 + 8 + 2;
  }

  onConnected(slot: number): void {
    this.#ask(slot);
  }

  onProbeDue(slot: number, _sequence: number): void {
    this.#ask(slot);
  }

  #ask(slot: number): void {
    this.#part[slot] = Part.head;
    const authority = this.#target.authority(slot);
    let request = this.#requests.get(authority);
    if (request === undefined) {
      request = requestOf(this.#target.options, authority);
      this.#requests.set(authority, request);
    }
    this.#unsent.send(slot, request, request.length);
  }

  onWritable(slot: number): void {
    this.#unsent.flush(slot);
  }

  onBytes(slot: number, buffer: Uint8Array, length: number): void {
    let at = 0;
    while (at < length && at >= 0) {
      switch (this.#part[slot]) {
        case Part.idle:
          this.#host.said(slot, buffer, at, saidEnd(buffer, at, length));
          this.#lose(slot, 'an answer without a request');
          return;
        case Part.head:
          at = this.#takeHead(slot, buffer, at, length);
          break;
        case Part.body:
        case Part.chunk:
          at = this.#takeData(slot, at, length);
          break;
        default:
          at = this.#takeLine(slot, buffer, at);
      }
    }
  }

  /** Where to go on, or -1 when the slot is gone. */
  #takeHead(slot: number, buffer: Uint8Array, at: number, length: number): number {
    const result = this.#heads.take(slot, buffer, at, length);
    if (result.type === 'more') return length;
    if (result.type === 'bad') {
      this.#host.said(slot, buffer, at, saidEnd(buffer, at, length));
      return this.#lose(slot, otherProtocol(buffer, at, length) ?? result.what);
    }
    const { head, next } = result;
    // Interim answers come before the real one (RFC 9110 section 15.2); 101 was not asked for.
    if (head.status < 200 && head.status !== 101) return next;
    const wrong = this.#wrong(head);
    if (wrong !== null) {
      const text = refusalText(head, buffer, next, length);
      this.#host.said(slot, text, 0, text.length);
      return this.#lose(slot, wrong);
    }
    return this.#beginBody(slot, head, next);
  }

  #wrong({ status, isHttp11, fields }: ResponseHead): string | null {
    const { httpStatus } = this.#target.options;
    const isGood = httpStatus === null ? status >= 200 && status < 400 : status === httpStatus;
    if (!isGood) return `status ${status}`;
    const connection = fields.get('connection');
    if (hasToken(connection, 'close') || (!isHttp11 && !hasToken(connection, 'keep-alive')))
      return 'keep-alive refused: the target ends the connection after its answer';
    return null;
  }

  /** Finds out how long the body is (RFC 9112 section 6.3). */
  #beginBody(slot: number, { status, fields }: ResponseHead, next: number): number {
    const coding = fields.get('transfer-encoding');
    const lengths = fields.get('content-length')?.split(',') ?? [];
    // An answer to HEAD has the length of a body that does not come.
    if (status === 204 || status === 304 || this.#method === 'HEAD') return this.#complete(slot) ? next : -1;
    if (coding !== undefined) {
      if (coding.toLowerCase() !== 'chunked') return this.#lose(slot, 'an unknown Transfer-Encoding');
      if (lengths.length > 0) return this.#lose(slot, 'both Content-Length and Transfer-Encoding');
      this.#beginChunk(slot);
      return next;
    }
    const sizes = new Set(lengths.map((each) => each.trim()));
    const [size = ''] = sizes;
    if (lengths.length === 0) return this.#lose(slot, 'keep-alive impossible: a body without a length');
    if (sizes.size > 1 || !/^\d{1,15}$/.test(size)) return this.#lose(slot, 'a malformed Content-Length');
    if (Number(size) === 0) return this.#complete(slot) ? next : -1;
    this.#remaining[slot] = Number(size);
    this.#part[slot] = Part.body;
    return next;
  }

  #beginChunk(slot: number): void {
    this.#part[slot] = Part.chunkSize;
    this.#remaining[slot] = 0;
    this.#lineBytes[slot] = 0;
  }

  #takeData(slot: number, at: number, length: number): number {
    const took = Math.min(length - at, this.#remaining[slot]!);
    this.#remaining[slot]! -= took;
    if (this.#remaining[slot]! > 0) return length;
    if (this.#part[slot] === Part.chunk) {
      this.#part[slot] = Part.chunkEnd;
      this.#lineBytes[slot] = 0;
      return at + took;
    }
    return this.#complete(slot) ? at + took : -1;
  }

  /** Takes one byte of what stands between chunks; few bytes do. */
  #takeLine(slot: number, buffer: Uint8Array, at: number): number {
    const byte = buffer[at]!;
    if (++this.#lineBytes[slot]! > LINE_BYTES_MAX)
      return this.#lose(slot, 'lines without an end in a chunked body');
    switch (this.#part[slot]) {
      case Part.chunkSize:
        return this.#takeSize(slot, byte) ? at + 1 : -1;
      case Part.chunkExtension:
        if (byte === LF) this.#part[slot] = this.#remaining[slot] === 0 ? Part.trailerBegin : Part.chunk;
        return at + 1;
      case Part.chunkEnd:
        if (byte === LF) this.#beginChunk(slot);
        else if (byte !== CR) return this.#lose(slot, 'a chunk that is longer than it says');
        return at + 1;
      case Part.trailerBegin:
        if (byte === LF) return this.#complete(slot) ? at + 1 : -1;
        if (byte !== CR) this.#part[slot] = Part.trailer;
        return at + 1;
      default:
        if (byte === LF) this.#part[slot] = Part.trailerBegin;
        return at + 1;
    }
  }

  #takeSize(slot: number, byte: number): boolean {
    const digit = hexOf(byte);
    const digits = this.#lineBytes[slot]!;
    if (digit >= 0 && digits <= CHUNK_DIGITS_MAX) {
      this.#remaining[slot] = this.#remaining[slot]! * 16 + digit;
      return true;
    }
    // The byte that ends the digits is counted too: one alone means that there was no digit.
    if (digits < 2 || (byte !== CR && byte !== 59 && byte !== 32)) {
      this.#lose(slot, 'a malformed chunk size');
      return false;
    }
    this.#part[slot] = Part.chunkExtension;
    return true;
  }

  /** The answer is here to its last byte. @returns true: the slot is still there */
  #complete(slot: number): boolean {
    this.#part[slot] = Part.idle;
    if (this.#isOpen[slot] === 1) this.#host.answered(slot);
    else {
      this.#isOpen[slot] = 1;
      this.#host.opened(slot);
      this.#host.verified(slot);
    }
    return true;
  }

  #lose(slot: number, what: string): -1 {
    this.#host.lost(slot, FailReason.handshake, DropReason.protocol, `http ${what}`);
    return -1;
  }

  onClosing(_slot: number): void {}

  onForgotten(slot: number): void {
    this.#part[slot] = Part.idle;
    this.#isOpen[slot] = 0;
    this.#heads.forget(slot);
    this.#unsent.forget(slot);
  }
}
