/**
 * Owns writing to a path that a user typed: what it leads to (a file in a folder, one of our own descriptors, a pipe or a
 * device), a file that is replaced as a whole or added to, and a stream that may take nothing for a while.
 * Must never follow a symbolic link that another user may have placed.
 *
 * A link is followed when its owner is this process's user or root and its folder cannot be written to by all users. That is
 * the kernel's fs.protected_symlinks (Documentation/admin-guide/sysctl/fs.rst) and stricter: hosts have it off, and a link
 * of root can be linked again by others where fs.protected_hardlinks is off.
 */

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

const {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} = constants;

/** As the kernel (MAXSYMLINKS in include/linux/namei.h). */
const LINKS_MAX = 40;
const WRITABLE_BY_ALL = 0o002;
const PERMISSIONS = 0o777;

/** What a file that is replaced keeps. */
interface KeptAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** What a path leads to. */
type OutputPlace =
  | {
      readonly kind: 'file';
      /** absolute, without a link in it */
      readonly folder: string;
      readonly name: string;
      readonly isPresent: boolean;
      /** null: nothing is there, or it is another user's in a folder that all users may write to */
      readonly kept: KeptAttributes | null;
    }
  /** one of our own, such as `/dev/stdout` */
  | { readonly kind: 'descriptor'; readonly fd: number }
  | { readonly kind: 'pipe' | 'device'; readonly path: string };

/** A path that is not written to, whatever its permissions; the message says why. */
class OutputRefused extends Error {}

/** Whether an owner is this process's user, or root, who may do anything already. */
function isOurs({ uid }: Pick<Stats, 'uid'>): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/**
 * Follows a path as typed.
 * @throws OutputRefused, or the error of the system call, such as ENOENT for a folder that is missing
 */
export function followOutputPath(path: string): OutputPlace {
  if (path.endsWith('/')) throw new OutputRefused('it is a directory');
  let text = path.startsWith('/') ? path : join(process.cwd(), path);
  for (let links = 0; links <= LINKS_MAX; links += 1) {
    const fd = ownDescriptor(text);
    if (fd !== null) return { kind: 'descriptor', fd };
    const step = walk(text);
    if (typeof step !== 'string') return step;
    text = step;
  }
  throw new OutputRefused('it leads through too many symbolic links');
}

/** `/dev/stdout` and the like: a link of the kernel's that no path can take the place of. */
function ownDescriptor(text: string): number | null {
  const standard = ['/dev/stdin', '/dev/stdout', '/dev/stderr'].indexOf(text);
  if (standard >= 0) return standard;
  const match = /^\/(?:dev|proc\/(?<pid>self|thread-self|\d+))\/fd\/(?<fd>\d{1,9})$/.exec(text);
  if (match === null) return null;
  const pid = match.groups?.pid;
  return pid === undefined || /^(?:thread-)?self$/.test(pid) || Number(pid) === process.pid
    ? Number(match.groups?.fd)
    : null;
}

/** @returns the place, or the path that the first link on the way leads to */
function walk(text: string): OutputPlace | string {
  const parts = text.split('/').filter((part) => part !== '' && part !== '.');
  let folder = '/';
  for (const [index, part] of parts.entries()) {
    const isLast = index === parts.length - 1;
    if (part === '..') {
      folder = join(folder, '..');
      if (isLast) throw new OutputRefused('it is a directory');
      continue;
    }
    const at = join(folder, part);
    const stats = lstatSync(at, { throwIfNoEntry: !isLast });
    if (stats === undefined) return { kind: 'file', folder, name: part, isPresent: false, kept: null };
    if (stats.isSymbolicLink()) {
      // The descriptor of another process: its text is no path.
      if (/^\/proc\/\d+\/fd$/.test(folder)) return { kind: 'pipe', path: at };
      checkLink(at, stats, statSync(folder));
      const target = readlinkSync(at);
      return [target.startsWith('/') ? target : join(folder, target), ...parts.slice(index + 1)].join('/');
    }
    if (isLast) return placeOf(folder, part, stats);
    if (!stats.isDirectory()) throw new OutputRefused('a part of its path is not a directory');
    folder = at;
  }
  throw new OutputRefused('it is a directory');
}

function checkLink(path: string, link: Stats, folder: Stats): void {
  if (!isOurs(link)) throw new OutputRefused(`${path} is a symbolic link of another user`);
  if ((folder.mode & WRITABLE_BY_ALL) !== 0)
    throw new OutputRefused(`${path} is a symbolic link in a folder that all users may write to`);
}

