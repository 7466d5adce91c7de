/**
 * Owns what holding a number of connections costs one host: holders, descriptors, memory, buffer pages, tasks. Every
 * function grows with the number of connections, so that the largest number that fits can be found by halving.
 * Must never know how much a host has (capacity.ts, preflight.ts, host/proc-file.ts).
 */

import { formatSeconds } from '../base/clock.ts';
import type { Finding } from '../base/errors.ts';
import { counted, formatCount } from '../base/units.ts';
import type { TaskRoom } from '../host/proc-file.ts';
import { LEASE_TIMES } from '../run/lease.ts';
import type { EngineName } from '../run/run-spec.ts';

/** Descriptors of a holder that are no connections: Node itself, epoll, IPC pipes, the log. */
export const DESCRIPTORS_RESERVED = 64;

/** Connections of one holder with io_uring: what its table has slots for; they take no descriptor of the process. */
export const URING_SLOTS_MAX = 1 << 24;

/** The kernel's default `fs.nr_open`: no descriptor limit is above it (fs/file.c). */
export const NR_OPEN_DEFAULT = 1_048_576;

/** More processes than this on one host cost more than they bring. */
export const HOLDERS_MAX = 256;

/** From here on one core is not enough to open them quickly: one holder for each core. */
const HOLDER_PER_CORE_FROM = 20_000;

/**
 * Kernel memory of one end of an idle established connection: socket, file, dentry, inode, epoll item.
 * Measured on kernel 6.18: 54,000 connections on loopback, both ends, took 387 MB: 3,580 bytes an end.
 */
export const KERNEL_BYTES_PER_END = 3_700;

/** Resident size of one holder: Node itself 43 MB, koffi and the connection table. Measured: 52 MB. */
export const HOLDER_BYTES = 55_000_000;

/**
 * Memory of one TLS session in a holder: OpenSSL's buffers and Node's objects. Measured on Node 20: 5,000 sessions of
 * wss:// took 40 KB each; the rest is headroom for the collector.
 */
export const TLS_BYTES_PER_SESSION = 45_000;

/** What the cost of connections depends on. */
export interface Shape {
  /** 2 when an endpoint is on this host: both ends of a connection live here; else 1 */
  readonly endsHere: 1 | 2;
  /** absent: epoll */
  readonly engine?: EngineName;
  /** connections that one holder can have, at least 0 */
  readonly perHolder: number;
  /** `--holders`; null: as many as needed */
  readonly holdersAsked: number | null;
  readonly cpus: number;
  /** holders that the limit on tasks leaves room for; absent: no limit is known */
  readonly holdersRoom?: number;
  /** connects in flight at most */
  readonly pendingMax: number;
  /** memory of the holders for each connection beyond what HOLDER_BYTES has room for; absent: none */
  readonly sessionBytes?: number;
}

/**
 * How many holder processes a quota takes: as many as descriptors need, at least one for each core from 20,000
 * connections on, never more than connections. With io_uring the cores alone decide, and where the target is on this host
 * one of several is left to it. Where tasks are few, there are no more than descriptors need.
 * @param connections the quota, at least 0
 * @param shape how many one holder can have, cores, and `--holders`
 * @returns 0 for an empty quota, else 1 to `HOLDERS_MAX`; may be too few, see `descriptorsBound`
 */
export function holdersFor(
  connections: number,
  shape: Pick<Shape, 'perHolder' | 'holdersAsked' | 'cpus'> &
    Partial<Pick<Shape, 'engine' | 'endsHere' | 'holdersRoom'>>,
): number {
  if (connections <= 0) return 0;
  const needed = shape.perHolder > 0 ? Math.ceil(connections / shape.perHolder) : HOLDERS_MAX;
  const cores = shape.engine === 'uring' && shape.endsHere === 2 ? Math.max(1, shape.cpus - 1) : shape.cpus;
  const forCores = connections >= HOLDER_PER_CORE_FROM ? Math.min(cores, shape.holdersRoom ?? cores) : 1;
  return Math.min(shape.holdersAsked ?? Math.max(needed, forCores), connections, HOLDERS_MAX);
}

/** Connections that all holders together can have. */
export function descriptorsBound(shape: Pick<Shape, 'perHolder' | 'holdersAsked'>): number {
  return shape.perHolder * Math.min(shape.holdersAsked ?? HOLDERS_MAX, HOLDERS_MAX);
}

/** Open files that the run takes of the whole system's: one for each end that is here, and those of the holders. */
export function systemFiles(connections: number, shape: Shape): number {
  return connections * shape.endsHere + holdersFor(connections, shape) * DESCRIPTORS_RESERVED;
}

/** Memory of the run on this host in bytes: kernel memory of the ends that are here, and the holders. */
export function memoryBytes(connections: number, shape: Shape): number {
  const perConnection = shape.endsHere * KERNEL_BYTES_PER_END + (shape.sessionBytes ?? 0);
  return connections * perConnection + holdersFor(connections, shape) * HOLDER_BYTES;
}

/**
 * Pages that the run is sure to count against `tcp_mem`: one for each connect in flight, whose SYN waits for its
 * answer. Measured on kernel 6.18, `mem` in /proc/net/sockstat, 4,000 sockets each: connects in flight 3,840 pages
 * (about one each; the kernel rounds per core), established and silent 0, with 64 unread bytes at one end 3,840, after
 * these were read 0, after an echo 0. 108,000 silent ends: 0 pages.
 */
