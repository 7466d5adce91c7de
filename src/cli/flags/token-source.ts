/**
 * Owns where a token comes from: a file, the environment, standard input. Never from an argument: every user of the
 * host can read those. Must never print one by itself.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { BenchError, ErrorCode, ExitCode, usageError } from '../../base/errors.ts';
import {
  claimsOf,
  formatToken,
  generateToken,
  isMaster,
  parseToken,
  type Token,
} from '../../control/token.ts';

const FIRST_LINE_CHARS_MAX = 4_096;

/**
 * The coordinator's master token: read from the file when it is there, made and written there (mode 0600) when it is
 * not. Without a file it is made for this run only.
 * @throws BenchError (bad-token, exit 2) when the file cannot be read or written, or holds an agent's token
 */
export function masterToken(path: string | null): Token {
  if (path === null)
    return process.env.C100K_TOKEN ? asMaster(parseToken(process.env.C100K_TOKEN)) : generateToken();
  if (existsSync(path)) return asMaster(parseToken(readTokenFile(path)));
  const token = generateToken();
  try {
    writeFileSync(path, `${formatToken(token)}\n`, { mode: 0o600, flag: 'wx' });
    chmodSync(path, 0o600);
  } catch (error) {
    throw fileError(`the token file ${path} cannot be written`, error);
  }
  return token;
}

function asMaster(token: Token): Token {
  if (isMaster(token)) return token;
  throw usageError(
    ErrorCode.badToken,
    'this token is for one agent; a coordinator needs the one that it was made from',
    'give --token-file the file of the coordinator, or a new name to make a fresh one',
  );
}

function fileError(what: string, error: unknown): BenchError {
  return new BenchError(
    ErrorCode.badToken,
    ExitCode.usage,
    `${what}: ${(error as Error).message}`,
    'give a file that this user can read and write, in a folder that exists',
    error,
  );
}

function readTokenFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').split('\n')[0] ?? '';
  } catch (error) {
    throw fileError(`the token file ${path} cannot be read`, error);
  }
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
      ? (process.env.C100K_TOKEN ?? '')
      : readTokenFile(path);
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
