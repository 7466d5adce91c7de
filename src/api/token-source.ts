/**
 * Owns where a token comes from: a file, the environment, standard input. Never from an argument: every user of the
 * host can read those. Must never print one by itself.
 */
import { ErrorCode, usageError } from '../base/errors.ts';
import { claimsOf, formatToken, generateToken, isMaster, parseToken, type Token } from '../control/token.ts';
import { makeTokenFile, readTokenFile } from './token-file.ts';

const FIRST_LINE_CHARS_MAX = 4_096;

/** The variable that carries a token. */
const TOKEN_VARIABLE = 'C100K_TOKEN';

let hidden: string | null = null;

/**
 * Takes the token out of the environment, before any process is started: each would inherit it, and whoever may read
 * /proc/PID/environ of one of them has it.
 */
export function hideEnvironmentToken(): void {
  hidden = process.env[TOKEN_VARIABLE] ?? hidden;
  delete process.env[TOKEN_VARIABLE];
}

/** The token that the environment brought; empty: none. */
export function environmentToken(): string {
  return hidden ?? process.env[TOKEN_VARIABLE] ?? '';
}

/**
 * The coordinator's master token: read from the file when it is there, made and written there (mode 0600) when it is
 * not. Without a file it is made for this run only.
 * @param environmentToken what the environment brought; empty: none
 * @throws BenchError (bad-token, exit 2) when the file cannot be read or written, or holds an agent's token
 */
export function masterToken(path: string | null, environmentToken: string): Token {
  if (path === null) {
    return environmentToken === '' ? generateToken() : asMaster(parseToken(environmentToken));
  }
  const known = readTokenFile(path);
  if (known !== null) return asMaster(parseToken(known));
  const token = generateToken();
  return makeTokenFile(path, formatToken(token)) ? token : asMaster(parseToken(readTokenFile(path) ?? ''));
}

function asMaster(token: Token): Token {
  if (isMaster(token)) return token;
  throw usageError(
    ErrorCode.badToken,
    'this token is for one agent; a coordinator needs the one that it was made from',
    'give --token-file the file of the coordinator, or a new name to make a fresh one',
  );
}

/**
 * An agent's token: from the file, else the environment, else (when asked for) the first line of standard input.
 * @param wallMs for expiry: a token that has run out is refused here with a reason, which a handshake cannot give
 * @throws BenchError (bad-token or token-expired, exit 2)
 */
export async function joinToken(path: string | null, isFromStdin: boolean, wallMs: number): Promise<Token> {
  const text = isFromStdin
    ? await readFirstLine()
    : path === null
      ? environmentToken()
      : (readTokenFile(path) ?? missing(path));
  if (text.trim() === '') {
    throw usageError(
      ErrorCode.badToken,
      'an agent needs the token of its coordinator',
      'add --token-file FILE, set C100K_TOKEN, or pipe the token in with --token-stdin',
    );
  }
  const token = parseToken(text);
  const expiresSec = claimsOf(token.identity)?.expiresSec ?? null;
  if (expiresSec !== null && expiresSec * 1_000 <= wallMs) {
    throw usageError(
      ErrorCode.tokenExpired,
      `the token expired at ${new Date(expiresSec * 1_000).toISOString()}`,
      'make a new one: c100k-bench token --token-file FILE --name NAME --expires 24h',
    );
  }
  return token;
}

function missing(path: string): never {
  throw usageError(
    ErrorCode.badToken,
    `the token file ${path} cannot be read: there is no such file`,
    'copy the file of the coordinator, or the one that c100k-bench token made, to this host',
  );
}

/** The first line of standard input; the rest stays open, because its end means that the parent is gone. */
function readFirstLine(): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const done = (): void => {
      process.stdin.off('data', take);
      process.stdin.off('end', done);
      resolve(text.split('\n')[0] ?? '');
    };
    const take = (chunk: Buffer): void => {
      text += chunk.toString();
      if (text.includes('\n') || text.length > FIRST_LINE_CHARS_MAX) done();
    };
    process.stdin.on('data', take);
    process.stdin.on('end', done);
  });
}