export function bufferPagesSure(connections: number, shape: Shape): number {
  return Math.min(connections, shape.pendingMax);
}

/**
 * Pages if bytes lie unread at every end that is here (a target that greets, or does not read). Kernels before 6.0
 * also keep a page for each socket that has ever carried data.
 */
export function bufferPagesWorst(connections: number, shape: Shape): number {
  return bufferPagesSure(connections, shape) + connections * shape.endsHere;
}

/**
 * The largest number of connections that fits.
 * @param most the search ends here, at least 0
 * @param fits true up to some number and false above it
 * @returns 0 to `most`
 */
export function largestThatFits(most: number, fits: (connections: number) => boolean): number {
  let low = 0;
  let high = most;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Threads of one Node process: itself, V8's and libuv's pools, signals. Measured on Node 20: 11; a holder has 8. */
const TASKS_PER_PROCESS = 11;
/** The agent, and `ip` or `ss` that it runs. */
const TASKS_RESERVED = 16;

/** Holders that the limit on tasks leaves room for, at least 0; null: no limit is known. */
export function holdersRoom(room: TaskRoom | null): number | null {
  return room === null ? null : Math.max(0, Math.floor((room.free - TASKS_RESERVED) / TASKS_PER_PROCESS));
}

/** Tasks that holding so many connections takes. */
export function tasksNeeded(connections: number, shape: Shape): number {
  return connections <= 0 ? 0 : TASKS_RESERVED + holdersFor(connections, shape) * TASKS_PER_PROCESS;
}

/**
 * Whether there is room for the processes.
 * @param processes what is to be started, besides the agent
 * @param words what these processes are: `3 holders`
 * @param room null: no limit, or not known
 */
export function processesFinding(processes: number, words: string, room: TaskRoom | null): Finding {
  const needed = processes === 0 ? 0 : TASKS_RESERVED + processes * TASKS_PER_PROCESS;
  const common = { what: 'processes', unit: 'tasks', needed, available: room?.free ?? null };
  const arithmetic = `needs ${counted(needed, 'task')} (${words} x ${TASKS_PER_PROCESS} threads, ${TASKS_RESERVED} for the agent)`;
  if (room === null)
    return { ...common, severity: 'ok', message: `${arithmetic}; no limit is known`, fix: null };
  const has = `has ${formatCount(room.free)} (${room.by} ${formatCount(room.limit)} less ${formatCount(room.limit - room.free)} in use)`;
  const isShort = needed > room.free;
  return {
    ...common,
    severity: isShort ? 'refuse' : 'ok',
    message: `${arithmetic}, ${has}`,
    fix: isShort ? fixOf(room, room.limit - room.free + needed) : null,
  };
}

/** Whether there is room for the holders of a plan. */
export function holdersFinding(connections: number, shape: Shape, room: TaskRoom | null): Finding {
  const holders = holdersFor(connections, shape);
  const finding = processesFinding(holders, counted(holders, 'holder'), room);
  const { holdersRoom: fits, ...unlimited } = shape;
  if (fits === undefined || room === null) return finding;
  const forCores = holdersFor(connections, unlimited);
  if (holders < forCores && finding.severity === 'ok')
    return {
      ...finding,
      message: `${finding.message}: ${holders} instead of ${counted(forCores, 'holder')}`,
    };
  const suffices = fits > 0 && connections <= fits * shape.perHolder;
  return finding.severity === 'refuse' && suffices ? { ...finding, fix: `--holders ${fits}` } : finding;
}

/**
 * CPU time that a holder takes from the start until its first connections are open: compiling what runs then. Measured on
 * Node 20, 8 holders on two cores: 27 ms until the hold.
 */
const HOLDER_BEGIN_CPU_MS = 50;

/**
 * Whether the holders that were asked for leave their agent a core. All begin together, and until each has had its turn the agent
 * is one of them: one that is not heard for `quietMs` opens nothing more.
 * @returns empty: as many as needed were asked for, or they do
 */
export function beginFinding(connections: number, shape: Shape): readonly Finding[] {
  if (shape.holdersAsked === null) return [];
  const holders = holdersFor(connections, shape);
  const beginMs = (holders * HOLDER_BEGIN_CPU_MS) / shape.cpus;
  const { quietMs } = LEASE_TIMES;
  if (beginMs <= quietMs) return [];
  const most = Math.floor((quietMs * shape.cpus) / HOLDER_BEGIN_CPU_MS);
  return [
    {
      what: 'holders',
      severity: 'refuse',
      needed: holders,
      available: most,
      unit: 'holders',
      message:
        `${counted(holders, 'holder')} that begin together take ${formatSeconds(beginMs)} ` +
        `(${holders} x ${HOLDER_BEGIN_CPU_MS} ms on ${counted(shape.cpus, 'core')}), in which the agent waits for a core; ` +
        `it must be heard within ${formatSeconds(quietMs)}`,
      fix: `--holders ${most}`,
    },
  ];
}

function fixOf({ by }: TaskRoom, limit: number): string {
  if (by === 'ulimit -u') return `sudo prlimit --pid $$ --nproc=${limit}:${limit}`;
  return `raise the limit on tasks to at least ${limit} (docker --pids-limit ${limit}, systemd TasksMax=${limit})`;
}
