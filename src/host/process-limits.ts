/**
 * Owns the limits on this process that are not its own settings: memory and tasks of its control groups (versions 1 and
 * 2), and how many further tasks (processes and their threads) the kernel lets this user have.
 * Must never change or judge one (plan/).
 */
import { readdirSync } from 'node:fs';
import { hasCapability } from './capabilities.ts';
import type { TaskRoom } from './host-facts.ts';
import { type KernelRoots, readText } from './proc-file.ts';

/** The tightest limit above this process; both null: none. */
interface CgroupMemory {
  readonly limitBytes: number | null;
  readonly usedBytes: number | null;
}

/** How many more tasks (processes and threads) the groups above this process allow; null: no limit. */
interface CgroupTasks {
  readonly limit: number | null;
  readonly used: number | null;
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
/** Both versions count tasks, and write "no limit" as `max`. */
const PIDS_V2: Hierarchy = { mount: 'fs/cgroup', limitFile: 'pids.max', usedFile: 'pids.current' };
const PIDS_V1: Hierarchy = { ...PIDS_V2, mount: 'fs/cgroup/pids' };

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
  for (const [hierarchy, path] of groupsOf(readText(roots.procRoot, 'self/cgroup') ?? '', 'memory', [
    V1,
    V2,
  ])) {
    for (const folder of foldersUpwards(path)) {
      const limitBytes = readBytes(roots.sysRoot, `${hierarchy.mount}${folder}/${hierarchy.limitFile}`);
      if (limitBytes === null || limitBytes >= (tightest.limitBytes ?? NO_LIMIT_BYTES)) continue;
      const usedBytes = readBytes(roots.sysRoot, `${hierarchy.mount}${folder}/${hierarchy.usedFile}`);
      tightest = { limitBytes, usedBytes };
    }
  }
  return tightest;
}

/**
 * Reads how many tasks our group and every group above it allow: the one with the least room binds.
 * @param roots where /proc and /sys are
 */
function readCgroupTasks(roots: KernelRoots): CgroupTasks {
  let tightest: CgroupTasks = { limit: null, used: null };
  let room = Number.POSITIVE_INFINITY;
  const groups = groupsOf(readText(roots.procRoot, 'self/cgroup') ?? '', 'pids', [PIDS_V1, PIDS_V2]);
  for (const [hierarchy, path] of groups) {
    for (const folder of foldersUpwards(path)) {
      const limit = readBytes(roots.sysRoot, `${hierarchy.mount}${folder}/${hierarchy.limitFile}`);
      const used = readBytes(roots.sysRoot, `${hierarchy.mount}${folder}/${hierarchy.usedFile}`);
      if (limit === null || used === null || limit - used >= room) continue;
      room = limit - used;
      tightest = { limit, used };
    }
  }
  return tightest;
}

/** Lines are `id:controllers:path`; version 2 is `0::path`. */
function groupsOf(
  text: string,
  controller: string,
  [ofV1, ofV2]: readonly [Hierarchy, Hierarchy],
): [Hierarchy, string][] {
  const groups: [Hierarchy, string][] = [];
  for (const line of text.split('\n')) {
    const match = /^(\d+):([^:]*):(\/.*)$/.exec(line);
    if (match === null) continue;
    const [, id = '', controllers = '', path = ''] = match;
    if (id === '0' && controllers === '') groups.push([ofV2, path]);
    else if (controllers.split(',').includes(controller)) groups.push([ofV1, path]);
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

/**
 * Reads the tighter one of RLIMIT_NPROC and pids.max.
 * @param roots where /proc and /sys are
 * @returns null: neither is known or set
 */
export function readTaskRoom(roots: KernelRoots): TaskRoom | null {
  const rooms: TaskRoom[] = [];
  const group = readCgroupTasks(roots);
  if (group.limit !== null) {
    rooms.push({ by: 'pids.max', limit: group.limit, free: Math.max(0, group.limit - (group.used ?? 0)) });
  }
  const text = /^Max processes\s+(\d+)/m.exec(readText(roots.procRoot, 'self/limits') ?? '')?.[1];
  if (text !== undefined && !isExempt(roots.procRoot)) {
    const limit = Number(text);
    rooms.push({ by: 'ulimit -u', limit, free: Math.max(0, limit - tasksOfUser(roots.procRoot)) });
  }
  return rooms.toSorted((one, other) => one.free - other.free)[0] ?? null;
}

/** Whether RLIMIT_NPROC does not bind: root, CAP_SYS_RESOURCE or CAP_SYS_ADMIN (copy_process() in kernel/fork.c). */
function isExempt(procRoot: string): boolean {
  return (
    realUidOf(readText(procRoot, 'self/status')) === '0' ||
    hasCapability('CAP_SYS_RESOURCE', procRoot) ||
    hasCapability('CAP_SYS_ADMIN', procRoot)
  );
}

/** Threads of every process whose real user is ours: the kernel counts by that one. Processes that end meanwhile are not there. */
function tasksOfUser(procRoot: string): number {
  const uid = realUidOf(readText(procRoot, 'self/status'));
  let names: string[];
  try {
    names = readdirSync(procRoot).filter((name) => /^\d+$/.test(name));
  } catch {
    return 0;
  }
  let tasks = 0;
  for (const name of names) {
    const status = readText(procRoot, `${name}/status`);
    if (realUidOf(status) === uid) tasks += Number(/^Threads:\s+(\d+)/m.exec(status ?? '')?.[1] ?? 0);
  }
  return tasks;
}

function realUidOf(status: string | null): string | null {
  return /^Uid:\s+(\d+)/m.exec(status ?? '')?.[1] ?? null;
}