function placeOf(folder: string, name: string, stats: Stats): OutputPlace {
  const path = join(folder, name);
  const isForeign = !isOurs(stats) && (statSync(folder).mode & WRITABLE_BY_ALL) !== 0;
  if (stats.isFile()) {
    const { uid, gid } = stats;
    const kept = isForeign ? null : { mode: stats.mode & PERMISSIONS, uid, gid };
    return { kind: 'file', folder, name, isPresent: true, kept };
  }
  if (stats.isDirectory()) throw new OutputRefused('it is a directory');
  if (isForeign)
    throw new OutputRefused('it belongs to another user, in a folder that all users may write to');
  if (stats.isFIFO()) return { kind: 'pipe', path };
  if (stats.isCharacterDevice()) return { kind: 'device', path };
  throw new OutputRefused('it is not a file');
}

/** Bytes that wait for a reader at most. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** Between two tries to write to a pipe that takes nothing. */
const RETRY_MS = 20;
/** Tries without one byte taken: 5 s. */
const RETRIES_MAX = 250;
/** The lowest bits of `flags` in fdinfo (proc(5)), octal: 0 is read only. */
const ACCESS_MODE = 0o3;

type StreamPlace = Exclude<OutputPlace, { kind: 'file' }>;

/** One pipe, device or descriptor. */
export class StreamFile {
  readonly #place: StreamPlace;
  #fd: number | null = null;
  #isBorrowed = false;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;

  constructor(place: StreamPlace) {
    this.#place = place;
  }

  /**
   * Tries what can be tried without a trace. A pipe is not opened: its reader would take the closing for the end.
   * @throws the error of the system call, or OutputRefused
   */
  check(): void {
    const place = this.#place;
    if (place.kind === 'descriptor') {
      fstatSync(place.fd);
      checkWritable(place.fd);
    }
    if (place.kind !== 'device') return;
    // A device that is full says so only when something is written to it; a line break changes no JSON.
    this.append('\n');
    this.finish();
  }

  /**
   * Writes what the far side takes immediately, and keeps the rest.
   * @throws the error of the system call, or OutputRefused when too much waits
   */
  append(text: string): void {
    const bytes = Buffer.from(text);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#flush();
    if (this.#waitingBytes > WAITING_BYTES_MAX) throw new OutputRefused('its reader does not keep up');
  }

  /**
   * Waits until all is taken, at most 5 s after the last byte that was; then closes.
   * @throws the error of the system call, or OutputRefused when no process reads
   */
  finish(): void {
    try {
      for (let retries = 0; this.#waitingBytes > 0; retries += 1) {
        if (retries > RETRIES_MAX) throw new OutputRefused('no process reads it');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
        if (this.#flush()) retries = 0;
      }
    } finally {
      this.#waiting = [];
      this.#waitingBytes = 0;
      if (this.#fd !== null && !this.#isBorrowed) closeSync(this.#fd);
      this.#fd = null;
    }
  }

  /** @returns whether some bytes were taken */
  #flush(): boolean {
    const before = this.#waitingBytes;
    for (let [bytes] = this.#waiting; bytes !== undefined; [bytes] = this.#waiting) {
      const fd = this.#fd ?? this.#open();
      if (fd === null) break;
      const count = writeSome(fd, bytes);
      this.#waitingBytes -= count;
      if (count === bytes.length) this.#waiting.shift();
      else this.#waiting[0] = bytes.subarray(count);
      if (count === 0) break;
    }
    return this.#waitingBytes < before;
  }

  /** null: a pipe that no process reads yet */
  #open(): number | null {
    const place = this.#place;
    if (place.kind === 'descriptor' && !fstatSync(place.fd).isFIFO()) {
      this.#isBorrowed = true;
      this.#fd = place.fd;
      return place.fd;
    }
    // Opened anew, a pipe does not make us wait, and other processes that have it open are not affected.
    const path = place.kind === 'descriptor' ? `/proc/self/fd/${place.fd}` : place.path;
    try {
      const fd = openSync(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
      this.#fd = fd;
      return fd;
    } catch (error) {
      // fifo(7): no reader.
      if ((error as NodeJS.ErrnoException).code === 'ENXIO' && place.kind !== 'device') return null;
      throw error;
    }
  }
}

function writeSome(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}

function checkWritable(fd: number): void {
  const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '1';
  if ((Number.parseInt(flags, 8) & ACCESS_MODE) === 0) throw new OutputRefused('it is open for reading only');
}

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
 * Adds to a file; one that is gone, because it was moved away, is made anew.
 * @throws the error of the system call, or OutputRefused when what is there now is not the file that was written to before
 */
export function appendToFile(place: FilePlace, text: string, kept: KeptAttributes | null): void {
  inFolder(place.folder, (at) => {
    const fd = openToAppend(at(place.name), kept);
    try {
      const stats = fstatSync(fd);
      const isKnown = isOurs(stats) || stats.uid === kept?.uid;
      // A file of ours may have a second name: writing to one would change the other.
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
 * Does something in a folder that is held open: moving it meanwhile, or putting a link in its place, changes nothing.
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
    // Only root gives files away; another user's new file is their own.
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
