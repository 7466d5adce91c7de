/**
 * Owns the secret that lets an agent join: its making, its text, and the TLS-PSK key in it.
 * Must never print one or put one into an argument list.
 */
import { randomBytes } from 'node:crypto';
import { ErrorCode, usageError } from '../core/errors.ts';

const KEY_BYTES = 32;
const PREFIX = 'c100k1';

/** A token: who the agent says it is (PSK identity) and the key that proves it. */
export interface Token {
  readonly identity: string;
  readonly key: Buffer;
}

/** A fresh token; keys are generated, never chosen by people. */
export function generateToken(identity: string): Token {
  return { identity, key: randomBytes(KEY_BYTES) };
}

/** The token as one line of text: `c100k1.<identity>.<key>`, base64url. */
export function formatToken(token: Token): string {
  return [PREFIX, Buffer.from(token.identity).toString('base64url'), token.key.toString('base64url')].join(
    '.',
  );
}

/**
 * Reads a token's text.
 * @throws BenchError (control-channel, exit 2) when it is not one; the message never repeats the text
 */
export function parseToken(text: string): Token {
  const [prefix, identity = '', key = '', ...rest] = text.trim().split('.');
  const token = {
    identity: Buffer.from(identity, 'base64url').toString(),
    key: Buffer.from(key, 'base64url'),
  };
  if (prefix !== PREFIX || rest.length > 0 || token.key.length !== KEY_BYTES || token.identity === '') {
    throw usageError(
      ErrorCode.controlChannel,
      'the token is not one that c100k-bench made',
      'copy the whole line of the token file, or set C100K_TOKEN to it',
    );
  }
  return token;
}
