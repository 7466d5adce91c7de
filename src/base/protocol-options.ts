/**
 * Owns what a protocol needs beyond an address and a port: path, host, banner, message, status, TLS; with bounds.
 * Must never read a file or resolve a name: a CA is carried as its text, because agents have no files of ours.
 */

/** What the TLS layer of `tls://`, `wss://` and `https://` is given. */
export interface TlsOptions {
  /** the name that is asked for (SNI) and that the certificate must carry; null: the host of the target */
  readonly servername: string | null;
  /** certificates that are trusted, PEM; null: those that Node brings along */
  readonly ca: string | null;
  /** false (`--insecure`): any certificate will do */
  readonly isVerified: boolean;
}

/** What a protocol needs beyond its endpoint. */
export interface ProtocolOptions {
  /** with its slash */
  readonly path: string;
  /** the host as typed in the target, for `Host` and SNI; null: the address of the endpoint */
  readonly host: string | null;
  /** `--host-header`, sent as it is; null: made from `host` and the endpoint's port */
  readonly hostHeader: string | null;
  /** text that the target must begin with; empty: any byte will do; null: nothing is expected */
  readonly banner: string | null;
  /** a text message that goes out before each ping; null: none */
  readonly message: string | null;
  /** the one HTTP status that is good; null: 200 to 399 */
  readonly httpStatus: number | null;
  readonly tls: TlsOptions;
}

/** Nothing asked for. */
export const DEFAULT_PROTOCOL_OPTIONS: ProtocolOptions = {
  path: '/',
  host: null,
  hostHeader: null,
  banner: null,
  message: null,
  httpStatus: null,
  tls: { servername: null, ca: null, isVerified: true },
};

/** Bounds that the command line and the control channel share. */
export const PATH_CHARACTERS_MAX = 2_048;
export const HOST_CHARACTERS_MAX = 253;
export const BANNER_BYTES_MAX = 254;
export const MESSAGE_BYTES_MAX = 4_096;
export const CA_CHARACTERS_MAX = 1_048_576;

/** What may stand in a request line: visible ASCII, no fragment. */
export const PATH_PATTERN = /^\/[!"$-~]*$/;

/** What may stand in a Host header: a name or literal, perhaps with a port. */
export const HOST_HEADER_PATTERN = /^[\w.:[\]-]+$/;

/** What may be asked for by SNI: a name, never an address (RFC 6066 section 3). */
export const SERVERNAME_PATTERN = /^(?=.*[a-z])[\w.-]+$/i;
