/**
 * Owns what the kernel says of sockets and processes, for tests that must not believe the program: `ss`, /proc.
 * Must never import the program.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const SS_OUTPUT_BYTES_MAX = 256 * 1024 * 1024;
/** A process opens its listener early, so it is among its first descriptors; a worker may have thousands. */
const LISTENER_DESCRIPTOR_MAX = 256;

function ss(...args: string[]): string[] {
  const text = execFileSync('ss', args, { encoding: 'utf8', maxBuffer: SS_OUTPUT_BYTES_MAX });
  return text.split('\n').filter((line) => line !== '');
}

/** Connections to a port of 127.0.0.1, as the kernel lists their client ends. */
export interface ClientEnds {
  readonly count: number;
  /** by local address */
  readonly bySource: Readonly<Record<string, number>>;
}

/** Established sockets whose remote end is the target, 127.0.0.1:`port`: of both ends on this host the client's alone. */
export function clientEnds(port: number): ClientEnds {
  const bySource: Record<string, number> = {};
  const lines = ss('-Htn', 'state', 'established', `dst 127.0.0.1:${port}`);
  for (const line of lines) {
    const local = line.trim().split(/\s+/)[2] ?? '';
    const address = local.slice(0, local.lastIndexOf(':'));
    bySource[address] = (bySource[address] ?? 0) + 1;
  }
  return { count: lines.length, bySource };
}

/** Sockets of the target's side in any connected state: established, and those that closing has not ended yet. */
export function serverEnds(port: number): number {
  return ss('-Htn', 'state', 'connected', 'exclude', 'time-wait', `src 127.0.0.1:${port}`).length;
}

/**
 * Sockets that still use a port of 127.0.0.1 at either end, listeners included. TIME_WAIT is no socket of a process, and one in
 * FIN_WAIT_2 that has lost its process stays for as long as tcp_fin_timeout says, 60 s (tcp(7)).
 */
export function socketsOnPort(port: number): string[] {
  return ss(
    '-Htn',
    'state',
    'all',
    'exclude',
    'time-wait',
    'exclude',
    'fin-wait-2',
    `( src 127.0.0.1:${port} or dst 127.0.0.1:${port} )`,
  );
}

/** The port on which one of these processes listens; null when none does. */
export function listeningPort(pids: readonly number[]): number | null {
  const inodes = new Set(pids.flatMap(socketInodes));
  for (const line of ss('-Hltne')) {
    const inode = /\bino:(\d+)/.exec(line)?.[1] ?? '';
    const local = line.trim().split(/\s+/)[3] ?? '';
    if (inodes.has(inode)) return Number(local.slice(local.lastIndexOf(':') + 1));
  }
  return null;
}

function socketInodes(pid: number): string[] {
  const inodes: string[] = [];
  for (let fd = 0; fd < LISTENER_DESCRIPTOR_MAX; fd++) {
    const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1];
    if (inode !== undefined) inodes.push(inode);
  }
  return inodes;
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/**
 * A counter of the whole network namespace, such as `TcpExt` `TCPSynRetrans` or `Tcp` `ActiveOpens`: other programs
 * raise it too.
 */
export function kernelCounter(table: string, name: string): number {
  for (const file of ['/proc/net/netstat', '/proc/net/snmp']) {
    const rows = readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith(`${table}: `))
      .map((line) => line.split(' '));
    const column = rows[0]?.indexOf(name) ?? -1;
    if (column > 0) return Number(rows[1]?.[column]);
  }
  throw new Error(`the kernel has no counter ${table} ${name}`);
}

/** Whether a process has this id. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A process as /proc shows it. */
export interface ProcessView {
  readonly pid: number;
  readonly args: readonly string[];
}

/** Living processes that were started with this text in their environment, or by one that was. */
export function processesWith(environmentText: string): ProcessView[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => textOf(`/proc/${name}/environ`).includes(environmentText))
    .map((name) => ({ pid: Number(name), args: textOf(`/proc/${name}/cmdline`).split('\0').slice(0, -1) }))
    .filter(({ args }) => args.length > 0);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
