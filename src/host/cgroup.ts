/**
 * Owns finding the memory limit that control groups (versions 1 and 2) put on this process.
 * Must never know about other controllers, and must never change one.
 */
import { type KernelRoots, readText } from './proc-file.ts';

/** The tightest limit above this process; both null: none. */
export interface CgroupMemory {
  readonly limitBytes: number | null;
  readonly usedBytes: number | null;
}

interface Hierarchy {
  /** folder below /sys in which the hierarchy is mounted */
  readonly mount: string;
  readonly limitFile: string;
  readonly usedFile: string;
}

/** Version 2 alone, or beside version 1 (then without the memory controller: its files are absent). */
const V2: Hierarchy = { mount: 'fs/cgroup', limitFile: 'memory.max', usedFile: 'memory.current' };
const V1: Hierarchy = {
  mount: 'fs/cgroup/memory',
  limitFile: 'memory.limit_in_bytes',
  usedFile: 'memory.usage_in_bytes',
};

/** Version 1 writes "no limit" as the largest number of whole pages below 2^63. */
const NO_LIMIT_BYTES = 2 ** 60;
const DEPTH_MAX = 32;

/**
 * Reads the limits of our group and of every group above it, because the tightest one binds. In a container the
 * path of /proc/self/cgroup may not exist below its own mount: then the mount's root is our group, and it is
 * always among those that are read.
 * @param roots where /proc and /sys are
 */
export function readCgroupMemory(roots: KernelRoots): CgroupMemory {
  let tightest: CgroupMemory = { limitBytes: null, usedBytes: null };
  for (const [hierarchy, path] of groupsOf(readText(roots.procRoot, 'self/cgroup') ?? '')) {
    for (const folder of foldersUpwards(path)) {
      const limitBytes = readBytes(roots.sysRoot, `${hierarchy.mount}${folder}/${hierarchy.limitFile}`);
      if (limitBytes === null || limitBytes >= (tightest.limitBytes ?? NO_LIMIT_BYTES)) continue;
      const usedBytes = readBytes(roots.sysRoot, `${hierarchy.mount}${folder}/${hierarchy.usedFile}`);
      tightest = { limitBytes, usedBytes };
    }
  }
  return tightest;
}

/** Lines are `id:controllers:path`; version 2 is `0::path`. */
function groupsOf(text: string): [Hierarchy, string][] {
  const groups: [Hierarchy, string][] = [];
  for (const line of text.split('\n')) {
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    if (match === null) continue;
    const [, id = '', controllers = '', path = ''] = match;
    if (id === '0' && controllers === '') groups.push([V2, path]);
    else if (controllers.split(',').includes('memory')) groups.push([V1, path]);
  }
  return groups;
}

/** `/a/b` gives `/a/b`, `/a` and the empty path of the root. */
function foldersUpwards(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..');
  const folders = [''];
  for (const part of parts.slice(0, DEPTH_MAX)) folders.unshift(`${folders[0]}/${part}`);
  return folders;
}

/** A file of one number, or `max`. */
function readBytes(sysRoot: string, path: string): number | null {
  const text = readText(sysRoot, path)?.trim();
  if (text === undefined || !/^\d+$/.test(text)) return null;
  return Number(text);
}
