/**
 * Owns reading the kernel's small text files below /proc and /sys. The root is an argument, so that tests feed
 * a tree of their own. Must never throw for a file that is missing, unreadable or not what it should be: null.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
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
      const [address, port] = (fields[1] ?? '').split(':');
      if (address !== undefined && port !== undefined && /^0+$/.test(address))
        ports.add(Number.parseInt(port, 16));
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
    // A table that breaks off while it is read tells what it told so far.
  } finally {
    closeSync(file);
  }
}
