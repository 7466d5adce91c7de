/**
 * Owns reading the kernel's small text files below /proc and /sys, and what they say of this process: memory and tasks of
 * its control groups (versions 1 and 2), how many further tasks (processes and their threads) the kernel lets this user
 * have, and its capabilities. The roots are arguments, so that tests feed trees of their own.
 * Must never throw for a file that is missing, unreadable or not what it should be (null), and never change or judge a
 * limit (plan/).
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { PortRange } from '../base/tuple-space.ts';

/** Where the kernel's files are. */
export interface KernelRoots {
  readonly procRoot: string;
  readonly sysRoot: string;
}

const PORT_MAX = 65_535;

/**
 * The whole text of a small file.
 * @param root `/proc`, `/sys` or a test's folder
 * @param path below the root
 */
export function readText(root: string, path: string): string | null {
  try {
    return readFileSync(join(root, path), 'latin1');
  } catch {
    return null;
  }
}

/**
 * Whether a process is stopped (SIGSTOP, a debugger), which a busy one is not: state T or t of /proc/PID/stat (proc(5)).
 * @param procRoot `/proc` or a test's folder
 * @returns false too where the process is gone or cannot be read
 */
export function isStopped(procRoot: string, pid: number): boolean {
  // The name before the state may have any character in it.
  return /\) [Tt] [^)]*$/.test(readText(procRoot, `${pid}/stat`) ?? '');
}

/**
 * How long the main thread of a process was ready to run and had no core, since its start: the second number of
 * /proc/PID/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst).
 * @param procRoot `/proc` or a test's folder
 * @param pid `self`: this process
 * @returns milliseconds; null where the kernel keeps no account (CONFIG_SCHED_INFO), or the process is gone
 */
export function coreWaitMs(procRoot: string, pid: number | 'self'): number | null {
  const waitNs = /^\d+ (\d+) /.exec(readText(procRoot, `${pid}/schedstat`) ?? '')?.[1];
  return waitNs === undefined ? null : Number(waitNs) / 1e6;
}

/**
 * A sysctl of one or more whole numbers, separated by blanks.
 * @param procRoot `/proc` or a test's folder
 * @param name with slashes: `net/ipv4/tcp_mem`
 * @returns the numbers; null when missing or when one of them is not a whole number
 */
export function readSysctlNumbers(procRoot: string, name: string): number[] | null {
  const text = readText(procRoot, `sys/${name}`)?.trim();
  if (text === undefined || text === '') return null;
  const numbers = text.split(/\s+/).map(Number);
  return numbers.every(Number.isSafeInteger) ? numbers : null;
}

/**
 * A sysctl of one whole number.
 * @param procRoot `/proc` or a test's folder
 * @param name with slashes: `net/core/somaxconn`
 */
export function readSysctl(procRoot: string, name: string): number | null {
  return readSysctlNumbers(procRoot, name)?.[0] ?? null;
}

/**
 * The kernel's list of ports: `8080,9000-9010`, or empty.
 * @param text as in `ip_local_reserved_ports`
 * @returns ranges in ascending order; pieces that are no ports are left out
 */
export function parsePortList(text: string): PortRange[] {
  const ranges: PortRange[] = [];
  for (const piece of text.trim().split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(piece.trim());
    if (match === null) continue;
    const from = Number(match[1]);
    const to = Number(match[2] ?? match[1]);
    if (from <= to && to <= PORT_MAX) ranges.push({ from, to });
  }
  return ranges.sort((left, right) => left.from - right.from);
}

/** State LISTEN in /proc/net/tcp (include/net/tcp_states.h). */
const STATE_LISTEN = '0A';
const READ_BYTES = 65_536;

/**
 * Ports on which some process listens at the wildcard address. `::` counts too, because by default it takes
 * IPv4 as well. The kernel lists listeners before all other sockets (tcp_seq_start walks the listening hash
 * first), so reading stops at the first line that is no listener: a host with 100,000 sockets costs nothing.
 * @param procRoot `/proc` or a test's folder
 * @returns ports in ascending order, each once
 */
