/**
 * Owns the file that a token lies in: read only when nobody else can, made for its owner alone. Must never print what is in
 * it, and must never wait for ever for a pipe that nobody writes to.
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
import { OF_GROUP, OF_OTHERS, whyUnsafe } from '../base/file-trust.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** A token is one line; whatever is behind it is not looked at. */
const BYTES_MAX = 16_384;
/** Between two looks at a pipe, and how many looks bring nothing at most: 10 s. */
const RETRY_MS = 20;
const RETRIES_MAX = 500;

/**
 * The first line of a token file.
 * @returns null when there is no such file
 * @throws BenchError (bad-token, exit 2) when it cannot be read, or others can
 */
export function readTokenFile(path: string): string | null {
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
    return firstLine(fd, stats.isFIFO());
  } catch (error) {
    if (error instanceof BenchError) throw error;
    throw fileError(`the token file ${path} cannot be read`, error);
  } finally {
    closeSync(fd);
  }
}

function firstLine(fd: number, isPipe: boolean): string {
  const bytes = Buffer.alloc(BYTES_MAX);
  let length = 0;
  for (let retries = 0; length < bytes.length && !bytes.subarray(0, length).includes('\n'); ) {
    const count = readSome(fd, bytes, length);
    length += count ?? 0;
    if (count !== null && count > 0) continue;
    // A pipe brings nothing before its writer has come, and ends when that has gone.
    const isEnd = count === 0 && (!isPipe || length > 0);
    if (isEnd || retries >= RETRIES_MAX) break;
    retries += 1;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
  }
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
export function makeTokenFile(path: string, text: string): boolean {
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

/**
 * Before a token is printed: a file of ours that stdout was sent to (`> host7.token`) is closed to others, because the shell
 * made it for everybody, and no agent would take it.
 * @param fd default: stdout
 */
export function closeToOthers(fd = 1): void {
  try {
    const stats = fstatSync(fd);
    const isOpen = (stats.mode & (OF_GROUP | OF_OTHERS)) !== 0;
    if (stats.isFile() && stats.uid === process.geteuid?.() && isOpen) fchmodSync(fd, stats.mode & 0o700);
  } catch {
    // A file system without modes: whoever reads the file is told then.
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
