/**
 * Owns the TLS parameters that both ends of the control channel share: TLS 1.3 with a pre-shared key, which
 * gives mutual authentication, encryption and forward secrecy without a certificate.
 * Must never hold a key.
 */

/** The one cipher suite: PSK in TLS 1.3 needs a SHA-256 suite (RFC 8446, 4.2.11). */
export const TLS_CIPHERS = 'TLS_AES_128_GCM_SHA256';
export const TLS_VERSION = 'TLSv1.3';

/** The path that agents ask for in the WebSocket upgrade. */
export const AGENT_PATH = '/agent';
