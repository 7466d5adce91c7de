/**
 * Owns writing a file whole or not at all: a fresh file beside it that nobody could have placed, then a rename, which never
 * follows a link. Must never leave the fresh file behind, and must never choose the place (output-path.ts).
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readlinkSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { isOurs, type KeptAttributes, OutputRefused } from './output-path.ts';

const { O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } =
  constants;
const FRESH = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

/** As open(2) makes files: less the umask. */
const MODE_OF_ANY_FILE = 0o666;

/** A file by its folder, which has no link in its path. */
interface FilePlace {
  readonly folder: string;
  readonly name: string;
}

interface WholeFileOptions {
  /** for a file that is new; default: as any file */
  readonly mode?: number;
  /** what the file that was there before had; null: it is new */
  readonly kept?: KeptAttributes | null;
}

/**
 * Replaces a file, or makes it.
 * @throws the error of the system call; what was there before is then untouched, and nothing new is there
 */
export function writeWholeFile(place: FilePlace, text: string, options: WholeFileOptions = {}): void {
  const { mode = MODE_OF_ANY_FILE, kept = null } = options;
  inFolder(place.folder, (at) => {
    const fresh = at(freshName());
    const fd = openSync(fresh, FRESH, kept === null ? mode : 0o600);
    try {
      try {
        writeAll(fd, text);
        if (kept !== null) keep(fd, kept);
        syncQuietly(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(fresh, at(place.name));
    } catch (error) {
      unlinkSync(fresh);
      throw error;
    }
  });
}

/**
 * Tries whether `writeWholeFile` could write there, and leaves no trace.
 * @param isPresent whether a file is there, which then must be one that may be written to
 * @throws the error of the system call
 */
export function tryWholeFile(place: FilePlace, isPresent: boolean): void {
  inFolder(place.folder, (at) => {
    const fresh = at(freshName());
    const fd = openSync(fresh, FRESH, 0o600);
    try {
      writeAll(fd, '\n');
    } finally {
      closeSync(fd);
      unlinkSync(fresh);
    }
    // A file that has become a pipe meanwhile must not hold us up.
    if (isPresent) closeSync(openSync(at(place.name), O_RDWR | O_NOFOLLOW | O_NONBLOCK));
  });
}

/**
 * Adds to a file; one that is gone, because somebody moved it away, is made anew.
 * @throws the error of the system call, or OutputRefused when what is there now is not the file that was written to before
 */
export function appendToFile(place: FilePlace, text: string, kept: KeptAttributes | null): void {
  inFolder(place.folder, (at) => {
    const fd = openToAppend(at(place.name), kept);
    try {
      const stats = fstatSync(fd);
      const isKnown = isOurs(stats) || stats.uid === kept?.uid;
      // A second name of a file of ours would be written to under cover of the first.
      if (!stats.isFile() || stats.nlink !== 1 || !isKnown)
        throw new OutputRefused('another file has been put in its place');
      writeAll(fd, text);
    } finally {
      closeSync(fd);
    }
  });
}

function openToAppend(path: string, kept: KeptAttributes | null): number {
  try {
    return openSync(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const fd = openSync(path, FRESH, kept === null ? MODE_OF_ANY_FILE : 0o600);
  if (kept !== null) keep(fd, kept);
  return fd;
}

/**
 * Does something in a folder that is held open: whoever moves it meanwhile, or puts a link in its place, changes nothing.
 * @param action gets a function from a name to a path in that very folder
 */
function inFolder(folder: string, action: (at: (name: string) => string) => void): void {
  const fd = openSync(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    const held = `/proc/self/fd/${fd}`;
    if (readlinkSync(held) !== folder) throw new OutputRefused('its folder was replaced just now');
    action((name) => `${held}/${name}`);
  } finally {
    closeSync(fd);
  }
}

function freshName(): string {
  return `.c100k-bench-${randomBytes(8).toString('hex')}.tmp`;
}

function keep(fd: number, { mode, uid, gid }: KeptAttributes): void {
  try {
    fchownSync(fd, uid, gid);
  } catch {
    // Only root gives files away; everybody else's new file is their own.
  }
  fchmodSync(fd, mode);
}

/** `writeSync` alone may write a part. */
function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
}

function syncQuietly(fd: number): void {
  try {
    fsyncSync(fd);
  } catch (error) {
    // Some file systems have no disk behind them.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
  }
}
