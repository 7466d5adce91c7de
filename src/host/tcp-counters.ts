/**
 * Owns reading the kernel's own TCP counters (RetransSegs, TCPSynRetrans, ListenOverflows, ListenDrops ...).
 * They count the whole network namespace since boot: a run looks at differences. Must never judge them.
 */
import { readText } from './proc-file.ts';

/** Counters by the kernel's names; `Tcp` and `TcpExt` share no name. */
export type TcpCounters = Readonly<Record<string, number>>;

const GROUPS: ReadonlySet<string> = new Set(['Tcp', 'TcpExt']);

/**
 * The Tcp counters of /proc/net/snmp and the TcpExt counters of /proc/net/netstat.
 * @param procRoot default `/proc`
 * @returns counters by name; empty when neither file can be read
 */
export function readTcpExt(procRoot = '/proc'): TcpCounters {
  const counters: Record<string, number> = {};
  for (const path of ['net/snmp', 'net/netstat']) {
    // Two lines a group: `Tcp: Name Name ...` and `Tcp: 1 2 ...`.
    const names = new Map<string, string[]>();
    for (const line of (readText(procRoot, path) ?? '').split('\n')) {
      const [group = '', ...fields] = line.trim().split(/\s+/);
      const name = group.slice(0, -1);
      if (!GROUPS.has(name)) continue;
      const heads = names.get(name);
      if (heads === undefined) names.set(name, fields);
      else for (const [index, head] of heads.entries()) counters[head] = Number(fields[index] ?? 0);
    }
  }
  return counters;
}

/**
 * What happened between two readings.
 * @param before the earlier one
 * @param after the later one
 * @returns counters that changed
 */
export function tcpExtDelta(before: TcpCounters, after: TcpCounters): TcpCounters {
  const delta: Record<string, number> = {};
  for (const [name, value] of Object.entries(after)) {
    const change = value - (before[name] ?? 0);
    if (change !== 0) delta[name] = change;
  }
  return delta;
}
