/**
 * Owns where a token comes from: a file that only its owner can read, the environment, standard input. Never from an argument:
 * every user of the host can read those. Must never print one by itself.
 */

import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { BenchError, ErrorCode, ExitCode, usageError } from '../base/errors.ts';
import {
  claimsOf,
  formatToken,
  generateToken,
  isMaster,
  parseToken,
  type Token,
  whyUnsafe,
} from '../control/token.ts';
import { realWaiting, systemClock, waitUntil } from '../time/timer.ts';

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
export async function masterToken(path: string | null, environmentToken: string): Promise<Token> {
  if (path === null) {
    return environmentToken === '' ? generateToken() : asMaster(parseToken(environmentToken));
  }
  const known = await readTokenFile(path);
  if (known !== null) return asMaster(parseToken(known));
  const token = generateToken();
  return makeTokenFile(path, formatToken(token))
    ? token
    : asMaster(parseToken((await readTokenFile(path)) ?? ''));
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
      : ((await readTokenFile(path)) ?? missing(path));
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
      `the token expired at ${new Date(expiresSec * 1_000).toISOString()}, and the clock of this host says ${new Date(wallMs).toISOString()}`,
      'set the clock of this host where it is wrong, or make a new token: c100k-bench token --token-file FILE --name NAME --expires 24h',
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

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** A token is one line; whatever is behind it is not looked at. */
const BYTES_MAX = 16_384;
/** Between two looks at a pipe. */
const PIPE_LOOK_MS = 20;
/** How long a pipe may take for its line. */
const PIPE_WAIT_MS_MAX = 10_000;

/**
 * The first line of a token file, which may be a pipe (`--token-file <(...)`): that is waited for without keeping this
 * process from its other work.
 * @returns null when there is no such file
 * @throws BenchError (bad-token, exit 2) when it cannot be read, or others can
 */
async function readTokenFile(path: string): Promise<string | null> {
  let fd: number;
  try {
    fd = openSync(path, O_RDONLY | O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fileError(`the token file ${path} cannot be read`, error);
  }
  try {
    const stats = fstatSync(fd);
    const why = stats.isCharacterDevice() ? 'it is a device' : whyUnsafe(stats, process.geteuid?.() ?? 0);
    if (why !== null) {
      throw usageError(
        ErrorCode.badToken,
        `the token file ${path} is not used: ${why}`,
        `chmod 600 ${path}, as its owner; a Secret of Kubernetes: defaultMode: 0400. Who has read it can join: make a new one`,
      );
    }
    return await firstLine(fd, stats.isFIFO());
  } catch (error) {
    if (error instanceof BenchError) throw error;
    throw fileError(`the token file ${path} cannot be read`, error);
  } finally {
    closeSync(fd);
  }
}

async function firstLine(fd: number, isPipe: boolean): Promise<string> {
  const bytes = Buffer.alloc(BYTES_MAX);
  let length = 0;
  /** @returns whether there is no more to wait for */
  const look = (): boolean => {
    while (length < bytes.length && !bytes.subarray(0, length).includes('\n')) {
      const count = readSome(fd, bytes, length);
      // A pipe brings nothing before its writer has come, and ends when that has gone.
      if (count === null || count === 0) return count === 0 && (!isPipe || length > 0);
      length += count;
    }
    return true;
  };
  const { monotonicMs } = systemClock;
  await waitUntil(look, monotonicMs() + PIPE_WAIT_MS_MAX, PIPE_LOOK_MS, realWaiting(monotonicMs));
  return bytes.toString('utf8', 0, length).split('\n')[0] ?? '';
}

/** null: nothing is there yet */
function readSome(fd: number, bytes: Buffer, from: number): number | null {
  try {
    return readSync(fd, bytes, from, bytes.length - from, null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return null;
    throw error;
  }
}

/**
 * Makes a token file for its owner alone.
 * @returns false when one is there already: another process was quicker
 * @throws BenchError (bad-token, exit 2) when it cannot be made; then nothing is left of it
 */
function makeTokenFile(path: string, text: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw fileError(`the token file ${path} cannot be written`, error);
  }
  try {
    const bytes = Buffer.from(`${text}\n`);
    for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
    return true;
  } catch (error) {
    unlinkSync(path);
    throw fileError(`the token file ${path} cannot be written`, error);
  } finally {
    closeSync(fd);
  }
}

/** Bits of a mode (inode(7)): the group's and those of all others. */
const NOT_OF_OWNER = 0o077;

/**
 * Before a token is printed: a file of ours that stdout was sent to (`> host7.token`) is closed to others, because the shell
 * made it readable for all users, and no agent would take it.
 * @param fd default: stdout
 */
export function closeToOthers(fd = 1): void {
  try {
    const stats = fstatSync(fd);
    const isOpen = (stats.mode & NOT_OF_OWNER) !== 0;
    if (stats.isFile() && stats.uid === process.geteuid?.() && isOpen) fchmodSync(fd, stats.mode & 0o700);
  } catch {
    // A file system without modes: the process that reads the file reports it.
  }
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
