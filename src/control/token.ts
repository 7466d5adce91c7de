/**
 * Owns the secret that lets an agent join: its making, its text, and what a per-agent token says about itself.
 * Must never print one, put one into an argument list, or store one.
 *
 * The master token is 32 random bytes. A per-agent token carries its own claims as the TLS-PSK identity, and its key is
 * HMAC-SHA256(master, identity): the coordinator derives it again, so nothing has to be stored, and a changed claim
 * changes the key.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { ErrorCode, usageError } from '../base/errors.ts';

const KEY_BYTES = 32;
const PREFIX = 'c100k1';
const MASTER_IDENTITY = 'master';
const CLAIMS_PREFIX = 'agent:';
const IDENTITY_CHARS_MAX = 2_048;

/** A token: the PSK identity and the key that proves it. */
export interface Token {
  readonly identity: string;
  readonly key: Buffer;
}

/** What a per-agent token says: readable by everybody, changeable by nobody. */
export interface Claims {
  /** the only name that an agent with this token may use */
  readonly name: string;
  /** seconds since the epoch; null: never */
  readonly expiresSec: number | null;
  /** `CIDR:ports` texts that its agent may open connections to; null: the agent's own default */
  readonly targets: readonly string[] | null;
}

/** A fresh master token; keys are generated, never chosen by people. */
export function generateToken(): Token {
  return { identity: MASTER_IDENTITY, key: randomBytes(KEY_BYTES) };
}

/** Whether a token is a master: only such a one makes others. */
export function isMaster(token: Token): boolean {
  return token.identity === MASTER_IDENTITY;
}

function derivedKey(master: Token, identity: string): Buffer {
  return createHmac('sha256', master.key).update(identity).digest();
}

/** A token for one agent. */
export function agentToken(master: Token, claims: Claims): Token {
  const identity = CLAIMS_PREFIX + JSON.stringify([claims.name, claims.expiresSec, claims.targets]);
  return { identity, key: derivedKey(master, identity) };
}

/** What a token's identity claims; null for a master token, whose holder may use any name. */
export function claimsOf(identity: string): Claims | null {
  if (!identity.startsWith(CLAIMS_PREFIX)) return null;
  try {
    const [name, expiresSec, targets] = JSON.parse(identity.slice(CLAIMS_PREFIX.length)) as unknown[];
    if (typeof name !== 'string' || (expiresSec !== null && typeof expiresSec !== 'number')) return null;
    if (targets !== null && !(Array.isArray(targets) && targets.every((each) => typeof each === 'string'))) {
      return null;
    }
    return { name, expiresSec, targets };
  } catch {
    return null;
  }
}

/**
 * The key that an identity must prove.
 * @param wallMs milliseconds since the epoch, for expiry
 * @returns null for a stranger, or for a token that has expired
 */
export function keyOf(master: Token, identity: string, wallMs: number): Buffer | null {
  if (identity === MASTER_IDENTITY) return master.key;
  if (identity.length > IDENTITY_CHARS_MAX) return null;
  const claims = claimsOf(identity);
  if (claims === null) return null;
  if (claims.expiresSec !== null && claims.expiresSec * 1_000 <= wallMs) return null;
  return derivedKey(master, identity);
}

/** The token as one line of text: `c100k1.<identity>.<key>`, base64url. */
export function formatToken(token: Token): string {
  return [PREFIX, Buffer.from(token.identity).toString('base64url'), token.key.toString('base64url')].join(
    '.',
  );
}

/**
 * Reads a token's text.
 * @throws BenchError (bad-token, exit 2) when it is not one; the message never repeats the text
 */
export function parseToken(text: string): Token {
  const [prefix, identity = '', key = '', ...rest] = text.trim().split('.');
  const token = {
    identity: Buffer.from(identity, 'base64url').toString(),
    key: Buffer.from(key, 'base64url'),
  };
  const isKnown = isMaster(token) || claimsOf(token.identity) !== null;
  if (prefix !== PREFIX || rest.length > 0 || token.key.length !== KEY_BYTES || !isKnown) {
    throw usageError(
      ErrorCode.badToken,
      'the token is not one that c100k-bench made',
      'copy the whole line of the token file, or set C100K_TOKEN to it',
    );
  }
  return token;
}
