/**
 * Owns the TLS parameters that both ends of the control channel share: TLS 1.3 with a pre-shared key, which
 * gives mutual authentication, encryption and forward secrecy without a certificate.
 * Must never hold a key.
 */
import { constants } from 'node:crypto';
import type { ConnectionOptions, TLSSocket } from 'node:tls';

/** The one cipher suite: PSK in TLS 1.3 needs a SHA-256 suite (RFC 8446, 4.2.11). */
const TLS_CIPHERS = 'TLS_AES_128_GCM_SHA256';
const TLS_VERSION = 'TLSv1.3';

/** The path that agents ask for in the WebSocket upgrade. */
export const AGENT_PATH = '/agent';

/**
 * The longest identity in bytes that Node and OpenSSL carry: PSK_MAX_IDENTITY_LEN of openssl/ssl.h, 256 since 3.0. Node
 * ends a client that names a longer one, and OpenSSL's server never asks for the key of one.
 */
export const PSK_IDENTITY_BYTES_MAX = 256;

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
