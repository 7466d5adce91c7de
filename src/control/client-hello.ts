/**
 * Owns reading the first record of a TLS 1.3 client: which key it offers, and whether it has that key. The proof (the
 * binder) is in the first message of the handshake, so whoever has no key is known before anything is kept for it.
 * Must never replace TLS, which checks the same again: this only says whom TLS need not be begun for.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/**
 * The longest first record that is read, in bytes. One with a token of 256 bytes and a post-quantum key share (1,216 bytes)
 * has about 2,000.
 */
export const CLIENT_HELLO_BYTES_MAX = 8_192;

const RECORD_HEADER_BYTES = 5;
const CONTENT_HANDSHAKE = 22;
const HANDSHAKE_CLIENT_HELLO = 1;
const EXTENSION_PRE_SHARED_KEY = 41;
const HASH = 'sha256';
const HASH_BYTES = 32;

/** The key that a client offers. */
export interface OfferedKey {
  readonly identity: string;
  /** proves the key: a MAC over `bound` */
  readonly binder: Buffer;
  /** the handshake message up to the binders */
  readonly bound: Buffer;
}

type ClientHello =
  /** not all of it is here */
  | { readonly type: 'partial' }
  /** not TLS, or no client's first message */
  | { readonly type: 'noise' }
  /** TLS without exactly one pre-shared key */
  | { readonly type: 'keyless' }
  | ({ readonly type: 'keyed' } & OfferedKey);

const PARTIAL: ClientHello = { type: 'partial' };
const NOISE: ClientHello = { type: 'noise' };
const KEYLESS: ClientHello = { type: 'keyless' };

/** Reads numbers and vectors one after the other; `isBad` once something was not there. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  isBad = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get at(): number {
    return this.#at;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  take(count: number): Buffer {
    const end = this.#at + count;
    if (end > this.#bytes.length) {
      this.isBad = true;
      this.#at = this.#bytes.length;
      return Buffer.alloc(0);
    }
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  number(bytes: 1 | 2 | 3): number {
    const taken = this.take(bytes);
    return this.isBad ? 0 : taken.readUIntBE(0, bytes);
  }

  /** A vector whose length comes first, in so many bytes. */
  vector(lengthBytes: 1 | 2): Buffer {
    return this.take(this.number(lengthBytes));
  }
}

/**
 * Reads what a client has sent so far (RFC 8446, 4.1.2 and 4.2.11). Never throws, whatever the bytes.
 * @param bytes at most CLIENT_HELLO_BYTES_MAX of them
 */
export function readClientHello(bytes: Buffer): ClientHello {
  if (bytes.length === 0) return PARTIAL;
  if (bytes[0] !== CONTENT_HANDSHAKE) return NOISE;
  if (bytes.length < RECORD_HEADER_BYTES) return PARTIAL;
  const recordBytes = bytes.readUInt16BE(3);
  if (bytes[1] !== 3 || recordBytes > CLIENT_HELLO_BYTES_MAX - RECORD_HEADER_BYTES) return NOISE;
  if (bytes.length < RECORD_HEADER_BYTES + recordBytes) return PARTIAL;
  return readHandshake(bytes.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + recordBytes));
}

function readHandshake(message: Buffer): ClientHello {
  const reader = new Reader(message);
  // In one record, and nothing else in it.
  if (reader.number(1) !== HANDSHAKE_CLIENT_HELLO || reader.number(3) !== message.length - 4) return NOISE;
  reader.take(2 + 32); // version and random
  reader.vector(1); // session id
  reader.vector(2); // cipher suites
  reader.vector(1); // compression
  const extensionsBytes = reader.number(2);
  if (reader.isBad || reader.at + extensionsBytes !== message.length) return NOISE;
  while (!reader.isAtEnd) {
    const kind = reader.number(2);
    const body = reader.vector(2);
    if (reader.isBad) return NOISE;
    // It must be the last one: its binders cover everything before them.
    if (kind === EXTENSION_PRE_SHARED_KEY) return reader.isAtEnd ? readOffer(message, body) : NOISE;
  }
  return KEYLESS;
}

function readOffer(message: Buffer, extension: Buffer): ClientHello {
  const reader = new Reader(extension);
  const identities = new Reader(reader.vector(2));
  const identity = identities.vector(2);
  identities.take(4); // the obfuscated age of a ticket
  const bindersBytes = extension.length - reader.at;
  const binders = new Reader(reader.vector(2));
  const binder = binders.vector(1);
  if (reader.isBad || identities.isBad || binders.isBad || !reader.isAtEnd) return NOISE;
  // Our agents offer one key and no ticket. With several, which one was used would be a question.
  if (!identities.isAtEnd || !binders.isAtEnd) return KEYLESS;
  const bound = message.subarray(0, message.length - bindersBytes);
  return { type: 'keyed', identity: identity.toString(), binder, bound };
}

function hmac(key: Buffer, data: Buffer): Buffer {
  return createHmac(HASH, key).update(data).digest();
}

function hash(data: Buffer): Buffer {
  return createHash(HASH).update(data).digest();
}

/** HKDF-Expand-Label (RFC 8446, 7.1) for one hash of output. */
function expandLabel(secret: Buffer, label: string, context: Buffer): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([
    Buffer.from([0, HASH_BYTES, name.length]),
    name,
    Buffer.from([context.length]),
    context,
  ]);
  return hmac(secret, Buffer.concat([info, Buffer.from([1])]));
}

const NO_SALT = Buffer.alloc(HASH_BYTES);
const NOTHING = Buffer.alloc(0);
const HASH_OF_NOTHING = hash(NOTHING);

/** The binder of an external key over the first part of a first message (RFC 8446, 4.2.11.2). */
function binderOf(key: Buffer, bound: Buffer): Buffer {
  const early = hmac(NO_SALT, key);
  const binderKey = expandLabel(early, 'ext binder', HASH_OF_NOTHING);
  return hmac(expandLabel(binderKey, 'finished', NOTHING), hash(bound));
}

/** Whether the client has the key. */
export function isBoundBy(offered: OfferedKey, key: Buffer): boolean {
  const expected = binderOf(key, offered.bound);
  return offered.binder.length === expected.length && timingSafeEqual(offered.binder, expected);
}
