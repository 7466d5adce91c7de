/**
 * Owns the secret that lets an agent join: its making, its text, and what a per-agent token says about itself.
 * Must never print one, put one into an argument list, or store one.
 *
 * The master token is 32 random bytes. A per-agent token carries its own claims as the TLS-PSK identity, and its key is
 * HMAC-SHA256(master, identity): the coordinator derives it again, so nothing has to be stored, and a changed claim
 * changes the key. Where the claims are longer than TLS carries, the list of targets goes over the wire as its hash.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';
import { PSK_IDENTITY_BYTES_MAX } from './tls.ts';

const KEY_BYTES = 32;
const PREFIX = 'c100k1';
const MASTER_IDENTITY = 'master';
const CLAIMS_PREFIX = 'agent:';
/** The longest claims in bytes; the text of such a token fits a line of 4,096 characters, which every reader takes. */
const IDENTITY_BYTES_MAX = 2_048;
const HASH_PREFIX = 'sha256:';
const HASHED_TARGETS = /^sha256:[A-Za-z0-9_-]{43}$/;

/** A token: the PSK identity and the key that proves it. */
export interface Token {
  readonly identity: string;
  readonly key: Buffer;
}

/** What a per-agent token says: readable by all who have it, and not changeable. */
interface Claims {
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

function derivedKey(master: Token, pskIdentity: string): Buffer {
  return createHmac('sha256', master.key).update(pskIdentity).digest();
}

/**
 * The identity as TLS carries it, which has room for 256 bytes: as it is, or with its targets as a hash of them.
 * @param identity of a token
 */
export function pskIdentityOf(identity: string): string {
  if (Buffer.byteLength(identity) <= PSK_IDENTITY_BYTES_MAX) return identity;
  const claims = claimsOf(identity);
  if (claims === null) return identity;
  const hash = createHash('sha256').update(JSON.stringify(claims.targets)).digest('base64url');
  return CLAIMS_PREFIX + JSON.stringify([claims.name, claims.expiresSec, HASH_PREFIX + hash]);
}

/** Whether a token with these claims can join: the reader's bound, and that of TLS. */
function isCarried(identity: string): boolean {
  return (
    Buffer.byteLength(identity) <= IDENTITY_BYTES_MAX &&
    Buffer.byteLength(pskIdentityOf(identity)) <= PSK_IDENTITY_BYTES_MAX
  );
}

function tooLong(): BenchError {
  return usageError(
    ErrorCode.badToken,
    `the name and targets are too long for a token: ${IDENTITY_BYTES_MAX} bytes fit, about 170 of them for the name`,
    'choose a shorter --name, or fewer and wider --allow-target',
  );
}

/**
 * A token for one agent.
 * @throws BenchError (bad-token, exit 2) when the claims are too long to be carried
 */
export function agentToken(master: Token, claims: Claims): Token {
  const identity = CLAIMS_PREFIX + JSON.stringify([claims.name, claims.expiresSec, claims.targets]);
  if (!isCarried(identity)) throw tooLong();
  return { identity, key: derivedKey(master, pskIdentityOf(identity)) };
}

/** The list behind an identity; null when there is none. */
function readClaims(identity: string): unknown[] | null {
  if (!identity.startsWith(CLAIMS_PREFIX)) return null;
  try {
    const list: unknown = JSON.parse(identity.slice(CLAIMS_PREFIX.length));
    return Array.isArray(list) && list.length === 3 ? list : null;
  } catch {
    return null;
  }
}

function isExpiry(value: unknown): value is number | null {
  return value === null || Number.isSafeInteger(value);
}

/** What a token's identity claims; null for a master token, whose holder may use any name, and for what is no claim. */
export function claimsOf(identity: string): Claims | null {
  const [name, expiresSec, targets] = readClaims(identity) ?? [];
  if (typeof name !== 'string' || !isExpiry(expiresSec)) return null;
  if (targets !== null && !(Array.isArray(targets) && targets.every((each) => typeof each === 'string'))) {
    return null;
  }
  return { name, expiresSec, targets };
}

/** What the coordinator learns from a PSK identity about an agent; its targets are the agent's own affair. */
interface Peer {
  /** the only name that it may use; null: the master token's holder may use any */
  readonly name: string | null;
  /** seconds since the epoch; null: never */
  readonly expiresSec: number | null;
}

/**
 * Who an identity says to be.
 * @returns null for one that no token of ours has, such as the empty one
 */
export function peerOf(pskIdentity: string): Peer | null {
  if (pskIdentity === MASTER_IDENTITY) return { name: null, expiresSec: null };
  if (Buffer.byteLength(pskIdentity) > PSK_IDENTITY_BYTES_MAX) return null;
  const claims = claimsOf(pskIdentity);
  if (claims !== null) return { name: claims.name, expiresSec: claims.expiresSec };
  const [name, expiresSec, targets] = readClaims(pskIdentity) ?? [];
  const isHashed = typeof targets === 'string' && HASHED_TARGETS.test(targets);
  return typeof name === 'string' && isExpiry(expiresSec) && isHashed ? { name, expiresSec } : null;
}

/** What is known about the key of an identity. */
export interface KnownKey {
  readonly key: Buffer;
  readonly isExpired: boolean;
}

/**
 * The key that an identity must prove, expired or not: only who proves it may hear that it has expired.
 * @param wallMs milliseconds since the epoch, for expiry
 * @returns null for an identity that is none of ours
 */
export function knownKeyOf(master: Token, pskIdentity: string, wallMs: number): KnownKey | null {
  const peer = peerOf(pskIdentity);
  if (peer === null) return null;
  const key = peer.name === null ? master.key : derivedKey(master, pskIdentity);
  return { key, isExpired: peer.expiresSec !== null && peer.expiresSec * 1_000 <= wallMs };
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
  const isKnown = isMaster(token) || (claimsOf(token.identity) !== null && isCarried(token.identity));
  if (prefix !== PREFIX || rest.length > 0 || token.key.length !== KEY_BYTES || !isKnown) {
    throw usageError(
      ErrorCode.badToken,
      'the token is not one that c100k-bench made',
      'copy the whole line of the token file, or set C100K_TOKEN to it',
    );
  }
  return token;
}