export function readListenPortsAny(procRoot: string): number[] {
  const ports = new Set<number>();
  for (const path of ['net/tcp', 'net/tcp6']) {
    readLinesWhile(join(procRoot, path), (line) => {
      const fields = line.trim().split(/\s+/);
      if (fields[0] === 'sl') return true;
      if (fields[3] !== STATE_LISTEN) return false;
      const port = /^0+:([0-9A-F]{4})$/.exec(fields[1] ?? '')?.[1];
      if (port !== undefined) ports.add(Number.parseInt(port, 16));
      return true;
    });
  }
  return [...ports].sort((left, right) => left - right);
}

/** Hands out the lines of a file until `take` returns false; reads no further than needed. */
function readLinesWhile(path: string, take: (line: string) => boolean): void {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return;
  }
  try {
    const buffer = Buffer.alloc(READ_BYTES);
    let rest = '';
    for (let count = readSync(file, buffer); count > 0; count = readSync(file, buffer)) {
      const lines = (rest + buffer.toString('latin1', 0, count)).split('\n');
      rest = lines.pop() ?? '';
      if (!lines.every(take)) return;
    }
    if (rest !== '') take(rest);
  } catch {
    // Of a table that breaks off while it is read, what was read so far counts.
  } finally {
    closeSync(file);
  }
}

/** Room for further tasks: processes and their threads. */
export interface TaskRoom {
  /** what sets the limit */
  readonly by: 'ulimit -u' | 'pids.max';
  readonly limit: number;
  /** tasks that may still be started, at least 0 */
  readonly free: number;
}

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
 * @param ours where /proc and /sys are
 */
export function readCgroupMemory(ours: KernelRoots): CgroupMemory {
  const roots = rootsWithGroups(ours);
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

/** Processes above this one that are asked for their /sys. */
const ANCESTORS_MAX = 16;

/**
 * `ip netns exec` mounts /sys anew, without control groups, and they bind all the same: then a process above this one, which was there
 * before, may show them.
 */
function rootsWithGroups(roots: KernelRoots): KernelRoots {
  if (hasGroups(roots.sysRoot)) return roots;
  let pid = parentOf(roots.procRoot, 'self');
  for (let tries = 0; pid !== null && tries < ANCESTORS_MAX; tries++) {
    // Another user's process cannot be looked into; its parent may be ours again.
    const sysRoot = join(roots.procRoot, pid, 'root/sys');
    if (hasGroups(sysRoot)) return { ...roots, sysRoot };
    pid = parentOf(roots.procRoot, pid);
  }
  return roots;
}

function hasGroups(sysRoot: string): boolean {
  try {
    return readdirSync(join(sysRoot, 'fs/cgroup')).length > 0;
  } catch {
    return false;
  }
}

/** The second word behind the name in /proc/PID/stat (proc(5)); null: there is none that we see. */
function parentOf(procRoot: string, pid: string): string | null {
  const parent = /\) \S (\d+) [^)]*$/.exec(readText(procRoot, `${pid}/stat`) ?? '')?.[1];
  return parent === undefined || parent === '0' ? null : parent;
}

/**
 * Reads how many tasks our group and every group above it allow: the one with the least room binds.
 * @param ours where /proc and /sys are
 */
function readCgroupTasks(ours: KernelRoots): CgroupTasks {
  const roots = rootsWithGroups(ours);
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

/** Tasks of this process now. @returns 1 where they cannot be counted */
export function ownTasks(procRoot = '/proc'): number {
  try {
    return Math.max(1, readdirSync(join(procRoot, 'self/task')).length);
  } catch {
    return 1;
  }
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

/** Capability numbers: include/uapi/linux/capability.h. */
const NUMBERS = {
  CAP_NET_BIND_SERVICE: 10n,
  CAP_NET_ADMIN: 12n,
  CAP_SYS_ADMIN: 21n,
  CAP_SYS_RESOURCE: 24n,
} as const;

/**
 * Whether this process has a capability in its effective set; no, where that cannot be read.
 * @param procRoot `/proc` or a test's folder
 */
export function hasCapability(name: keyof typeof NUMBERS, procRoot = '/proc'): boolean {
  const hex = /^CapEff:\s+([0-9a-f]{1,16})$/m.exec(readText(procRoot, 'self/status') ?? '')?.[1] ?? '0';
  return ((BigInt(`0x${hex}`) >> NUMBERS[name]) & 1n) === 1n;
}
