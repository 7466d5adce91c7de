/**
 * Owns how many further tasks (processes and their threads) the kernel lets this user and its control groups have.
 * Must never judge the number (plan/).
 */
import { readdirSync } from 'node:fs';
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, hasCapability, readCapabilities } from './capabilities.ts';
import { readCgroupTasks } from './cgroup.ts';
import type { TaskRoom } from './host-facts.ts';
import { type KernelRoots, readText } from './proc-file.ts';

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
  const capabilities = readCapabilities(procRoot);
  return (
    realUidOf(readText(procRoot, 'self/status')) === '0' ||
    hasCapability(capabilities, CAP_SYS_RESOURCE) ||
    hasCapability(capabilities, CAP_SYS_ADMIN)
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
