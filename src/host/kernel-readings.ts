/**
 * Owns reading what may fill up on a host during a run: connection tracking, neighbours, sockets, TCP memory. Each
 * reading is a few small files, so that it can be taken every few seconds. Must never judge.
 */
import type { KernelReadings } from './kernel-evidence.ts';
import { readSysctl, readSysctlNumbers, readText } from './proc-file.ts';
import { readTcpExt, type TcpCounters } from './tcp-counters.ts';

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
 * The TCP counters, and how many processes the kernel has killed for want of memory.
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
