/**
 * Owns the secret that lets an agent join: its making, its text, what a per-agent token says about itself, who may be able to
 * read its file, and the TLS by which both ends prove that they have it (1.3 with a pre-shared key: no certificate, forward
 * secrecy).
 * Must never print one, put one into an argument list, or store one.
 *
 * The master token is 32 random bytes. A per-agent token carries its own claims as the TLS-PSK identity, and its key is
 * HMAC-SHA256(master, identity): the coordinator derives it again, so nothing has to be stored, and a changed claim
 * changes the key. Where the claims are longer than TLS carries, the list of targets goes over the wire as its hash.
 */
import { constants, createHash, createHmac, randomBytes } from 'node:crypto';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { type BenchError, ErrorCode, usageError } from '../base/errors.ts';

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

/** The one cipher suite: PSK in TLS 1.3 needs a SHA-256 suite (RFC 8446, 4.2.11). */
const TLS_CIPHERS = 'TLS_AES_128_GCM_SHA256';
const TLS_VERSION = 'TLSv1.3';

/** The path that agents ask for in the WebSocket upgrade. */
export const AGENT_PATH = '/agent';

/**
 * The longest identity in bytes that Node and OpenSSL carry: PSK_MAX_IDENTITY_LEN of openssl/ssl.h, 256 since 3.0. Node
 * ends a client that names a longer one, and OpenSSL's server never asks for the key of one.
 */
const PSK_IDENTITY_BYTES_MAX = 256;

/** What both ends ask of TLS. */
const COMMON = {
  minVersion: TLS_VERSION,
  maxVersion: TLS_VERSION,
  ciphers: TLS_CIPHERS,
} as const;

/**
 * The server's side: no resumption. With SSL_OP_NO_TICKET a TLS 1.3 server of OpenSSL sends only the number of a session in
 * its own cache, and Node's servers keep none (SSL_SESS_CACHE_NO_INTERNAL, and none listens for `resumeSession`): so a
 * kept ticket opens nothing, and every connection has to name its identity and prove the key of it.
 */
export const SERVER_TLS = { ...COMMON, secureOptions: constants.SSL_OP_NO_TICKET } as const;

/**
 * The client's side. Node compares no name and asks for no certificate once a key was accepted; these three are for a
 * server that shows a certificate in place of the key. Each alone refuses it, whatever NODE_EXTRA_CA_CERTS,
 * NODE_TLS_REJECT_UNAUTHORIZED or `--use-system-ca` say: no certificate is an authority, that is an error, and no name is right.
 */
export const CLIENT_TLS = {
  ...COMMON,
  ca: [],
  rejectUnauthorized: true,
  checkServerIdentity: () => notKeyed(),
} satisfies ConnectionOptions;

/** The error code of a server that did not prove the key. */
export const NOT_KEYED = 'ERR_C100K_NOT_KEYED';

/** The error of a session in which the key was not used. */
export function notKeyed(): NodeJS.ErrnoException {
  return Object.assign(new Error('the server has not proved that it has the key'), { code: NOT_KEYED });
}

/**
 * Whether a client's session rests on the key: then TLS 1.3 counts as resumed, and no certificate was shown.
 * @param wasAsked whether this very connection asked for our key: a session without was made in another way
 */
export function isKeyed(socket: TLSSocket, wasAsked: boolean): boolean {
  return (
    wasAsked &&
    socket.isSessionReused() &&
    socket.authorized &&
    socket.getProtocol() === TLS_VERSION &&
    Object.keys(socket.getPeerCertificate()).length === 0
  );
}

/** TLS alerts that the server gives before there is a session (RFC 8446, 6.2). */
export const Alert = {
  unexpectedMessage: 10,
  handshakeFailure: 40,
  certificateExpired: 45,
  decryptError: 51,
  unknownPskIdentity: 115,
} as const;
export type Alert = (typeof Alert)[keyof typeof Alert];

/** A fatal alert as a plaintext record (RFC 8446, 5.1 and 6). */
export function alertRecord(alert: Alert): Buffer {
  return Buffer.from([21, 3, 3, 0, 2, 2, alert]);
}

/** Bits of a mode (inode(7)). */
const OF_GROUP = 0o070;
const OF_OTHERS = 0o007;

/**
 * Why a token file is not to be trusted. ssh's rule for keys (sshkey_perm_ok), and stricter: who is neither this process's
 * user nor root has not put it there for us, and what every user of the host can read is no secret, whoever owns it.
 *
 * Bits of the group count only where the file is ours. Where it is root's and we are not, its administrator has chosen who
 * reads it: Kubernetes gives a Secret to the pod's fsGroup (root, 0440), systemd a credential by an access list, whose mask
 * shows in these bits.
 * @param uid of this process
 * @returns null: it may be used
 */
export function whyUnsafe(
  { uid: owner, mode }: { readonly uid: number; readonly mode: number },
  uid: number,
): string | null {
  if (owner !== uid && owner !== 0) return 'it belongs to another user';
  const asText = (mode & 0o777).toString(8).padStart(4, '0');
  if ((mode & OF_OTHERS) !== 0) return `every user of this host can use it (mode ${asText})`;
  return owner === uid && (mode & OF_GROUP) !== 0 ? `its group can use it (mode ${asText})` : null;
}
