/**
 * Owns the keys of opening handshakes and the answers that they ask for (RFC 6455 sections 4.1 and 4.2.2).
 * Must never remember a key: it is a keyed permutation of slot and connection number, worked out again when the answer
 * comes, so that it costs 4 bytes a slot and nobody outside can foresee it.
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';

/** Characters of a key: 16 bytes in base64. */
export const KEY_CHARACTERS = 24;

const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** The keys of one process. */
export class HandshakeKeys {
  // One block in, one block out; AES as a permutation gives 16 bytes that look random and never repeat.
  readonly #cipher = createCipheriv('aes-128-ecb', randomBytes(16), null).setAutoPadding(false);
  readonly #block = Buffer.alloc(16);

  /** The key of one connection of a slot, 24 characters. @param connection its number, so that a slot's next key differs */
  keyOf(slot: number, connection: number): string {
    this.#block.writeUInt32LE(slot, 0);
    this.#block.writeUInt32LE(connection, 4);
    return this.#cipher.update(this.#block).toString('base64');
  }
}

/** What a server must answer to a key. */
export function acceptOf(key: string): string {
  return createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
}
