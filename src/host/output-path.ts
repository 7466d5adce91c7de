/**
 * Owns following a path to what is to be written: a file in a folder, one of our own descriptors, a pipe or a device.
 * Must never open what the path names, and must never follow a symbolic link that another user may have placed.
 *
 * A link is followed when its owner is this process's user or root and its folder cannot be written to by everybody. That is
 * the kernel's fs.protected_symlinks (Documentation/admin-guide/sysctl/fs.rst) and stricter: hosts have it off, and a link
 * of root can be linked again by others where fs.protected_hardlinks is off.
 */
import { lstatSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';

/** As the kernel (MAXSYMLINKS in include/linux/namei.h). */
const LINKS_MAX = 40;
const WRITABLE_BY_ALL = 0o002;
const PERMISSIONS = 0o777;

/** What a file that is replaced keeps. */
export interface KeptAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** What a path leads to. */
export type OutputPlace =
  | {
      readonly kind: 'file';
      /** absolute, without a link in it */
      readonly folder: string;
      readonly name: string;
      readonly isPresent: boolean;
      /** null: nothing is there, or it is another user's in a folder that everybody may write to */
      readonly kept: KeptAttributes | null;
    }
  /** one of our own, such as `/dev/stdout` */
  | { readonly kind: 'descriptor'; readonly fd: number }
  | { readonly kind: 'pipe' | 'device'; readonly path: string };

/** A path that is not written to, whatever its permissions; the message says why. */
export class OutputRefused extends Error {}

/** Whether an owner is nobody else: this process's user, or root, who may do anything already. */
export function isOurs({ uid }: Pick<Stats, 'uid'>): boolean {
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
    throw new OutputRefused(`${path} is a symbolic link in a folder that everybody may write to`);
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
    throw new OutputRefused('it belongs to another user, in a folder that everybody may write to');
  if (stats.isFIFO()) return { kind: 'pipe', path };
  if (stats.isCharacterDevice()) return { kind: 'device', path };
  throw new OutputRefused('it is not a file');
}
