/**
 * Owns reading what may fill up on a host during a run (connection tracking, neighbours, sockets, TCP memory) and the
 * kernel's own TCP counters (RetransSegs, TCPSynRetrans, ListenOverflows ...), which count the whole network namespace
 * since boot: a run looks at differences. A reading is a few small files, so that it can be taken every few seconds.
 * Must never judge or change anything.
 */
import type { KernelReadings } from './kernel-evidence.ts';
import { readSysctl, readSysctlNumbers, readText } from './proc-file.ts';

/** Kernel settings that matter to source addresses; null: could not be read. */
export interface NetworkSettings {
  /** `net.ipv4.neigh.default.gc_thresh3`: neighbours that this kernel can know; not to be seen inside a container */
  readonly neighboursMax: number | null;
  /** `rp_filter` by device, the stricter of `all` and the device's own: 0 off, 1 strict, 2 loose */
  readonly rpFilter: Readonly<Record<string, number>>;
  /** `promote_secondaries` by device, the larger of `all` and the device's own */
  readonly promoteSecondaries: Readonly<Record<string, number>>;
}

/**
 * One reading of this network namespace (the neighbour table and TCP memory are the whole kernel's).
 * @param procRoot default `/proc`
 * @returns by name; what cannot be read is absent
 */
export function readKernel(procRoot = '/proc'): KernelReadings {
  const readings: Record<string, { value: number; limit: number | null }> = {};
  const add = (name: string, value: number | null, limit: number | null): void => {
    if (value !== null) readings[name] = { value, limit };
  };
  add(
    'conntrack',
    readSysctl(procRoot, 'net/netfilter/nf_conntrack_count'),
    readSysctl(procRoot, 'net/netfilter/nf_conntrack_max'),
  );
  add('neighbours', neighbourEntries(procRoot), readSysctl(procRoot, 'net/ipv4/neigh/default/gc_thresh3'));
  const sockstat = /^TCP: (.*)$/m.exec(readText(procRoot, 'net/sockstat') ?? '')?.[1] ?? '';
  add('tcp-sockets', numberAfter(sockstat, 'inuse'), null);
  add('time-wait', numberAfter(sockstat, 'tw'), readSysctl(procRoot, 'net/ipv4/tcp_max_tw_buckets'));
  add(
    'tcp-memory-pages',
    numberAfter(sockstat, 'mem'),
    readSysctlNumbers(procRoot, 'net/ipv4/tcp_mem')?.[2] ?? null,
  );
  return readings;
}

/**
 * The TCP counters, and how many processes the kernel has killed for lack of memory.
 * @param procRoot default `/proc`
 */
export function readCounters(procRoot = '/proc'): TcpCounters {
  const killed = numberAfter((readText(procRoot, 'vmstat') ?? '').replaceAll('\n', ' '), 'oom_kill');
  return { ...readTcpExt(procRoot), ...(killed === null ? {} : { oom_kill: killed }) };
}

/** The first column of the first row below the head, in hexadecimal (net/core/neighbour.c, neigh_stat_seq_show). */
function neighbourEntries(procRoot: string): number | null {
  const first = (readText(procRoot, 'net/stat/arp_cache') ?? '').split('\n')[1]?.trim().split(/\s+/)[0] ?? '';
  return /^[0-9a-f]+$/.test(first) ? Number.parseInt(first, 16) : null;
}

function numberAfter(text: string, name: string): number | null {
  const match = new RegExp(`(?:^| )${name} (\\d+)`).exec(text);
  return match === null ? null : Number(match[1]);
}

/** Counters by the kernel's names; `Tcp` and `TcpExt` share no name. */
type TcpCounters = Readonly<Record<string, number>>;

const GROUPS: ReadonlySet<string> = new Set(['Tcp', 'TcpExt']);

/**
 * The Tcp counters of /proc/net/snmp and the TcpExt counters of /proc/net/netstat.
 * @param procRoot default `/proc`
 * @returns counters by name; empty when neither file can be read
 */
function readTcpExt(procRoot = '/proc'): TcpCounters {
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

/**
 * Reads the kernel settings that matter to many source addresses on one host.
 * @param devices names of the devices whose settings are read
 * @param procRoot `/proc` or a test's folder
 */
export function readNetworkSettings(devices: readonly string[], procRoot = '/proc'): NetworkSettings {
  // The kernel takes the larger of `all` and the device's own value (Documentation/networking/ip-sysctl.rst).
  const byDevice = (name: string): Record<string, number> => {
    const all = readSysctl(procRoot, `net/ipv4/conf/all/${name}`) ?? 0;
    return Object.fromEntries(
      devices.flatMap((device) => {
        const own = readSysctl(procRoot, `net/ipv4/conf/${device}/${name}`);
        return own === null ? [] : [[device, Math.max(all, own)]];
      }),
    );
  };
  return {
    neighboursMax: readSysctl(procRoot, 'net/ipv4/neigh/default/gc_thresh3'),
    rpFilter: byDevice('rp_filter'),
    promoteSecondaries: byDevice('promote_secondaries'),
  };
}
